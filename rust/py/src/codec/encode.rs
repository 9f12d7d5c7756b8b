//! Writes a Python value. The nine commonest types are told by the address of their exact type, all others by their plan.
//!
//! A subclass is another type: it is written as what it is, or refused, and never as its base. A registered `encode` may run
//! within and change a container that is being written, so every element is held by a reference of its own and counts are
//! compared at the end.

use bytes::Bytes;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyStringMethods, PyTuple};

use super::blob::{BLOB_BYTES, Blob};
use super::refusal::{Done, Refusal};
use super::tag::{self, ext};
use super::{MAX_DEPTH, plan, times};

pub struct Writer<'a> {
    pub out: &'a mut Vec<u8>,
    /// `None` writes everything into `out`.
    pub blobs: Option<&'a mut Vec<Bytes>>,
    pub may_pickle: bool,
    pub depth: usize,
}

impl Writer<'_> {
    #[inline]
    pub fn write(&mut self, value: &Bound<'_, PyAny>) -> Done {
        // SAFETY: a live object; only its type pointer is read. Each cast below is to the type that was just compared.
        unsafe {
            let kind = ffi::Py_TYPE(value.as_ptr());
            if kind == &raw mut ffi::PyUnicode_Type {
                self.str(value.cast_unchecked())
            } else if kind == &raw mut ffi::PyLong_Type {
                self.int(value)
            } else if kind == &raw mut ffi::PyTuple_Type {
                self.tuple(value.cast_unchecked())
            } else if kind == &raw mut ffi::PyFloat_Type {
                self.float(ffi::PyFloat_AS_DOUBLE(value.as_ptr()));
                Ok(())
            } else if value.is_none() {
                self.out.push(tag::NONE);
                Ok(())
            } else if kind == &raw mut ffi::PyBool_Type {
                self.out.push(if value.as_ptr() == ffi::Py_True() { tag::TRUE } else { tag::FALSE });
                Ok(())
            } else if kind == &raw mut ffi::PyBytes_Type {
                self.bytes(value.cast_unchecked())
            } else if kind == &raw mut ffi::PyDict_Type {
                self.dict(value.cast_unchecked())
            } else if kind == &raw mut ffi::PyList_Type {
                self.list(value.cast_unchecked())
            } else {
                self.planned(value)
            }
        }
    }

    fn planned(&mut self, value: &Bound<'_, PyAny>) -> Done {
        if let Some(moment) = times::exact_datetime(value) {
            return times::write_datetime(self, moment);
        }
        let plan = match plan::plan_of(value) {
            Ok(plan) => plan,
            Err(refusal) if self.may_pickle => return self.pickle(value, &refusal),
            Err(refusal) => return Err(refusal),
        };
        self.enter()?;
        let start = (self.out.len(), self.blobs.as_ref().map_or(0, |blobs| blobs.len()));
        let mut done = self.other(value, &plan.how);
        if self.may_pickle
            && let Err(refusal) = &done
            && refusal.is_of_the_value_itself()
        {
            self.out.truncate(start.0);
            if let Some(blobs) = &mut self.blobs {
                blobs.truncate(start.1);
            }
            done = self.pickle(value, refusal);
        }
        self.depth -= 1;
        done
    }

    /// One level deeper; who calls it takes it back unless the whole value is refused.
    #[inline]
    pub fn enter(&mut self) -> Done {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Refusal::new(format!("nested deeper than {MAX_DEPTH} levels, or holds itself")));
        }
        Ok(())
    }

    #[inline]
    fn str(&mut self, value: &Bound<'_, PyString>) -> Done {
        let mut length = 0;
        // SAFETY: a live str. The bytes belong to it and are copied at once; null means that it has lone surrogates.
        unsafe {
            let start = ffi::PyUnicode_AsUTF8AndSize(value.as_ptr(), &raw mut length);
            if start.is_null() {
                return self.surrogates(value);
            }
            self.text(std::slice::from_raw_parts(start.cast(), length as usize))
        }
    }

    /// UTF-8 as a str.
    #[inline]
    pub fn text(&mut self, utf8: &[u8]) -> Done {
        self.out.reserve(utf8.len() + 5);
        match utf8.len() {
            length @ 0..32 => self.out.push(tag::FIX_STR | length as u8),
            length => self.sized(length, Some(tag::STR_8), tag::STR_16, tag::STR_32)?,
        }
        self.out.extend_from_slice(utf8);
        Ok(())
    }

    #[cold]
    fn surrogates(&mut self, value: &Bound<'_, PyString>) -> Done {
        drop(PyErr::take(value.py()));
        let bytes = value.call_method1("encode", ("utf-8", "surrogatepass"));
        let bytes = bytes.and_then(|bytes| Ok(bytes.cast_into::<PyBytes>()?));
        let bytes = bytes.map_err(|error| Refusal::raised(value.py(), "str.encode()", error))?;
        self.out.extend([tag::EXT, ext::SURROGATES]);
        self.long(bytes.as_bytes())
    }

    #[inline]
    fn int(&mut self, value: &Bound<'_, PyAny>) -> Done {
        let mut overflow = 0;
        // SAFETY: an exact int, so no error is possible beside the overflow that is asked for.
        let small = unsafe { ffi::PyLong_AsLongLongAndOverflow(value.as_ptr(), &raw mut overflow) };
        if overflow == 0 {
            self.small_int(small);
            return Ok(());
        }
        self.big_int(value)
    }

    #[inline]
    fn small_int(&mut self, value: i64) {
        if (-32..128).contains(&value) {
            self.out.push(value as u8);
        } else {
            self.wide_int(value);
        }
    }

    fn wide_int(&mut self, value: i64) {
        if let Ok(value) = u64::try_from(value) {
            self.unsigned(value);
        } else if let Ok(value) = i8::try_from(value) {
            self.out.extend([tag::INT_8, value as u8]);
        } else if let Ok(value) = i16::try_from(value) {
            self.tagged(tag::INT_16, value.to_be_bytes());
        } else if let Ok(value) = i32::try_from(value) {
            self.tagged(tag::INT_32, value.to_be_bytes());
        } else {
            self.tagged(tag::INT_64, value.to_be_bytes());
        }
    }

    fn unsigned(&mut self, value: u64) {
        if let Ok(value) = u8::try_from(value) {
            self.out.extend([tag::UINT_8, value]);
        } else if let Ok(value) = u16::try_from(value) {
            self.tagged(tag::UINT_16, value.to_be_bytes());
        } else if let Ok(value) = u32::try_from(value) {
            self.tagged(tag::UINT_32, value.to_be_bytes());
        } else {
            self.tagged(tag::UINT_64, value.to_be_bytes());
        }
    }

    #[cold]
    fn big_int(&mut self, value: &Bound<'_, PyAny>) -> Done {
        if let Ok(value) = value.extract::<u64>() {
            self.unsigned(value);
            return Ok(());
        }
        let py = value.py();
        let bytes = (|| -> PyResult<_> {
            let bits: usize = value.call_method0("bit_length")?.extract()?;
            let signed = PyDict::new(py);
            signed.set_item("signed", true)?;
            let bytes = value.call_method("to_bytes", (bits / 8 + 1, "little"), Some(&signed))?;
            Ok(bytes.cast_into::<PyBytes>()?)
        })();
        let bytes = bytes.map_err(|error| Refusal::raised(py, "int.to_bytes()", error))?;
        self.out.extend([tag::EXT, ext::BIG_INT]);
        self.long(bytes.as_bytes())
    }

    #[inline]
    fn tagged<const N: usize>(&mut self, tag: u8, bytes: [u8; N]) {
        self.out.push(tag);
        self.out.extend_from_slice(&bytes);
    }

    #[inline]
    fn float(&mut self, value: f64) {
        self.tagged(tag::FLOAT, value.to_be_bytes());
    }

    /// Bytes in place, or beside when they are large. `owner` keeps them where they are.
    pub fn bytes_of(&mut self, bytes: &[u8], owner: &Bound<'_, PyAny>) -> Done {
        if bytes.len() >= BLOB_BYTES
            && let Some(blobs) = &mut self.blobs
        {
            self.out.extend([tag::EXT, ext::BLOB]);
            self.out.extend_from_slice(&(blobs.len() as u32).to_be_bytes());
            // SAFETY: the callers show memory of an object that does not let go of it while it lives.
            let blob = unsafe { Blob::new(bytes.as_ptr(), bytes.len(), owner.clone().unbind()) };
            blobs.push(blob.into());
            return Ok(());
        }
        self.plain_bytes(bytes)
    }

    #[inline]
    fn bytes(&mut self, value: &Bound<'_, PyBytes>) -> Done {
        self.bytes_of(value.as_bytes(), value)
    }

    /// Bytes in place.
    pub fn plain_bytes(&mut self, bytes: &[u8]) -> Done {
        self.sized(bytes.len(), Some(tag::BYTES_8), tag::BYTES_16, tag::BYTES_32)?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// The tag and the length in as many bytes as it needs.
    #[inline]
    fn sized(&mut self, length: usize, short: Option<u8>, middle: u8, long: u8) -> Done {
        if let (Ok(length), Some(tag)) = (u8::try_from(length), short) {
            self.out.extend([tag, length]);
        } else if let Ok(length) = u16::try_from(length) {
            self.tagged(middle, length.to_be_bytes());
        } else {
            self.out.push(long);
            self.count(length)?;
        }
        Ok(())
    }

    /// A u32.
    #[inline]
    pub fn count(&mut self, length: usize) -> Done {
        let Ok(short) = u32::try_from(length) else {
            return Err(Refusal::new(format!("has a length of {length}; at most {} travel", u32::MAX)));
        };
        self.out.extend_from_slice(&short.to_be_bytes());
        Ok(())
    }

    /// A u32 and the bytes.
    pub fn long(&mut self, bytes: &[u8]) -> Done {
        self.count(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn tuple(&mut self, value: &Bound<'_, PyTuple>) -> Done {
        self.enter()?;
        if let Ok(length) = u8::try_from(value.len()) {
            self.out.extend([tag::TUPLE_8, length]);
        } else {
            self.out.push(tag::TUPLE_32);
            self.count(value.len())?;
        }
        self.elements(value)?;
        self.depth -= 1;
        Ok(())
    }

    /// The elements of a tuple, or of a subclass of it.
    #[inline]
    pub fn elements(&mut self, value: &Bound<'_, PyTuple>) -> Done {
        for (at, element) in value.iter_borrowed().enumerate() {
            self.write(&element).map_err(|refusal| refusal.inside(&format!("[{at}]")))?;
        }
        Ok(())
    }

    fn list(&mut self, value: &Bound<'_, PyList>) -> Done {
        self.enter()?;
        let length = value.len();
        if length < 16 {
            self.out.push(tag::FIX_LIST | length as u8);
        } else {
            self.sized(length, None, tag::LIST_16, tag::LIST_32)?;
        }
        for at in 0..length {
            let Ok(element) = value.get_item(at) else { return Err(changed("list")) };
            self.write(&element).map_err(|refusal| refusal.inside(&format!("[{at}]")))?;
        }
        if value.len() != length {
            return Err(changed("list"));
        }
        self.depth -= 1;
        Ok(())
    }

    fn dict(&mut self, value: &Bound<'_, PyDict>) -> Done {
        self.enter()?;
        // Without a GIL this keeps others from changing the dict; with one it is nothing.
        with_critical_section(value, || {
            self.map_header(value.len())?;
            self.entries(value, value.len(), |_| false)
        })?;
        self.depth -= 1;
        Ok(())
    }

    /// How many entries follow.
    pub fn map_header(&mut self, length: usize) -> Done {
        if length < 16 {
            self.out.push(tag::FIX_MAP | length as u8);
            return Ok(());
        }
        self.sized(length, None, tag::MAP_16, tag::MAP_32)
    }

    /// `expected` keys and values, in order, without those whose key `is_left_out`.
    pub fn entries(
        &mut self,
        value: &Bound<'_, PyDict>,
        expected: usize,
        is_left_out: impl Fn(&Bound<'_, PyAny>) -> bool,
    ) -> Done {
        let py = value.py();
        let (mut position, mut key, mut item) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        let length = value.len();
        let mut written = 0;
        for at in 0_usize.. {
            // SAFETY: a live dict, whose length is as it was when the iteration began, which is what `PyDict_Next` asks for. The
            // pair is borrowed and gets references of its own before anything else runs.
            let (key, item) = unsafe {
                if ffi::PyDict_Next(value.as_ptr(), &raw mut position, &raw mut key, &raw mut item) == 0 {
                    break;
                }
                (Bound::from_borrowed_ptr(py, key), Bound::from_borrowed_ptr(py, item))
            };
            if is_left_out(&key) {
                continue;
            }
            self.write(&key).map_err(|refusal| refusal.inside(&format!("(key {at})")))?;
            self.write(&item).map_err(|refusal| refusal.inside(&step_to(&key, at)))?;
            written += 1;
            if value.len() != length {
                return Err(changed("dict"));
            }
        }
        if written == expected { Ok(()) } else { Err(changed("dict")) }
    }

    #[cold]
    fn pickle(&mut self, value: &Bound<'_, PyAny>, refusal: &Refusal) -> Done {
        let bytes = super::pickled::dumps(value)
            .map_err(|error| Refusal::raised(value.py(), &format!("{}; pickle", refusal.text()), error))?;
        self.out.extend([tag::EXT, ext::PICKLED]);
        self.long(bytes.as_bytes())
    }
}

/// `["at"]` for keys that are short texts, else the number of the entry.
#[cold]
fn step_to(key: &Bound<'_, PyAny>, at: usize) -> String {
    match key.cast_exact::<PyString>().map(PyStringMethods::to_cow) {
        Ok(Ok(text)) if text.chars().count() <= 40 => format!("[{text:?}]"),
        _ if key.get_type().is(key.py().get_type::<pyo3::types::PyInt>()) => format!("[{key}]"),
        _ => format!("[entry {at}]"),
    }
}

#[cold]
pub fn changed(what: &str) -> Refusal {
    Refusal::new(format!("a {what} was changed while it was written"))
}
