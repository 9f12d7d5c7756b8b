//! The only place that turns errors of the core and of user code into Python's, and back into texts.

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

fn class<'py>(py: Python<'py>, cell: &'static PyOnceLock<Py<PyType>>, name: &str) -> PyResult<&'py Bound<'py, PyType>> {
    cell.import(py, "rainband.errors", name)
}

/// `rainband.errors.EmitError`.
pub fn emit_error(py: Python<'_>, text: String) -> PyErr {
    static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    raise(py, class(py, &CELL, "EmitError"), text)
}

/// `rainband.errors.KeyTypeError`.
pub fn key_type_error(py: Python<'_>, text: String) -> PyErr {
    static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    raise(py, class(py, &CELL, "KeyTypeError"), text)
}

/// `rainband.errors.CodecError`.
pub fn codec_error(py: Python<'_>, text: String) -> PyErr {
    static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    raise(py, class(py, &CELL, "CodecError"), text)
}

/// Whether it is a `CodecError`.
pub fn is_codec_error(py: Python<'_>, error: &PyErr) -> bool {
    static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    class(py, &CELL, "CodecError").is_ok_and(|class| error.is_instance(py, class))
}

/// `rainband.errors.RunError`.
pub fn run_error(py: Python<'_>, text: String) -> PyErr {
    static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    raise(py, class(py, &CELL, "RunError"), text)
}

fn raise(_py: Python<'_>, class: PyResult<&Bound<'_, PyType>>, text: String) -> PyErr {
    match class {
        Ok(class) => PyErr::from_type(class.clone(), text),
        Err(error) => error,
    }
}

/// Whether `error` is the user's `Reject`.
pub fn is_reject(py: Python<'_>, error: &PyErr) -> bool {
    static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    class(py, &CELL, "Reject").is_ok_and(|class| error.is_instance(py, class))
}

/// Whether it is an `EmitError`.
pub fn is_emit_error(py: Python<'_>, error: &PyErr) -> bool {
    static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    class(py, &CELL, "EmitError").is_ok_and(|class| error.is_instance(py, class))
}

/// The exception with its traceback, as Python code expects to find it.
pub fn value_of<'py>(py: Python<'py>, error: &PyErr) -> Bound<'py, PyAny> {
    let value = error.value(py);
    if let Some(traceback) = error.traceback(py) {
        // It is what `except … as error` would have set; an exception that refuses it is told without.
        let _ = value.setattr("__traceback__", traceback);
    }
    value.clone().into_any()
}

/// The text of an exception for reports: `KeyError('word')`.
pub fn text_of(py: Python<'_>, error: &PyErr) -> String {
    let value = error.value(py);
    match value.repr() {
        Ok(repr) => repr.to_string_lossy().chars().take(2000).collect(),
        Err(_) => "an exception whose repr() raises".to_string(),
    }
}

/// A panic in Rust code below a call from Python.
pub fn panicked(what: &str, payload: &(dyn std::any::Any + Send)) -> PyErr {
    let text = payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown".to_string());
    PyRuntimeError::new_err(format!("{what}: the engine panicked: {text}; this is a bug of rainband"))
}

/// A plan or an argument that the Python side should have refused before.
pub fn internal(text: String) -> PyErr {
    PyTypeError::new_err(text)
}
