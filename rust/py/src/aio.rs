//! What the asyncio loop of `async` bolts (`aio.py`) needs of the engine: tuples to work on, a file descriptor that becomes
//! readable when there is news, and a call after each slice. The tuples are held until Python acks them.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rainband_core::ids::TaskId;

use crate::bolt_loop::BoltTask;
use crate::errors;
use crate::shared::{Shared, TaskShared};
use crate::turn::Seat;
use crate::values::Tuple;

/// The executor as its asyncio loop sees it; used on its own thread only.
#[pyclass(unsendable, module = "rainband._core")]
pub struct AsyncExecutor {
    shared: Arc<Shared>,
    ids: Vec<TaskId>,
    tasks: RefCell<Vec<BoltTask>>,
    fd: i32,
}

#[pymethods]
impl AsyncExecutor {
    /// Up to `max_n` tuples of task `task_id`; does not wait.
    fn take<'py>(&self, py: Python<'py>, task_id: u32, max_n: usize) -> PyResult<Vec<Bound<'py, Tuple>>> {
        let mut tasks = self.tasks.try_borrow_mut().map_err(|_| reentered("take"))?;
        let mut taken = Vec::new();
        if let Some(task) = tasks.iter_mut().find(|t| t.task.id.0 == task_id) {
            task.take(py, max_n, &mut taken)?;
        }
        Ok(taken)
    }

    /// The loop is about to run steps of coroutines: a call of user code, as the timer sees it.
    fn works(&self) {
        let now = self.shared.now_ns();
        for task in self.own() {
            task.calls.fetch_add(1, Ordering::Relaxed);
            task.has_in_hand.store(true, Ordering::Release);
            task.in_user_since_ns.store(now, Ordering::Relaxed);
        }
    }

    /// The loop is about to wait.
    fn rests(&self) {
        self.own().for_each(|task| task.in_user_since_ns.store(0, Ordering::Relaxed));
    }

    /// `change` more ticks run beside the tuples of task `task_id`, which has not ended before they have.
    fn background(&self, task_id: u32, change: isize) {
        self.shared.task(TaskId(task_id)).background.fetch_add(change, Ordering::AcqRel);
    }

    /// An eventfd, readable when there is news.
    fn fd(&self) -> i32 {
        self.fd
    }

    /// Takes the news back.
    fn clear(&self) {
        let mut count = [0_u8; 8];
        // SAFETY: reads eight bytes into a local array; the descriptor does not block.
        unsafe {
            libc::read(self.fd, count.as_mut_ptr().cast(), count.len());
        }
    }

    /// Hands over, ticks, follows signals; seconds until the next call is due, `None` at news only, negative when over.
    fn after_slice(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        let mut tasks = self.tasks.try_borrow_mut().map_err(|_| reentered("after_slice"))?;
        self.rests();
        if self.shared.is_stopping() {
            return Ok(Some(-1.0));
        }
        for task in tasks.iter_mut() {
            task.after_slice(py);
        }
        if self.shared.is_stopping() || tasks.iter().all(|t| t.task.end.is_over()) {
            return Ok(Some(-1.0));
        }
        let now = self.shared.now_ns();
        let due = tasks.iter().filter_map(BoltTask::deadline_ns).min();
        Ok(due.map(|due| due.saturating_sub(now) as f64 / 1e9))
    }

    /// Whether the run was stopped: no further call is to be begun.
    fn is_stopping(&self) -> bool {
        self.shared.is_stopping()
    }

    /// How many tuples of task `task_id` are held.
    fn held(&self, task_id: u32) -> usize {
        crate::shared::lock(&self.shared.task(TaskId(task_id)).held).len()
    }
}

impl AsyncExecutor {
    fn own(&self) -> impl Iterator<Item = &TaskShared> {
        self.ids.iter().map(|id| self.shared.task(*id))
    }
}

fn reentered(what: &str) -> PyErr {
    PyRuntimeError::new_err(format!("{what}() was called by a hook that the executor itself is calling"))
}

/// Runs the loop that the runtime gave for the tasks of this executor, and gives the tasks back.
pub fn run(py: Python<'_>, shared: &Arc<Shared>, seat: &Seat, tasks: Vec<BoltTask>) -> Vec<BoltTask> {
    py.detach(|| seat.set_free());
    let run_loop = tasks[0].task.spec.run_loop.as_ref().map(|l| l.clone_ref(py));
    // SAFETY: no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    if fd < 0 {
        let error = PyErr::from(std::io::Error::last_os_error());
        shared.fail_run(py, &errors::value_of(py, &error));
        return tasks;
    }
    seat.set_bell(fd);
    let ids = tasks.iter().map(|t| t.task.id).collect();
    let executor = AsyncExecutor { shared: Arc::clone(shared), ids, tasks: RefCell::new(tasks), fd };
    let result = Bound::new(py, executor).map(|executor| {
        let ran = match run_loop {
            Some(run_loop) => run_loop.bind(py).call1((&executor,)).map(drop),
            None => Err(PyRuntimeError::new_err("an async task without a loop")),
        };
        let tasks = std::mem::take(&mut *executor.borrow().tasks.borrow_mut());
        ran.map_err(|error| shared.fail_run(py, &errors::value_of(py, &error))).ok();
        tasks
    });
    seat.set_bell(-1);
    // SAFETY: made above; after `set_bell(-1)` and with the loop over nobody uses it.
    unsafe {
        libc::close(fd);
    }
    result.unwrap_or_default()
}
