//! The base classes of users' components. `emit` is a method descriptor with the fast calling convention, found by a normal
//! method lookup, because it is called for every tuple: a Python method around it would cost as much as all the rest.
//!
//! A component is attached to its task's collector by the engine, or to any Python object by a test harness (`_attach`); every
//! call is then forwarded to the method of the same name of that object.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use rainband_core::ids::TaskId;
use rainband_core::ledger::{Failure, Reason};

use crate::ack;
use crate::collector::{AnchorRef, Collector, How, TaskCell};
use crate::errors;
use crate::payload::{Payload, size_of_value};
use crate::shared::lock;
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
    fn cell(&self) -> Option<&TaskCell> {
        let pointer = self.cell.load(Ordering::Acquire);
        // SAFETY: non-null pointers come from `Arc::into_raw` and are released only in `attach` (by the engine, before user
        // code of the new task runs) and in `drop`.
        unsafe { pointer.as_ref() }
    }

    fn sink(&self, py: Python<'_>) -> Option<Py<PyAny>> {
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
        fail_with(py, tup, error);
        let Hold::Held { task, shared, .. } = &tup.get().hold else { return false };
        let error = PyErr::from_value(error.clone());
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

fn unattached(py: Python<'_>, what: &str, hook: &str) -> PyErr {
    errors::emit_error(
        py,
        format!(
            "{what} before {hook}: the component is not part of a running topology; call it from its hooks, or use rainband.testing"
        ),
    )
}

/// Keyword arguments of `emit`.
#[derive(Default)]
struct Keywords<'py> {
    stream: Option<Bound<'py, PyAny>>,
    anchors: Option<Bound<'py, PyAny>>,
    task: Option<TaskId>,
    id: Option<Bound<'py, PyAny>>,
    position: Option<Bound<'py, PyAny>>,
}

impl<'py> Keywords<'py> {
    #[inline]
    fn parse(names: &Bound<'py, PyTuple>, values: &[*mut ffi::PyObject], is_spout: bool) -> PyResult<Self> {
        let py = names.py();
        let mut found = Self::default();
        for (name, value) in names.iter().zip(values) {
            // SAFETY: borrowed from the caller for the time of the call.
            let value = unsafe { Bound::from_borrowed_ptr(py, *value) };
            let name = name.cast_into::<PyString>()?;
            // Literal keywords are interned, so this is a comparison of pointers and lengths nearly always.
            match name.to_str()? {
                "id" if is_spout => {
                    if value.is_none() {
                        return Err(PyValueError::new_err(
                            "emit(id=None): an id is what ack and fail will name; leave id away for an untracked tuple",
                        ));
                    }
                    found.id = Some(value);
                }
                "position" if is_spout => found.position = (!value.is_none()).then_some(value),
                "anchors" if !is_spout => found.anchors = Some(value),
                "stream" => found.stream = Some(value),
                "task" => {
                    if !value.is_none() {
                        found.task = Some(TaskId(value.extract()?));
                    }
                }
                other => {
                    let known = if is_spout { "stream, id, position, task" } else { "stream, anchors, task" };
                    return Err(PyTypeError::new_err(format!(
                        "emit() got an unexpected keyword argument {other:?}; it knows {known}"
                    )));
                }
            }
        }
        Ok(found)
    }
}

fn stream_index(py: Python<'_>, collector: &Collector, name: &Bound<'_, PyAny>) -> PyResult<usize> {
    if let Some(at) = collector.streams.iter().position(|s| s.name.is(name)) {
        return Ok(at);
    }
    let name: &Bound<'_, PyString> =
        name.cast().map_err(|_| PyTypeError::new_err("emit(stream=…) takes the name of a stream"))?;
    let text = name.to_str()?;
    for (at, stream) in collector.streams.iter().enumerate() {
        if stream.name.bind(py).to_str()? == text {
            return Ok(at);
        }
    }
    let known: Vec<String> =
        collector.streams.iter().map(|s| format!("{:?}", s.name.bind(py).to_string_lossy())).collect();
    let component = &collector.shared.plan.components[collector.component.index()].name;
    Err(errors::emit_error(
        py,
        format!(
            "emit() of {component:?} task {}: no stream {text:?}; it declares {}",
            collector.task,
            known.join(", ")
        ),
    ))
}

/// The payload of `values` for stream number `at`.
#[inline(always)]
fn payload_of(
    py: Python<'_>,
    collector: &mut Collector,
    at: usize,
    values: &[*mut ffi::PyObject],
) -> PyResult<(Payload, u32)> {
    let width = collector.streams[at].width;
    if values.len() != width {
        return Err(wrong_count(py, collector, at, values.len()));
    }
    // SAFETY: the values are borrowed from the caller of emit, alive for the call; the new tuple takes references of its own.
    unsafe {
        if width == 1 {
            let value = Bound::from_borrowed_ptr(py, values[0]);
            let bytes = size_of_value(&value);
            if !collector.warned_single_list {
                hint_single_list(py, collector, &value);
            }
            return Ok((Payload(value.unbind()), bytes));
        }
        let tuple = ffi::PyTuple_New(width as ffi::Py_ssize_t);
        if tuple.is_null() {
            return Err(PyErr::fetch(py));
        }
        let mut bytes = 40;
        for (index, value) in values.iter().enumerate() {
            bytes += 8 + size_of_value(&Bound::from_borrowed_ptr(py, *value));
            ffi::Py_INCREF(*value);
            ffi::PyTuple_SET_ITEM(tuple, index as ffi::Py_ssize_t, *value);
        }
        Ok((Payload(Bound::from_owned_ptr(py, tuple).unbind()), bytes))
    }
}

#[inline]
fn hint_single_list(py: Python<'_>, collector: &mut Collector, value: &Bound<'_, PyAny>) {
    // SAFETY: a live object; only its type pointer is compared.
    let kind = unsafe { ffi::Py_TYPE(value.as_ptr()) };
    if kind != &raw mut ffi::PyList_Type && kind != &raw mut ffi::PyTuple_Type {
        return;
    }
    collector.warned_single_list = true;
    let component = &collector.shared.plan.components[collector.component.index()].name;
    let text = format!(
        "{component:?} task {}: emit() of one {} on a stream of one field; coming from streamparse? write emit(*values)",
        collector.task,
        value.get_type().name().map(|n| n.to_string()).unwrap_or_default()
    );
    collector.shared.log(py, 30, &text);
}

#[cold]
fn wrong_count(py: Python<'_>, collector: &Collector, at: usize, got: usize) -> PyErr {
    let stream = &collector.streams[at];
    let fields = collector.shared.names[stream.id.index()].fields.bind(py);
    let fields: Vec<String> = fields.iter().map(|f| f.to_string()).collect();
    collector.error(
        py,
        at,
        &format!(
            "expected {} value{} ({}), got {got}",
            stream.width,
            if stream.width == 1 { "" } else { "s" },
            fields.join(", ")
        ),
    )
}

#[inline(always)]
fn emit_plain(
    py: Python<'_>,
    collector: &mut Collector,
    values: &[*mut ffi::PyObject],
    is_spout: bool,
) -> PyResult<()> {
    let (payload, bytes) = payload_of(py, collector, 0, values)?;
    if is_spout {
        return collector.emit(py, 0, payload, bytes, How::Untracked, None);
    }
    match collector.emit_straight(py, payload, bytes) {
        None => Ok(()),
        Some(payload) => collector.emit(py, 0, payload, bytes, How::Current, None),
    }
}

fn emit_with(
    py: Python<'_>,
    collector: &mut Collector,
    values: &[*mut ffi::PyObject],
    keywords: Keywords<'_>,
    is_spout: bool,
) -> PyResult<()> {
    let at = match &keywords.stream {
        None => 0,
        Some(name) => stream_index(py, collector, name)?,
    };
    let (payload, bytes) = payload_of(py, collector, at, values)?;
    if let Some(anchors) = &keywords.anchors
        && !anchors.is_none() {
            let anchors = anchors_of(py, collector, anchors)?;
            return collector.emit(py, at, payload, bytes, How::To(&anchors), keywords.task);
        }
    let how = match (keywords.id, keywords.position) {
        (Some(id), position) => {
            if let Some(position) = &position {
                check_position(py, collector, at, position)?;
            }
            How::Root { id: id.unbind(), position: position.map(Bound::unbind) }
        }
        (None, Some(_)) => {
            return Err(collector.error(py, at, "position= without id=: only a tracked tuple moves the position"));
        }
        (None, None) if is_spout => How::Untracked,
        (None, None) => How::Current,
    };
    collector.emit(py, at, payload, bytes, how, keywords.task)
}

fn check_position(py: Python<'_>, collector: &mut Collector, at: usize, position: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Some(last) = &collector.last_position
        && !last.bind(py).lt(position)? {
            let text = format!(
                "positions increase per task: {} does not come after {}",
                position.repr()?,
                last.bind(py).repr()?
            );
            return Err(collector.error(py, at, &text));
        }
    collector.last_position = Some(position.clone().unbind());
    Ok(())
}

fn anchors_of(py: Python<'_>, collector: &Collector, anchors: &Bound<'_, PyAny>) -> PyResult<Vec<AnchorRef>> {
    let mut found = Vec::new();
    let mut add = |anchor: &Bound<'_, PyAny>| -> PyResult<()> {
        let tup = anchor.cast::<Tuple>().map_err(|_| {
            PyTypeError::new_err(format!(
                "emit(anchors=…) takes Tuples that process() received; got {}",
                anchor.get_type().name().map(|n| n.to_string()).unwrap_or_default()
            ))
        })?;
        let anchor = match &tup.get().hold {
            Hold::Held { task, key, .. } if *task == collector.task => AnchorRef::Held(*key),
            Hold::Current { task, serial } if *task == collector.task && *serial == collector.serial => {
                AnchorRef::Current
            }
            Hold::Current { task, .. } if *task == collector.task => {
                return Err(errors::emit_error(
                    py,
                    format!(
                        "emit() of task {}: the anchor {} was acked when its process() ended; set auto_ack = False to hold tuples",
                        collector.task,
                        tup.repr()?
                    ),
                ));
            }
            _ => {
                return Err(errors::emit_error(
                    py,
                    format!(
                        "emit() of task {}: the anchor {} was not received by this task",
                        collector.task,
                        tup.repr()?
                    ),
                ));
            }
        };
        if !found.contains(&anchor) {
            found.push(anchor);
        }
        Ok(())
    };
    if anchors.is_instance_of::<Tuple>() {
        add(anchors)?;
    } else {
        for anchor in anchors.try_iter()? {
            add(&anchor?)?;
        }
    }
    Ok(found)
}

/// Emits what a generator yielded: a value, a sequence of values, or `to(…)`.
#[inline]
pub fn emit_yielded(py: Python<'_>, collector: &mut Collector, value: Bound<'_, PyAny>, how: How<'_>) -> PyResult<()> {
    if let Ok(to) = value.cast_exact::<crate::values::To>() {
        let to = to.get();
        let at = stream_index(py, collector, to.stream.bind(py).as_any())?;
        let values = to.values.bind(py);
        let pointers: Vec<*mut ffi::PyObject> = values.iter_borrowed().map(pyo3::Borrowed::as_ptr).collect();
        let (payload, bytes) = payload_of(py, collector, at, &pointers)?;
        return collector.emit(py, at, payload, bytes, how, None);
    }
    let width = collector.streams.first().map_or(0, |s| s.width);
    if width == 1 {
        let bytes = size_of_value(&value);
        let mut payload = Payload(value.unbind());
        if matches!(how, How::Current) {
            match collector.emit_straight(py, payload, bytes) {
                None => return Ok(()),
                Some(rest) => payload = rest,
            }
        }
        return collector.emit(py, 0, payload, bytes, how, None);
    }
    let is_sequence = value.is_instance_of::<PyTuple>() || value.is_instance_of::<PyList>();
    if !is_sequence && (value.is_instance_of::<PyString>() || value.try_iter().is_err()) {
        let text = format!(
            "yielded {}, but the stream has {width} fields: yield a tuple of {width} values",
            value.get_type().name()?
        );
        return Err(collector.error(py, 0, &text));
    }
    let values = match value.cast_into_exact::<PyTuple>() {
        Ok(tuple) => tuple,
        Err(error) => py.get_type::<PyTuple>().call1((error.into_inner(),))?.cast_into::<PyTuple>()?,
    };
    if values.len() != width {
        return Err(wrong_count(py, collector, 0, values.len()));
    }
    let bytes = 40 + values.iter_borrowed().map(|v| 8 + size_of_value(&v)).sum::<u32>();
    collector.emit(py, 0, Payload(values.into_any().unbind()), bytes, how, None)
}

/// # Safety
/// Called by the interpreter, attached, as a method of `SpoutBase` (`IS_SPOUT`) or `BoltBase`: `this` is an instance of it, `args`
/// has `nargs` positional and then the keyword arguments named by `kwnames`.
unsafe extern "C" fn emit<const IS_SPOUT: bool>(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: see above.
    let py = unsafe { Python::assume_attached() };
    let result = catch_unwind(AssertUnwindSafe(|| -> PyResult<()> {
        // SAFETY: the descriptor checks the type of `this`; `args` is as long as the call convention says.
        let (link, values) = unsafe {
            let this = Borrowed::from_ptr(py, this);
            let link = if IS_SPOUT {
                &(*std::ptr::from_ref(this.cast_unchecked::<SpoutBase>().get())).link
            } else {
                &(*std::ptr::from_ref(this.cast_unchecked::<BoltBase>().get())).link
            };
            let values: &[*mut ffi::PyObject] =
                if nargs == 0 { &[] } else { std::slice::from_raw_parts(args, nargs as usize) };
            (link, values)
        };
        let Some(cell) = link.cell() else {
            // SAFETY: as above.
            return unsafe { emit_to_sink(py, link, values, args.add(nargs as usize), kwnames, IS_SPOUT) };
        };
        let mut collector = cell.enter(py, "emit()")?;
        if kwnames.is_null() {
            return emit_plain(py, &mut collector, values, IS_SPOUT);
        }
        // SAFETY: `kwnames` is a tuple of as many strings as there are values behind the positional ones.
        let keywords = unsafe {
            let names = Bound::from_borrowed_ptr(py, kwnames).cast_into_unchecked::<PyTuple>();
            let count = names.len();
            Keywords::parse(&names, std::slice::from_raw_parts(args.add(nargs as usize), count), IS_SPOUT)?
        };
        emit_with(py, &mut collector, values, keywords, IS_SPOUT)
    }));
    let error = match result {
        Ok(Ok(())) => {
            // SAFETY: attached; a new reference to None is what the interpreter expects.
            return unsafe {
                let none = ffi::Py_None();
                ffi::Py_INCREF(none);
                none
            };
        }
        Ok(Err(error)) => error,
        Err(panic) => errors::panicked("emit()", panic.as_ref()),
    };
    error.restore(py);
    std::ptr::null_mut()
}

/// # Safety
/// As for [`emit`]; `rest` points at the keyword arguments.
unsafe fn emit_to_sink(
    py: Python<'_>,
    link: &Link,
    values: &[*mut ffi::PyObject],
    rest: *const *mut ffi::PyObject,
    kwnames: *mut ffi::PyObject,
    is_spout: bool,
) -> PyResult<()> {
    let Some(sink) = link.sink(py) else {
        return Err(unattached(py, "emit()", if is_spout { "open()" } else { "prepare()" }));
    };
    // SAFETY: borrowed from the caller.
    let positional: Vec<Bound<'_, PyAny>> =
        values.iter().map(|value| unsafe { Bound::from_borrowed_ptr(py, *value) }).collect();
    let keywords = PyDict::new(py);
    if !kwnames.is_null() {
        // SAFETY: as above.
        let names = unsafe { Bound::from_borrowed_ptr(py, kwnames).cast_into_unchecked::<PyTuple>() };
        for (at, name) in names.iter().enumerate() {
            // SAFETY: as above.
            keywords.set_item(name, unsafe { Bound::from_borrowed_ptr(py, *rest.add(at)) })?;
        }
    }
    sink.bind(py).getattr("emit")?.call(PyTuple::new(py, positional)?, Some(&keywords)).map(drop)
}

const EMIT_DOC: &CStr = c"emit($self, /, *values, stream='default', **options)\n--\n\nEmits one tuple; returns None. Blocks while a target's queue is full.";

struct Def(ffi::PyMethodDef);
// SAFETY: a method definition is read-only data.
unsafe impl Sync for Def {}

static SPOUT_EMIT: Def = def(emit::<true>);
static BOLT_EMIT: Def = def(emit::<false>);

const fn def(function: ffi::PyCFunctionFastWithKeywords) -> Def {
    Def(ffi::PyMethodDef {
        ml_name: c"emit".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: EMIT_DOC.as_ptr(),
    })
}

/// Puts `emit` on both base classes; called once when the module is made.
pub fn install(py: Python<'_>) -> PyResult<()> {
    for (class, def) in [(py.get_type::<SpoutBase>(), &SPOUT_EMIT), (py.get_type::<BoltBase>(), &BOLT_EMIT)] {
        // SAFETY: the definition is static, the type is alive; a null result means that an exception is set.
        let descriptor = unsafe {
            let descriptor = ffi::PyDescr_NewMethod(class.as_type_ptr(), (&raw const def.0).cast_mut());
            Bound::from_owned_ptr_or_err(py, descriptor)?
        };
        class.setattr("emit", descriptor)?;
    }
    Ok(())
}
