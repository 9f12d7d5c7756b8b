//! The one place that pickles: values that the codec refuses, on streams for which the user asked for it.
//!
//! Whoever can write to such a stream can run code where it is read. Neither direction happens unless its caller allows it.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Protocol 5, the highest of every Python that rainband runs on.
const PROTOCOL: u8 = 5;

pub fn dumps<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let pickled = value.py().import("pickle")?.call_method1("dumps", (value, PROTOCOL))?;
    Ok(pickled.cast_into::<PyBytes>()?)
}

pub fn loads<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    py.import("pickle")?.call_method1("loads", (PyBytes::new(py, bytes),))
}
