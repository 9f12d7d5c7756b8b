//! Short texts that come again and again: keys of dicts, and values such as words or names. The last of each are kept with their
//! hash, so that a text that is here costs no object, and whoever looks it up in a dict finds the very same object there.
//!
//! Two tables for the process, of keys and of values, lent to one reader at a time, also for a batch of values. The lock is only ever
//! tried: who does not get it makes its texts anew, so it may be held while Python is called. Where values do not come again (ids) a table rests most of the
//! time: keeping what nobody asks for costs more than making it.

use std::hash::Hasher;
use std::sync::{Mutex, MutexGuard};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;
use rustc_hash::FxHasher;

/// Places, a power of 2. A text that falls into a place takes it from the one that was there.
const PLACES: usize = 1024;

/// After so many texts a table looks whether it was of use.
const LOOK_AFTER: u32 = 1024;
/// It was, if it had one in so many.
const USEFUL: u32 = 8;
/// Else it rests for so many.
const REST: u32 = 16 * LOOK_AFTER;

#[derive(Default)]
struct Table {
    places: Vec<Option<Py<PyString>>>,
    asked: u32,
    found: u32,
    rests_for: u32,
}

impl Table {
    /// Whether it is used for the next text.
    #[inline]
    fn is_awake(&mut self) -> bool {
        if self.rests_for > 0 {
            self.rests_for -= 1;
            return false;
        }
        self.asked += 1;
        if self.asked >= LOOK_AFTER {
            if self.found < LOOK_AFTER / USEFUL {
                self.rests_for = REST;
            }
            (self.asked, self.found) = (0, 0);
        }
        true
    }
}

/// The tables that a reader has borrowed: each when it comes to the first text for it.
#[derive(Default)]
pub struct Tables {
    pub keys: Option<Texts>,
    pub values: Option<Texts>,
}

/// A table while one reader has it.
pub struct Texts(MutexGuard<'static, Table>);

impl Texts {
    /// The table of keys, unless another reader has it.
    pub fn of_keys(py: Python<'_>) -> Option<Self> {
        static KEYS: PyOnceLock<Mutex<Table>> = PyOnceLock::new();
        Self::borrow(KEYS.get_or_init(py, Mutex::default))
    }

    /// The table of values, unless another reader has it.
    pub fn of_values(py: Python<'_>) -> Option<Self> {
        static VALUES: PyOnceLock<Mutex<Table>> = PyOnceLock::new();
        Self::borrow(VALUES.get_or_init(py, Mutex::default))
    }

    fn borrow(table: &'static Mutex<Table>) -> Option<Self> {
        let mut table = table.try_lock().ok()?;
        if table.places.is_empty() {
            table.places.resize_with(PLACES, || None);
        }
        Some(Self(table))
    }

    /// The text of these ASCII characters; `make` makes it if it is not kept.
    #[inline]
    pub fn text<'py, E>(
        &mut self,
        py: Python<'py>,
        ascii: &[u8],
        make: impl FnOnce() -> Result<Bound<'py, PyAny>, E>,
    ) -> Result<Bound<'py, PyAny>, E> {
        let table = &mut *self.0;
        if !table.is_awake() {
            return make();
        }
        let mut hasher = FxHasher::default();
        hasher.write(ascii);
        let place = &mut table.places[hasher.finish() as usize & (PLACES - 1)];
        if let Some(kept) = place
            && is_text(kept, ascii)
        {
            table.found += 1;
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
