//! Small classes that users hold in their hands: `Tuple`, `To`, `Verdict`, `Failure`.

use std::cell::UnsafeCell;
use std::fmt::Write;
use std::sync::Arc;

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyIndexError, PyKeyError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString, PyTuple};
use rainband_core::ids::TaskId;

use crate::codec::Pickle;
use crate::held::HeldKey;
use crate::payload::Payload;
use crate::shared::Shared;

fn internal(error: std::fmt::Error) -> PyErr {
    crate::errors::internal(error.to_string())
}

/// The names of a stream, shared by all its tuples.
#[derive(Debug)]
pub struct StreamNames {
    pub component: Py<PyString>,
    pub stream: Py<PyString>,
    pub fields: Py<PyTuple>,
    pub width: usize,
    /// Whether values that the codec refuses travel as pickles.
    pub pickle: Pickle,
}

/// How the engine finds what is owed for a tuple.
pub enum Hold {
    /// Made by a test harness, or over.
    None,
    /// The tuple that the task works on now, acked when the call ends; worth nothing after it.
    Current { task: TaskId, serial: u64 },
    /// Held until acked or failed.
    Held { task: TaskId, key: HeldKey, shared: Arc<Shared> },
}

/// One received tuple: values by position (`tup[0]`), by field (`tup["word"]`), by unpacking. Immutable.
///
/// >>> from rainband import Tuple
/// >>> tup = Tuple(("a", 1), ("word", "count"))
/// >>> tup[0], tup["count"], len(tup), list(tup)
/// ('a', 1, 2, ['a', 1])
#[pyclass(frozen, weakref, module = "rainband._core")]
pub struct Tuple(UnsafeCell<TupleData>);

/// What a `Tuple` is made of.
pub struct TupleData {
    pub payload: Payload,
    pub names: Arc<StreamNames>,
    pub from: u32,
    pub attempt: u32,
    pub hold: Hold,
}

// SAFETY: the data is written by `Tuple::fill` and `Tuple::empty` alone, while nobody else has a reference to the object.
unsafe impl Sync for Tuple {}

impl std::ops::Deref for Tuple {
    type Target = TupleData;

    #[inline]
    fn deref(&self) -> &TupleData {
        // SAFETY: as above: nobody writes while there is another reference than that of the writer.
        unsafe { &*self.0.get() }
    }
}

#[pymethods]
impl Tuple {
    #[new]
    #[pyo3(signature = (values, fields, component="", stream="default", task=0, attempt=1))]
    fn new(
        py: Python<'_>,
        values: &Bound<'_, PyAny>,
        fields: &Bound<'_, PyAny>,
        component: &str,
        stream: &str,
        task: u32,
        attempt: u32,
    ) -> PyResult<Self> {
        let as_tuple = |value: &Bound<'_, PyAny>| -> PyResult<Py<PyTuple>> {
            Ok(py.get_type::<PyTuple>().call1((value,))?.cast_into::<PyTuple>()?.unbind())
        };
        let (values, fields) = (as_tuple(values)?, as_tuple(fields)?);
        let width = fields.bind(py).len();
        let got = values.bind(py).len();
        if got != width {
            return Err(PyValueError::new_err(format!("a tuple of {width} fields takes {width} values, got {got}")));
        }
        let payload = if width == 1 { values.bind(py).get_item(0)?.unbind() } else { values.into_any() };
        Ok(Self::of(TupleData {
            payload: Payload(payload),
            names: Arc::new(StreamNames {
                component: PyString::new(py, component).unbind(),
                stream: PyString::new(py, stream).unbind(),
                fields,
                width,
                pickle: Pickle::Refused,
            }),
            from: task,
            attempt,
            hold: Hold::None,
        }))
    }

    /// The values, as a tuple.
    #[getter]
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.payload.to_tuple(py, self.names.width)
    }

    /// The names of the fields, as a tuple.
    #[getter]
    fn fields(&self, py: Python<'_>) -> Py<PyTuple> {
        self.names.fields.clone_ref(py)
    }

    /// The name of the component that emitted it.
    #[getter]
    fn component(&self, py: Python<'_>) -> Py<PyString> {
        self.names.component.clone_ref(py)
    }

    /// The name of the stream it was emitted on.
    #[getter]
    fn stream(&self, py: Python<'_>) -> Py<PyString> {
        self.names.stream.clone_ref(py)
    }

    /// The id of the task that emitted it.
    #[getter]
    fn task(&self) -> u32 {
        self.from
    }

    /// Which attempt at its root this is, from 1; 0 if it is untracked.
    #[getter]
    fn attempt(&self) -> u32 {
        self.attempt
    }

    fn __len__(&self) -> usize {
        self.names.width
    }

    fn __getitem__<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let width = self.names.width as isize;
        if let Ok(at) = key.cast_exact::<PyInt>()
            && let Ok(at) = at.extract::<isize>()
            && (0..width).contains(&at)
        {
            return self.value(py, at as usize);
        }
        if let Ok(name) = key.cast::<PyString>() {
            for (at, field) in self.names.fields.bind(py).iter().enumerate() {
                if field.is(name) || field.eq(name)? {
                    return self.value(py, at);
                }
            }
            let fields = self.names.fields.bind(py).repr()?;
            return Err(PyKeyError::new_err(format!("no field {}; the fields are {fields}", name.repr()?)));
        }
        if let Ok(slice) = key.cast::<pyo3::types::PySlice>() {
            return self.values(py)?.as_any().get_item(slice);
        }
        let Ok(at) = key.extract::<isize>() else {
            return Err(PyTypeError::new_err("a value is found by position or by the name of its field"));
        };
        let index = if at < 0 { at + width } else { at };
        if index < 0 || index >= width {
            return Err(PyIndexError::new_err(format!("position {at} of a tuple with {width} values")));
        }
        self.value(py, index as usize)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyIterator>> {
        self.values(py)?.try_iter()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut text = String::from("Tuple(");
        for (at, (field, value)) in self.names.fields.bind(py).iter().zip(self.values(py)?.iter()).enumerate() {
            if at > 0 {
                text.push_str(", ");
            }
            write!(text, "{field}={}", value.repr()?).map_err(internal)?;
        }
        let from = self.names.component.bind(py);
        if !from.is_empty()? {
            write!(text, "; from {from}.{} task {}", self.names.stream.bind(py), self.from).map_err(internal)?;
        }
        text.push(')');
        Ok(text)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.payload.0)
    }
}

impl Tuple {
    pub fn of(data: TupleData) -> Self {
        Self(UnsafeCell::new(data))
    }

    /// Lets go of the values of a tuple that user code has not kept. Returns whether that is so: then the object can be filled
    /// again, which is much less work than to make one.
    #[inline]
    pub fn empty(tuple: &Bound<'_, Self>) -> bool {
        let object = tuple.as_ptr();
        // SAFETY: a live object of a class with a list of weak references; with the interpreter held and one reference, ours,
        // nobody reads the data while it is changed.
        unsafe {
            let weak = object.byte_offset((*ffi::Py_TYPE(object)).tp_weaklistoffset).cast::<*mut ffi::PyObject>();
            if ffi::Py_REFCNT(object) != 1 || !(*weak).is_null() {
                return false;
            }
            let data = &mut *tuple.get().0.get();
            let old = std::mem::replace(&mut data.payload.0, tuple.py().None());
            drop(old.into_bound(tuple.py()));
        }
        true
    }

    /// Makes a tuple that was emptied, and that only the caller has, the next one.
    ///
    /// # Safety
    /// [`Tuple::empty`] returned `true`, and the object was not given away since.
    #[inline]
    pub unsafe fn fill(tuple: &Bound<'_, Self>, payload: Payload, names: &Arc<StreamNames>, rest: (u32, u32, Hold)) {
        // SAFETY: see above.
        let data = unsafe { &mut *tuple.get().0.get() };
        let none = std::mem::replace(&mut data.payload, payload);
        drop(none.0.into_bound(tuple.py()));
        if !Arc::ptr_eq(&data.names, names) {
            data.names = Arc::clone(names);
        }
        (data.from, data.attempt, data.hold) = rest;
    }

    fn value<'py>(&self, py: Python<'py>, at: usize) -> PyResult<Bound<'py, PyAny>> {
        let inner = self.payload.inner(py);
        if self.names.width == 1 { Ok(inner) } else { inner.get_item(at) }
    }
}

impl Drop for Tuple {
    /// A held tuple that nobody can ack any more fails at once.
    fn drop(&mut self) {
        if let Hold::Held { task, key, shared } = std::mem::replace(&mut self.0.get_mut().hold, Hold::None) {
            crate::ack::forget(&shared, task, key);
        }
    }
}

/// What `yield to("late", word, at)` yields: values for another stream than `default`.
#[pyclass(frozen, get_all, module = "rainband._core")]
pub struct To {
    pub stream: Py<PyString>,
    pub values: Py<PyTuple>,
}

#[pymethods]
impl To {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut text = format!("to({}", self.stream.bind(py).repr()?);
        for value in self.values.bind(py).iter() {
            write!(text, ", {}", value.repr()?).map_err(internal)?;
        }
        text.push(')');
        Ok(text)
    }
}

/// Sends what is yielded to a named stream: `yield to("late", word, at)`.
///
/// Returns an object that only a generator of a component should yield.
///
/// >>> from rainband import to
/// >>> to("late", "a", 3)
/// to('late', 'a', 3)
#[pyfunction]
#[pyo3(signature = (stream, *values))]
pub fn to(stream: Py<PyString>, values: Py<PyTuple>) -> To {
    To { stream, values }
}

/// What `Spout.fail` may return: `retry(after_s=…)`, `DEAD_LETTER`, `DROP`.
#[pyclass(frozen, get_all, eq, module = "rainband._core")]
#[derive(PartialEq)]
pub struct Verdict {
    /// "retry", "`dead_letter`" or "drop".
    pub kind: String,
    /// Seconds until the next attempt; `None` for the default backoff.
    pub after_s: Option<f64>,
}

#[pymethods]
impl Verdict {
    #[new]
    #[pyo3(signature = (kind, after_s=None))]
    fn new(kind: String, after_s: Option<f64>) -> PyResult<Self> {
        if !["retry", "dead_letter", "drop"].contains(&kind.as_str()) {
            return Err(PyValueError::new_err(format!(
                "a verdict is retry(after_s=…), DEAD_LETTER or DROP; got {kind:?}"
            )));
        }
        if after_s.is_some_and(|s| !s.is_finite() || s < 0.0) {
            return Err(PyValueError::new_err(format!(
                "retry(after_s=…) takes seconds, 0 or more; got {}",
                after_s.unwrap_or_default()
            )));
        }
        Ok(Self { kind, after_s })
    }

    fn __repr__(&self) -> String {
        match (self.kind.as_str(), self.after_s) {
            ("drop", _) => "DROP".to_string(),
            ("dead_letter", _) => "DEAD_LETTER".to_string(),
            (_, Some(after)) => format!("retry(after_s={after})"),
            _ => "retry()".to_string(),
        }
    }
}

/// Why an attempt failed, as `Spout.fail` and `Spout.dead` receive it.
///
/// >>> from rainband import Failure
/// >>> Failure(reason="error", component="count", task=7, attempt=2, error="KeyError('word')")
/// Failure(reason='error', component='count', task=7, attempt=2, age_s=0.0, error="KeyError('word')")
#[pyclass(frozen, get_all, module = "rainband._core")]
pub struct Failure {
    /// "error", "timeout", "worker lost", "rejected", "forgotten", …
    pub reason: String,
    /// The component that had the tuple in hand.
    pub component: String,
    /// Its task.
    pub task: u32,
    /// Which attempt failed, from 1.
    pub attempt: u32,
    /// Seconds since the root was first emitted.
    pub age_s: f64,
    /// The text of the exception, or the reason that user code gave.
    pub error: String,
}

#[pymethods]
impl Failure {
    #[new]
    #[pyo3(signature = (*, reason, component=String::new(), task=0, attempt=1, age_s=0.0, error=String::new()))]
    fn new(reason: String, component: String, task: u32, attempt: u32, age_s: f64, error: String) -> Self {
        Self { reason, component, task, attempt, age_s, error }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let quoted = |text: &str| -> PyResult<String> { Ok(PyString::new(py, text).repr()?.to_string()) };
        Ok(format!(
            "Failure(reason={}, component={}, task={}, attempt={}, age_s={:?}, error={})",
            quoted(&self.reason)?,
            quoted(&self.component)?,
            self.task,
            self.attempt,
            self.age_s,
            quoted(&self.error)?
        ))
    }
}
