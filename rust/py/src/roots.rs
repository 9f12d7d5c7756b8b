//! The roots of one task, as the door sees them: what it takes to emit one again, and who is told what becomes of it.

use std::collections::VecDeque;

use pyo3::prelude::*;
use rainband_core::deliver::Outbox;
use rainband_core::emit::EdgeIds;
use rainband_core::frontier::{Frontier, Ticket};
use rainband_core::ids::{AttemptId, EdgeId, StreamId, TaskId};
use rainband_core::ledger::{Failure, Mark, News, Slot};
use rainband_core::route::Router;

use crate::packing::PackedValues;
use crate::payload::Payload;

/// What it takes to emit a root again.
#[derive(Debug)]
pub struct Record {
    pub payload: Payload,
    /// The user's id; `None` for roots of `tick`, `flush` and `finish`.
    pub id: Option<Py<PyAny>>,
    pub stream: StreamId,
    /// The target of a direct emit, else `NO_TASK`.
    pub direct: u32,
    pub ticket: Ticket,
    /// Why it failed for good and at which attempt, while its dead letter is on its way to the subscribers of `dead_letter`.
    pub dead: Option<Box<(Failure, u32)>>,
}

/// No direct target.
pub const NO_TASK: u32 = u32::MAX;

impl Record {
    /// The target of a direct emit.
    pub fn direct(&self) -> Option<TaskId> {
        (self.direct != NO_TASK).then_some(TaskId(self.direct))
    }
}

/// A hook that the task's own thread is to call.
#[derive(Debug)]
pub enum HookCall {
    Ack(Py<PyAny>),
    Fail(Slot, Failure),
    Dead(Py<PyAny>, Failure, u32, u64),
}

/// Emits roots again. Has an edge counter, a router and an outbox of its own, so that it works while the task's collector is
/// in user code; order holds apart from replays.
pub struct Replayer {
    pub router: Router,
    pub outbox: Outbox<Payload>,
    pub edges: EdgeIds,
    pub targets: Vec<TaskId>,
    pub drawn: Vec<EdgeId>,
    pub packed: PackedValues,
}

/// Which hooks the user overrode.
#[derive(Clone, Copy, Debug, Default)]
pub struct HasHooks {
    pub ack: bool,
    pub fail: bool,
    pub dead: bool,
}

/// Worked on by whoever gets the lock with `try_lock`: the task's thread, or the timer while that is in user code. Nobody ever
/// waits for this lock, so Python may be called under it.
pub struct Roots {
    pub news: Vec<News<Record>>,
    pub calls: VecDeque<HookCall>,
    pub replayer: Replayer,
    pub has: HasHooks,
    /// xorshift state for the jitter of retries.
    pub jitter: u64,
    /// Roots whose worker died with them in hand: tried again one by one, each when the one before is resolved or failed.
    pub alone: VecDeque<(Slot, Mark)>,
    pub alone_live: Option<AttemptId>,
}

/// How far the source's position has come; a leaf lock.
#[derive(Default)]
pub struct Positions {
    pub frontier: Frontier<Py<PyAny>>,
    /// Reached and not stored yet.
    pub reached: Option<Py<PyAny>>,
}
