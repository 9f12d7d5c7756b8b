//! What becomes of a task's roots: completed ones are told to the spout, failed ones tried again or buried, positions moved on.
//! Between stage 7 (ledger) and 8 (spout loop).
//!
//! Run by the task's own thread in every round of its loop, and by the timer while that thread is in user code, so that a spout
//! that blocks does not stop its own replays; only hooks that the user overrode wait for the task's thread. Whoever gets
//! `Roots` with `try_lock` does the work. Nobody waits for that lock, so Python may be called under it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use rainband_core::deliver::{Anchors, Emission, Outbox, Stopped};
use rainband_core::emit::EdgeIds;
use rainband_core::frontier::Ticket;
use rainband_core::ids::{AttemptId, RootRef, StreamId, TaskId};
use rainband_core::key::KeyBytes;
use rainband_core::ledger::{Failure, News, Reason, Slot};
use rainband_core::plan::Plan;
use rainband_core::route::Router;
use rainband_core::tuple::{Head, Roots as RootSet};

use crate::choose::{Ask, Refused};
use crate::collector::edge_key;
use crate::errors;
use crate::packing::PackedValues;
use crate::payload::Payload;
use crate::roots::{HasHooks, HookCall, Record, Replayer, Roots};
use crate::shared::{Shared, lock, lock_attached};
use crate::stats::add;

/// The stream that takes dead letters if somebody is subscribed to it.
pub const DEAD_LETTER: &str = "dead_letter";

/// What a root is, copied out of the ledger so that nothing is done under its lock.
struct Peek {
    payload: Payload,
    id: Option<Py<PyAny>>,
    stream: StreamId,
    direct: Option<TaskId>,
    is_dead: bool,
    attempt: u32,
    began_ns: u64,
}

/// The roots' state of `task`.
pub fn new_roots(shared_key: u64, plan: &Plan, task: TaskId, is_here: impl Fn(TaskId) -> bool) -> Roots {
    let component = plan.task_component[task.index()];
    let mut router = Router::new(plan, component, edge_key(shared_key, task, 3));
    router.keep_local(&is_here);
    Roots {
        news: Vec::new(),
        calls: std::collections::VecDeque::new(),
        replayer: Replayer {
            router,
            outbox: Outbox::new(plan, component, &is_here),
            edges: EdgeIds::new(edge_key(shared_key, task, 1)),
            targets: Vec::new(),
            drawn: Vec::new(),
            packed: PackedValues::default(),
        },
        has: HasHooks::default(),
        jitter: edge_key(shared_key, task, 4) | 1,
        alone: std::collections::VecDeque::new(),
        alone_live: None,
    }
}

/// Does what there is to do for the roots of `task`. Returns when it wants to be called again at the latest.
pub fn service(py: Python<'_>, shared: &Arc<Shared>, task: TaskId) -> Option<u64> {
    let own = shared.task(task);
    let now = shared.now_ns();
    let Ok(mut roots) = own.roots.try_lock() else {
        return Some(now + 1_000_000);
    };
    let mut work = Service { py, shared, task, roots: &mut roots, now };
    work.take_news();
    work.replay_due();
    let is_flushed = work.flush();
    own.has_replays.store(!is_flushed, Ordering::Release);
    work.move_position();
    let ledger = lock(&own.ledger);
    own.pending.store(ledger.pending(), Ordering::Relaxed);
    let due = ledger.next_due_ns();
    drop(ledger);
    if is_flushed && roots.alone.is_empty() {
        due
    } else {
        Some(due.map_or(now + 1_000_000, |due| due.min(now + 1_000_000)))
    }
}

/// The next hook that the task's thread is to call.
pub fn next_call(shared: &Shared, task: TaskId) -> Option<HookCall> {
    shared.task(task).roots.try_lock().ok()?.calls.pop_front()
}

/// What `Spout.fail` returned.
pub enum Verdict {
    Default,
    RetryAfter(Option<f64>),
    DeadLetter,
    Drop,
}

/// Does what the verdict on the failed root in `slot` says.
pub fn judge(py: Python<'_>, shared: &Arc<Shared>, task: TaskId, slot: Slot, failure: Failure, verdict: &Verdict) {
    let own = shared.task(task);
    let mut roots = lock_attached(py, &own.roots); // The timer may hold it for a moment.
    let now = shared.now_ns();
    let mut work = Service { py, shared, task, roots: &mut roots, now };
    match verdict {
        Verdict::Default => work.decide(slot, failure),
        Verdict::RetryAfter(after) => {
            let attempt = work.peek(slot).attempt;
            if failure.reason == Reason::WorkerLost {
                let wait = after.map_or(0, |s| (s.max(0.0) * 1e9) as u64);
                lock(&own.ledger).retry_uncounted(slot, now.saturating_add(wait));
            } else if attempt >= shared.settings_of(task).max_attempts {
                work.bury(slot, failure);
            } else {
                let wait = after.map_or_else(|| work.backoff_ns(attempt), |s| (s.max(0.0) * 1e9) as u64);
                lock(&own.ledger).retry_at(slot, now.saturating_add(wait));
            }
        }
        Verdict::DeadLetter => work.bury(slot, failure),
        Verdict::Drop => {
            let record = lock(&own.ledger).resolve(slot);
            add(&own.stats.roots_dropped, 1);
            work.resolved(&record);
            drop(record);
        }
    }
    let is_flushed = work.flush();
    own.has_replays.store(!is_flushed, Ordering::Release);
    work.move_position();
    let pending = lock(&own.ledger).pending();
    own.pending.store(pending, Ordering::Relaxed);
}

/// The user's view of a failure of a root of `task`.
pub fn failure_of(shared: &Shared, failure: &Failure, attempt: u32, began_ns: u64) -> crate::values::Failure {
    crate::values::Failure {
        reason: failure.reason.as_str().to_string(),
        component: shared.plan.component_of(failure.task).name.clone(),
        task: failure.task.0,
        attempt,
        age_s: shared.now_ns().saturating_sub(began_ns) as f64 / 1e9,
        error: failure.error.to_string(),
    }
}

struct Service<'a, 'py> {
    py: Python<'py>,
    shared: &'a Arc<Shared>,
    task: TaskId,
    roots: &'a mut Roots,
    now: u64,
}

impl Service<'_, '_> {
    fn take_news(&mut self) {
        let own = self.shared.task(self.task);
        let mut news = std::mem::take(&mut self.roots.news);
        {
            let mut ledger = lock(&own.ledger);
            if ledger.has_news() {
                ledger.take_news(&mut news);
            }
        }
        let shared = Arc::clone(self.shared);
        let mut latencies = shared.latency.tally();
        for item in news.drain(..) {
            match item {
                News::Acked { record, began_ns, done_ns, .. } if record.dead.is_none() => {
                    latencies.record(done_ns.saturating_sub(began_ns));
                    self.acked(record, began_ns);
                }
                News::Acked { record, began_ns, .. } => self.acked(record, began_ns),
                News::Failed { slot, failure } if self.roots.has.fail && !self.is_letter(slot) => {
                    self.roots.calls.push_back(HookCall::Fail(slot, failure));
                }
                News::Failed { slot, failure } => self.decide(slot, failure),
            }
        }
        self.roots.news = news;
    }

    #[inline]
    fn acked(&mut self, record: Record, began_ns: u64) {
        let stats = &self.shared.task(self.task).stats;
        self.resolved(&record);
        if let (Some(dead), Some(id)) = (&record.dead, &record.id) {
            add(&stats.letters_acked, 1);
            let (failure, attempt) = dead.as_ref().clone();
            self.tell_dead(id.clone_ref(self.py), failure, attempt, began_ns);
            return;
        }
        if let (true, Some(id)) = (self.roots.has.ack, record.id) {
            self.roots.calls.push_back(HookCall::Ack(id));
        }
    }

    fn tell_dead(&mut self, id: Py<PyAny>, failure: Failure, attempt: u32, began_ns: u64) {
        if self.roots.has.dead || self.roots.has.ack {
            self.roots.calls.push_back(HookCall::Dead(id, failure, attempt, began_ns));
        }
    }

    #[inline]
    fn resolved(&mut self, record: &Record) {
        if record.ticket != Ticket::NONE {
            lock(&self.shared.task(self.task).positions).frontier.resolve(record.ticket);
        }
    }

    /// Whether what failed is a dead letter on its way to subscribers: then the verdict has been given.
    fn is_letter(&self, slot: Slot) -> bool {
        lock(&self.shared.task(self.task).ledger).record(slot).0.dead.is_some()
    }

    fn peek(&self, slot: Slot) -> Peek {
        let ledger = lock(&self.shared.task(self.task).ledger);
        let (record, attempt, began_ns) = ledger.record(slot);
        Peek {
            payload: record.payload.share(self.py),
            id: record.id.as_ref().map(|id| id.clone_ref(self.py)),
            stream: record.stream,
            direct: record.direct(),
            is_dead: record.dead.is_some(),
            attempt,
            began_ns,
        }
    }

    /// The default verdict: again with backoff until `max_attempts`, then the dead letters.
    fn decide(&mut self, slot: Slot, failure: Failure) {
        let root = self.peek(slot);
        let limit = self.shared.settings_of(self.task).max_attempts;
        let is_counted = failure.reason != Reason::WorkerLost;
        if root.is_dead || !failure.retry || (is_counted && root.attempt >= limit) {
            self.bury(slot, failure);
            return;
        }
        if failure.reason == Reason::WorkerLost {
            // Nobody had it in hand for sure: no attempt is charged, and nothing is to be waited for.
            lock(&self.shared.task(self.task).ledger).retry_uncounted(slot, self.now);
            return;
        }
        if failure.reason == Reason::Crashed {
            let mark = lock(&self.shared.task(self.task).ledger).mark();
            self.roots.alone.push_back((slot, mark));
            return;
        }
        let due = self.now + self.backoff_ns(root.attempt);
        lock(&self.shared.task(self.task).ledger).retry_at(slot, due);
    }

    /// Doubles per attempt up to `retry_backoff_max_s`, ±25 %.
    fn backoff_ns(&mut self, attempt: u32) -> u64 {
        let settings = self.shared.settings_of(self.task);
        let full =
            settings.retry_backoff_ns.saturating_mul(1 << (attempt - 1).min(20)).min(settings.retry_backoff_max_ns);
        let jitter = &mut self.roots.jitter;
        *jitter ^= *jitter << 13;
        *jitter ^= *jitter >> 7;
        *jitter ^= *jitter << 17;
        full * 3 / 4 + *jitter % (full / 2 + 1)
    }

    /// The root failed for good: to the subscribers of `dead_letter` if there are any, else to the file.
    fn bury(&mut self, slot: Slot, failure: Failure) {
        let mut root = self.peek(slot);
        if let (Some(stream), false, true) = (self.dead_letter_stream(), root.is_dead, root.id.is_some()) {
            match self.letter_values(&root, &failure).and_then(|values| self.check_letter(values)) {
                Ok(values) => {
                    lock(&self.shared.task(self.task).ledger).record_mut(slot).dead =
                        Some(Box::new((failure, root.attempt)));
                    let letter = Peek { payload: Payload(values), stream, direct: None, ..root };
                    self.emit_again(slot, letter);
                }
                Err(error) => self.shared.fail_run(self.py, &errors::value_of(self.py, &error)),
            }
            return;
        }
        // A letter that its subscriber failed is buried for what killed the tuple, not for that.
        let own = self.shared.task(self.task);
        let first = lock(&own.ledger).record(slot).0.dead.as_ref().map(|dead| dead.as_ref().clone());
        let (failure, attempt) = first.unwrap_or((failure, root.attempt));
        root.attempt = attempt;
        if let Err(error) = self.write_letter(&root, &failure) {
            // The root stays pending: nothing is resolved that was not written.
            self.shared.fail_run(self.py, &errors::value_of(self.py, &error));
            return;
        }
        let record = lock(&own.ledger).resolve(slot);
        self.resolved(&record);
        if let Some(id) = record.id {
            self.tell_dead(id, failure, root.attempt, root.began_ns);
        }
    }

    fn dead_letter_stream(&self) -> Option<StreamId> {
        let plan = &self.shared.plan;
        plan.component_of(self.task).streams.clone().map(StreamId).find(|id| {
            let stream = &plan.streams[id.index()];
            stream.name == DEAD_LETTER && stream.width == 8 && !stream.subscriptions.is_empty()
        })
    }

    fn letter_values(&self, root: &Peek, failure: &Failure) -> PyResult<Py<PyAny>> {
        let letter = self.letter(root, failure)?;
        let names = ["component", "stream", "values", "id", "reason", "error", "attempts", "at"];
        let values: Vec<Bound<'_, PyAny>> = names
            .iter()
            .map(|name| letter.get_item(name).map(|v| v.expect("letter() sets every field")))
            .collect::<PyResult<_>>()?;
        Ok(PyTuple::new(self.py, values)?.into_any().unbind())
    }

    /// In checked mode a letter is emitted like any other tuple.
    fn check_letter(&self, values: Py<PyAny>) -> PyResult<Py<PyAny>> {
        if self.shared.settings.checked {
            let component = self.shared.plan.task_component[self.task.index()].0;
            self.shared.call_runtime(self.py, "check_emit", (component, DEAD_LETTER, values.bind(self.py)))?;
        }
        Ok(values)
    }

    fn letter(&self, root: &Peek, failure: &Failure) -> PyResult<Bound<'_, PyDict>> {
        let py = self.py;
        let plan = &self.shared.plan;
        let stream = &plan.streams[root.stream.index()];
        let letter = PyDict::new(py);
        letter.set_item("component", &plan.component_of(self.task).name)?;
        letter.set_item("stream", &stream.name)?;
        letter.set_item("values", root.payload.to_tuple(py, stream.width)?)?;
        letter.set_item("id", root.id.as_ref().map_or_else(|| py.None(), |id| id.clone_ref(py)))?;
        letter.set_item("reason", failure.reason.as_str())?;
        let place = format!("{} task {}: {}", plan.component_of(failure.task).name, failure.task, failure.error);
        letter.set_item("error", place)?;
        letter.set_item("attempts", root.attempt)?;
        let at = py.import("time")?.call_method0("time")?;
        letter.set_item("at", at)?;
        Ok(letter)
    }

    fn write_letter(&self, root: &Peek, failure: &Failure) -> PyResult<()> {
        let letter = self.letter(root, failure)?;
        self.shared.call_runtime(self.py, "dead_letter", (letter,)).map(drop)
    }

    fn replay_due(&mut self) {
        loop {
            let due = lock(&self.shared.task(self.task).ledger).take_due(self.now);
            let Some(slot) = due else { return self.replay_alone() };
            let root = self.peek(slot);
            add(&self.shared.task(self.task).stats.replays, 1);
            self.emit_again(slot, root);
        }
    }

    /// The next of those that may have killed their worker, once the one before is resolved or failed again.
    fn replay_alone(&mut self) {
        let own = self.shared.task(self.task);
        while !self.roots.alone.is_empty() {
            let ledger = lock(&own.ledger);
            let is_busy = self.roots.alone_live.is_some_and(|attempt| ledger.is_live(attempt))
                || self.roots.alone.front().is_some_and(|(_, mark)| ledger.has_live_before(*mark));
            drop(ledger);
            if is_busy {
                return; // What is on its way with it would die with it once more.
            }
            let Some((slot, _)) = self.roots.alone.pop_front() else { return };
            let root = self.peek(slot);
            add(&own.stats.replays, 1);
            self.roots.alone_live = Some(self.emit_again(slot, root));
        }
    }

    /// A new attempt at the root in `slot`, with the values and the stream of `root`.
    fn emit_again(&mut self, slot: Slot, root: Peek) -> AttemptId {
        let py = self.py;
        let stream = &self.shared.plan.streams[root.stream.index()];
        let replayer = &mut self.roots.replayer;
        replayer.targets.clear();
        let routed = if let Some(task) = root.direct {
            replayer.router.route_direct(root.stream, task, &mut replayer.targets);
            Ok(())
        } else {
            let mut key = KeyBytes::default();
            let outbox = &replayer.outbox;
            let mut ask = Ask { py, shared: self.shared, width: stream.width, key: &mut key, outbox };
            replayer.router.route(root.stream, &root.payload, &mut ask, &mut replayer.targets)
        };
        let routed = routed.and_then(|()| {
            let (outbox, targets) = (&replayer.outbox, &replayer.targets);
            let packed = replayer.packed.pack(py, self.shared, outbox, &root.payload, root.stream, targets);
            packed.map_err(Refused::Stranger)
        });
        if routed.is_err() {
            replayer.targets.clear();
        }
        replayer.drawn.clear();
        replayer.drawn.extend(replayer.targets.iter().map(|_| replayer.edges.draw()));
        // With nowhere to go because routing failed, the attempt must not complete: it is failed below.
        let sum = replayer.drawn.iter().fold(u64::from(routed.is_err()), |sum, edge| sum ^ edge.bits());
        let own = self.shared.task(self.task);
        let attempt = lock(&own.ledger).reattempt(slot, sum, self.now);
        if let Err(why) = routed {
            let error = match why {
                Refused::Raised(error) => errors::text_of(py, &error),
                Refused::Stranger(text) | Refused::NotAKey(_, text) => text,
            };
            let failure = Failure { reason: Reason::Error, task: self.task, error: error.into(), retry: true };
            lock(&own.ledger).fail(attempt, failure);
            self.shared.ring(self.task);
            return attempt;
        }
        let reference = RootRef { task: self.task, incarnation: self.shared.incarnation, attempt };
        let head = Head { roots: RootSet::One(reference), hops: 0, attempt: root.attempt + 1, ..Head::default() };
        let bytes = root.payload.bytes(py, stream.width);
        let emission = Emission { payload: root.payload, head, stream: root.stream, from: self.task, bytes };
        let anchors = Anchors::Root(&replayer.drawn);
        let values = replayer.packed.values();
        let (rest, _) =
            replayer.outbox.send(emission, &replayer.targets, anchors, &mut replayer.edges, values, |p| p.share(py));
        drop(rest);
        own.resent_inside.store(replayer.outbox.sent_inside(), Ordering::Release);
        attempt
    }

    /// Hands over what was replayed, as far as there is room; returns whether that was all.
    fn flush(&mut self) -> bool {
        let shared = self.shared;
        let seat = shared.turns.seat(shared.plan.task_executor[self.task.index()].index());
        for _ in 0..64 {
            let outbox = &mut self.roots.replayer.outbox;
            if outbox.is_empty() {
                return true;
            }
            match outbox.flush(shared.settings_of(self.task).loop_bytes, &**shared) {
                Ok(()) => return true,
                Err(Stopped::Full(task)) => {
                    if shared.wait_for_room(task, &seat) {
                        return false;
                    }
                }
                Err(Stopped::Closed(task)) => {
                    let count = outbox.buffered(task);
                    let left = outbox.take(task);
                    add(&shared.run_stats.discarded_at_stop, count as u64);
                    drop(left);
                }
                Err(Stopped::LoopFull(task)) => {
                    let left = outbox.take(task);
                    let own = shared.task(self.task);
                    own.resent_inside.store(outbox.sent_inside(), Ordering::Release);
                    for envelope in left {
                        let error =
                            format!("more than {} bytes wait on a back edge", shared.settings_of(self.task).loop_bytes);
                        let failure =
                            Failure { reason: Reason::LoopFull, task: self.task, error: error.into(), retry: true };
                        shared.count_failed(self.task, Reason::LoopFull, false);
                        shared.fail_roots(envelope.head.roots.as_slice(), &failure);
                    }
                }
            }
        }
        false
    }

    fn move_position(&mut self) {
        let own = self.shared.task(self.task);
        let mut passed = Vec::new();
        let mut positions = lock(&own.positions);
        if let Some(reached) = positions.frontier.advance(|position| passed.push(position)) {
            passed.extend(positions.reached.replace(reached));
        }
        drop(positions);
        drop(passed);
    }
}
