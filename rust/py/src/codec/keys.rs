//! Texts that are keys of dicts: records have the same ones again and again, so the last of each are kept with their hash.
//!
//! One table for the process, lent to one reader at a time. The lock is only ever tried: who does not get it makes its texts anew,
//! so it may be held while Python is called.

use std::hash::Hasher;
use std::sync::{Mutex, MutexGuard};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;
use rustc_hash::FxHasher;

/// Places, a power of 2. A text that falls into a place takes it from the one that was there.
const PLACES: usize = 1024;

type Places = Vec<Option<Py<PyString>>>;

/// The table while one reader has it.
pub struct Keys(MutexGuard<'static, Places>);

impl Keys {
    /// The table, unless another reader has it.
    pub fn borrow(py: Python<'_>) -> Option<Self> {
        static KEYS: PyOnceLock<Mutex<Places>> = PyOnceLock::new();
        let mut places = KEYS.get_or_init(py, Mutex::default).try_lock().ok()?;
        if places.is_empty() {
            places.resize_with(PLACES, || None);
        }
        Some(Self(places))
    }

    /// The text of these ASCII characters; `make` makes it if it is not kept.
    #[inline]
    pub fn text<'py, E>(
        &mut self,
        py: Python<'py>,
        ascii: &[u8],
        make: impl FnOnce() -> Result<Bound<'py, PyAny>, E>,
    ) -> Result<Bound<'py, PyAny>, E> {
        let mut hasher = FxHasher::default();
        hasher.write(ascii);
        let place = &mut self.0[hasher.finish() as usize & (PLACES - 1)];
        if let Some(kept) = place
            && is_text(kept, ascii)
        {
            return Ok(kept.bind(py).clone().into_any());
        }
        let made = make()?;
        if let Ok(text) = made.cast_exact::<PyString>() {
            *place = Some(text.clone().unbind());
        }
        Ok(made)
    }
}

/// Whether a text that was made of ASCII is this one.
#[inline]
fn is_text(kept: &Py<PyString>, ascii: &[u8]) -> bool {
    // SAFETY: a live str that was made of ASCII only, so one byte a character follows its header.
    unsafe {
        let length = (*kept.as_ptr().cast::<ffi::PyASCIIObject>()).length as usize;
        length == ascii.len()
            && std::slice::from_raw_parts(ffi::PyUnicode_DATA(kept.as_ptr()).cast::<u8>(), length) == ascii
    }
}
