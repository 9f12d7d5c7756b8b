//! The engine as Python sees it: made of a plan dict, run by Python's threads, watched and stopped by the main thread.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use rainband_core::frontier::Ticket;
use rainband_core::ids::{AttemptId, Incarnation, RootRef, TaskId, WorkerId};
use rainband_core::queue::Wake;
use rainband_link::{Link, PeerIndex, SocketHandle, Zmq};

use crate::audit;
use crate::errors;
use crate::hang::Hangs;
use crate::plan_dict::read_plan;
use crate::remote::{Carrier, Remote, Suspect};
use crate::shared::{Shared, State, lock};
use crate::turn::Seat;
use crate::{executor, snapshot, timer};

/// Wakes an executor from any thread; calling it twice is as good as once.
#[pyclass(frozen, module = "rainband._core")]
pub struct Waker {
    seat: Seat,
}

impl Waker {
    pub fn new(seat: Seat) -> Self {
        Self { seat }
    }
}

#[pymethods]
impl Waker {
    fn __call__(&self) {
        self.seat.wake();
    }
}

/// One run of one plan. Made of the plan dict of `plan.py` and the `Runtime` that builds tasks; its threads are Python's.
#[pyclass(frozen, module = "rainband._core")]
pub struct Engine {
    shared: Arc<Shared>,
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (plan, runtime, worker=None))]
    fn new(plan: &Bound<'_, PyDict>, runtime: Py<PyAny>, worker: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        crate::fork::watch();
        crate::affinity::watch_starts(plan.py());
        let shared = read_plan(plan, runtime, worker)?;
        shared.tell_own_of_ended();
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The executors: (component index, task ids), a row each.
    fn executors(&self) -> Vec<(u32, Vec<u32>)> {
        let ids = |tasks: &[TaskId]| tasks.iter().map(|t| t.0).collect();
        self.shared.plan.executors.iter().map(|(component, tasks)| (component.0, ids(tasks))).collect()
    }

    /// The executors of this process: (index, component index, task ids), a row each.
    fn own_executors(&self) -> Vec<(usize, u32, Vec<u32>)> {
        let all = self.executors().into_iter().enumerate();
        let is_own = |tasks: &[u32]| tasks.iter().all(|task| self.shared.is_here(TaskId(*task)));
        all.filter(|(_, (_, tasks))| is_own(tasks))
            .map(|(index, (component, tasks))| (index, component, tasks))
            .collect()
    }

    /// The body of an executor's thread; returns when it is over.
    fn run_executor(&self, py: Python<'_>, index: usize) {
        executor::run(py, &self.shared, index);
    }

    /// The body of the timer thread; returns when every executor is over.
    fn run_timer(&self, py: Python<'_>) {
        timer::run(py, &self.shared);
    }

    /// Waits, detached, until the run is over or `timeout_s` passed. Returns the state: "starting", "running", "draining",
    /// and when every executor is over "ended", "failed" or "stopped".
    fn wait(&self, py: Python<'_>, timeout_s: f64) -> &'static str {
        let shared = &self.shared;
        let deadline = Instant::now() + Duration::from_secs_f64(timeout_s.clamp(0.0, 3600.0));
        py.detach(|| {
            let mut status = lock(&shared.status);
            while !status.is_over {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let waited = shared.status_changed.wait_timeout(status, left);
                status = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
            }
        });
        let is_over = lock(&shared.status).is_over;
        match shared.state() {
            state if is_over || state < State::Ended => state.as_str(),
            _ => "stopping",
        }
    }

    /// Lets spouts emit again after `deactivate`.
    fn activate(&self) {
        self.shared.set_active(true);
    }

    /// Pauses the spouts: no new roots; trees complete and timers run.
    fn deactivate(&self) {
        self.shared.set_active(false);
    }

    /// Ends the spouts; the run is over when all that is pending is resolved.
    fn drain(&self) {
        self.shared.advance(State::Draining);
    }

    /// Stops: executors return after the call in progress, and every task that was opened is closed.
    fn stop(&self) {
        self.shared.advance(State::Stopped);
    }

    /// Stops the run because of `error`.
    fn fail_run(&self, py: Python<'_>, error: &Bound<'_, PyAny>) {
        self.shared.fail_run(py, error);
    }

    /// Why the run failed; `None` if it did not.
    fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        lock(&self.shared.status).error.as_ref().map(|error| error.clone_ref(py))
    }

    /// The counters of this moment.
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        snapshot::snapshot(py, &self.shared)
    }

    /// Whether all tasks of this process are opened; a worker's spouts then wait for `activate`.
    fn is_ready(&self) -> bool {
        self.shared.is_ready()
    }

    // -- in a worker of several ----------------------------------------------------------------------------------------

    /// The body of the I/O thread; returns after `stop_link`. `inbound` is the address of a `ZeroMQ` socket that nobody else uses
    /// from now on, `library` the shared object through which libzmq is found.
    ///
    /// Raises `RunError` if the sockets fail.
    fn run_link(&self, py: Python<'_>, inbound: usize, library: &str) -> PyResult<()> {
        let remote = self.remote(py)?;
        let failed = |error: String| errors::run_error(py, format!("the link to the other workers failed: {error}"));
        let zmq = Zmq::open(Path::new(library)).map_err(|error| failed(error.to_string()))?;
        let inbound = handle(py, inbound)?;
        let shared = Arc::clone(&self.shared);
        let clock = Arc::clone(&self.shared);
        let control = Arc::clone(&remote.control);
        let result = py.detach(|| {
            let link = Link::new(
                zmq,
                inbound,
                control,
                Carrier { hangs: Hangs::new(shared.tasks.len()), broken: None, shared },
                move || clock.now_ns(),
            );
            link.run()
        });
        let (carrier, ended) = result;
        carrier.broken.map_or(Ok(()), |text| Err(failed(text)))?;
        ended.map_err(|error| failed(error.to_string()))
    }

    /// Ends the I/O thread; what was not sent is not sent.
    fn stop_link(&self, py: Python<'_>) -> PyResult<()> {
        self.remote(py)?.control.stop();
        Ok(())
    }

    /// Installs a view: (worker, incarnation, address of the socket to it or 0 if it cannot be reached) of every worker. On return
    /// nothing more is under way to processes that are gone. `suspects`: (task, incarnation, attempt) of roots that were in hand when
    /// their worker died, for `reason`.
    #[expect(clippy::needless_pass_by_value, reason = "made of Python's list for this call")]
    fn install_view(
        &self,
        py: Python<'_>,
        view: u64,
        members: Vec<(u32, u32, usize)>,
        suspects: Vec<Suspect>,
        reason: &str,
    ) -> PyResult<()> {
        let remote = self.remote(py)?;
        let mut reachable = Vec::with_capacity(members.len());
        for (worker, incarnation, socket) in members {
            if worker as usize >= remote.links.workers() {
                return Err(errors::internal(format!("the view has a worker {worker}")));
            }
            reachable.push((WorkerId(worker), Incarnation(incarnation), socket != 0));
            if worker == remote.me.worker.0 {
                continue;
            }
            if remote.is_known(WorkerId(worker), (socket != 0).then_some(Incarnation(incarnation))) {
                continue; // The link that is there goes on.
            }
            if socket == 0 {
                remote.control.disconnect(PeerIndex(worker));
            } else {
                remote.control.connect(PeerIndex(worker), handle(py, socket)?);
            }
        }
        py.detach(|| self.shared.install_view(view, &reachable, &suspects, reason));
        Ok(())
    }

    /// All workers have confirmed `view`: what was begun before it was installed here is begun anew, for `reason`.
    fn replay(&self, py: Python<'_>, view: u64, reason: &str) {
        py.detach(|| self.shared.replay(view, reason));
    }

    /// Whether every process of the current view is connected both ways.
    fn links_up(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.remote(py)?.links.is_up())
    }

    /// Whether everything that was sent has been confirmed by those who live.
    fn is_settled(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.remote(py)?.links.is_settled())
    }

    /// The roots of this process that are older than `audit_s`: (task, incarnation, attempt), a row each, the oldest
    /// 10,000.
    fn old_roots(&self) -> Vec<Suspect> {
        let old = audit::old_roots(&self.shared, self.shared.now_ns());
        old.iter().map(|root| (root.task.0, root.incarnation.0, root.attempt.bits())).collect()
    }

    /// Which of `roots`, by index, are queued or held here, and a number that grows whenever something moves; `None` if somebody
    /// has something in hand that is not seen from here.
    #[expect(clippy::needless_pass_by_value, reason = "made of Python's list for this call")]
    fn look_for(&self, py: Python<'_>, roots: Vec<Suspect>) -> PyResult<Option<(Vec<usize>, u64)>> {
        let roots = self.roots_of(&roots)?;
        let look = py.detach(|| audit::look(&self.shared));
        let found = |look: &audit::Look| (0..roots.len()).filter(|at| look.found.contains(&roots[*at])).collect();
        Ok(look.map(|look| (found(&look), look.moves)))
    }

    /// Fails those of `roots` that are pending here as lost: no worker holds them.
    #[expect(clippy::needless_pass_by_value, reason = "made of Python's list for this call")]
    fn lose(&self, py: Python<'_>, roots: Vec<Suspect>) -> PyResult<()> {
        let roots = self.roots_of(&roots)?;
        py.detach(|| audit::lose(&self.shared, &roots));
        Ok(())
    }

    /// What a standstill is seen by: whether a spout here stands at `max_pending`, how many calls there were, and (task, how
    /// many) of those that hold tuples.
    fn standing(&self) -> (bool, u64, Vec<(u32, usize)>) {
        let standing = audit::standing(&self.shared);
        let holders = standing.holders.iter().map(|(task, held)| (task.0, *held)).collect();
        (standing.is_at_limit, standing.calls, holders)
    }

    /// Addresses of sockets that the I/O thread has let go of; the caller closes them.
    fn released_sockets(&self, py: Python<'_>) -> PyResult<Vec<usize>> {
        let released = self.remote(py)?.control.take_released();
        Ok(released.iter().map(SocketHandle::address).collect())
    }

    /// The roots that are not resolved: (component, task id, user id, attempt, age in seconds, has a position).
    fn pending<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        let now = self.shared.now_ns();
        for (index, task) in self.shared.tasks.iter().enumerate() {
            let rows: Vec<(Option<Py<PyAny>>, u32, u64, bool)> = lock(&task.ledger)
                .iter_pending()
                .map(|(record, attempt, began)| {
                    let id = record.id.as_ref().map(|id| id.clone_ref(py));
                    (id, attempt, began, record.ticket != Ticket::NONE)
                })
                .collect();
            let name = &self.shared.plan.component_of(TaskId(index as u32)).name;
            for (id, attempt, began, has_position) in rows {
                let age_s = now.saturating_sub(began) as f64 / 1e9;
                list.append((name, index, id, attempt, age_s, has_position))?;
            }
        }
        Ok(list)
    }
}

/// The socket at `address`.
fn handle(py: Python<'_>, address: usize) -> PyResult<SocketHandle> {
    // SAFETY: the caller made the socket with pyzmq's libzmq, keeps it alive and leaves it alone until it is released.
    let handle = unsafe { SocketHandle::from_address(address) };
    handle.ok_or_else(|| errors::run_error(py, "a socket without an address".to_string()))
}

impl Engine {
    fn roots_of(&self, rows: &[Suspect]) -> PyResult<Vec<RootRef>> {
        if let Some((task, ..)) = rows.iter().find(|(task, ..)| *task as usize >= self.shared.tasks.len()) {
            return Err(errors::internal(format!("there is no task {task}")));
        }
        let root = |(task, incarnation, attempt): &Suspect| RootRef {
            task: TaskId(*task),
            incarnation: Incarnation(*incarnation),
            attempt: AttemptId::from_bits(*attempt),
        };
        Ok(rows.iter().map(root).collect())
    }

    fn remote(&self, py: Python<'_>) -> PyResult<&Remote> {
        let remote = self.shared.remote.as_deref();
        remote.ok_or_else(|| errors::run_error(py, "this engine is no worker of several".to_string()))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Nobody can watch the run any more; the executors hold the rest alive until they are over.
        if !self.shared.is_forked() {
            self.shared.advance(State::Stopped);
        }
    }
}
