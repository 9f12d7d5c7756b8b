//! Large buffers that travel beside the bytes of a value, without being copied.
//!
//! On its way out a [`Blob`] holds the Python object whose memory it shows; on its way in a [`Part`] shows received memory to
//! Python, read-only. Both ends are `bytes::Bytes` between, so that the core and the link need no Python. What is in a blob must
//! not change before it is sent, which holds for all values of tuples.

use std::ffi::c_int;

use bytes::Bytes;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

/// From this size on bytes and arrays travel beside.
pub const BLOB_BYTES: usize = 64 * 1024;

/// Memory of a Python object that is kept alive.
///
/// It may be dropped on any thread: detached, `PyO3` puts the reference into its pool, which whoever attaches next empties.
pub struct Blob {
    start: *const u8,
    length: usize,
    _owner: Py<PyAny>,
}

// SAFETY: the memory is only read, does not move while its owner lives, and `Py` may be dropped anywhere.
unsafe impl Send for Blob {}

impl Blob {
    /// # Safety
    ///
    /// `length` bytes from `start` stay readable and in place as long as `owner` lives.
    pub unsafe fn new(start: *const u8, length: usize, owner: Py<PyAny>) -> Self {
        Self { start, length, _owner: owner }
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the promise of `new`.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

impl From<Blob> for Bytes {
    fn from(blob: Blob) -> Self {
        Bytes::from_owner(blob)
    }
}

/// Received memory as Python sees it: an object with the buffer protocol, read-only.
#[pyclass(frozen, module = "rainband._core", name = "_Part")]
pub struct Part(pub Bytes);

#[pymethods]
impl Part {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    #[expect(clippy::needless_pass_by_value, reason = "the form that pyo3 calls")]
    unsafe fn __getbuffer__(this: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view was given"));
        }
        let bytes = &this.get().0;
        // SAFETY: the view is the caller's to fill; it takes a reference to `this`, which keeps the memory alive. Asked for a
        // writable buffer, the call refuses.
        let filled = unsafe {
            let start = bytes.as_ptr().cast_mut().cast();
            ffi::PyBuffer_FillInfo(view, this.as_ptr(), start, bytes.len() as ffi::Py_ssize_t, 1, flags)
        };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(this.py())) }
    }
}

/// Memory that a Python object shows through the buffer protocol, in one piece in order of C, for the time of a borrow.
pub struct View(Box<ffi::Py_buffer>);

impl View {
    /// `flags` as for `PyObject_GetBuffer`.
    pub fn of(object: &Bound<'_, PyAny>, flags: c_int) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: the view is ours, does not move (it is boxed) and is released by `drop` once it was filled.
        let got = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, flags) };
        if got == 0 { Ok(Self(view)) } else { Err(PyErr::fetch(object.py())) }
    }

    pub fn as_slice(&self) -> &[u8] {
        if self.0.len <= 0 || self.0.buf.is_null() {
            return &[];
        }
        // SAFETY: the exporter promises `len` bytes from `buf` until the view is released.
        unsafe { std::slice::from_raw_parts(self.0.buf.cast(), self.0.len as usize) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: filled by `of`, released once, and only used while attached: it never leaves the calls that make it.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.0) };
    }
}
