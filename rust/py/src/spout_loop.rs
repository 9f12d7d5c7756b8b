//! Stage 8 of 8, and the source of all: asks a spout for tuples while it may emit, and tells it what became of them.
//!
//! A spout is asked while fewer than `max_pending` of its roots are unresolved, the topology is active and it has not ended. When
//! a call emits nothing the loop rests, 50 µs at first and a quarter longer each time up to 10 ms, or until something about its roots
//! happens or the spout's helper thread calls the waker.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::prelude::*;
use rainband_core::signal::{Kind, Signal, Step, View};

use crate::bolt_loop::send_signal;
use crate::errors;
use crate::executor::share_turn;
use crate::fork;
use crate::roots::{HasHooks, HookCall};
use crate::service::{self, Verdict};
use crate::settings::OnError;
use crate::shared::{Shared, State, lock};
use crate::task::Task;
use crate::turn::Seat;

const FIRST_REST_NS: u64 = 50_000;
const LONGEST_REST_NS: u64 = 10_000_000;
/// What was emitted is handed over after this time at the latest.
const CUT_NS: u64 = 100_000;

/// What a spout at `max_pending` keeps for other workers is at most this part of what is pending.
const FEW_HELD: usize = 8;

/// A spout's task with what its loop keeps.
pub struct SpoutTask {
    pub task: Task,
    rest_ns: u64,
    asks_per_look: u32,
    /// A call took less than a slice, on average over the last one.
    is_quick: bool,
    is_active: bool,
    has_signalled: bool,
    retry_due_ns: Option<u64>,
    restart_at_ns: Option<u64>,
    restarts: Vec<u64>,
    calls: u64,
}

impl SpoutTask {
    pub fn new(task: Task) -> Self {
        let has =
            HasHooks { ack: task.spec.ack.is_some(), fail: task.spec.fail.is_some(), dead: task.spec.dead.is_some() };
        if let Ok(mut roots) = task.shared.task(task.id).roots.try_lock() {
            roots.has = has; // Nobody else looks before the executor is ready.
        }
        task.shared.task(task.id).is_told.store(has.ack, Ordering::Relaxed);
        Self {
            task,
            rest_ns: FIRST_REST_NS,
            asks_per_look: 1,
            is_quick: false,
            is_active: true,
            has_signalled: false,
            retry_due_ns: None,
            restart_at_ns: None,
            restarts: Vec::new(),
            calls: 0,
        }
    }

    /// One round. Returns whether there was something to do.
    fn round(&mut self, py: Python<'_>) -> bool {
        if self.task.shared.is_forked() {
            fork::end_child();
        }
        let shared = Arc::clone(&self.task.shared);
        let own = shared.task(self.task.id);
        self.retry_due_ns = None;
        let mut worked = false;
        if own.has_roots() {
            self.retry_due_ns = service::service(py, &shared, self.task.id);
        }
        worked |= self.call_hooks(py);
        self.follow_activation(py);
        if shared.state() == State::Draining {
            self.task.cell.own().has_ended = true;
        }
        let has_emitted = self.ask(py);
        self.hand_over(py, has_emitted);
        worked |= has_emitted;
        worked |= self.step(py);
        worked
    }

    fn may_ask(&self) -> bool {
        let own = self.task.shared.task(self.task.id);
        self.is_active
            && self.restart_at_ns.is_none()
            && !self.task.cell.own().has_ended
            && own.pending.load(Ordering::Relaxed) < self.task.shared.settings_of(self.task.id).max_pending
    }

    /// Calls `next_tuple` a few times. Returns whether it emitted something.
    fn ask(&mut self, py: Python<'_>) -> bool {
        let shared = Arc::clone(&self.task.shared);
        if self.restart_at_ns.is_some() {
            return self.restart(py);
        }
        if !self.may_ask() {
            return false;
        }
        let own = shared.task(self.task.id);
        let began = shared.now_ns();
        own.in_user_since_ns.store(began, Ordering::Relaxed);
        own.has_in_hand.store(true, Ordering::Release);
        own.wants_cut.store(false, Ordering::Relaxed);
        let mut until_look = self.asks_per_look;
        let mut asked = 0_u32;
        let mut emitted = 0_u64;
        let mut error = None;
        self.task.cell.own().now_ns = began;
        let max_pending = shared.settings_of(self.task.id).max_pending;
        let next_tuple = self.task.spec.process.as_ref().expect("every spout has next_tuple");
        loop {
            let result = next_tuple.call_bare(py);
            asked += 1;
            if shared.is_forked() {
                fork::end_child();
            }
            let now_emitted = {
                let collector = self.task.cell.own();
                if let Err(raised) = result {
                    error = Some(raised);
                    break;
                }
                if collector.has_ended {
                    break;
                }
                collector.emitted
            };
            own.calls.store(self.calls + u64::from(asked), Ordering::Relaxed);
            let is_full = own.pending.load(Ordering::Relaxed) >= max_pending;
            if now_emitted == emitted || is_full || shared.is_stopping() {
                break;
            }
            emitted = now_emitted;
            until_look -= 1;
            if until_look == 0 || own.wants_cut.load(Ordering::Relaxed) {
                let now = shared.now_ns();
                self.task.cell.own().now_ns = now;
                if now - began > CUT_NS {
                    break;
                }
                until_look = self.asks_per_look;
            }
        }
        own.in_user_since_ns.store(0, Ordering::Relaxed);
        self.calls += u64::from(asked);
        own.calls.store(self.calls, Ordering::Relaxed);
        crate::stats::add(&own.stats.executed, u64::from(asked));
        let average = (shared.now_ns() - began) / u64::from(asked);
        self.is_quick = average < CUT_NS;
        self.asks_per_look = (CUT_NS / 4 / average.max(1)).clamp(1, 64) as u32;
        let has_emitted = self.task.cell.own().emitted > 0;
        if has_emitted {
            self.rest_ns = FIRST_REST_NS;
        }
        if let Some(error) = error {
            if !shared.was_cut(py, &error) {
                self.raised(py, &error);
            }
            return true;
        }
        has_emitted || self.task.cell.own().has_ended
    }

    /// `next_tuple` raised: there is no tuple to fail.
    fn raised(&mut self, py: Python<'_>, error: &PyErr) {
        let shared = Arc::clone(&self.task.shared);
        let on_error = shared.settings_of(self.task.id).on_error;
        if on_error == OnError::Stop {
            shared.user_error(py, self.task.id, "next_tuple", error, "the topology stops");
            shared.fail_run(py, &errors::value_of(py, error));
            return;
        }
        let now = shared.now_ns();
        self.restarts.retain(|at| now - at < 60_000_000_000);
        self.restarts.push(now);
        let limit = shared.settings_of(self.task.id).restart_limit as usize;
        if self.restarts.len() > limit {
            let note = format!("restarted {limit} times in 60 s; the topology stops");
            shared.user_error(py, self.task.id, "next_tuple", error, &note);
            shared.fail_run(py, &errors::value_of(py, error));
            return;
        }
        let wait = (100_000_000_u64 << (self.restarts.len() - 1).min(9)).min(30_000_000_000);
        let note = format!("a fresh instance takes over in {:.1} s", wait as f64 / 1e9);
        shared.user_error(py, self.task.id, "next_tuple", error, &note);
        self.restart_at_ns = Some(now + wait);
    }

    /// A fresh instance goes on at the stored position, once everything that the old one emitted is resolved: it would emit
    /// again what is pending.
    fn restart(&mut self, py: Python<'_>) -> bool {
        let shared = Arc::clone(&self.task.shared);
        let own = shared.task(self.task.id);
        let is_due = self.restart_at_ns.is_some_and(|at| shared.now_ns() >= at);
        let must_end = shared.state() >= State::Draining || self.task.cell.own().has_ended;
        if must_end {
            self.restart_at_ns = None;
            return true;
        }
        // Not before its news and hooks are done with: the position moves with them.
        if !is_due || own.has_calls() || own.has_roots() {
            return false;
        }
        self.restart_at_ns = None;
        self.task.close(py);
        crate::timer::store_positions(py, &shared);
        let built = crate::task::Spec::build(py, &shared, self.task.id).and_then(|spec| {
            self.task.spec = spec;
            self.task.cell.own().last_position = None;
            crate::executor::set_waker(py, &shared, &self.task)?;
            self.task.open(py)
        });
        if let Err(error) = built {
            self.raised(py, &error);
        }
        true
    }

    fn call_hooks(&mut self, py: Python<'_>) -> bool {
        let shared = Arc::clone(&self.task.shared);
        let own = shared.task(self.task.id);
        let mut called = false;
        while let Some(call) = service::next_call(&shared, self.task.id) {
            called = true;
            own.in_user_since_ns.store(shared.now_ns(), Ordering::Relaxed);
            match call {
                HookCall::Ack(id) => self.call_hook(py, "ack", self.task.spec.ack.as_ref(), (id,)),
                HookCall::Dead(id, failure, attempt, began_ns) => {
                    let failure = service::failure_of(&shared, &failure, attempt, began_ns);
                    if self.task.spec.dead.is_some() {
                        self.call_hook(py, "dead", self.task.spec.dead.as_ref(), (id, failure));
                    } else {
                        self.call_hook(py, "ack", self.task.spec.ack.as_ref(), (id,));
                    }
                }
                HookCall::Fail(slot, failure) => {
                    let (id, attempt, began_ns) = {
                        let ledger = lock(&own.ledger);
                        let (record, attempt, began_ns) = ledger.record(slot);
                        (record.id.as_ref().map(|id| id.clone_ref(py)), attempt, began_ns)
                    };
                    let view = service::failure_of(&shared, &failure, attempt, began_ns);
                    let verdict = self.ask_verdict(py, id, view);
                    service::judge(py, &shared, self.task.id, slot, failure, &verdict);
                }
            }
            own.in_user_since_ns.store(0, Ordering::Relaxed);
            self.calls += 1;
            own.calls.store(self.calls, Ordering::Relaxed);
        }
        called
    }

    fn call_hook<'py, A>(&self, py: Python<'py>, name: &str, hook: Option<&Py<PyAny>>, args: A)
    where
        A: pyo3::call::PyCallArgs<'py>,
    {
        let Some(hook) = hook else { return };
        if let Err(error) = hook.call1(py, args) {
            self.task.shared.user_error(py, self.task.id, name, &error, "the root is resolved all the same");
        }
    }

    fn ask_verdict(&self, py: Python<'_>, id: Option<Py<PyAny>>, failure: crate::values::Failure) -> Verdict {
        let (Some(fail), Some(id)) = (&self.task.spec.fail, id) else { return Verdict::Default };
        let said = match fail.call1(py, (id, failure)) {
            Ok(said) => said,
            Err(error) => {
                self.task.shared.user_error(py, self.task.id, "fail", &error, "the default verdict holds");
                return Verdict::Default;
            }
        };
        let said = said.bind(py);
        if said.is_none() {
            return Verdict::Default;
        }
        if let Ok(verdict) = said.cast::<crate::values::Verdict>() {
            let verdict = verdict.get();
            return match verdict.kind.as_str() {
                "drop" => Verdict::Drop,
                "dead_letter" => Verdict::DeadLetter,
                _ => Verdict::RetryAfter(verdict.after_s),
            };
        }
        let got = said.get_type().name().map(|n| n.to_string()).unwrap_or_default();
        let text = format!(
            "fail() returned {got}; a verdict is None, retry(after_s=…), DEAD_LETTER or DROP; the default verdict holds"
        );
        let error = pyo3::exceptions::PyTypeError::new_err(text);
        self.task.shared.user_error(py, self.task.id, "fail", &error, "");
        Verdict::Default
    }

    fn follow_activation(&mut self, py: Python<'_>) {
        let active = self.task.shared.is_active();
        if active == self.is_active {
            return;
        }
        self.is_active = active;
        let (name, hook) =
            if active { ("activate", &self.task.spec.activate) } else { ("deactivate", &self.task.spec.deactivate) };
        let Some(hook) = hook else { return };
        self.task.cell.own().hand_over(py, false); // It may take long.
        if let Err(error) = hook.call0(py) {
            self.task.shared.user_error(py, self.task.id, name, &error, "");
        }
    }

    fn hand_over(&self, py: Python<'_>, has_emitted: bool) {
        let own = self.task.shared.task(self.task.id);
        let may_ask = self.may_ask();
        let mut collector = self.task.cell.own();
        collector.now_ns = self.task.shared.now_ns();
        // At `max_pending` each few acks make room for a few tuples; those wait if they are few beside what is under way, and
        // `deadline_ns` wakes for them.
        let waits_for_acks = || {
            let pending = own.pending.load(Ordering::Relaxed);
            pending >= self.task.shared.settings_of(self.task.id).max_pending
                && collector.outbox.buffered_elsewhere() * FEW_HELD <= pending
        };
        let goes_on = self.is_active && self.restart_at_ns.is_none() && !collector.has_ended;
        let comes_soon =
            self.is_quick && self.task.is_only && goes_on && if may_ask { has_emitted } else { waits_for_acks() };
        collector.hand_over(py, comes_soon);
        own.has_in_hand.store(!collector.outbox.is_empty(), Ordering::Release);
    }

    fn step(&mut self, py: Python<'_>) -> bool {
        let shared = &self.task.shared;
        if !self.task.cell.own().has_ended || self.task.end.is_over() {
            return false;
        }
        if !self.has_signalled {
            self.has_signalled = true;
            let incarnation = shared.incarnation;
            self.task.end.receive(Signal { kind: Kind::End, from: self.task.id, incarnation });
        }
        let own = shared.task(self.task.id);
        let mut stepped = false;
        loop {
            let (pending, has_news) = {
                let ledger = lock(&own.ledger);
                (ledger.pending(), ledger.has_news())
            };
            let waits = own.has_calls() || own.has_replays.load(Ordering::Acquire);
            let pending = if has_news || waits { pending.max(1) } else { pending };
            let view = View { held: 0, pending, is_cycle_flushed: true, is_cycle_over: true };
            match self.task.end.next(view) {
                Step::Wait => return stepped,
                Step::RunFlush | Step::RunFinish => {}
                Step::SendFlush => send_signal(py, shared, self.task.id, Kind::Flush),
                Step::SendEnd => send_signal(py, shared, self.task.id, Kind::End),
            }
            stepped = true;
        }
    }

    /// Whether it is left alone until something is acked, or it is told of another change; `false` if acks came meanwhile.
    fn waits_for_acks(&self) -> bool {
        if !self.is_active || self.task.cell.own().has_ended {
            return true; // Not for places: an ended spout is rung when the last of its roots is resolved.
        }
        let own = self.task.shared.task(self.task.id);
        own.waits_for_acks.store(true, Ordering::SeqCst);
        own.pending.load(Ordering::SeqCst) >= self.task.shared.settings_of(self.task.id).max_pending
    }

    /// When the task wants to run again although nothing happens.
    fn deadline_ns(&mut self, now: u64) -> Option<u64> {
        let mut at = self.retry_due_ns;
        let earliest = |a: Option<u64>, b: u64| Some(a.map_or(b, |a| a.min(b)));
        if let Some(held_until) = self.task.cell.own().held_until_ns() {
            at = earliest(at, held_until);
        }
        if let Some(restart) = self.restart_at_ns {
            at = earliest(at, restart.max(now + 1_000_000));
        } else if self.may_ask() || !self.waits_for_acks() {
            at = earliest(at, now + self.rest_ns);
            self.rest_ns = (self.rest_ns * 5 / 4).min(LONGEST_REST_NS);
        }
        at
    }
}

/// The loop of an executor of a spout.
pub fn run(py: Python<'_>, shared: &Arc<Shared>, seat: &Seat, tasks: &mut [SpoutTask]) {
    while shared.state() == State::Starting {
        py.detach(|| seat.park(Some(Duration::from_millis(50))));
    }
    while !shared.is_stopping() {
        let mut worked = false;
        for task in tasks.iter_mut() {
            worked |= task.round(py);
        }
        if tasks.iter().all(|t| t.task.end.is_over()) {
            return;
        }
        if worked {
            share_turn(py, seat, Duration::from_nanos(CUT_NS));
            continue;
        }
        let now = shared.now_ns();
        let deadline = tasks.iter_mut().filter_map(|t| t.deadline_ns(now)).min();
        let wait = deadline.map(|at| Duration::from_nanos(at.saturating_sub(now)));
        if wait != Some(Duration::ZERO) {
            py.detach(|| seat.park(wait));
        }
    }
}
