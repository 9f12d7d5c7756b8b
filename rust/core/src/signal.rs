//! Flush and end-of-stream: when may a task let go, say its last words, and end (ENGINE 5). State machines without a clock; the
//! loop of the task asks [`TaskEnd::next`] whenever its inbox is empty and does the one [`Step`] that comes back.
//!
//! A spout that ended sends *flush* behind its last tuple: no fresh input will come. A task that has it from all inputs
//! outside its cycle runs the user's `flush()` and sends flush on. From then on it runs `flush()` again whenever its inbox is
//! empty and it has worked on something since, because what comes now are replays, and a join must not wait for partners that
//! will not come. When all roots of the spout are resolved, *end-of-stream* follows. A task that has it from all inputs and
//! holds nothing runs `finish()` once, waits until the roots it emitted itself are resolved, and sends its own end-of-stream.
//!
//! A cycle ends as one: all its outside inputs have ended, and [`CycleCount`] saw the same numbers of envelopes sent and done,
//! equal to each other, in two rounds with every member idle. Its members' ends are registered with the supervisor together,
//! when the last of them is over: a successor that took over one member as ended and another not would let the other tick and
//! flush into the one that is gone.
//!
//! Example, a → b: a calls `end()` and sends flush, b runs `flush()`, b's acks resolve a's roots, a sends end, b runs `finish()`
//! and ends.

use rustc_hash::FxHashMap;

use crate::fault::{Fault, planted};
use crate::ids::{Incarnation, TaskId};

/// What travels in a channel besides tuples. Signals of one kind are state: a later one of the same producer replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No fresh input will come from this task; replays may.
    Flush,
    /// Nothing will come from this task any more.
    End,
    /// The task was replaced by a new incarnation: fresh input may come again, unless it has ended.
    Anew,
}

/// A signal of one producer task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// What it says.
    pub kind: Kind,
    /// Who says it.
    pub from: TaskId,
    /// In which incarnation; an older one's is worth nothing.
    pub incarnation: Incarnation,
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    incarnation: Incarnation,
    flushed: bool,
    ended: bool,
}

/// The signals that a task has from its producers.
#[derive(Debug, Default)]
pub struct Inputs {
    outside: FxHashMap<TaskId, Channel>,
    unflushed: usize,
    unended: usize,
}

impl Inputs {
    /// The table of a task that `outside` tasks send to, tasks of its own cycle left out: their end is found by counting.
    pub fn new(outside: &[TaskId]) -> Self {
        let channel = Channel { incarnation: Incarnation(0), flushed: false, ended: false };
        let outside: FxHashMap<TaskId, Channel> = outside.iter().map(|task| (*task, channel)).collect();
        let n = outside.len();
        Self { outside, unflushed: n, unended: n }
    }

    /// A signal arrived. Those of older incarnations, of unknown tasks and repeated ones change nothing.
    pub fn receive(&mut self, signal: Signal) {
        let Some(channel) = self.outside.get_mut(&signal.from) else {
            return;
        };
        if signal.incarnation < channel.incarnation {
            return;
        }
        channel.incarnation = signal.incarnation;
        if signal.kind == Kind::Anew {
            self.unflushed += usize::from(channel.flushed && !channel.ended);
            channel.flushed = channel.ended;
            return;
        }
        if !channel.flushed {
            channel.flushed = true; // End implies flush.
            self.unflushed -= 1;
        }
        if signal.kind == Kind::End && !channel.ended {
            channel.ended = true;
            self.unended -= 1;
            if planted(Fault::EndAfterFirst) {
                self.unended = 0;
            }
        }
    }

    /// Whether no fresh input will come from outside.
    pub fn is_flushed(&self) -> bool {
        self.unflushed == 0
    }

    /// Whether nothing will come from outside.
    pub fn is_ended(&self) -> bool {
        self.unended == 0
    }
}

/// What a task should do next about its end. The caller does it and asks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Run the user's `flush()`.
    RunFlush,
    /// Send [`Kind::Flush`] to all consumers, behind what was emitted.
    SendFlush,
    /// Run the user's `finish()`.
    RunFinish,
    /// Send [`Kind::End`] to all consumers; the task is over.
    SendEnd,
    /// Nothing now.
    Wait,
}

/// What the task sees of itself when it asks; its inbox is empty and its outbox flushed.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    /// Tuples held un-acked: manual acks, async calls, a batch being filled. Untracked ones too.
    pub held: usize,
    /// Roots of its own that are not resolved. Take the ledger's news first: a root is resolved before its owner has looked,
    /// and what the owner then does may emit.
    pub pending: usize,
    /// For a member of a cycle: whether every member has flush from all its outside inputs. `true` outside of cycles. A member
    /// without outside inputs of its own must not flush, and tell its consumers so, before the others.
    pub is_cycle_flushed: bool,
    /// For a member of a cycle: whether the cycle is over. `true` outside of cycles.
    pub is_cycle_over: bool,
}

/// How far a task is with its end.
///
/// ```
/// use rainband_core::ids::{Incarnation, TaskId};
/// use rainband_core::signal::{Kind, Signal, Step, TaskEnd, View};
///
/// let producer = TaskId(0);
/// let mut end = TaskEnd::new(&[producer]);
/// let view = View { is_cycle_flushed: true, is_cycle_over: true, ..View::default() };
/// assert_eq!(end.next(view), Step::Wait);
/// end.receive(Signal { kind: Kind::End, from: producer, incarnation: Incarnation(0) });
/// let steps: Vec<Step> = (0..4).map(|_| end.next(view)).collect();
/// assert_eq!(steps, [Step::RunFlush, Step::SendFlush, Step::RunFinish, Step::SendEnd]);
/// assert!(end.is_over());
/// ```
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a step that happens at most once; an enum would need their product"
)]
#[derive(Debug)]
pub struct TaskEnd {
    inputs: Inputs,
    /// Worked on something since the last flush.
    is_dirty: bool,
    ran_flush: bool,
    sent_flush: bool,
    ran_finish: bool,
    sent_end: bool,
}

impl TaskEnd {
    /// For a bolt, the tasks outside of its cycle that send to it. For a spout, itself: it "receives" its own `end()`.
    pub fn new(outside: &[TaskId]) -> Self {
        Self {
            inputs: Inputs::new(outside),
            is_dirty: true,
            ran_flush: false,
            sent_flush: false,
            ran_finish: false,
            sent_end: false,
        }
    }

    /// A signal arrived.
    pub fn receive(&mut self, signal: Signal) {
        self.inputs.receive(signal);
    }

    /// The task worked on a tuple, or emitted from a hook: what it holds may have changed.
    #[inline]
    pub fn touch(&mut self) {
        self.is_dirty = true;
    }

    /// Whether `finish()` was run: nothing is processed any more.
    pub fn is_finished(&self) -> bool {
        self.ran_finish
    }

    /// Whether end-of-stream was sent.
    pub fn is_over(&self) -> bool {
        self.sent_end
    }

    /// Whether a member of a cycle waits for nothing but the rest of the cycle.
    pub fn is_idle_member(&self, view: View) -> bool {
        self.inputs.is_ended() && view.held == 0 && view.pending == 0 && !self.is_dirty
    }

    /// Whether `tick()` may run. Not after `finish()`, and not in a member of a cycle that waits for the rest: the count of a
    /// cycle is only right if nothing but an envelope brings an idle member to emit. A tick between two questions would be sent
    /// into a cycle that is found to be over.
    pub fn may_tick(&self, view: View) -> bool {
        !self.ran_finish && (!self.is_idle_member(view) || planted(Fault::IdleMemberTicks))
    }

    /// Whether all fresh input has come.
    pub fn is_flushed(&self) -> bool {
        self.inputs.is_flushed()
    }

    /// What to do now. Call when the inbox is empty and the outbox flushed; do it; call again until [`Step::Wait`].
    pub fn next(&mut self, view: View) -> Step {
        if self.sent_end {
            return Step::Wait;
        }
        if self.ran_finish {
            if view.held == 0 && view.pending == 0 {
                self.sent_end = true;
                return Step::SendEnd;
            }
            return Step::Wait;
        }
        if self.inputs.is_flushed() && view.is_cycle_flushed {
            if self.is_dirty && !(self.ran_flush && planted(Fault::FlushOnce)) {
                self.is_dirty = false;
                self.ran_flush = true;
                return Step::RunFlush;
            }
            if !self.sent_flush {
                self.sent_flush = true;
                return Step::SendFlush;
            }
        }
        let holds_nothing = view.held == 0 || planted(Fault::EndWhileHeld);
        if self.inputs.is_ended() && view.is_cycle_over && holds_nothing {
            self.ran_finish = true;
            return Step::RunFinish;
        }
        Step::Wait
    }
}

/// Finds the end of a cycle by counting (Mattern: "Algorithms for distributed termination detection", 1987, four counters).
///
/// Each round sums, over the members, deliveries ever sent inside the cycle and those ever done with (worked on, and all that
/// came of them sent). If they are equal, and the same as in the round before, and every member was idle in both, nothing is in
/// flight: an envelope in flight would be counted as sent and not as done. Idle members must not emit of themselves meanwhile
/// ([`TaskEnd::may_tick`]).
///
/// ```
/// use rainband_core::signal::CycleCount;
///
/// let mut count = CycleCount::default();
/// assert!(!count.round(3, 2, true)); // One is in flight.
/// assert!(!count.round(3, 3, true));
/// assert!(count.round(3, 3, true));
/// ```
#[derive(Debug, Default)]
pub struct CycleCount {
    last: Option<(u64, u64)>,
}

impl CycleCount {
    /// One round: whether the cycle is over.
    pub fn round(&mut self, sent: u64, done: u64, all_idle: bool) -> bool {
        if !all_idle || sent != done {
            self.last = None;
            return false;
        }
        let before = self.last.replace((sent, done));
        before == Some((sent, done)) || planted(Fault::CycleAfterOneRound)
    }
}
