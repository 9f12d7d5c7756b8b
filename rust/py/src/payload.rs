//! What the core carries without looking into it: the values of one tuple.
//!
//! On a stream of one field the payload is the value itself, else an exact `tuple` of the values: no wrapper, no allocation of
//! ours, and fan-out is one more reference. In checked mode it is a [`Checked`] around that.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// The values of one tuple. Dropped only while attached.
#[derive(Debug)]
pub struct Payload(pub Py<PyAny>);

impl Payload {
    /// Another reference.
    #[inline]
    pub fn share(&self, py: Python<'_>) -> Self {
        Self(self.0.clone_ref(py))
    }

    /// The values as a tuple, for whoever does not care for speed.
    pub fn to_tuple<'py>(&self, py: Python<'py>, width: usize) -> PyResult<Bound<'py, PyTuple>> {
        let inner = self.inner(py);
        if width == 1 { PyTuple::new(py, [inner]) } else { Ok(inner.cast_into::<PyTuple>()?) }
    }

    /// Roughly the bytes of the values.
    pub fn bytes(&self, py: Python<'_>, width: usize) -> u32 {
        let inner = self.inner(py);
        match inner.cast::<PyTuple>() {
            Ok(values) if width != 1 => size_of_values(values),
            _ => size_of_value(&inner),
        }
    }

    /// Without the wrapper of checked mode.
    pub fn inner<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        match self.0.bind(py).cast_exact::<Checked>() {
            Ok(checked) => checked.get().values.bind(py).clone(),
            Err(_) => self.0.bind(py).clone(),
        }
    }
}

/// A payload with the token that the runtime gave when it was emitted (checked mode).
#[pyclass(frozen, module = "rainband._core")]
pub struct Checked {
    pub values: Py<PyAny>,
    pub token: Py<PyAny>,
}

/// Roughly how many bytes `object` holds: its own block, plus `nbytes` of arrays. Not what it refers to.
#[inline(always)]
pub fn size_of_value(object: &Bound<'_, PyAny>) -> u32 {
    let pointer = object.as_ptr();
    // SAFETY: `pointer` is a live object; the type is compared before type-specific fields are read.
    unsafe {
        if ffi::Py_TYPE(pointer) == &raw mut ffi::PyUnicode_Type {
            // Exact for ASCII, up to 4 times too low beyond it.
            let length = (*pointer.cast::<ffi::PyASCIIObject>()).length;
            return 49 + length.clamp(0, 0x3fff_ffff) as u32;
        }
    }
    size_of_other(object)
}

/// Roughly how many bytes a payload of several values holds.
pub fn size_of_values(values: &Bound<'_, PyTuple>) -> u32 {
    40 + values.iter_borrowed().map(|v| 8 + size_of_value(&v)).sum::<u32>()
}

fn size_of_other(object: &Bound<'_, PyAny>) -> u32 {
    let pointer = object.as_ptr();
    // SAFETY: as above.
    unsafe {
        let kind = ffi::Py_TYPE(pointer);
        if kind == &raw mut ffi::PyLong_Type || kind == &raw mut ffi::PyFloat_Type {
            return 28;
        }
        if kind == &raw mut ffi::PyBytes_Type {
            return 33 + ffi::PyBytes_Size(pointer).clamp(0, 0x3fff_ffff) as u32;
        }
        let mut bytes = (*kind).tp_basicsize.max(16) as u64;
        if kind == &raw mut ffi::PyTuple_Type {
            return bytes as u32 + 8 * ffi::PyTuple_Size(pointer).clamp(0, 0x0fff_ffff) as u32;
        }
        if kind == &raw mut ffi::PyList_Type {
            return bytes as u32 + 8 * ffi::PyList_Size(pointer).clamp(0, 0x0fff_ffff) as u32;
        }
        if kind == &raw mut ffi::PyDict_Type {
            return bytes as u32 + 100 * ffi::PyDict_Size(pointer).clamp(0, 0x00ff_ffff) as u32;
        }
        if kind == &raw mut ffi::PyByteArray_Type {
            return bytes as u32 + ffi::PyByteArray_Size(pointer).clamp(0, 0x3fff_ffff) as u32;
        }
        if kind == &raw mut ffi::PyBool_Type || pointer == ffi::Py_None() {
            return bytes as u32;
        }
        if let Ok(Some(nbytes)) = object.getattr_opt(pyo3::intern!(object.py(), "nbytes")) {
            bytes += nbytes.extract::<u64>().unwrap_or(0);
        }
        bytes.min(u64::from(u32::MAX)) as u32
    }
}
