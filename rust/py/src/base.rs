//! The base classes of users' components. `emit` is a method descriptor with the fast calling convention, found by a normal
//! method lookup, because it is called for every tuple: a Python method around it would cost as much as all the rest.
//!
//! A component is attached to its task's collector by the engine, or to any Python object by a test harness (`_attach`); every
//! call is then forwarded to the method of the same name of that object.

use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use rainband_core::ledger::{Failure, Reason};

use crate::ack;
use crate::errors;
use crate::shared::lock;
use crate::task_cell::TaskCell;
use crate::values::{Hold, Tuple};

/// What a component is attached to.
#[derive(Default)]
pub struct Link {
    cell: AtomicPtr<TaskCell>,
    sink: Mutex<Option<Py<PyAny>>>,
}

impl Link {
    /// Attaches to a task. A second attach (a component object used for two tasks) replaces the first.
    pub fn attach(&self, cell: &Arc<TaskCell>) {
        let old = self.cell.swap(Arc::into_raw(Arc::clone(cell)).cast_mut(), Ordering::AcqRel);
        drop_cell(old);
    }

    #[inline]
    pub fn cell(&self) -> Option<&TaskCell> {
        let pointer = self.cell.load(Ordering::Acquire);
        // SAFETY: non-null pointers come from `Arc::into_raw` and are released only in `attach` (by the engine, before user
        // code of the new task runs) and in `drop`.
        unsafe { pointer.as_ref() }
    }

    pub fn sink(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        lock(&self.sink).as_ref().map(|sink| sink.clone_ref(py))
    }

    fn set_sink(&self, sink: Option<Py<PyAny>>) {
        let old = std::mem::replace(&mut *lock(&self.sink), sink);
        drop(old);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        drop_cell(*self.cell.get_mut());
    }
}

fn drop_cell(pointer: *mut TaskCell) {
    if !pointer.is_null() {
        // SAFETY: it came from `Arc::into_raw` and was taken out of its link.
        drop(unsafe { Arc::from_raw(pointer) });
    }
}

/// Base of `Spout`: `emit` and `end`.
#[pyclass(subclass, frozen, module = "rainband._core")]
#[derive(Default)]
pub struct SpoutBase {
    pub link: Link,
}

/// Base of `Bolt`: `emit`, `ack`, `fail`, `reset_timeout`.
#[pyclass(subclass, frozen, module = "rainband._core")]
#[derive(Default)]
pub struct BoltBase {
    pub link: Link,
}

#[pymethods]
impl SpoutBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    /// Forwards `emit` and `end` to the methods of `sink`; for test harnesses.
    #[pyo3(signature = (sink))]
    fn _attach(&self, sink: Option<Py<PyAny>>) {
        self.link.set_sink(sink);
    }

    /// This task has no more tuples; `next_tuple` is not called again. What is pending is still replayed and acked.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(cell) = self.link.cell() {
            cell.enter(py, "end()")?.has_ended = true;
            return Ok(());
        }
        match self.link.sink(py) {
            Some(sink) => sink.call_method0(py, "end").map(drop),
            None => Err(unattached(py, "end()", "open()")),
        }
    }
}

#[pymethods]
impl BoltBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    /// Forwards `emit`, `ack`, `fail` and `reset_timeout` to the methods of `sink`; for test harnesses.
    #[pyo3(signature = (sink))]
    fn _attach(&self, sink: Option<Py<PyAny>>) {
        self.link.set_sink(sink);
    }

    /// Fails a held tuple as if `process` had raised `error`, telling nobody; for batches. Returns whether it is the engine's.
    #[staticmethod]
    fn _fail_with(py: Python<'_>, tup: &Bound<'_, Tuple>, error: &Bound<'_, PyAny>) -> bool {
        fail_with(py, tup, error)
    }

    /// Does all that is done when a plain `process` raises with `tup` in hand: fail it, log, `on_error`. Returns whether the
    /// tuple is the engine's.
    #[staticmethod]
    fn _raised(py: Python<'_>, tup: &Bound<'_, Tuple>, error: &Bound<'_, PyAny>) -> bool {
        let Hold::Held { task, shared, .. } = &tup.get().hold else { return false };
        let raised = PyErr::from_value(error.clone());
        if shared.was_cut(py, &raised) {
            return true;
        }
        fail_with(py, tup, error);
        let error = raised;
        if errors::is_reject(py, &error) {
            return true;
        }
        shared.user_error(py, *task, "process", &error, "the tuple failed");
        match shared.settings_of(*task).on_error {
            crate::settings::OnError::Fail => {}
            crate::settings::OnError::Stop => shared.fail_run(py, &errors::value_of(py, &error)),
            crate::settings::OnError::Restart => {
                let before = lock(&shared.task(*task).wants_restart).replace(error.into_value(py));
                drop(before);
            }
        }
        true
    }

    /// Loses a held tuple, telling nobody; for the tests of the audit, which must find that out.
    #[staticmethod]
    fn _drop(tup: &Bound<'_, Tuple>) {
        if let Hold::Held { task, key, shared } = &tup.get().hold {
            let lost = lock(&shared.task(*task).held).remove(*key);
            drop(lost);
        }
    }

    /// Acks a tuple of an `auto_ack = False` bolt; from any thread. A second ack is ignored and counted.
    fn ack(&self, py: Python<'_>, tup: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(cell) = self.link.cell() else { return self.forward(py, "ack", (tup,), None) };
        let tup = manual(tup, "ack")?;
        if let Hold::Held { task, key, shared } = &tup.get().hold {
            refuse_fork(py, shared, "ack()")?;
            ack::ack(shared, *task, *key);
        }
        let _ = cell;
        Ok(())
    }

    /// Fails a tuple of an `auto_ack = False` bolt, or one of a batch; from any thread. `retry=False` sends it to the dead letters.
    #[pyo3(signature = (tup, reason="", retry=true))]
    fn fail(&self, py: Python<'_>, tup: &Bound<'_, PyAny>, reason: &str, retry: bool) -> PyResult<()> {
        if self.link.cell().is_none() {
            let keywords = PyDict::new(py);
            keywords.set_item("retry", retry)?;
            return self.forward(py, "fail", (tup, reason), Some(&keywords));
        }
        let tup = manual(tup, "fail")?;
        if let Hold::Held { task, key, shared } = &tup.get().hold {
            refuse_fork(py, shared, "fail()")?;
            let reason_kind = if retry { Reason::Failed } else { Reason::Rejected };
            let failure = Failure { reason: reason_kind, task: *task, error: reason.into(), retry };
            ack::fail(shared, *task, *key, &failure);
        }
        Ok(())
    }

    /// Starts the time of a held tuple anew: `ack_timeout_s` from now; from any thread.
    fn reset_timeout(&self, py: Python<'_>, tup: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.link.cell().is_none() {
            return self.forward(py, "reset_timeout", (tup,), None);
        }
        let tup = manual(tup, "reset_timeout")?;
        if let Hold::Held { task, key, shared } = &tup.get().hold {
            refuse_fork(py, shared, "reset_timeout()")?;
            lock(&shared.task(*task).held).touch(*key, shared.now_ns());
        }
        Ok(())
    }
}

fn fail_with(py: Python<'_>, tup: &Bound<'_, Tuple>, error: &Bound<'_, PyAny>) -> bool {
    if let Hold::Held { task, key, shared } = &tup.get().hold {
        let error = PyErr::from_value(error.clone());
        if shared.was_cut(py, &error) {
            return true;
        }
        let is_reject = errors::is_reject(py, &error);
        let text = if is_reject { error.value(py).to_string() } else { errors::text_of(py, &error) };
        let reason = if is_reject { Reason::Rejected } else { Reason::Error };
        let failure = Failure { reason, task: *task, error: text.into(), retry: !is_reject };
        ack::fail(shared, *task, *key, &failure);
        return true;
    }
    false
}

impl BoltBase {
    fn forward<'py, A>(
        &self,
        py: Python<'py>,
        method: &str,
        args: A,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<()>
    where
        A: pyo3::call::PyCallArgs<'py>,
    {
        match self.link.sink(py) {
            Some(sink) => sink.bind(py).getattr(method)?.call(args, keywords).map(drop),
            None => Err(unattached(py, &format!("{method}()"), "prepare()")),
        }
    }
}

fn manual<'a, 'py>(tup: &'a Bound<'py, PyAny>, what: &str) -> PyResult<&'a Bound<'py, Tuple>> {
    tup.cast::<Tuple>().map_err(|_| {
        let got = tup.get_type().name().map(|n| n.to_string()).unwrap_or_default();
        PyTypeError::new_err(format!("{what}() takes a Tuple that process() received; got {got}"))
    })
}

fn refuse_fork(py: Python<'_>, shared: &crate::shared::Shared, what: &str) -> PyResult<()> {
    if shared.is_forked() {
        return Err(errors::emit_error(py, format!("{what} in a forked child: the topology runs in the parent")));
    }
    Ok(())
}

pub fn unattached(py: Python<'_>, what: &str, hook: &str) -> PyErr {
    errors::emit_error(
        py,
        format!(
            "{what} before {hook}: the component is not part of a running topology; call it from its hooks, or use rainband.testing"
        ),
    )
}
