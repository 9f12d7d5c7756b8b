//! The call of `emit`, from Python's arguments to the collector: stage 1 as users see it. `emit` is a method descriptor with the
//! fast calling convention, found by a normal method lookup, because it is called for every tuple: a Python method around it would
//! cost as much as all the rest.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use rainband_core::ids::TaskId;

use crate::base::{BoltBase, Link, SpoutBase, unattached};
use crate::collector::{AnchorRef, Collector, How, Straight};
use crate::errors;
use crate::payload::{Payload, size_of_value, size_of_values};
use crate::values::{Hold, Tuple};

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
            if is_list_or_tuple(&value) && !collector.warned_single_list {
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

#[inline(always)]
fn is_list_or_tuple(value: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object; only its type pointer is compared.
    let kind = unsafe { ffi::Py_TYPE(value.as_ptr()) };
    kind == &raw mut ffi::PyList_Type || kind == &raw mut ffi::PyTuple_Type
}

#[cold]
fn hint_single_list(py: Python<'_>, collector: &mut Collector, value: &Bound<'_, PyAny>) {
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
        Straight::Sent => Ok(()),
        Straight::SentLast => collector.flush_emitted(py),
        Straight::Not(payload, ()) => collector.emit(py, 0, payload, bytes, How::Current, None),
    }
}

/// `emit(*values, id=…)` of a spout, the rule there.
#[inline(always)]
fn emit_root(
    py: Python<'_>,
    collector: &mut Collector,
    values: &[*mut ffi::PyObject],
    id: Bound<'_, PyAny>,
) -> PyResult<()> {
    let (payload, bytes) = payload_of(py, collector, 0, values)?;
    match collector.root_straight(py, payload, bytes, id.unbind())? {
        Straight::Sent => Ok(()),
        Straight::SentLast => collector.flush_emitted(py),
        Straight::Not(payload, id) => collector.emit(py, 0, payload, bytes, How::Root { id, position: None }, None),
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
        && !anchors.is_none()
    {
        let anchors = anchors_of(py, collector, anchors)?;
        return collector.emit(py, at, payload, bytes, How::To(&anchors), keywords.task);
    }
    let mut last_position = None;
    let how = match (keywords.id, keywords.position) {
        (Some(id), position) => {
            if let Some(position) = &position {
                check_position(py, collector, at, position)?;
                last_position = Some(position.clone().unbind());
            }
            How::Root { id: id.unbind(), position: position.map(Bound::unbind) }
        }
        (None, Some(_)) => {
            return Err(collector.error(py, at, "position= without id=: only a tracked tuple moves the position"));
        }
        (None, None) if is_spout => How::Untracked,
        (None, None) => How::Current,
    };
    collector.emit(py, at, payload, bytes, how, keywords.task)?;
    if last_position.is_some() {
        collector.last_position = last_position; // An emit that was refused leaves its position free.
    }
    Ok(())
}

fn check_position(py: Python<'_>, collector: &Collector, at: usize, position: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Some(last) = &collector.last_position
        && !last.bind(py).lt(position)?
    {
        let text =
            format!("positions increase per task: {} does not come after {}", position.repr()?, last.bind(py).repr()?);
        return Err(collector.error(py, at, &text));
    }
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
                Straight::Sent => return Ok(()),
                Straight::SentLast => return collector.flush_emitted(py),
                Straight::Not(rest, ()) => payload = rest,
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
    let bytes = size_of_values(&values);
    collector.emit(py, 0, Payload(values.into_any().unbind()), bytes, how, None)
}

/// The value of `id=` if it is the only keyword argument.
///
/// # Safety
/// `kwnames` is a tuple of strings, `rest` points at as many values.
#[inline(always)]
unsafe fn only_id(
    py: Python<'_>,
    kwnames: *mut ffi::PyObject,
    rest: *const *mut ffi::PyObject,
) -> Option<Bound<'_, PyAny>> {
    // SAFETY: see above. Names that were written in the source are interned; others take the long way.
    unsafe {
        let is_id = ffi::PyTuple_GET_SIZE(kwnames) == 1
            && ffi::PyTuple_GET_ITEM(kwnames, 0) == intern!(py, "id").as_ptr()
            && *rest != ffi::Py_None();
        is_id.then(|| Bound::from_borrowed_ptr(py, *rest))
    }
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
        if IS_SPOUT {
            // SAFETY: `kwnames` is a tuple of as many strings as there are values behind the positional ones.
            let only_id = unsafe { only_id(py, kwnames, args.add(nargs as usize)) };
            if let Some(id) = only_id {
                return emit_root(py, &mut collector, values, id);
            }
        }
        // SAFETY: as above.
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
