//! Stage 5 of 8: takes batches from the inbox of a bolt's task and calls `process`. One executor runs one or several tasks.
//!
//! A round of a task: ticks that are due, up to a batch of tuples, then what was emitted and acked is handed over. A batch is
//! cut when it has taken [`CUT_NS`], so that no output or ack waits longer than the call in progress and little more, and a
//! slow task does not hoard work that others could do. The clock is read every few calls, as many as fit in that time; when they
//! suddenly take long the timer says so (`wants_cut`).

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use rainband_core::emit::InHand;
use rainband_core::ids::TaskId;
use rainband_core::ledger::Reason;
use rainband_core::queue::{Entry, Frame};
use rainband_core::signal::{Kind, Signal};
use rainband_core::tuple::Envelope;

use crate::collector::Current;
use crate::errors;
use crate::executor::share_turn;
use crate::fork;
use crate::payload::Payload;
use crate::service;
use crate::shared::Shared;
use crate::stats::add;
use crate::task::{Mode, Task};
use crate::turn::{SLICE, Seat};
use crate::values::{Hold, Tuple};

mod call;
mod end;
mod frames;

/// A batch that has taken this long is cut.
const CUT_NS: u64 = 100_000;
/// What [`BoltTask::pop`] found.
enum Popped {
    Batch,
    Signal,
    Nothing,
}

/// A bolt's task with what its loop keeps.
pub struct BoltTask {
    pub task: Task,
    /// What was taken from the inbox; the first `worked` of it are done with.
    batch: Vec<Envelope<Payload>>,
    worked: usize,
    /// What is left of the last frame from another worker.
    frame: Option<Box<Frame>>,
    /// Worked on and not released: tuples, their bytes, and the bytes of those from back edges.
    done: (usize, u64, u64),
    done_inside: u64,
    /// By stream id: whether it comes over a back edge, from inside the own cycle.
    kinds: Vec<(bool, bool)>,
    calls_per_look: u32,
    /// A call took less than a slice, on average over the last one.
    is_quick: bool,
    next_tick_ns: Option<u64>,
    timer_due_ns: Option<u64>,
    retry_due_ns: Option<u64>,
    restarts: Vec<u64>,
    executed: u64,
    acked: u64,
    calls: u64,
    /// Nobody is subscribed to what it emits.
    is_leaf: bool,
    /// Its executor, in a worker that says what it has in hand.
    slot: Option<usize>,
    /// A `Tuple` that the last call did not keep, emptied.
    spare: Cell<Option<Py<Tuple>>>,
}

impl BoltTask {
    pub fn new(task: Task) -> Self {
        let shared = Arc::clone(&task.shared);
        let to = shared.plan.task_component[task.id.index()];
        let kinds = shared
            .plan
            .streams
            .iter()
            .map(|s| (shared.plan.is_back_edge(s.component, to), shared.plan.same_cycle(s.component, to)))
            .collect();
        let tick = shared.settings_of(task.id).tick_interval_ns.filter(|_| task.spec.tick.is_some());
        let has_timer = task.spec.timer.is_some();
        task.cell.own().needs_anchors = task.spec.mode == Mode::Batch;
        shared.task(task.id).is_batch.store(task.spec.mode == Mode::Batch, Ordering::Relaxed);
        Self {
            batch: Vec::new(),
            worked: 0,
            frame: None,
            done: (0, 0, 0),
            done_inside: 0,
            kinds,
            calls_per_look: 1,
            is_quick: false,
            next_tick_ns: tick.map(|t| shared.now_ns() + t),
            timer_due_ns: has_timer.then_some(0),
            retry_due_ns: None,
            restarts: Vec::new(),
            executed: 0,
            acked: 0,
            calls: 0,
            is_leaf: shared.plan.consumers(to).is_empty(),
            slot: shared
                .remote
                .as_ref()
                .and_then(|remote| remote.slots.as_ref())
                .map(|_| shared.plan.task_executor[task.id.index()].index()),
            spare: Cell::new(None),
            task,
        }
    }

    /// When the task wants to run again although nothing arrives.
    pub fn deadline_ns(&self) -> Option<u64> {
        [self.next_tick_ns, self.timer_due_ns, self.retry_due_ns].into_iter().flatten().min()
    }

    /// One round. Returns whether there was something to do.
    fn round(&mut self, py: Python<'_>) -> bool {
        if self.task.shared.is_forked() {
            fork::end_child();
        }
        let shared = Arc::clone(&self.task.shared);
        let own = shared.task(self.task.id);
        let now = shared.now_ns();
        self.task.cell.own().now_ns = now;
        let mut worked = self.tick(py, now);
        if shared.is_stopping() {
            return false; // Because of what the tick raised, perhaps.
        }
        if self.batch.is_empty() {
            match self.pop(py) {
                Popped::Signal => {
                    if self.task.end.is_flushed() {
                        own.is_flushed.store(true, Ordering::Release);
                    }
                    return true;
                }
                Popped::Batch | Popped::Nothing => {}
            }
        }
        if !self.batch.is_empty() {
            worked = true;
            self.task.end.touch();
            self.work(py, now);
        }
        self.cancel_timed_out(py);
        self.run_timer(py);
        self.hand_over(py);
        self.serve_roots(py);
        if !worked && !self.task.end.is_over() {
            worked = self.step(py);
        }
        worked
    }

    /// Takes what is at the front of the inbox: a batch becomes the task's, a signal is received.
    fn pop(&mut self, py: Python<'_>) -> Popped {
        if self.frame.is_some() {
            let mut batch = std::mem::take(&mut self.batch);
            self.next_of_frame(py, &mut batch);
            self.batch = batch;
            return Popped::Batch;
        }
        let own = self.task.shared.task(self.task.id);
        match own.queue.pop() {
            Some(Entry::Batch(batch)) => {
                own.is_idle_member.store(false, Ordering::Release);
                own.has_in_hand.store(true, Ordering::Release);
                self.batch = batch;
                Popped::Batch
            }
            Some(Entry::Frame(frame)) => {
                self.open_frame(py, frame);
                Popped::Batch
            }
            Some(Entry::Signal(signal)) => {
                self.task.end.receive(signal);
                Popped::Signal
            }
            None => Popped::Nothing,
        }
    }

    /// Works on the batch, and on the next ones, until there is none or it is cut.
    fn work(&mut self, py: Python<'_>, began_ns: u64) {
        let shared = Arc::clone(&self.task.shared);
        let own = shared.task(self.task.id);
        own.in_user_since_ns.store(began_ns, Ordering::Relaxed);
        own.wants_cut.store(false, Ordering::Relaxed);
        let mut until_look = self.calls_per_look;
        let mut batch = std::mem::take(&mut self.batch);
        if self.is_leaf && self.task.spec.auto_ack {
            self.task.cell.own().current = Current::Mine; // For all calls of the slice.
        }
        let mut at = self.worked;
        let mut calls = 0;
        while at < batch.len() {
            if let Some(next) = batch.get(at + 1) {
                prefetch(next.payload.0.as_ptr());
            }
            self.process(py, &shared, &mut batch[at]);
            if shared.is_forked() {
                fork::end_child();
            }
            at += 1;
            calls += 1;
            until_look -= 1;
            let mut is_cut = own.wants_cut.load(Ordering::Relaxed);
            own.calls.store(self.calls + calls, Ordering::Relaxed);
            is_cut |= shared.is_stopping();
            if until_look == 0 {
                is_cut |= shared.now_ns() - began_ns > CUT_NS;
                until_look = self.calls_per_look;
            }
            if at == batch.len() {
                batch.drain(..).for_each(|envelope| drop(envelope.payload.0.into_bound(py)));
                at = 0;
                is_cut = is_cut || !(self.next_of_frame(py, &mut batch) || own.queue.next_batch(&mut batch));
            }
            if is_cut {
                break;
            }
        }
        self.task.cell.own().current = Current::None;
        self.batch = batch;
        self.worked = at;
        own.in_user_since_ns.store(0, Ordering::Relaxed);
        self.calls += calls;
        own.calls.store(self.calls, Ordering::Relaxed);
        let took = shared.now_ns() - began_ns;
        let average = took / calls.max(1);
        self.is_quick = average < CUT_NS;
        self.calls_per_look = (CUT_NS / 2 / average.max(1)).clamp(1, 64) as u32;
        add(&own.stats.process_ns, took);
        let seat = self.task.cell.own().seat.clone();
        if calls >= 8 && average < 20_000 && seat.is_free() {
            seat.note_calls(average);
        }
    }

    #[inline]
    fn process(&mut self, py: Python<'_>, shared: &Arc<Shared>, envelope: &mut Envelope<Payload>) {
        self.count_in(envelope);
        if let Some(executor) = self.slot {
            self.note_in_hand(py, executor, envelope);
        }
        if envelope.head.hops > shared.settings.max_hops {
            self.fail_hops(&InHand::of(envelope));
        } else if self.is_leaf && self.task.spec.auto_ack {
            self.process_leaf(py, shared, envelope);
        } else if self.task.spec.auto_ack {
            self.process_auto(py, shared, envelope);
        } else {
            self.process_manual(py, shared, envelope);
        }
    }

    /// Counts a tuple that is worked on now; its room is given back when the slice is handed over.
    #[inline(always)]
    fn count_in(&mut self, envelope: &Envelope<Payload>) {
        let (is_back, is_inside) = self.kinds[envelope.stream.index()];
        if is_back {
            self.done.2 += u64::from(envelope.bytes);
        } else {
            self.done.0 += 1;
            self.done.1 += u64::from(envelope.bytes);
        }
        self.executed += 1;
        self.done_inside += u64::from(is_inside);
    }

    #[cold]
    fn fail_hops(&self, in_hand: &InHand) {
        let limit = self.task.shared.settings.max_hops;
        let error = format!("more than {limit} emissions lie between it and its root");
        self.fail(in_hand, Reason::TooManyHops, &error, false);
    }

    /// Acked when the call ends, failed when it raises.
    #[inline]
    fn process_auto(&mut self, py: Python<'_>, shared: &Arc<Shared>, envelope: &mut Envelope<Payload>) {
        let attempt = envelope.head.attempt;
        let serial = {
            let mut collector = self.task.cell.own();
            collector.in_hand.receive(envelope);
            collector.current = Current::Mine;
            collector.serial += 1;
            collector.serial
        };
        let hold = || Hold::Current { task: self.task.id, serial };
        let result = self.call(py, shared, envelope, attempt, hold);
        let mut collector = self.task.cell.own();
        collector.serial += 1; // A kept Tuple is over.
        collector.current = Current::None;
        if let Err(error) = result {
            let in_hand = std::mem::take(&mut collector.in_hand);
            drop(collector);
            self.raised(py, shared, &error, &in_hand);
        } else {
            collector.ack_current();
            self.acked += 1;
        }
    }

    /// As [`BoltTask::process_auto`] for a bolt that nobody is subscribed to: nothing can come of the tuple.
    #[inline]
    fn process_leaf(&mut self, py: Python<'_>, shared: &Arc<Shared>, envelope: &mut Envelope<Payload>) {
        let attempt = envelope.head.attempt;
        let hold = || {
            let mut collector = self.task.cell.own();
            collector.serial += 1;
            Hold::Current { task: self.task.id, serial: collector.serial }
        };
        let result = self.call(py, shared, envelope, attempt, hold);
        if let Err(error) = result {
            self.task.cell.own().current = Current::None;
            self.raised(py, shared, &error, &InHand::of(envelope));
            self.task.cell.own().current = Current::Mine;
        } else {
            self.task.cell.own().ack_alone(envelope);
            self.acked += 1;
        }
    }

    /// What was emitted goes to the queues, what was acked to the ledgers, room to the producers.
    fn hand_over(&mut self, py: Python<'_>) {
        let has_more = !self.batch.is_empty() || self.frame.is_some();
        self.task.cell.own().hand_over(py, has_more && self.is_quick && self.task.is_only);
        if self.slot.is_some() {
            self.note_hands(py);
        }
        let own = self.task.shared.task(self.task.id);
        own.has_in_hand.store(has_more, Ordering::Release);
        add(&own.stats.executed, std::mem::take(&mut self.executed));
        add(&own.stats.acked, std::mem::take(&mut self.acked));
        let done_inside = std::mem::take(&mut self.done_inside);
        if done_inside > 0 {
            own.done_inside.fetch_add(done_inside, Ordering::AcqRel);
        }
        let (items, bytes, loop_bytes) = std::mem::take(&mut self.done);
        if items > 0 || loop_bytes > 0 {
            let spare = self.batch.is_empty().then(|| std::mem::take(&mut self.batch));
            own.queue.release(items, bytes, loop_bytes, spare);
        }
    }

    fn serve_roots(&mut self, py: Python<'_>) {
        let own = self.task.shared.task(self.task.id);
        if !own.has_roots() {
            self.retry_due_ns = None;
            return;
        }
        self.retry_due_ns = service::service(py, &self.task.shared, self.task.id);
    }

    /// Hands back what was not worked on, when the run is stopped.
    pub fn discard(&mut self, py: Python<'_>) {
        let _ = py;
        let shared = &self.task.shared;
        let mut count = self.batch.len() - self.worked;
        count += self.frame.take().map_or(0, |frame| frame.reader.left());
        self.batch.clear();
        for entry in shared.task(self.task.id).queue.close() {
            count += match entry {
                Entry::Batch(batch) => batch.len(),
                Entry::Frame(frame) => frame.reader.left(),
                Entry::Signal(_) => 0,
            };
        }
        add(&shared.run_stats.discarded_at_stop, count as u64);
    }
}

/// Asks the processor for the head of an object that will be read soon: values made a queue ago are in no near cache.
#[inline]
fn prefetch(object: *const pyo3::ffi::PyObject) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it reads nothing and cannot fault.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(object.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = object;
}

/// Sends a signal of `task` to all its consumers, behind what it emitted. Blocks in a worker of several: the supervisor has to
/// know of an end before anybody else does, and of the ends of a cycle at once, or a successor would begin a part of it anew.
pub fn send_signal(py: Python<'_>, shared: &Shared, task: TaskId, kind: Kind) {
    if kind == Kind::End
        && let Some(remote) = &shared.remote
    {
        let together = remote.end_together(shared, task);
        let ids: Vec<u32> = together.iter().map(|task| task.0).collect();
        if ids.is_empty() {
            return; // The last member of its cycle sends for all.
        }
        if let Err(error) = shared.call_runtime(py, "ended", (ids,)) {
            // A successor would begin anew what the consumers count as ended.
            shared.fail_run(py, &errors::value_of(py, &error));
            return;
        }
        for task in together {
            tell_consumers(shared, task, kind);
        }
        return;
    }
    tell_consumers(shared, task, kind);
}

fn tell_consumers(shared: &Shared, task: TaskId, kind: Kind) {
    if let Some(remote) = &shared.remote {
        remote.note_signal(task, kind); // First, for a successor that comes meanwhile.
    }
    let component = shared.plan.task_component[task.index()];
    for consumer in shared.plan.consumers(component) {
        let signal = Signal { kind, from: task, incarnation: shared.incarnation };
        match &shared.remote {
            Some(remote) if !remote.links.is_here(consumer) => remote.links.signal(consumer, signal),
            _ => shared.task(consumer).queue.signal(signal),
        }
    }
}

/// The loop of an executor: rounds of its tasks until all are over or the run stops.
pub fn run(py: Python<'_>, shared: &Arc<Shared>, seat: &Seat, tasks: &mut [BoltTask]) {
    while !shared.is_stopping() {
        let mut worked = false;
        for task in tasks.iter_mut() {
            worked |= task.round(py);
        }
        if tasks.iter().all(|t| t.task.end.is_over()) {
            return;
        }
        if worked {
            share_turn(py, seat, SLICE);
            continue;
        }
        let now = shared.now_ns();
        let deadline = tasks.iter().filter_map(BoltTask::deadline_ns).min();
        let wait = deadline.map(|at| std::time::Duration::from_nanos(at.saturating_sub(now)));
        if wait != Some(std::time::Duration::ZERO) {
            py.detach(|| seat.park(wait));
        }
    }
}
