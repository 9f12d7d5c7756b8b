//! Lets only the thread of a task to the task's collector, and nobody in twice.

use std::cell::{RefCell, RefMut};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;

use crate::collector::Collector;
use crate::errors;

/// A collector, and the proof that only its task's thread uses it.
pub struct TaskCell {
    owner: AtomicPtr<ffi::PyThreadState>,
    is_open: AtomicBool,
    collector: RefCell<Collector>,
}

// SAFETY: `collector` is only borrowed by `enter`, on the thread whose Python thread state is `owner`; that state belongs to one
// thread and outlives the task's time (it is set by that thread and cleared by it before the thread ends).
unsafe impl Sync for TaskCell {}
// SAFETY: a collector may be dropped on any thread once the task is over: it holds ids, buffers and Python references.
unsafe impl Send for TaskCell {}

impl TaskCell {
    pub fn new(collector: Collector) -> Self {
        Self {
            owner: AtomicPtr::new(std::ptr::null_mut()),
            is_open: AtomicBool::new(true),
            collector: RefCell::new(collector),
        }
    }

    /// The calling thread is the task's, which begins, perhaps with a fresh instance.
    pub fn open(&self, _py: Python<'_>) {
        // SAFETY: attached, so there is a current thread state.
        self.owner.store(unsafe { ffi::PyThreadState_Get() }, Ordering::Release);
        self.is_open.store(true, Ordering::Release);
    }

    /// The task is over, or its instance is: every later call raises.
    pub fn close(&self) {
        self.is_open.store(false, Ordering::Release);
        self.owner.store(std::ptr::null_mut(), Ordering::Release);
    }

    /// The collector, for the task's own thread.
    ///
    /// # Errors
    /// From another thread, after the end, in a forked child, and while an emit of the same task is under way.
    #[inline]
    pub fn enter(&self, py: Python<'_>, what: &str) -> PyResult<RefMut<'_, Collector>> {
        // SAFETY: attached, so there is a current thread state.
        let here = unsafe { ffi::PyThreadState_Get() };
        if here == self.owner.load(Ordering::Acquire)
            && let Ok(collector) = self.collector.try_borrow_mut()
            && !collector.shared.is_forked()
        {
            return Ok(collector);
        }
        Err(self.refuse(py, what))
    }

    #[cold]
    fn refuse(&self, py: Python<'_>, what: &str) -> PyErr {
        // SAFETY: attached, as above.
        let here = unsafe { ffi::PyThreadState_Get() };
        let text = if !self.is_open.load(Ordering::Acquire) {
            format!("{what} in close() or after it: the task is over, or a fresh instance took its place")
        } else if here != self.owner.load(Ordering::Acquire) {
            format!(
                "{what} from another thread than the task's own; hand the values to the task (a queue that tick() reads), or ack from there and emit here"
            )
        } else if crate::fork::generation() > 0 && self.collector.try_borrow().is_ok() {
            format!(
                "{what} in a forked child: the topology runs in the parent; start processes with subprocess or the spawn method"
            )
        } else {
            format!("{what} inside {what}: a grouping or a destructor emitted while its task was emitting")
        };
        errors::emit_error(py, text)
    }

    /// The collector, for the timer thread while the task's own thread is in user code. `None` if the engine is using it.
    ///
    /// # Safety
    /// Only on a Python with a GIL: the caller is attached, so the owner is not, or it is not inside the engine; every borrow
    /// begins and ends attached.
    pub unsafe fn borrow_from_timer(&self, _py: Python<'_>) -> Option<RefMut<'_, Collector>> {
        self.collector.try_borrow_mut().ok()
    }

    /// The collector, for the loop that runs the task on its own thread.
    ///
    /// # Panics
    /// If user code is emitting at the moment, which the loop never does meanwhile.
    #[inline]
    pub fn own(&self) -> RefMut<'_, Collector> {
        self.collector.borrow_mut()
    }
}
