//! What the threads of one run share: the plan, the queues, the ledgers, the counters, the state of the run.
//!
//! Lock order, outermost first: `Roots` of a task, its `ledger`, `turns`. `held`, `status` and the queues' locks are leaves. No
//! lock is held while Python is called or a Python object is dropped.

use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use rainband_core::deliver::{Packed, Targets};
use rainband_core::ids::{ComponentId, ExecutorId, Incarnation, RootRef, StreamId, TaskId};
use rainband_core::ledger::{Failure, Ledger, Reason};
use rainband_core::plan::Plan;
use rainband_core::queue::{Push, Queue, Wake};
use rainband_core::tuple::Envelope;
use rustc_hash::FxHashMap;

use crate::errors;
use crate::held::{Held, HeldKey};
use crate::payload::Payload;
use crate::remote::Remote;
use crate::roots::{Positions, Record, Roots};
use crate::settings::{ComponentSettings, Settings};
use crate::stats::{Histogram, RunStats, TaskStats, add};
use crate::task_cell::TaskCell;
use crate::turn::{Seat, Turns};
use crate::values::StreamNames;

/// Locks, whatever happened to the holder before: no code under our locks leaves a half-done change.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`], for what is locked while Python is called: the holder may need the interpreter, so it is given up while we wait.
pub fn lock_attached<'a, T>(py: Python<'_>, mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
    loop {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(guard)) => return guard.into_inner(),
            Err(TryLockError::WouldBlock) => py.detach(|| std::thread::sleep(Duration::from_micros(50))),
        }
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// Tasks are being built.
    Starting,
    /// Spouts are asked for tuples.
    Running,
    /// Spouts are told to end; what is pending resolves.
    Draining,
    /// All tasks ended.
    Ended,
    /// Stopped because of an error.
    Failed,
    /// Stopped on request.
    Stopped,
}

impl State {
    const ALL: [State; 6] =
        [State::Starting, State::Running, State::Draining, State::Ended, State::Failed, State::Stopped];

    /// The word that Python sees.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Running => "running",
            State::Draining => "draining",
            State::Ended => "ended",
            State::Failed => "failed",
            State::Stopped => "stopped",
        }
    }
}

/// What one task has in common with the other threads.
pub struct TaskShared {
    pub queue: Queue<Payload, Seat>,
    pub ledger: Mutex<Ledger<Record>>,
    /// `ledger.pending()`, for the spout loop and the timer, without the lock.
    pub pending: AtomicUsize,
    /// A spout that is not told of acks is rung when all roots are resolved, or when it waits because too many are pending,
    /// rather than for each.
    pub is_told: AtomicBool,
    pub waits_for_acks: AtomicBool,
    pub roots: Mutex<Roots>,
    pub positions: Mutex<Positions>,
    pub held: Mutex<Held>,
    pub stats: TaskStats,
    /// Deliveries ever sent inside the task's cycle, and ever done with.
    pub sent_inside: AtomicU64,
    pub resent_inside: AtomicU64,
    pub done_inside: AtomicU64,
    pub is_idle_member: AtomicBool,
    /// Flush has come from all its outside inputs.
    pub is_flushed: AtomicBool,
    /// When the call into user code that is under way began, in ns of the run's clock; 0 if none is. Written per slice.
    pub in_user_since_ns: AtomicU64,
    /// The call in progress waits for room where it emits to; that is not the user's time.
    pub waits_for_room: AtomicBool,
    /// Counts calls, so that a slice of many short calls is not taken for one long one.
    pub calls: AtomicU64,
    /// The task's loop has tuples in hand that no queue knows of: a batch that was cut, an outbox that found no room.
    pub has_in_hand: AtomicBool,
    /// The held tuple that the call under way was given; it does not time out meanwhile.
    pub in_call: Mutex<Option<HeldKey>>,
    /// The task fills batches.
    pub is_batch: AtomicBool,
    /// Ticks of an async bolt that run beside its tuples.
    pub background: AtomicIsize,
    /// Replays found no room and wait: for its roots there is something to do even if none is pending.
    pub has_replays: AtomicBool,
    /// Its call has lasted long: what earlier calls emitted and acked is to be handed over as soon as this one returns.
    pub wants_cut: AtomicBool,
    /// Held tuples (weak references) that timed out, for the loop to cancel what works on them.
    pub timed_out: Mutex<Vec<Py<PyAny>>>,
    /// What an async call raised, where `on_error` asks for a fresh instance.
    pub wants_restart: Mutex<Option<pyo3::Py<pyo3::exceptions::PyBaseException>>>,
    /// The task's collector, for the timer.
    pub cell: Mutex<Option<Arc<TaskCell>>>,
}

impl TaskShared {
    /// Whether hooks are to be called yet, as far as can be seen: `true` while somebody works on the roots.
    pub fn has_calls(&self) -> bool {
        self.roots.try_lock().map_or(true, |roots| !roots.calls.is_empty())
    }

    /// Whether there is something to do for the task's roots, now or later.
    pub fn has_roots(&self) -> bool {
        self.pending.load(Ordering::Relaxed) > 0
            || self.has_replays.load(Ordering::Relaxed)
            || lock(&self.ledger).has_news()
    }
}

/// The state that only changes a few times in a run.
#[derive(Default)]
pub struct Status {
    pub threads_left: usize,
    /// Executors and the timer are gone; nothing changes any more.
    pub is_over: bool,
    pub unready: usize,
    pub error: Option<Py<PyAny>>,
}

/// Everything that the threads of one run share.
pub struct Shared {
    pub plan: Plan,
    pub settings: Settings,
    pub components: Vec<ComponentSettings>,
    pub runtime: Py<PyAny>,
    pub turns: Arc<Turns>,
    pub has_gil: bool,
    pub tasks: Vec<TaskShared>,
    pub cycle_is_over: Vec<AtomicBool>,
    pub run_stats: RunStats,
    pub latency: Histogram,
    pub status: Mutex<Status>,
    pub status_changed: Condvar,
    /// Held by whoever stores positions; taken with `try_lock`, as Python is called under it.
    pub storing: Mutex<()>,
    /// The objects of custom groupings, by stream and subscriber.
    pub custom: FxHashMap<(StreamId, ComponentId), Py<PyAny>>,
    /// Names for the tuples of each stream.
    pub names: Vec<Arc<StreamNames>>,
    /// A random number for the keys of edge ids.
    pub run_key: u64,
    /// The other workers, if there are any.
    pub remote: Option<Box<Remote>>,
    /// Of this process; 0 if it is the only one.
    pub incarnation: Incarnation,
    state: AtomicU8,
    is_active: AtomicBool,
    started: Instant,
    generation: u32,
}

impl Shared {
    #[expect(clippy::too_many_arguments, reason = "called once; each is a part of its own")]
    pub fn new(
        plan: Plan,
        settings: Settings,
        components: Vec<ComponentSettings>,
        runtime: Py<PyAny>,
        turns: Arc<Turns>,
        has_gil: bool,
        tasks: Vec<TaskShared>,
        custom: FxHashMap<(StreamId, ComponentId), Py<PyAny>>,
        names: Vec<Arc<StreamNames>>,
        run_key: u64,
        remote: Option<Box<Remote>>,
    ) -> Self {
        let is_own = |tasks: &[TaskId]| remote.as_ref().is_none_or(|r| tasks.iter().all(|task| r.links.is_here(*task)));
        let executors = plan.executors.iter().filter(|(_, tasks)| is_own(tasks)).count();
        let cycles = plan.cycles;
        Self {
            plan,
            settings,
            components,
            runtime,
            turns,
            has_gil,
            tasks,
            cycle_is_over: (0..cycles).map(|_| AtomicBool::new(false)).collect(),
            run_stats: RunStats::default(),
            latency: Histogram::default(),
            status: Mutex::new(Status { threads_left: executors, is_over: false, unready: executors, error: None }),
            status_changed: Condvar::new(),
            storing: Mutex::new(()),
            custom,
            names,
            run_key,
            incarnation: remote.as_ref().map_or(Incarnation(0), |r| r.me.incarnation),
            remote,
            state: AtomicU8::new(State::Starting as u8),
            is_active: AtomicBool::new(true),
            started: Instant::now(),
            generation: crate::fork::generation(),
        }
    }

    /// Whether this process is a fork of the one that made the engine.
    #[inline]
    pub fn is_forked(&self) -> bool {
        self.generation != crate::fork::generation()
    }

    /// The run's monotonic clock; starts at 1 so that 0 can mean "never".
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64 + 1
    }

    /// How long the run has lasted.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    #[inline]
    pub fn task(&self, task: TaskId) -> &TaskShared {
        &self.tasks[task.index()]
    }

    /// The settings of `task`'s component.
    pub fn settings_of(&self, task: TaskId) -> &ComponentSettings {
        &self.components[self.plan.task_component[task.index()].index()]
    }

    /// Rings the executor of `task`.
    pub fn ring(&self, task: TaskId) {
        self.turns.seat(self.plan.task_executor[task.index()].index()).wake();
    }

    /// Rings every executor.
    pub fn ring_all(&self) {
        for executor in 0..self.plan.executors.len() {
            self.turns.seat(ExecutorId(executor as u32).index()).wake();
        }
    }

    /// Says `xor` about attempts of roots of `task` in one incarnation; the owner is rung if that resolved one.
    pub fn apply_acks(&self, task: TaskId, acks: &[(RootRef, u64)]) {
        if let Some(remote) = &self.remote
            && !remote.links.is_here(task)
        {
            remote.links.ack(acks);
            return;
        }
        let now = self.now_ns();
        let shared = self.task(task);
        if acks.first().is_some_and(|(root, _)| root.incarnation != self.incarnation) {
            add(&self.run_stats.late_acks, acks.len() as u64);
            return;
        }
        let mut ledger = lock(&shared.ledger);
        let had_news = ledger.has_news();
        let before = ledger.pending();
        for (root, xor) in acks {
            ledger.ack(root.attempt, *xor, now);
        }
        let after = ledger.pending();
        shared.pending.store(after, Ordering::SeqCst);
        let is_news = !had_news && ledger.has_news();
        drop(ledger);
        let rings = if shared.is_told.load(Ordering::Relaxed) {
            is_news
        } else {
            before != after && (after == 0 || shared.waits_for_acks.swap(false, Ordering::SeqCst))
        };
        if rings {
            self.ring(task);
        }
    }

    /// Fails the attempts `roots` at their owners.
    pub fn fail_roots(&self, roots: &[RootRef], failure: &Failure) {
        for root in roots {
            if let Some(remote) = &self.remote
                && !remote.links.is_here(root.task)
            {
                remote.links.fail(root, failure);
                continue;
            }
            if root.incarnation != self.incarnation {
                add(&self.run_stats.late_acks, 1);
                continue;
            }
            let mut ledger = lock(&self.task(root.task).ledger);
            ledger.fail(root.attempt, failure.clone());
            drop(ledger);
            self.ring(root.task);
        }
    }

    /// Counts a failed tuple of `task`; an untracked one is counted apart, nobody replays it.
    pub fn count_failed(&self, task: TaskId, reason: Reason, is_untracked: bool) {
        let stats = &self.task(task).stats;
        stats.failed[reason as usize].fetch_add(1, Ordering::Relaxed);
        if is_untracked {
            stats.untracked_failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn state(&self) -> State {
        State::ALL[self.state.load(Ordering::Acquire) as usize]
    }

    /// Whether executors should return after the call in progress.
    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.state.load(Ordering::Relaxed) >= State::Failed as u8
    }

    pub fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    pub fn set_active(&self, active: bool) {
        if active && self.remote.is_some() {
            self.advance(State::Running); // A worker waits for the others before its spouts begin.
        }
        self.is_active.store(active, Ordering::Relaxed);
        self.ring_all();
    }

    /// Moves on to `state`; never back. Returns whether that changed something.
    pub fn advance(&self, state: State) -> bool {
        let before = self.state.fetch_max(state as u8, Ordering::AcqRel);
        let changed = before < state as u8;
        if changed {
            let guard = lock(&self.status);
            self.status_changed.notify_all();
            drop(guard);
            self.ring_all();
        }
        changed
    }

    /// Stops the run because of `error`, unless it is over already. Call attached.
    pub fn fail_run(&self, py: Python<'_>, error: &Bound<'_, PyAny>) {
        let mut status = lock(&self.status);
        let is_first = status.error.is_none() && self.state() < State::Ended;
        if is_first {
            status.error = Some(error.clone().unbind());
        }
        drop(status);
        let _ = py;
        if is_first {
            self.advance(State::Failed);
        }
    }

    /// An executor built and opened its tasks.
    pub fn note_ready(&self) {
        let mut status = lock(&self.status);
        status.unready -= 1;
        let all = status.unready == 0;
        drop(status);
        if all && self.remote.is_none() {
            self.advance(State::Running);
        }
    }

    /// The number of this worker; 0 if it is the only one.
    pub fn me(&self) -> u32 {
        self.remote.as_ref().map_or(0, |remote| remote.me.worker.0)
    }

    /// Whether all tasks of this process are opened.
    pub fn is_ready(&self) -> bool {
        lock(&self.status).unready == 0
    }

    /// An executor's thread is over.
    pub fn note_gone(&self) {
        let mut status = lock(&self.status);
        status.threads_left -= 1;
        if status.threads_left == 0 {
            self.turns.wake_timer();
        }
    }

    /// The timer has done its last; called by its thread after all executors are gone.
    pub fn note_over(&self) {
        self.advance(State::Ended);
        let mut status = lock(&self.status);
        status.is_over = true;
        self.status_changed.notify_all();
    }

    /// The tasks of the cycle that `task` belongs to.
    fn members(&self, task: TaskId) -> impl Iterator<Item = &TaskShared> {
        let cycle = self.plan.component_of(task).cycle;
        let inside = self.plan.components.iter().filter(move |c| cycle.is_some() && c.cycle == cycle);
        inside.flat_map(|c| c.tasks.clone()).map(|t| &self.tasks[t as usize])
    }

    /// Whether no fresh input comes into the cycle of `task`; `true` outside of cycles.
    pub fn is_cycle_flushed(&self, task: TaskId) -> bool {
        self.members(task).all(|member| member.is_flushed.load(Ordering::Acquire))
    }

    /// Whether nothing moves in the cycle of `task` any more; `true` outside of cycles.
    pub fn is_cycle_over(&self, task: TaskId) -> bool {
        self.plan.component_of(task).cycle.is_none_or(|c| self.cycle_is_over[c as usize].load(Ordering::Acquire))
    }

    /// Calls a method of the runtime.
    pub fn call_runtime<'py, A>(&self, py: Python<'py>, method: &str, args: A) -> PyResult<Bound<'py, PyAny>>
    where
        A: pyo3::call::PyCallArgs<'py>,
    {
        self.runtime.bind(py).call_method1(method, args)
    }

    /// A line of the engine in the log; what goes wrong there is not the run's business.
    pub fn log(&self, py: Python<'_>, level: u32, text: &str) {
        if let Err(error) = self.call_runtime(py, "log", (level, text)) {
            error.write_unraisable(py, None);
        }
    }

    /// Whether `error` says no more than that the run was stopped under the call: the tuple stays unacked, nobody is told.
    pub fn was_cut(&self, py: Python<'_>, error: &PyErr) -> bool {
        self.is_stopping() && errors::is_emit_error(py, error)
    }

    /// Tells the user about an exception of user code, with its traceback.
    pub fn user_error(&self, py: Python<'_>, task: TaskId, place: &str, error: &PyErr, note: &str) {
        let component = self.plan.task_component[task.index()].0;
        let value = errors::value_of(py, error);
        if let Err(error) = self.call_runtime(py, "user_error", (component, task.0, place, value, note)) {
            error.write_unraisable(py, None);
        }
    }
}

impl Shared {
    /// How much more `task` takes, as far as can be seen without a lock.
    #[inline]
    pub fn room_hint(&self, task: TaskId) -> usize {
        match &self.remote {
            Some(remote) if !remote.links.is_here(task) => usize::from(!remote.links.is_full(task)) << 32,
            _ => self.task(task).queue.room_hint(),
        }
    }

    /// Leaves `seat` to be woken once `task` takes more; `false`, leaving nothing, if it does now.
    pub fn wait_for_room(&self, task: TaskId, seat: &Seat) -> bool {
        match &self.remote {
            Some(remote) if !remote.links.is_here(task) => remote.links.wait_for_room(task, seat),
            _ => self.task(task).queue.wait_for_room(seat),
        }
    }
}

impl Targets<Payload> for Shared {
    fn push(&self, task: TaskId, batch: &mut Vec<Envelope<Payload>>) -> Push {
        self.task(task).queue.push(batch)
    }

    fn push_loop(&self, task: TaskId, batch: &mut Vec<Envelope<Payload>>, limit: u64) -> Push {
        self.task(task).queue.push_loop(batch, limit)
    }

    fn push_packed(&self, task: TaskId, packed: &mut Packed) -> Push {
        match &self.remote {
            Some(remote) => remote.links.push(task, packed),
            None => Push::Closed,
        }
    }
}
