//! What a bolt's task does besides tuples: ticks, timers, errors that ask for a fresh instance, and the steps of its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use rainband_core::ledger::{Failure, Reason};
use rainband_core::signal::{Kind, Step, View};

use crate::ack;
use crate::errors;
use crate::settings::OnError;
use crate::shared::lock;
use crate::task::Mode;

use super::{BoltTask, send_signal};

impl BoltTask {
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
        while self.batch.is_empty() && self.frame.is_none() && !self.task.end.is_over() {
            match self.task.shared.task(self.task.id).queue.pop_signal() {
                Some(signal) => self.task.end.receive(signal),
                None if !self.task.shared.task(self.task.id).queue.is_empty() => return,
                None if !self.step(py) => return,
                None => {}
            }
        }
    }

    /// Tells the task which of its held tuples timed out.
    pub(super) fn cancel_timed_out(&mut self, py: Python<'_>) {
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

    /// What `on_error` says should happen to the task, or the topology, after user code raised.
    pub(super) fn obey_on_error(&mut self, py: Python<'_>, error: &PyErr) {
        let shared = Arc::clone(&self.task.shared);
        match shared.settings_of(self.task.id).on_error {
            OnError::Fail => {}
            OnError::Stop => shared.fail_run(py, &errors::value_of(py, error)),
            OnError::Restart => self.restart(py),
        }
    }

    /// A fresh instance takes the place of this one; what the old one held fails.
    pub(super) fn restart(&mut self, py: Python<'_>) {
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

    pub(super) fn tick(&mut self, py: Python<'_>, now: u64) -> bool {
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
    pub(super) fn hook(&mut self, py: Python<'_>, name: &str, hook: &Py<PyAny>) {
        let shared = Arc::clone(&self.task.shared);
        let own = shared.task(self.task.id);
        // `flush` of a batch bolt runs what waits first, so an emit without anchors is a mistake there too.
        let is_strict = self.task.spec.mode == Mode::Batch && name == "flush";
        self.task.cell.own().needs_anchors = is_strict;
        own.in_user_since_ns.store(shared.now_ns(), Ordering::Relaxed);
        own.has_in_hand.store(true, Ordering::Release);
        let called =
            hook.bind(py).call0().and_then(|result| if result.is_none() { Ok(()) } else { self.follow(py, result) });
        own.in_user_since_ns.store(0, Ordering::Relaxed);
        self.task.cell.own().needs_anchors = self.task.spec.mode == Mode::Batch;
        self.calls += 1;
        own.calls.store(self.calls, Ordering::Relaxed);
        if let Err(error) = called
            && !shared.was_cut(py, &error)
        {
            shared.user_error(py, self.task.id, name, &error, "");
            self.obey_on_error(py, &error);
        }
    }

    pub(super) fn run_timer(&mut self, py: Python<'_>) {
        if self.timer_due_ns.is_none() && self.task.spec.mode != Mode::Batch {
            return;
        }
        let Some(timer) = &self.task.spec.timer else { return };
        let timer = timer.clone_ref(py);
        let shared = Arc::clone(&self.task.shared);
        let own = shared.task(self.task.id);
        own.in_user_since_ns.store(shared.now_ns(), Ordering::Relaxed);
        own.has_in_hand.store(true, Ordering::Release);
        let due = timer.bind(py).call0().and_then(|due| due.extract::<Option<f64>>());
        own.in_user_since_ns.store(0, Ordering::Relaxed);
        match due {
            Ok(due) => self.timer_due_ns = due.map(|s| shared.now_ns() + (s.max(0.0) * 1e9) as u64),
            Err(error) if shared.was_cut(py, &error) => {}
            Err(error) => {
                self.timer_due_ns = Some(shared.now_ns() + 1_000_000);
                shared.user_error(py, self.task.id, "timer", &error, "");
                self.obey_on_error(py, &error);
            }
        }
    }

    /// What the end of the inputs asks for, one step. The inbox is empty and everything is handed over.
    pub(super) fn step(&mut self, py: Python<'_>) -> bool {
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
            Step::SendFlush => self.signal(py, Kind::Flush),
            Step::RunFinish => {
                self.task.cell.own().is_finishing = true;
                let finish = self.task.spec.finish.as_ref().map(|f| f.clone_ref(py));
                if let Some(finish) = finish {
                    self.hook(py, "finish", &finish);
                }
            }
            Step::SendEnd => self.signal(py, Kind::End),
        }
        self.hand_over(py);
        true
    }

    pub(super) fn view(&self) -> View {
        let shared = &self.task.shared;
        let own = shared.task(self.task.id);
        View {
            held: lock(&own.held).len() + own.background.load(Ordering::Acquire).max(0) as usize,
            pending: lock(&own.ledger).pending().max(usize::from(own.has_replays.load(Ordering::Acquire))),
            is_cycle_flushed: shared.is_cycle_flushed(self.task.id),
            is_cycle_over: shared.is_cycle_over(self.task.id),
        }
    }

    pub(super) fn signal(&self, py: Python<'_>, kind: Kind) {
        send_signal(py, &self.task.shared, self.task.id, kind);
    }
}
