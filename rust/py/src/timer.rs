//! The timer thread: everything that must happen although an executor is inside user code. It takes turns away from stuck calls,
//! serves the roots of spouts that block, times out what is held, bounds a single call, counts cycles, stores positions, and
//! audits old roots. It looks every millisecond while executors wait for each other, more and more seldom while they do little,
//! and attaches only when there is something to do in Python.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::prelude::*;
use rainband_core::ids::{RootRef, TaskId};
use rainband_core::ledger::{Failure, Reason};
use rainband_core::signal::CycleCount;
use rustc_hash::FxHashMap;

use crate::ack;
use crate::audit;
use crate::errors;
use crate::hang::Hangs;
use crate::home::HomeWatch;
use crate::service;
use crate::shared::{Shared, State, lock, lock_attached};

/// The naps of the timer: while somebody is ready and does not have the turn, while turns are passed on, and at most.
const NAP_READY: Duration = Duration::from_millis(1);
const NAP_BUSY: Duration = Duration::from_millis(2);
const NAP_IDLE: Duration = Duration::from_millis(40);
/// More hand-overs in a millisecond than the polls of idle spouts come to.
const BUSY_PASSES: u128 = 4;
/// A call that has lasted this long is no short one: the loop looks up when it returns.
const LONG_CALL_NS: u64 = 1_000_000;
/// A spout inside one call for longer is served by the timer.
const BLOCKED_NS: u64 = 5_000_000;
const HOME_EVERY_NS: u64 = 40_000_000;
const POSITIONS_EVERY_NS: u64 = 50_000_000;
const HELD_EVERY_NS: u64 = 20_000_000;
const STUCK_EVERY_NS: u64 = 50_000_000;
/// Spouts that stand at `max_pending` for this long with everything held by bolts are worth a warning.
const STANDSTILL_NS: u64 = 5_000_000_000;
/// Rounds of the audit in which nobody has a root before it counts as lost.
const AUDIT_ROUNDS: u32 = 3;

struct Timer {
    shared: Arc<Shared>,
    cycles: Vec<CycleCount>,
    hangs: Hangs,
    positions_at_ns: u64,
    held_at_ns: u64,
    stuck_at_ns: u64,
    audit_at_ns: u64,
    suspects: FxHashMap<RootRef, u32>,
    standstill: Option<(u64, u64)>,
    warned_standstill: bool,
    looked_at_ns: u64,
    home: HomeWatch,
    home_at_ns: u64,
}

/// The body of the timer thread; returns when every executor is gone.
pub fn run(py: Python<'_>, shared: &Arc<Shared>) {
    let mut timer = Timer {
        cycles: (0..shared.plan.cycles).map(|_| CycleCount::default()).collect(),
        hangs: Hangs::new(shared.tasks.len()),
        positions_at_ns: 0,
        held_at_ns: 0,
        stuck_at_ns: 0,
        audit_at_ns: shared.settings.audit_ns / 2,
        suspects: FxHashMap::default(),
        standstill: None,
        warned_standstill: false,
        looked_at_ns: shared.now_ns(),
        home: HomeWatch::default(),
        home_at_ns: 0,
        shared: Arc::clone(shared),
    };
    py.detach(|| {
        let mut passes = 0;
        let mut nap = NAP_BUSY;
        while lock(&timer.shared.status).threads_left > 0 {
            let was_woken = timer.shared.turns.nap(nap, nap > NAP_BUSY);
            let before = passes;
            passes = timer.shared.turns.retake(before);
            nap = if timer.shared.turns.is_busy() {
                NAP_READY
            } else if was_woken || u128::from(passes - before) >= BUSY_PASSES * nap.as_millis() {
                NAP_BUSY
            } else {
                (nap * 2).min(NAP_IDLE)
            };
            timer.look();
        }
    });
    store_positions(py, shared);
    shared.note_over();
}

impl Timer {
    fn look(&mut self) {
        let now = self.shared.now_ns();
        // After a suspended machine wakes nothing times out in this round: everybody gets the time to go on.
        let slept = now.saturating_sub(self.looked_at_ns) > 2_000_000_000;
        self.looked_at_ns = now;
        if now >= self.home_at_ns {
            self.home_at_ns = now + HOME_EVERY_NS;
            self.home.look(&self.shared.turns);
        }
        self.count_cycles();
        for task in &self.shared.tasks {
            let since = task.in_user_since_ns.load(Ordering::Relaxed);
            if since != 0 && now.saturating_sub(since) > LONG_CALL_NS {
                task.wants_cut.store(true, Ordering::Relaxed);
            }
        }
        self.serve_blocked(now);
        if now >= self.positions_at_ns {
            self.positions_at_ns = now + POSITIONS_EVERY_NS;
            // A spout that sleeps while acks come in is not woken for each; its position must move all the same.
            for (index, task) in self.shared.tasks.iter().enumerate() {
                if lock(&task.ledger).has_news() {
                    self.shared.ring(TaskId(index as u32));
                }
            }
            if self.shared.tasks.iter().any(|t| lock(&t.positions).reached.is_some()) {
                Python::attach(|py| store_positions(py, &self.shared));
            }
        }
        if slept {
            return;
        }
        if now >= self.held_at_ns {
            self.held_at_ns = now + HELD_EVERY_NS;
            self.time_out_held(now);
        }
        if now >= self.stuck_at_ns {
            self.stuck_at_ns = now + STUCK_EVERY_NS;
            self.bound_calls(now);
            self.warn_standstill(now);
        }
        if now >= self.audit_at_ns {
            self.audit(now);
        }
    }

    fn count_cycles(&mut self) {
        for cycle in 0..self.cycles.len() {
            if self.shared.cycle_is_over[cycle].load(Ordering::Acquire) {
                continue;
            }
            let plan = &self.shared.plan;
            let members = plan.components.iter().filter(|c| c.cycle == Some(cycle as u32));
            let (mut sent, mut done, mut all_idle) = (0, 0, true);
            for task in members.flat_map(|c| c.tasks.clone()) {
                let task = &self.shared.tasks[task as usize];
                all_idle &= task.is_idle_member.load(Ordering::Acquire);
                done += task.done_inside.load(Ordering::Acquire);
                sent += task.sent_inside.load(Ordering::Acquire) + task.resent_inside.load(Ordering::Acquire);
            }
            if self.cycles[cycle].round(sent, done, all_idle) {
                self.shared.cycle_is_over[cycle].store(true, Ordering::Release);
                self.shared.ring_all();
            }
        }
    }

    /// Spouts (and bolts with roots of their own) that are inside user code: their replays and timeouts go on.
    fn serve_blocked(&self, now: u64) {
        for (index, task) in self.shared.tasks.iter().enumerate() {
            let since = task.in_user_since_ns.load(Ordering::Relaxed);
            if since == 0 || now.saturating_sub(since) < BLOCKED_NS {
                continue;
            }
            self.hand_over_for(task);
            let wants = {
                let ledger = lock(&task.ledger);
                ledger.has_news() || ledger.next_due_ns().is_some_and(|due| due <= now)
            };
            if wants {
                Python::attach(|py| service::service(py, &self.shared, TaskId(index as u32)));
                self.shared.ring(TaskId(index as u32));
            }
        }
    }

    /// What a task emitted and acked in earlier calls of its slice does not wait for the call that blocks.
    fn hand_over_for(&self, task: &crate::shared::TaskShared) {
        if !self.shared.has_gil {
            return; // There the owner may be inside the engine although we are attached.
        }
        Python::attach(|py| {
            let Some(cell) = lock(&task.cell).clone() else { return };
            // SAFETY: attached, on a Python with a GIL.
            let Some(mut collector) = (unsafe { cell.borrow_from_timer(py) }) else {
                task.has_in_hand.store(true, Ordering::Release); // It waits for room with what it emitted.
                return;
            };
            let mut refused = Vec::new();
            if !collector.outbox.is_empty() || !collector.acks.is_empty() {
                refused = collector.flush_some();
            }
            if self.shared.plan.component_of(collector.task).is_spout {
                task.has_in_hand.store(!collector.outbox.is_empty(), Ordering::Release);
            }
            drop(collector);
            drop(refused); // Runs destructors: they may let the owner go on, who must find its collector.
        });
    }

    fn time_out_held(&self, now: u64) {
        for (index, task) in self.shared.tasks.iter().enumerate() {
            let id = TaskId(index as u32);
            let timeout = self.shared.settings_of(id).ack_timeout_ns;
            let Some(before) = now.checked_sub(timeout) else { continue };
            let old = lock(&task.held).older_than(before);
            let in_call = task.in_user_since_ns.load(Ordering::Acquire) != 0;
            if in_call && task.is_batch.load(Ordering::Relaxed) {
                continue; // All that it holds is in the batch that is worked on, or about to be.
            }
            for key in old {
                if in_call && *lock(&task.in_call) == Some(key) {
                    continue;
                }
                let tuple = lock(&task.held).take_reference(key);
                if let Some(tuple) = tuple {
                    lock(&task.timed_out).push(tuple);
                }
                let error = format!("held for {} s without ack", timeout as f64 / 1e9).into();
                let failure = Failure { reason: Reason::Timeout, task: id, error, retry: true };
                ack::fail(&self.shared, id, key, &failure);
            }
        }
    }

    fn bound_calls(&mut self, now: u64) {
        if self.shared.remote.as_ref().is_some_and(|remote| remote.slots.is_some()) {
            return; // The I/O thread looks, which never waits for the interpreter.
        }
        let (hung, _) = self.hangs.look(&self.shared, now);
        let Some(text) = hung else { return };
        Python::attach(|py| {
            let _ = py.import("faulthandler").and_then(|f| f.call_method0("dump_traceback"));
            let error = errors::run_error(py, text);
            self.shared.fail_run(py, &errors::value_of(py, &error));
        });
    }

    /// Spouts at `max_pending`, nothing moving, and bolts holding: somebody waits for input that cannot come.
    fn warn_standstill(&mut self, now: u64) {
        if self.warned_standstill || self.shared.remote.is_some() || self.shared.state() != State::Running {
            return;
        }
        let standing = audit::standing(&self.shared);
        match self.standstill {
            Some((since, seen)) if standing.is_at_limit && seen == standing.calls => {
                if now - since < STANDSTILL_NS {
                    return;
                }
            }
            _ => {
                self.standstill = standing.is_at_limit.then_some((now, standing.calls));
                return;
            }
        }
        if standing.holders.is_empty() {
            return;
        }
        self.warned_standstill = true;
        let holders: Vec<(u32, usize)> = standing.holders.iter().map(|(task, held)| (task.0, *held)).collect();
        Python::attach(|py| {
            if let Err(error) = self.shared.call_runtime(py, "standstill", (holders,)) {
                error.write_unraisable(py, None);
            }
        });
    }

    /// Roots older than `audit_s`: who holds them? Those that nobody has in several rounds are lost; they fail, so that they are
    /// replayed and do not pend for ever.
    fn audit(&mut self, now: u64) {
        let shared = &self.shared;
        self.audit_at_ns = now + shared.settings.audit_ns / 8;
        if shared.remote.is_some() {
            return; // Who holds it may be elsewhere: the supervisor asks.
        }
        let old = audit::old_roots(shared, now);
        if old.is_empty() {
            self.suspects.clear();
            return;
        }
        let Some(look) = audit::look(shared) else {
            self.suspects.clear(); // The rounds must follow each other.
            return;
        };
        let mut suspects = FxHashMap::default();
        for root in old.into_iter().filter(|root| !look.found.contains(root)) {
            let rounds = self.suspects.get(&root).copied().unwrap_or(0) + 1;
            if rounds < AUDIT_ROUNDS {
                suspects.insert(root, rounds);
            } else {
                audit::lose(shared, &[root]);
            }
        }
        self.suspects = suspects;
    }
}

/// Hands reached positions to the runtime, which stores them durably. A failure stops the run: acked work would come again
/// without anybody knowing.
pub fn store_positions(py: Python<'_>, shared: &Arc<Shared>) {
    // Between taking and storing, another thread's newer position must not be overtaken.
    let _storing = lock_attached(py, &shared.storing);
    let mut items: Vec<(u32, u32, Py<PyAny>)> = Vec::new();
    for (index, task) in shared.tasks.iter().enumerate() {
        let reached = lock(&task.positions).reached.take();
        if let Some(position) = reached {
            let component = shared.plan.task_component[index];
            let first = shared.plan.components[component.index()].tasks.start;
            items.push((component.0, index as u32 - first, position));
        }
    }
    if items.is_empty() {
        return;
    }
    if let Err(error) = shared.call_runtime(py, "positions", (items,)) {
        shared.fail_run(py, &errors::value_of(py, &error));
    }
}
