//! What travels: an [`Envelope`] around an opaque payload, and the roots it belongs to.

use std::sync::Arc;

use crate::ids::{EdgeId, RootRef, StreamId, TaskId};

/// The roots of a tuple. One is the rule; several come of `anchors=[a, b]` (a join).
#[derive(Clone, Debug, Default)]
pub enum Roots {
    /// Untracked: nobody waits for it.
    #[default]
    None,
    /// One root.
    One(RootRef),
    /// Several distinct roots, shared by all deliveries of one emission.
    Many(Arc<[RootRef]>),
}

impl Roots {
    /// All roots, in no particular order.
    #[inline]
    pub fn as_slice(&self) -> &[RootRef] {
        match self {
            Roots::None => &[],
            Roots::One(root) => std::slice::from_ref(root),
            Roots::Many(roots) => roots,
        }
    }

    /// Whether nobody waits for the tuple.
    pub fn is_untracked(&self) -> bool {
        matches!(self, Roots::None)
    }
}

/// Lineage id of ENGINE 1.8: 128 bits once keyed state needs them; until then it takes no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineageId;

/// What an emission hands to all its deliveries.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The roots whose trees the tuple joins.
    pub roots: Roots,
    /// How many emissions lie between a root and this tuple; 0 for a root.
    pub hops: u32,
    /// The attempt's number of the (first) root, from 1; 0 if untracked.
    pub attempt: u32,
    /// Reserved for epochs (ENGINE 5.4): the maximum over the anchors.
    pub stamp: u64,
    /// Reserved for keyed state.
    pub lineage: LineageId,
}

/// One delivery of one tuple to one task. It has one owner at any time: an outbox, a queue, or the task that works on it.
#[derive(Debug)]
pub struct Envelope<P> {
    /// The values, opaque to the core.
    pub payload: P,
    /// This delivery's id; `None` if untracked.
    pub edge: Option<EdgeId>,
    /// Roots, hops, attempt, stamp.
    pub head: Head,
    /// The stream it was emitted on.
    pub stream: StreamId,
    /// The task that emitted it.
    pub from: TaskId,
    /// Estimated size of the values, for `queue_bytes`.
    pub bytes: u32,
}
