//! What all of the cluster shares: the topology, the time, chance, the truth about every delivery and record, and the trace.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};

use rainband_core::ids::{Incarnation, RootRef, TaskId, WorkerId};
use rustc_hash::{FxHashMap, FxHasher};

use super::super::check::ensure;
use super::super::rng::Rng;
use super::super::topology::Topology;
use super::boss::Report;

pub const MICROSECOND: u64 = 1000;
pub const MILLISECOND: u64 = 1000 * MICROSECOND;
pub const SECOND: u64 = 1000 * MILLISECOND;

/// Handed to whoever does something.
pub struct Shared {
    pub topology: Topology,
    pub placement: Vec<WorkerId>,
    /// How many bytes may be under way to a task elsewhere.
    pub window: u64,
    pub run_key: u64,
    pub rng: Rng,
    pub now: u64,
    pub truth: Truth,
    pub trace: Trace,
    /// What the process that is at work tells the supervisor.
    pub reports: Vec<Report>,
    /// Whose death would be interesting just now.
    pub tempting: Option<usize>,
}

/// What really happened, which nobody in the cluster can see.
#[derive(Default)]
pub struct Truth {
    /// Deliveries of each attempt that were emitted and not acked by who worked on them. What dies with a process stays open.
    pub open: FxHashMap<RootRef, u32>,
    /// Per producer, its incarnation, emission and consumer: how often it was sent, and how often worked on.
    deliveries: FxHashMap<(TaskId, Incarnation, u64, TaskId), (u32, u32)>,
    /// Newest emission worked on, per producer, incarnation, consumer, incarnation and stream.
    order: FxHashMap<(TaskId, Incarnation, TaskId, Incarnation, u32), u64>,
    /// By task; of spout tasks.
    pub sources: Vec<Source>,
    /// How often `finish` ran, by task.
    pub finishes: Vec<u32>,
    /// Registered with the supervisor.
    pub ended: Vec<bool>,
    pub sent: usize,
    pub deaths: usize,
}

/// The outside world of a spout task.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub has_positions: bool,
    /// Which records were worked on to their end or dead-lettered; its length is the number of records.
    pub done: Vec<bool>,
    /// The next record of a source without positions: what was taken is gone.
    pub next: u64,
}

impl Truth {
    pub fn new(sources: Vec<Source>) -> Self {
        let tasks = sources.len();
        Self { sources, finishes: vec![0; tasks], ended: vec![false; tasks], ..Self::default() }
    }

    pub fn sends(&mut self, from: TaskId, incarnation: Incarnation, emission: u64, to: TaskId) {
        self.sent += 1;
        self.deliveries.entry((from, incarnation, emission, to)).or_default().0 += 1;
    }

    /// ENGINE 4.5 and 7.1: `to` works on a delivery.
    pub fn works_on(
        &mut self,
        (from, incarnation): (TaskId, Incarnation),
        stream: u32,
        emission: u64,
        (to, its): (TaskId, Incarnation),
    ) -> Result<(), String> {
        let (sent, worked) = self.deliveries.entry((from, incarnation, emission, to)).or_default();
        *worked += 1;
        ensure(worked <= sent, || format!("task {to} works {worked} times on what task {from} sent {sent} times"))?;
        let newest = self.order.entry((from, incarnation, to, its, stream)).or_default();
        let before = std::mem::replace(newest, emission);
        ensure(before <= emission, || format!("task {to}: {emission} of task {from} after {before}"))
    }

    /// A delivery of `root` was acked by who worked on it.
    pub fn acks(&mut self, root: RootRef) -> Result<(), String> {
        let open = self.open.entry(root).or_default();
        ensure(*open > 0, || format!("more acks than deliveries of {root:?}"))?;
        *open -= 1;
        Ok(())
    }
}

/// What happened, as a hash and, for a reader, as text.
#[derive(Default)]
pub struct Trace {
    hasher: FxHasher,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub fn new(is_readable: bool) -> Self {
        Self { hasher: FxHasher::default(), lines: is_readable.then(Vec::new) }
    }

    pub fn note<E: Hash + Debug>(&mut self, now: u64, event: &E) {
        now.hash(&mut self.hasher);
        event.hash(&mut self.hasher);
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>10.3} ms  {event:?}", now as f64 / MILLISECOND as f64));
        }
    }

    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    pub fn text(&self) -> String {
        self.lines.as_ref().map_or_else(String::new, |lines| lines.join("\n"))
    }
}

impl Shared {
    pub fn note<E: Hash + Debug>(&mut self, event: &E) {
        self.trace.note(self.now, event);
    }

    /// Between these, in nanoseconds.
    pub fn delay(&mut self, low: u64, high: u64) -> u64 {
        low + self.rng.below((high - low) as usize) as u64
    }
}
