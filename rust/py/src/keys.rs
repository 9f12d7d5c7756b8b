//! Python values to canonical key bytes (`rainband_core::key`), for the groupings by key and for users who want to know where
//! a key goes.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDate, PyDateTime, PyDelta, PyFloat, PyInt, PyString, PyTuple, PyType};
use rainband_core::key::{self, KeyBytes};

use crate::errors;

/// Why a value is no key.
pub enum KeyError {
    /// Its type has no canonical bytes, or it is NaN: the word for it.
    NotAKey(String),
    /// Reading it raised.
    Raised(PyErr),
}

impl From<PyErr> for KeyError {
    fn from(error: PyErr) -> Self {
        KeyError::Raised(error)
    }
}

/// Writes the canonical bytes of `value`. The types users have most come first.
#[inline]
pub fn write(value: &Bound<'_, PyAny>, out: &mut KeyBytes) -> Result<(), KeyError> {
    // SAFETY: a live object; only its type pointer is read.
    let kind = unsafe { ffi::Py_TYPE(value.as_ptr()) };
    if kind == &raw mut ffi::PyUnicode_Type {
        return write_str(value, out);
    }
    write_other(value, out)
}

#[inline]
fn write_str(value: &Bound<'_, PyAny>, out: &mut KeyBytes) -> Result<(), KeyError> {
    // SAFETY: the callers checked that it is a str.
    let text = unsafe { value.cast_unchecked::<PyString>() };
    if let Ok(text) = text.to_str() {
        out.str(text.as_bytes());
    } else {
        let bytes = value.call_method1("encode", ("utf-8", "surrogatepass"))?;
        out.str(bytes.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes());
    }
    Ok(())
}

fn write_other(value: &Bound<'_, PyAny>, out: &mut KeyBytes) -> Result<(), KeyError> {
    let py = value.py();
    if value.is_none() {
        out.none();
    } else if let Ok(int) = value.cast::<PyInt>() {
        write_int(int, out)?; // bool and IntEnum are ints and equal to them.
    } else if let Ok(float) = value.cast::<PyFloat>() {
        if !out.float(float.value()) {
            return Err(KeyError::NotAKey("nan, which equals nothing".to_string()));
        }
    } else if value.is_instance_of::<PyString>() {
        write_str(value, out)?; // StrEnum and other subclasses compare as their text.
    } else if let Ok(bytes) = value.cast::<PyBytes>() {
        out.bytes(bytes.as_bytes());
    } else if let Ok(tuple) = value.cast::<PyTuple>() {
        out.tuple(tuple.len() as u32);
        for element in tuple.iter() {
            write(&element, out)?;
        }
    } else if value.is_instance_of::<PyDateTime>() {
        write_datetime(value, out)?;
    } else if value.is_instance_of::<PyDate>() {
        out.date(value.call_method0("toordinal")?.extract()?);
    } else if value.is_instance_of::<PyDelta>() {
        out.timedelta(
            value.getattr("days")?.extract()?,
            value.getattr("seconds")?.extract()?,
            value.getattr("microseconds")?.extract()?,
        );
    } else if value.is_instance(uuid_class(py)?)? {
        let bytes = value.getattr("bytes")?;
        out.uuid(bytes.extract::<[u8; 16]>()?);
    } else if value.is_instance(enum_class(py)?)? {
        let class = value.get_type().qualname()?;
        let name = format!("{class}.{}", value.getattr("name")?.extract::<String>()?);
        out.enum_member(name.as_bytes());
    } else {
        return Err(KeyError::NotAKey(value.get_type().name()?.to_string()));
    }
    Ok(())
}

fn write_int(value: &Bound<'_, PyInt>, out: &mut KeyBytes) -> PyResult<()> {
    if let Ok(small) = value.extract::<i64>() {
        out.int(small);
        return Ok(());
    }
    let negative = value.lt(0)?;
    let magnitude = value.call_method0("__abs__")?;
    let bits: usize = magnitude.call_method0("bit_length")?.extract()?;
    let bytes = magnitude.call_method1("to_bytes", (bits.div_ceil(8), "big"))?;
    out.big_int(negative, bytes.cast::<PyBytes>()?.as_bytes());
    Ok(())
}

fn write_datetime(value: &Bound<'_, PyAny>, out: &mut KeyBytes) -> PyResult<()> {
    let field = |name: &str| -> PyResult<i64> { value.getattr(name)?.extract() };
    let days: i64 = value.call_method0("toordinal")?.extract::<i64>()? - 1;
    let seconds = field("hour")? * 3600 + field("minute")? * 60 + field("second")?;
    let micros = (days * 86_400 + seconds) * 1_000_000 + field("microsecond")?;
    let offset = value.call_method0("utcoffset")?;
    if offset.is_none() {
        out.naive_datetime(micros);
        return Ok(());
    }
    let part = |name: &str| -> PyResult<i64> { offset.getattr(name)?.extract() };
    let offset = (part("days")? * 86_400 + part("seconds")?) * 1_000_000 + part("microseconds")?;
    // 719162 days from 0001-01-01 to 1970-01-01.
    out.utc_datetime(micros - offset - 719_162 * 86_400 * 1_000_000);
    Ok(())
}

fn uuid_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CELL.import(py, "uuid", "UUID")
}

fn enum_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CELL.import(py, "enum", "Enum")
}

fn bytes_of(values: &Bound<'_, PyTuple>) -> PyResult<KeyBytes> {
    let mut out = KeyBytes::default();
    for (at, value) in values.iter().enumerate() {
        write(&value, &mut out).map_err(|error| match error {
            KeyError::Raised(error) => error,
            KeyError::NotAKey(what) => {
                errors::key_type_error(values.py(), format!("key value {at}: {what} is no key; {KEYS}"))
            }
        })?;
    }
    Ok(out)
}

/// What may be a key, for the texts of errors.
pub const KEYS: &str =
    "keys are None, bool, int, float, str, bytes, date, datetime, timedelta, UUID, Enum members, and tuples of these";

/// The canonical bytes of a key.
///
/// `values` are the values of the key fields in order. Raises `KeyTypeError` if one is of another type or NaN.
///
/// >>> from rainband._core import key_bytes
/// >>> key_bytes(("a",)).hex(" ")
/// '20 00 00 00 01 61'
#[pyfunction]
pub fn key_bytes<'py>(values: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(values.py(), bytes_of(values)?.as_slice()))
}

/// The group, 0 to 4095, that a key falls into: XXH3-64 of its canonical bytes, mod 4096.
///
/// Raises `KeyTypeError` as `key_bytes` does.
///
/// >>> from rainband._core import key_group
/// >>> key_group((1,)) == key_group((True,)) == key_group((1.0,))
/// True
#[pyfunction]
pub fn key_group(values: &Bound<'_, PyTuple>) -> PyResult<u64> {
    Ok(key::group_of(bytes_of(values)?.hash()))
}

/// The index, among `n` tasks, of the task that a key goes to: group · n // 4096.
///
/// Raises `KeyTypeError` as `key_bytes` does and `ValueError` if `n` is 0.
///
/// >>> from rainband._core import key_task
/// >>> key_task(("a",), 1)
/// 0
#[pyfunction]
pub fn key_task(values: &Bound<'_, PyTuple>, n: usize) -> PyResult<usize> {
    if n == 0 {
        return Err(pyo3::exceptions::PyValueError::new_err("n is the number of tasks, at least 1; got 0"));
    }
    Ok(key::task_of(key::group_of(bytes_of(values)?.hash()), n))
}
