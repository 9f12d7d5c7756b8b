//! The ids of the engine, each a type of its own so that one cannot stand where another belongs.
//!
//! Indexes (`ComponentId`, `TaskId`, `StreamId`, `ExecutorId`) are dense over a plan and count from 0 in definition order.
//! `EdgeId` and `AttemptId` are drawn while the topology runs.

use std::fmt;
use std::num::NonZeroU64;

/// A component: a spout or a bolt of the topology, in definition order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ComponentId(pub u32);

/// One instance of a component; dense over the whole topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u32);

/// A declared output stream of one component; dense over the whole topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u32);

/// A thread that runs tasks of one component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExecutorId(pub u32);

/// A process that runs a part of the topology; dense over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u32);

/// How often the place of a task was filled anew; a message of an older incarnation is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub u32);

impl ComponentId {
    /// The position in a vector over components.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl TaskId {
    /// The position in a vector over tasks.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl StreamId {
    /// The position in a vector over streams.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl WorkerId {
    /// The position in a vector over workers.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl ExecutorId {
    /// The position in a vector over executors.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One delivery of one tuple to one task. Never 0, because XOR with 0 would leave no trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EdgeId(pub NonZeroU64);

impl EdgeId {
    /// The bits that are XORed into a root's sum.
    #[inline]
    pub fn bits(self) -> u64 {
        self.0.get()
    }
}

/// One attempt at one root, unique within its ledger: the low 24 bits are the slot of the ledger, so that an ack finds its
/// root without hashing, the high 40 bits count attempts and are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(u64);

impl AttemptId {
    const SLOT_BITS: u32 = 24;
    /// The most roots that one ledger can hold at a time.
    pub const MAX_SLOTS: usize = 1 << Self::SLOT_BITS;

    /// The id of attempt number `sequence` of this ledger, kept in `slot`.
    #[inline]
    pub fn new(sequence: u64, slot: u32) -> Self {
        debug_assert!((slot as usize) < Self::MAX_SLOTS);
        Self(sequence << Self::SLOT_BITS | u64::from(slot))
    }

    /// The slot of the ledger that held this attempt when it began.
    #[inline]
    pub fn slot(self) -> usize {
        (self.0 & ((1 << Self::SLOT_BITS) - 1)) as usize
    }

    /// All 64 bits, for the wire and for logs.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The id with these bits, from the wire.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The number of the attempt within its ledger; higher means begun later.
    pub fn sequence(self) -> u64 {
        self.0 >> Self::SLOT_BITS
    }
}

/// Where the acks of one attempt go: the task that emitted the root, in which incarnation, and which attempt. The tracking id
/// of ENGINE 1.3; the user's id, the attempt's number and the lineage id are kept apart from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RootRef {
    /// The task that owns the root.
    pub task: TaskId,
    /// Of that task when it emitted.
    pub incarnation: Incarnation,
    /// Of that task's ledger.
    pub attempt: AttemptId,
}
