//! The codec for Python code: dead letters, positions, checked mode and tests. `python/rainband/codec.py` has what users call.

use bytes::Bytes;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use super::blob::{Blob, Part, View};
use super::{Pickle, Refusal, decode, encode_with, plan};

fn choice(pickle: bool) -> Pickle {
    if pickle { Pickle::Allowed } else { Pickle::Refused }
}

/// The bytes of a value, everything in one piece.
///
/// Raises `CodecError` if it does not travel.
#[pyfunction]
#[pyo3(signature = (value, /, *, pickle=false))]
pub fn _encode<'py>(value: &Bound<'py, PyAny>, pickle: bool) -> PyResult<Bound<'py, PyBytes>> {
    let mut out = Vec::new();
    encode_with(value, &mut out, None, choice(pickle)).map_err(|refusal| refusal.into_error(value.py()))?;
    Ok(PyBytes::new(value.py(), &out))
}

/// The value of bytes, which nothing may follow. `data` is any object with the buffer protocol.
///
/// Raises `CodecError` if they are not what `_encode` gives.
#[pyfunction]
#[pyo3(signature = (data, /, *, pickle=false))]
pub fn _decode<'py>(data: &Bound<'py, PyAny>, pickle: bool) -> PyResult<Bound<'py, PyAny>> {
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        return decode(data.py(), bytes.as_bytes(), &[], choice(pickle));
    }
    // Other memory might change while a user's `decode` runs.
    let copy = View::of(data, ffi::PyBUF_SIMPLE)?.as_slice().to_vec();
    decode(data.py(), &copy, &[], choice(pickle))
}

/// The bytes of a value and beside them its large buffers, as they go to another worker.
#[pyfunction]
#[pyo3(signature = (value, /, *, pickle=false))]
pub fn _encode_parts<'py>(value: &Bound<'py, PyAny>, pickle: bool) -> PyResult<Bound<'py, PyTuple>> {
    let py = value.py();
    let (mut out, mut blobs) = (Vec::new(), Vec::new());
    let done = encode_with(value, &mut out, Some(&mut blobs), choice(pickle));
    done.map_err(|refusal: Refusal| refusal.into_error(py))?;
    let parts = PyList::empty(py);
    for blob in blobs {
        parts.append(Bound::new(py, Part(blob))?)?;
    }
    PyTuple::new(py, [PyBytes::new(py, &out).into_any(), parts.into_any()])
}

/// The value of what `_encode_parts` gave; `parts` may also be bytes.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "arguments of Python are owned")]
#[pyo3(signature = (data, parts, /, *, pickle=false))]
pub fn _decode_parts<'py>(
    data: &Bound<'py, PyBytes>,
    parts: Vec<Bound<'py, PyAny>>,
    pickle: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let blobs = parts.iter().map(blob_of).collect::<PyResult<Vec<Bytes>>>()?;
    decode(data.py(), data.as_bytes(), &blobs, choice(pickle))
}

fn blob_of(part: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(part) = part.cast_exact::<Part>() {
        return Ok(part.get().0.clone());
    }
    let bytes = part.cast_exact::<PyBytes>()?;
    let (start, length) = (bytes.as_bytes().as_ptr(), bytes.as_bytes().len());
    // SAFETY: the memory of a bytes object does not change or move while it lives.
    Ok(unsafe { Blob::new(start, length, part.clone().unbind()) }.into())
}

/// A class was registered: what was known of classes may be wrong now.
#[pyfunction]
pub fn _forget_types(py: Python<'_>) {
    plan::forget(py);
}
