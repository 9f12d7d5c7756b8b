//! Stage 5 of 8: takes batches from the inbox of a bolt's task and calls `process`. One executor runs one or several tasks.
//!
//! A round of a task: ticks that are due, up to a batch of tuples, then what was emitted and acked is handed over. A batch is
//! cut when it has taken [`CUT_NS`], so that no output or ack waits longer than the call in progress and little more, and a
//! slow task does not hoard work that others could do. The clock is read every few calls, as many as fit in that time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use rainband_core::emit::InHand;
use rainband_core::ids::{Incarnation, TaskId};
use rainband_core::ledger::{Failure, Reason};
use rainband_core::queue::Entry;
use rainband_core::signal::{Kind, Signal, Step, View};
use rainband_core::tuple::Envelope;

use crate::ack;
use crate::base::emit_yielded;
use crate::call::{is_generator, next_of};
use crate::collector::{Current, How};
use crate::errors;
use crate::fork;
use crate::payload::{Checked, Payload};
use crate::service;
use crate::settings::OnError;
use crate::shared::{Shared, lock};
use crate::stats::add;
use crate::task::{Mode, TUPLE, Task};
use crate::turn::{SLICE, Seat};
use crate::values::{Hold, Tuple};

/// A batch that has taken this long is cut.
const CUT_NS: u64 = 100_000;

/// A bolt's task with what its loop keeps.
pub struct BoltTask {
    pub task: Task,
    /// What was taken from the inbox; the first `worked` of it are done with.
    batch: Vec<Envelope<Payload>>,
    worked: usize,
    /// Worked on and not released: tuples, their bytes, and the bytes of those from back edges.
    done: (usize, u64, u64),
    done_inside: u64,
    /// By stream id: whether it comes over a back edge, from inside the own cycle.
    kinds: Vec<(bool, bool)>,
    calls_per_look: u32,
    next_tick_ns: Option<u64>,
    timer_due_ns: Option<u64>,
    retry_due_ns: Option<u64>,
    restarts: Vec<u64>,
    executed: u64,
    acked: u64,
    calls: u64,
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
        Self {
            batch: Vec::new(),
            worked: 0,
            done: (0, 0, 0),
            done_inside: 0,
            kinds,
            calls_per_look: 1,
            next_tick_ns: tick.map(|t| shared.now_ns() + t),
            timer_due_ns: has_timer.then_some(0),
            retry_due_ns: None,
            restarts: Vec::new(),
            executed: 0,
            acked: 0,
            calls: 0,
            task,
        }
    }

    /// For the asyncio loop: takes up to `max_n` tuples, held from now on, and the signals between them.
    pub fn take<'py>(
        &mut self,
        py: Python<'py>,
        max_n: usize,
        taken: &mut Vec<(u32, Bound<'py, Tuple>)>,
    ) -> PyResult<()> {
        let shared = Arc::clone(&self.task.shared);
        let own = shared.task(self.task.id);
        while taken.len() < max_n {
            if self.worked == self.batch.len() {
                self.batch.clear();
                self.worked = 0;
                match own.queue.pop() {
                    Some(Entry::Batch(batch)) => {
                        own.is_idle_member.store(false, Ordering::Release);
                        own.has_in_hand.store(true, Ordering::Release);
                        self.batch = batch;
                    }
                    Some(Entry::Signal(signal)) => {
                        self.task.end.receive(signal);
                        continue;
                    }
                    None => return Ok(()),
                }
            }
            self.task.end.touch();
            let mut batch = std::mem::take(&mut self.batch);
            let envelope = &mut batch[self.worked];
            let tuple = self.hold_one(py, &shared, envelope);
            self.worked += 1;
            self.batch = batch;
            taken.extend(tuple?.map(|tuple| (self.task.id.0, tuple)));
        }
        Ok(())
    }

    fn hold_one<'py>(
        &mut self,
        py: Python<'py>,
        shared: &Arc<Shared>,
        envelope: &mut Envelope<Payload>,
    ) -> PyResult<Option<Bound<'py, Tuple>>> {
        self.count_in(envelope);
        if envelope.head.hops > shared.settings.max_hops {
            self.fail_hops(&InHand::of(envelope));
            return Ok(None);
        }
        let attempt = envelope.head.attempt;
        let payload = Payload(envelope.payload.inner(py).unbind());
        let key = lock(&shared.task(self.task.id).held).insert(InHand::of(envelope), shared.now_ns());
        let names = Arc::clone(&shared.names[envelope.stream.index()]);
        let hold = Hold::Held { task: self.task.id, key, shared: Arc::clone(shared) };
        self.hand_out(py, Tuple { payload, names, from: envelope.from.0, attempt, hold }).map(Some)
    }

    /// For the asyncio loop: everything of a round but the work.
    pub fn after_slice(&mut self, py: Python<'_>) {
        let now = self.task.shared.now_ns();
        self.task.cell.own().now_ns = now;
        self.tick(py, now);
        self.cancel_timed_out(py);
        let restart = lock(&self.task.shared.task(self.task.id).wants_restart).take();
        if restart.is_some() {
            self.restart(py);
        }
        if self.worked == self.batch.len() {
            self.batch.clear();
            self.worked = 0;
        }
        self.hand_over(py);
        self.serve_roots(py);
        while self.batch.is_empty() && !self.task.end.is_over() {
            match self.task.shared.task(self.task.id).queue.pop_signal() {
                Some(signal) => self.task.end.receive(signal),
                None if !self.task.shared.task(self.task.id).queue.is_empty() => return,
                None if !self.step(py) => return,
                None => {}
            }
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
        if self.batch.is_empty() {
            match own.queue.pop() {
                Some(Entry::Batch(batch)) => {
                    own.is_idle_member.store(false, Ordering::Release);
                    own.has_in_hand.store(true, Ordering::Release);
                    self.batch = batch;
                }
                Some(Entry::Signal(signal)) => {
                    self.task.end.receive(signal);
                    if self.task.end.is_flushed() {
                        own.is_flushed.store(true, Ordering::Release);
                    }
                    return true;
                }
                None => {}
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

    /// Works on the batch until it is empty or cut.
    fn work(&mut self, py: Python<'_>, began_ns: u64) {
        let shared = Arc::clone(&self.task.shared);
        let own = shared.task(self.task.id);
        own.in_user_since_ns.store(began_ns, Ordering::Relaxed);
        let mut until_look = self.calls_per_look;
        let mut batch = std::mem::take(&mut self.batch);
        let mut at = self.worked;
        let first = at;
        while at < batch.len() {
            if let Some(next) = batch.get(at + 1) {
                prefetch(next.payload.0.as_ptr());
            }
            self.process(py, &shared, &mut batch[at]);
            if shared.is_forked() {
                fork::end_child();
            }
            at += 1;
            until_look -= 1;
            if until_look == 0 {
                own.calls.store(self.calls + (at - first) as u64, Ordering::Relaxed);
                if at == batch.len() || shared.now_ns() - began_ns > CUT_NS || shared.is_stopping() {
                    break;
                }
                until_look = self.calls_per_look;
            }
        }
        let calls = (at - first) as u64;
        if at == batch.len() {
            batch.drain(..).for_each(|envelope| drop(envelope.payload.0.into_bound(py)));
            at = 0;
        }
        self.batch = batch;
        self.worked = at;
        own.in_user_since_ns.store(0, Ordering::Relaxed);
        self.calls += calls;
        own.calls.store(self.calls, Ordering::Relaxed);
        let took = shared.now_ns() - began_ns;
        let average = took / calls.max(1);
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
        if envelope.head.hops > shared.settings.max_hops {
            self.fail_hops(&InHand::of(envelope));
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

    /// Held until user code acks it.
    fn process_manual(&mut self, py: Python<'_>, shared: &Arc<Shared>, envelope: &mut Envelope<Payload>) {
        let own = shared.task(self.task.id);
        let in_hand = InHand::of(envelope);
        let attempt = in_hand.head.attempt;
        let key = lock(&own.held).insert(in_hand, shared.now_ns());
        let is_batch = self.task.spec.mode == Mode::Batch;
        self.task.cell.own().current = if is_batch { Current::None } else { Current::Held(key) };
        let task = self.task.id;
        let result = self.call(py, shared, envelope, attempt, || Hold::Held { task, key, shared: Arc::clone(shared) });
        self.task.cell.own().current = Current::None;
        if let Err(error) = result {
            let taken = lock(&own.held).remove(key);
            if let Some(in_hand) = taken { self.raised(py, shared, &error, &in_hand) } else {
                shared.user_error(py, task, "process", &error, "the tuple was acked or failed before");
                self.obey_on_error(py, &error);
            }
        }
    }

    #[inline]
    fn call(
        &self,
        py: Python<'_>,
        shared: &Arc<Shared>,
        envelope: &Envelope<Payload>,
        attempt: u32,
        hold: impl FnOnce() -> Hold,
    ) -> PyResult<()> {
        let spec = &self.task.spec;
        let Some(binding) = &spec.bindings[envelope.stream.index()] else {
            return Err(errors::internal(format!("stream {} has no binding", envelope.stream.0)));
        };
        let process = spec.process.as_ref().expect("every bolt has process");
        if binding.is_straight && spec.auto_ack {
            let result = process.call_with(envelope.payload.0.bind(py))?;
            return if result.is_none() { Ok(()) } else { self.follow(py, result) };
        }
        if shared.settings.checked {
            self.check(py, envelope, "before")?;
        }
        let unwrapped;
        let inner = if shared.settings.checked {
            unwrapped = envelope.payload.inner(py);
            &unwrapped
        } else {
            envelope.payload.0.bind(py)
        };
        let names = &shared.names[envelope.stream.index()];
        let tuple = if binding.takes_tuple || !spec.auto_ack {
            let payload = Payload(inner.clone().unbind());
            let tuple = Tuple { payload, names: Arc::clone(names), from: envelope.from.0, attempt, hold: hold() };
            Some(self.hand_out(py, tuple)?)
        } else {
            None
        };
        let width = names.width;
        let result = process.call(py, binding.args.len(), binding.kwnames.as_ref().map(|k| k.bind(py)), |places| {
            for (place, from) in places.iter_mut().zip(&binding.args) {
                *place = if *from == TUPLE {
                    tuple.as_ref().map_or(std::ptr::null_mut(), pyo3::Bound::as_ptr)
                } else if width == 1 {
                    inner.as_ptr()
                } else {
                    // SAFETY: the payload of a stream of several fields is an exact tuple of that width; the binding names
                    // fields of it.
                    unsafe { pyo3::ffi::PyTuple_GET_ITEM(inner.as_ptr(), *from as pyo3::ffi::Py_ssize_t) }
                };
            }
        });
        let result = result?;
        if !result.is_none() {
            self.follow(py, result)?;
        }
        if shared.settings.checked {
            self.check(py, envelope, "after")?;
        }
        Ok(())
    }

    /// Makes the `Tuple` that user code gets. Where the task wants to know what timed out, the table keeps a weak reference.
    fn hand_out<'py>(&self, py: Python<'py>, tuple: Tuple) -> PyResult<Bound<'py, Tuple>> {
        let key = match (&tuple.hold, &self.task.spec.cancel) {
            (Hold::Held { key, .. }, Some(_)) => Some(*key),
            _ => None,
        };
        let tuple = Bound::new(py, tuple)?;
        if let Some(key) = key {
            let reference = PyWeakrefReference::new(tuple.as_any())?.into_any().unbind();
            let rest = lock(&self.task.shared.task(self.task.id).held).attach(key, reference);
            drop(rest);
        }
        Ok(tuple)
    }

    /// Tells the task which of its held tuples timed out.
    fn cancel_timed_out(&mut self, py: Python<'_>) {
        let own = self.task.shared.task(self.task.id);
        let timed_out = std::mem::take(&mut *lock(&own.timed_out));
        let Some(cancel) = &self.task.spec.cancel else { return };
        for reference in timed_out {
            let tuple = reference.bind(py).call0();
            if let Err(error) =
                tuple.and_then(|t| if t.is_none() { Ok(()) } else { cancel.bind(py).call1((t,)).map(drop) })
            {
                self.task.shared.user_error(py, self.task.id, "cancel", &error, "");
            }
        }
    }

    /// What `process` returned decides what happens: a generator is run here and its values emitted, a coroutine by Python.
    fn follow(&self, py: Python<'_>, result: Bound<'_, PyAny>) -> PyResult<()> {
        if is_generator(&result) {
            while let Some(value) = next_of(&result)? {
                let mut collector = self.task.cell.enter(py, "yield")?;
                emit_yielded(py, &mut collector, value, How::Current)?;
            }
            return Ok(());
        }
        let kind = result.get_type().name()?.to_string();
        if let (true, Some(settle)) = (kind == "coroutine" || kind == "async_generator", &self.task.spec.settle) {
            let values = settle.bind(py).call1((result,))?;
            if values.is_none() {
                return Ok(());
            }
            for value in values.try_iter()? {
                let mut collector = self.task.cell.enter(py, "yield")?;
                emit_yielded(py, &mut collector, value?, How::Current)?;
            }
            return Ok(());
        }
        Err(pyo3::exceptions::PyTypeError::new_err(format!(
            "process() returned {kind}; what it returns is not emitted: yield it or emit it"
        )))
    }

    #[cold]
    fn check(&self, py: Python<'_>, envelope: &Envelope<Payload>, when: &str) -> PyResult<()> {
        let Ok(checked) = envelope.payload.0.bind(py).cast::<Checked>() else { return Ok(()) };
        let shared = &self.task.shared;
        let width = shared.names[envelope.stream.index()].width;
        let values = envelope.payload.to_tuple(py, width)?;
        let component = shared.plan.task_component[self.task.id.index()].0;
        let token = checked.get().token.clone_ref(py);
        shared.call_runtime(py, "check_receive", (component, token, values, when)).map(drop)
    }

    /// User code raised with a tuple in hand.
    #[cold]
    fn raised(&mut self, py: Python<'_>, shared: &Arc<Shared>, error: &PyErr, in_hand: &InHand) {
        let is_reject = errors::is_reject(py, error);
        let reason = if is_reject { Reason::Rejected } else { Reason::Error };
        let text = if is_reject { error.value(py).to_string() } else { errors::text_of(py, error) };
        if !is_reject {
            let note = Self::note(shared, in_hand);
            shared.user_error(py, self.task.id, "process", error, &note);
        }
        self.fail(in_hand, reason, &text, !is_reject);
        if !is_reject {
            self.obey_on_error(py, error);
        }
    }

    /// What `on_error` says should happen to the task, or the topology, after user code raised.
    fn obey_on_error(&mut self, py: Python<'_>, error: &PyErr) {
        let shared = Arc::clone(&self.task.shared);
        match shared.settings_of(self.task.id).on_error {
            OnError::Fail => {}
            OnError::Stop => shared.fail_run(py, &errors::value_of(py, error)),
            OnError::Restart => self.restart(py),
        }
    }

    fn note(shared: &Shared, in_hand: &InHand) -> String {
        let Some(root) = in_hand.head.roots.as_slice().first() else {
            return "the tuple is untracked and gone".to_string();
        };
        let limit = shared.settings_of(root.task).max_attempts;
        let attempt = in_hand.head.attempt;
        if attempt >= limit {
            format!("the tuple failed for good (attempt {attempt} of {limit})")
        } else {
            format!("the tuple failed and is replayed (attempt {attempt} of {limit})")
        }
    }

    fn fail(&self, in_hand: &InHand, reason: Reason, text: &str, retry: bool) {
        let failure = Failure { reason, task: self.task.id, error: text.into(), retry };
        ack::fail_in_hand(&self.task.shared, self.task.id, in_hand, &failure);
    }

    /// A fresh instance takes the place of this one; what the old one held fails.
    fn restart(&mut self, py: Python<'_>) {
        let shared = Arc::clone(&self.task.shared);
        let own = shared.task(self.task.id);
        let now = shared.now_ns();
        self.restarts.retain(|at| now - at < 60_000_000_000);
        self.restarts.push(now);
        let limit = shared.settings_of(self.task.id).restart_limit as usize;
        if self.restarts.len() > limit {
            let name = &shared.plan.component_of(self.task.id).name;
            let text = format!("bolt {name:?} task {}: restarted {limit} times in 60 s", self.task.id);
            let error = pyo3::exceptions::PyRuntimeError::new_err(text);
            shared.fail_run(py, &errors::value_of(py, &error));
            return;
        }
        let keys = lock(&own.held).keys();
        for key in keys {
            let error = "the instance that held it was replaced after an error".into();
            let failure = Failure { reason: Reason::Restarted, task: self.task.id, error, retry: true };
            ack::fail(&shared, self.task.id, key, &failure);
        }
        self.task.close(py);
        let built = crate::task::Spec::build(py, &shared, self.task.id).and_then(|spec| {
            self.task.spec = spec;
            self.task.open(py)
        });
        if let Err(error) = built {
            shared.user_error(py, self.task.id, "prepare", &error, "a fresh instance could not be made");
            shared.fail_run(py, &errors::value_of(py, &error));
        }
    }

    fn tick(&mut self, py: Python<'_>, now: u64) -> bool {
        let Some(due) = self.next_tick_ns else { return false };
        if self.task.end.is_finished() {
            self.next_tick_ns = None;
            return false;
        }
        if now < due {
            return false;
        }
        if !self.task.end.may_tick(self.view()) {
            self.next_tick_ns = Some(now + 1_000_000); // An idle member of a cycle that is being counted.
            return false;
        }
        let interval = self.task.shared.settings_of(self.task.id).tick_interval_ns.unwrap_or(u64::MAX);
        let tick = self.task.spec.tick.as_ref().map(|t| t.clone_ref(py));
        if let Some(tick) = tick {
            self.hook(py, "tick", &tick); // Holds no more than before: no reason to flush again.
        }
        // They never pile up: a tick that came late moves the next ones.
        let now = self.task.shared.now_ns();
        self.next_tick_ns = Some((due + interval).max(now + interval / 2));
        true
    }

    /// Calls `tick`, `flush` or `finish`; what a generator of theirs yields are roots.
    fn hook(&mut self, py: Python<'_>, name: &str, hook: &Py<PyAny>) {
        let shared = Arc::clone(&self.task.shared);
        let own = shared.task(self.task.id);
        // `flush` of a batch bolt runs what waits first, so an emit without anchors is a mistake there too.
        let is_strict = self.task.spec.mode == Mode::Batch && name == "flush";
        self.task.cell.own().needs_anchors = is_strict;
        own.in_user_since_ns.store(shared.now_ns(), Ordering::Relaxed);
        let called =
            hook.bind(py).call0().and_then(|result| if result.is_none() { Ok(()) } else { self.follow(py, result) });
        own.in_user_since_ns.store(0, Ordering::Relaxed);
        self.task.cell.own().needs_anchors = self.task.spec.mode == Mode::Batch;
        self.calls += 1;
        own.calls.store(self.calls, Ordering::Relaxed);
        if let Err(error) = called {
            shared.user_error(py, self.task.id, name, &error, "");
            self.obey_on_error(py, &error);
        }
    }

    fn run_timer(&mut self, py: Python<'_>) {
        if self.timer_due_ns.is_none() && self.task.spec.mode != Mode::Batch {
            return;
        }
        let Some(timer) = &self.task.spec.timer else { return };
        let timer = timer.clone_ref(py);
        let shared = Arc::clone(&self.task.shared);
        let own = shared.task(self.task.id);
        own.in_user_since_ns.store(shared.now_ns(), Ordering::Relaxed);
        let due = timer.bind(py).call0().and_then(|due| due.extract::<Option<f64>>());
        own.in_user_since_ns.store(0, Ordering::Relaxed);
        match due {
            Ok(due) => self.timer_due_ns = due.map(|s| shared.now_ns() + (s.max(0.0) * 1e9) as u64),
            Err(error) => {
                self.timer_due_ns = Some(shared.now_ns() + 1_000_000);
                shared.user_error(py, self.task.id, "timer", &error, "");
                self.obey_on_error(py, &error);
            }
        }
    }

    /// What was emitted goes to the queues, what was acked to the ledgers, room to the producers.
    fn hand_over(&mut self, py: Python<'_>) {
        let mut collector = self.task.cell.own();
        if !collector.outbox.is_empty() {
            collector.flush(py);
        }
        collector.publish();
        if !collector.acks.is_empty() {
            collector.apply_acks();
        }
        drop(collector);
        let own = self.task.shared.task(self.task.id);
        own.has_in_hand.store(!self.batch.is_empty(), Ordering::Release);
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
        if own.pending.load(Ordering::Relaxed) == 0 && !lock(&own.ledger).has_news() {
            self.retry_due_ns = None;
            return;
        }
        self.retry_due_ns = service::service(py, &self.task.shared, self.task.id);
    }

    /// What the end of the inputs asks for, one step. The inbox is empty and everything is handed over.
    fn step(&mut self, py: Python<'_>) -> bool {
        let shared = Arc::clone(&self.task.shared);
        let own = shared.task(self.task.id);
        if self.task.end.is_flushed() {
            own.is_flushed.store(true, Ordering::Release);
        }
        let view = self.view();
        own.is_idle_member.store(self.task.end.is_idle_member(view), Ordering::Release);
        if !own.queue.is_empty() {
            return true;
        }
        match self.task.end.next(view) {
            Step::Wait => return false,
            Step::RunFlush => {
                let flush = self.task.spec.flush.as_ref().map(|f| f.clone_ref(py));
                if let Some(flush) = flush {
                    self.hook(py, "flush", &flush);
                }
            }
            Step::SendFlush => self.signal(Kind::Flush),
            Step::RunFinish => {
                self.task.cell.own().is_finishing = true;
                let finish = self.task.spec.finish.as_ref().map(|f| f.clone_ref(py));
                if let Some(finish) = finish {
                    self.hook(py, "finish", &finish);
                }
            }
            Step::SendEnd => self.signal(Kind::End),
        }
        self.hand_over(py);
        true
    }

    fn view(&self) -> View {
        let shared = &self.task.shared;
        let own = shared.task(self.task.id);
        View {
            held: lock(&own.held).len(),
            pending: lock(&own.ledger).pending(),
            is_cycle_flushed: shared.is_cycle_flushed(self.task.id),
            is_cycle_over: shared.is_cycle_over(self.task.id),
        }
    }

    fn signal(&self, kind: Kind) {
        send_signal(&self.task.shared, self.task.id, kind);
    }

    /// Hands back what was not worked on, when the run is stopped.
    pub fn discard(&mut self, py: Python<'_>) {
        let _ = py;
        let shared = &self.task.shared;
        let mut count = self.batch.len() - self.worked;
        self.batch.clear();
        for entry in shared.task(self.task.id).queue.close() {
            if let Entry::Batch(batch) = entry {
                count += batch.len();
                drop(batch);
            }
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

/// Sends a signal of `task` to all its consumers, behind what it emitted.
pub fn send_signal(shared: &Shared, task: TaskId, kind: Kind) {
    let component = shared.plan.task_component[task.index()];
    for consumer in shared.plan.consumers(component) {
        let signal = Signal { kind, from: task, incarnation: Incarnation(0) };
        shared.task(consumer).queue.signal(signal);
    }
}

/// The loop of an executor: rounds of its tasks until all are over or the run stops.
pub fn run(py: Python<'_>, shared: &Arc<Shared>, seat: &Seat, tasks: &mut [BoltTask]) {
    let mut slice_began = shared.now_ns();
    while !shared.is_stopping() {
        let mut worked = false;
        for task in tasks.iter_mut() {
            worked |= task.round(py);
        }
        if tasks.iter().all(|t| t.task.end.is_over()) {
            return;
        }
        if worked {
            if seat.is_wanted() {
                if shared.now_ns() - slice_began > SLICE.as_nanos() as u64 {
                    py.detach(|| seat.pass());
                    slice_began = shared.now_ns();
                }
            } else if seat.has_lost_turn() && !seat.is_free() {
                py.detach(|| seat.take_turn());
                slice_began = shared.now_ns();
            }
            continue;
        }
        let now = shared.now_ns();
        let deadline = tasks.iter().filter_map(BoltTask::deadline_ns).min();
        let wait = deadline.map(|at| std::time::Duration::from_nanos(at.saturating_sub(now)));
        if wait != Some(std::time::Duration::ZERO) {
            py.detach(|| seat.park(wait));
        }
        slice_began = shared.now_ns();
    }
}
