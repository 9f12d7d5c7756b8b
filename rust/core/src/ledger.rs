//! Stage 7 of 8: the ledger of the roots that one task emitted. Called by the collector (begin), by whoever acks or fails a
//! tuple of a root's tree, and by the task's own loop (news, retries). Calls nothing; enters under the lock of its owner.
//!
//! A root has a slot from its emission until it is resolved, also while it waits for a retry, so `pending` bounds everything.
//! Every attempt has an id of its own: the slot in the low bits, a number that is never used again in the high ones. An ack or
//! fail that carries the id of an earlier attempt finds another id in the slot and is dropped and counted; with one id for all
//! attempts the late acks of the first poison the sum of the second, and the root never completes.
//!
//! Example: begin(sum 5) → attempt 1:0 (sequence 1, slot 0). fail(1:0) → news Failed(slot 0). retry due → reattempt(slot 0,
//! sum 7) → attempt 2:0. ack(1:0, 5) is late: dropped. ack(2:0, 7) → sum 0 → news Acked with the record.
//!
//! The record `R` is what it takes to emit the root again. It is opaque, and goes back to the owner when the root is resolved.
//! Left out on purpose: timeouts. Whoever holds a tuple times it out (ENGINE 2.1); the ledger only offers `older_than` for the
//! audit.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::fault::{Fault, planted};
use crate::ids::{AttemptId, TaskId};

/// Why an attempt failed, in the words of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// User code raised.
    Error,
    /// Held without ack for `ack_timeout_s`.
    Timeout,
    /// `Reject`: to the dead letters without more attempts.
    Rejected,
    /// `self.fail(tup, reason)`.
    Failed,
    /// The last reference to an unacked tuple went away.
    Forgotten,
    /// A back edge held more than `loop_bytes`.
    LoopFull,
    /// The tuple went through more than `max_hops` emissions.
    TooManyHops,
    /// The audit found nobody who holds it: an engine error.
    Lost,
    /// The task that held it was replaced by a fresh instance.
    Restarted,
    /// A worker died that may have held it: costs no attempt.
    WorkerLost,
    /// Its worker died with the tuple in hand.
    Crashed,
}

impl Reason {
    /// All reasons, in the order of the report.
    pub const ALL: [Reason; 11] = [
        Reason::Error,
        Reason::Timeout,
        Reason::Rejected,
        Reason::Failed,
        Reason::Forgotten,
        Reason::LoopFull,
        Reason::TooManyHops,
        Reason::Lost,
        Reason::Restarted,
        Reason::WorkerLost,
        Reason::Crashed,
    ];

    /// The word that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Error => "error",
            Reason::Timeout => "timeout",
            Reason::Rejected => "rejected",
            Reason::Failed => "failed",
            Reason::Forgotten => "forgotten",
            Reason::LoopFull => "loop full",
            Reason::TooManyHops => "too many hops",
            Reason::Lost => "lost",
            Reason::Restarted => "restarted",
            Reason::WorkerLost => "worker lost",
            Reason::Crashed => "crashed",
        }
    }
}

/// A failure of one attempt, as the one who failed it saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub reason: Reason,
    /// The task that had the tuple in hand.
    pub task: TaskId,
    /// The text of the exception, or the reason the user gave.
    pub error: Box<str>,
    /// `false` sends the root to the dead letters without more attempts.
    pub retry: bool,
}

/// A root's place in its ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(u32);

/// A moment in the life of a ledger, counted in attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// What happened to a root since the owner last looked.
#[derive(Debug)]
pub enum News<R> {
    /// The whole tree was acked; the root is resolved and its slot free.
    Acked {
        /// The record that `begin` was given.
        record: R,
        /// The attempt's number, from 1.
        attempt: u32,
        /// When the first attempt began.
        began_ns: u64,
        /// When the last ack came.
        done_ns: u64,
    },
    /// An attempt failed; the root waits in its slot for `retry_at`, `resolve`.
    Failed {
        /// Its place.
        slot: Slot,
        /// Why.
        failure: Failure,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    /// In flight: acks count.
    Live,
    /// Failed; the owner decides.
    Failed,
    /// Waits for its next attempt.
    Backoff,
}

#[derive(Debug)]
struct Entry<R> {
    attempt: AttemptId,
    sum: u64,
    began_ns: u64,
    number: u32,
    state: State,
    record: Option<R>,
}

/// What was dropped because it did not fit a live attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Acks of attempts that are over.
    pub acks: u64,
    /// Fails of attempts that are over.
    pub fails: u64,
}

/// The account of one task's roots: `begun = acked + buried + pending` at every moment (ENGINE 1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Roots emitted.
    pub begun: u64,
    /// Roots whose whole tree was acked.
    pub acked: u64,
    /// Roots that [`Ledger::resolve`] took out.
    pub buried: u64,
    /// Roots that are not resolved.
    pub pending: u64,
}

/// The roots of one task.
///
/// ```
/// use rainband_core::ledger::{Ledger, News};
///
/// let mut ledger = Ledger::default();
/// let attempt = ledger.begin("line 1", 5, 0).expect("there is room");
/// assert!(!ledger.ack(attempt, 5 ^ 9, 1)); // Edge 5 was acked, edge 9 came of it.
/// assert!(ledger.ack(attempt, 9, 2));
/// let mut news = Vec::new();
/// ledger.take_news(&mut news);
/// assert!(matches!(news[..], [News::Acked { record: "line 1", attempt: 1, .. }]));
/// ```
#[derive(Debug)]
pub struct Ledger<R> {
    entries: Vec<Entry<R>>,
    free: Vec<u32>,
    sequence: u64,
    backoff: BinaryHeap<Reverse<(u64, u32)>>,
    news: Vec<News<R>>,
    pending: usize,
    account: Account,
    dropped: Dropped,
}

impl<R> Default for Ledger<R> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            sequence: 0,
            backoff: BinaryHeap::new(),
            news: Vec::new(),
            pending: 0,
            account: Account::default(),
            dropped: Dropped::default(),
        }
    }
}

impl<R> Ledger<R> {
    /// A root was emitted in deliveries whose edges XOR to `sum`. With no delivery at all (`sum` 0) it is complete at once.
    ///
    /// # Errors
    /// The record, if 2^24 roots are pending already.
    pub fn begin(&mut self, record: R, sum: u64, now_ns: u64) -> Result<AttemptId, R> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.entries.len() == AttemptId::MAX_SLOTS => return Err(record),
            None => {
                self.entries.push(Entry {
                    attempt: AttemptId::new(0, 0),
                    sum: 0,
                    began_ns: 0,
                    number: 0,
                    state: State::Free,
                    record: None,
                });
                self.entries.len() as u32 - 1
            }
        };
        self.sequence += 1;
        let attempt = AttemptId::new(self.sequence, slot);
        self.entries[slot as usize] =
            Entry { attempt, sum, began_ns: now_ns, number: 1, state: State::Live, record: Some(record) };
        self.pending += 1;
        self.account.begun += 1;
        if sum == 0 {
            self.complete(slot, now_ns);
        }
        Ok(attempt)
    }

    fn live(&mut self, attempt: AttemptId) -> Option<&mut Entry<R>> {
        let entry = self.entries.get_mut(attempt.slot())?;
        let same = entry.attempt == attempt || planted(Fault::SlotWithoutSequence);
        let live = entry.state == State::Live || (planted(Fault::AckAfterFail) && entry.state != State::Free);
        (same && live).then_some(entry)
    }

    /// Somebody says `xor` about `attempt`. Returns whether that completed the root.
    #[inline]
    pub fn ack(&mut self, attempt: AttemptId, xor: u64, now_ns: u64) -> bool {
        let Some(entry) = self.live(attempt) else {
            self.dropped.acks += 1;
            return false;
        };
        entry.sum ^= xor;
        if entry.sum != 0 {
            return false;
        }
        self.complete(attempt.slot() as u32, now_ns);
        true
    }

    fn complete(&mut self, slot: u32, now_ns: u64) {
        let entry = &mut self.entries[slot as usize];
        entry.state = State::Free;
        let Some(record) = entry.record.take() else { return };
        let (attempt, began_ns) = (entry.number, entry.began_ns);
        self.free.push(slot);
        self.pending -= 1;
        self.account.acked += 1;
        if planted(Fault::RecordDropped) {
            return;
        }
        self.news.push(News::Acked { record, attempt, began_ns, done_ns: now_ns });
    }

    /// Somebody failed a tuple of `attempt`. Returns whether that was news; the second fail of one attempt is not.
    pub fn fail(&mut self, attempt: AttemptId, failure: Failure) -> bool {
        let Some(entry) = self.live(attempt) else {
            self.dropped.fails += 1;
            return false;
        };
        entry.state = State::Failed;
        self.news.push(News::Failed { slot: Slot(attempt.slot() as u32), failure });
        true
    }

    /// Takes what happened since the last call, in order. Gives `news`' memory in exchange.
    pub fn take_news(&mut self, news: &mut Vec<News<R>>) {
        debug_assert!(news.is_empty());
        std::mem::swap(&mut self.news, news);
    }

    /// Whether `take_news` would give something.
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// The record of a root that failed or waits, with the number of its last attempt and when the first began.
    ///
    /// # Panics
    /// If the slot is free: a `Slot` is only given out with `News::Failed` or `take_due`, and used once.
    pub fn record(&self, slot: Slot) -> (&R, u32, u64) {
        let entry = &self.entries[slot.0 as usize];
        (
            entry.record.as_ref().expect("a slot from the news holds its record until it is resolved"),
            entry.number,
            entry.began_ns,
        )
    }

    /// The record of a root that failed or waits, to note something in it.
    ///
    /// # Panics
    /// If the slot is free, as for [`Ledger::record`].
    pub fn record_mut(&mut self, slot: Slot) -> &mut R {
        let record = self.entries[slot.0 as usize].record.as_mut();
        record.expect("a slot from the news holds its record until it is resolved")
    }

    /// The root in `slot` failed and is to be tried again from `due_ns` on. It keeps its place in `pending`.
    pub fn retry_at(&mut self, slot: Slot, due_ns: u64) {
        self.entries[slot.0 as usize].state = State::Backoff;
        self.backoff.push(Reverse((due_ns, slot.0)));
    }

    /// As [`Ledger::retry_at`], and the attempt that failed does not count (ENGINE 2.4): a death replays bystanders.
    pub fn retry_uncounted(&mut self, slot: Slot, due_ns: u64) {
        self.entries[slot.0 as usize].number -= 1;
        self.retry_at(slot, due_ns);
    }

    /// A mark between the attempts begun so far and those that begin later.
    pub fn mark(&self) -> Mark {
        Mark(self.sequence)
    }

    /// Fails the live attempts that were begun before `mark` was made. Returns how many.
    pub fn fail_begun_before(&mut self, mark: Mark, failure: &Failure) -> usize {
        let is_old = |e: &&mut Entry<R>| e.state == State::Live && e.attempt.sequence() <= mark.0;
        let mut failed = 0;
        for entry in self.entries.iter_mut().filter(is_old) {
            entry.state = State::Failed;
            failed += 1;
            self.news.push(News::Failed { slot: Slot(entry.attempt.slot() as u32), failure: failure.clone() });
        }
        failed
    }

    /// When the next retry is due.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.backoff.peek().map(|Reverse((due, _))| *due)
    }

    /// The next root whose retry is due; `reattempt` must follow.
    pub fn take_due(&mut self, now_ns: u64) -> Option<Slot> {
        let Reverse((due, slot)) = *self.backoff.peek()?;
        if due > now_ns {
            return None;
        }
        self.backoff.pop();
        Some(Slot(slot))
    }

    /// A new attempt at the root in `slot`, emitted in deliveries whose edges XOR to `sum`. Returns its id; the number is one up.
    pub fn reattempt(&mut self, slot: Slot, sum: u64, now_ns: u64) -> AttemptId {
        self.sequence += 1;
        let entry = &mut self.entries[slot.0 as usize];
        if !planted(Fault::OneIdForAllAttempts) {
            entry.attempt = AttemptId::new(self.sequence, slot.0);
        }
        entry.sum = if planted(Fault::SumKeptOnRetry) { entry.sum ^ sum } else { sum };
        entry.number += 1;
        entry.state = State::Live;
        let attempt = entry.attempt;
        if sum == 0 {
            self.complete(slot.0, now_ns);
        }
        attempt
    }

    /// The root in `slot` failed for good: dead-lettered durably, or dropped by the spout's verdict. Frees the slot and gives
    /// the record back.
    ///
    /// # Panics
    /// If the slot is free, as for [`Ledger::record`].
    pub fn resolve(&mut self, slot: Slot) -> R {
        let entry = &mut self.entries[slot.0 as usize];
        entry.state = State::Free;
        let record = entry.record.take().expect("a slot from the news holds its record until it is resolved");
        self.free.push(slot.0);
        self.pending -= 1;
        self.account.buried += 1;
        record
    }

    /// Roots that are not resolved: in flight, failed, or waiting for a retry.
    #[inline]
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// The record of the root that `attempt` is at, while its acks still count.
    pub fn record_of(&self, attempt: AttemptId) -> Option<&R> {
        self.entries.get(attempt.slot()).filter(|e| e.attempt == attempt && e.state == State::Live)?.record.as_ref()
    }

    /// So many attempts at the root of `attempt` were made in earlier processes: they count.
    pub fn charge(&mut self, attempt: AttemptId, attempts: u32) {
        if let Some(entry) = self.entries.get_mut(attempt.slot()).filter(|e| e.attempt == attempt) {
            entry.number = entry.number.saturating_add(attempts);
        }
    }

    /// Whether an attempt begun before `mark` is still live.
    pub fn has_live_before(&self, mark: Mark) -> bool {
        self.entries.iter().any(|e| e.state == State::Live && e.attempt.sequence() <= mark.0)
    }

    /// Whether acks of `attempt` still count.
    pub fn is_live(&self, attempt: AttemptId) -> bool {
        self.entries.get(attempt.slot()).is_some_and(|e| e.attempt == attempt && e.state == State::Live)
    }

    /// What became of all roots so far.
    pub fn account(&self) -> Account {
        Account { pending: self.pending as u64, ..self.account }
    }

    /// What was dropped because it came late or twice.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Live attempts whose root began before `before_ns`: what an audit asks about.
    pub fn older_than(&self, before_ns: u64) -> impl Iterator<Item = (u64, AttemptId)> {
        self.entries
            .iter()
            .filter(move |e| e.state == State::Live && e.began_ns < before_ns)
            .map(|e| (e.began_ns, e.attempt))
    }

    /// All that is pending: record, attempt number, when it began.
    pub fn iter_pending(&self) -> impl Iterator<Item = (&R, u32, u64)> {
        self.entries.iter().filter_map(|e| e.record.as_ref().map(|r| (r, e.number, e.began_ns)))
    }

    /// Hands back every record, at the end of the task; the ledger is empty afterwards.
    pub fn drain(&mut self) -> Vec<R> {
        let mut records: Vec<R> = self
            .news
            .drain(..)
            .filter_map(|news| match news {
                News::Acked { record, .. } => Some(record),
                News::Failed { .. } => None,
            })
            .collect();
        records.extend(self.entries.iter_mut().filter_map(|e| e.record.take()));
        self.entries.clear();
        self.free.clear();
        self.backoff.clear();
        self.pending = 0;
        records
    }
}
