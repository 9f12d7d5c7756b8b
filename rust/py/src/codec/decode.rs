//! Reads a value. Bytes may come from anywhere: whatever they are, the outcome is a value or a `CodecError`.
//!
//! Nothing is reserved by a length that was not compared with the bytes that are left, and containers grow with what is really
//! there, so that memory stays within a constant factor of the input. Depth is bounded as for writing. Each blob is read at most
//! once. What is called while reading is listed in `docs/codec.md`.

use bytes::Bytes;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyList, PyString, PyTuple};

use super::MAX_DEPTH;
use super::keys::{Tables, Texts};
use super::refusal::{Fault, Read};
use super::tag;

/// Elements that are reserved ahead; more are there only if their bytes are.
const AHEAD: usize = 64;

pub struct Reader<'a, 'py> {
    pub py: Python<'py>,
    pub bytes: &'a [u8],
    pub at: usize,
    pub blobs: &'a [Bytes],
    /// Index of the first blob that was not read yet.
    pub next_blob: usize,
    pub may_unpickle: bool,
    pub depth: usize,
    pub tables: Tables,
}

impl<'a, 'py> Reader<'a, 'py> {
    pub fn new(py: Python<'py>, bytes: &'a [u8], blobs: &'a [Bytes], may_unpickle: bool) -> Self {
        Self { py, bytes, at: 0, blobs, next_blob: 0, may_unpickle, depth: 0, tables: Tables::default() }
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let Some(found) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()) else {
            return Err(self.short());
        };
        self.at += N;
        Ok(*found)
    }

    #[inline]
    pub fn take(&mut self, length: usize) -> Read<&'a [u8]> {
        let Some(found) = self.bytes.get(self.at..).and_then(|rest| rest.get(..length)) else {
            return Err(self.short());
        };
        self.at += length;
        Ok(found)
    }

    #[cold]
    fn short(&self) -> Fault {
        Fault::at(self.at, "it ends in the middle")
    }

    /// A u32 length and that many bytes.
    pub fn long(&mut self) -> Read<&'a [u8]> {
        let length = u32::from_be_bytes(self.array()?);
        self.take(length as usize)
    }

    /// The UTF-8 of a str, not yet looked at.
    #[inline]
    pub fn name(&mut self) -> Read<&'a [u8]> {
        let at = self.at;
        let [tag] = self.array()?;
        let length = match tag {
            tag::FIX_STR..0xc0 => usize::from(tag & 0x1f),
            tag::STR_8 => usize::from(self.array::<1>()?[0]),
            tag::STR_16 => usize::from(u16::from_be_bytes(self.array()?)),
            _ => return Err(Fault::at(at, "no name where one belongs")),
        };
        self.take(length)
    }

    #[inline]
    pub fn value(&mut self) -> Read<Bound<'py, PyAny>> {
        let at = self.at;
        let [tag] = self.array()?;
        match tag {
            0..0x80 | 0xe0.. => Ok(made_int(self.py, i64::from(tag.cast_signed()))),
            tag::FIX_STR..0xc0 => self.short_str(usize::from(tag & 0x1f), at),
            tag::TUPLE_8 => {
                let [length] = self.array()?;
                self.tuple(usize::from(length))
            }
            tag::FLOAT => {
                let number = f64::from_be_bytes(self.array()?);
                Ok(PyFloat::new(self.py, number).into_any())
            }
            tag::NONE => Ok(self.py.None().into_bound(self.py)),
            tag::TRUE | tag::FALSE => Ok(pyo3::types::PyBool::new(self.py, tag == tag::TRUE).to_owned().into_any()),
            tag::FIX_MAP..0x90 => self.dict(usize::from(tag & 0xf)),
            tag::FIX_LIST..0xa0 => self.list(usize::from(tag & 0xf)),
            _ => self.wide(tag, at),
        }
    }

    fn wide(&mut self, tag: u8, at: usize) -> Read<Bound<'py, PyAny>> {
        Ok(match tag {
            tag::UINT_8 => made_int(self.py, i64::from(u8::from_be_bytes(self.array()?))),
            tag::UINT_16 => made_int(self.py, i64::from(u16::from_be_bytes(self.array()?))),
            tag::UINT_32 => made_int(self.py, i64::from(u32::from_be_bytes(self.array()?))),
            tag::UINT_64 => {
                u64::from_be_bytes(self.array()?).into_pyobject(self.py).map_or_else(|e| match e {}, Bound::into_any)
            }
            tag::INT_8 => made_int(self.py, i64::from(i8::from_be_bytes(self.array()?))),
            tag::INT_16 => made_int(self.py, i64::from(i16::from_be_bytes(self.array()?))),
            tag::INT_32 => made_int(self.py, i64::from(i32::from_be_bytes(self.array()?))),
            tag::INT_64 => made_int(self.py, i64::from_be_bytes(self.array()?)),
            tag::STR_8 | tag::BYTES_8 => {
                let [length] = self.array()?;
                return self.sized(tag == tag::STR_8, usize::from(length), at);
            }
            tag::STR_16 | tag::BYTES_16 => {
                let length = u16::from_be_bytes(self.array()?);
                return self.sized(tag == tag::STR_16, usize::from(length), at);
            }
            tag::STR_32 | tag::BYTES_32 => {
                let length = u32::from_be_bytes(self.array()?);
                return self.sized(tag == tag::STR_32, length as usize, at);
            }
            tag::LIST_16 | tag::MAP_16 => {
                let length = usize::from(u16::from_be_bytes(self.array()?));
                return if tag == tag::LIST_16 { self.list(length) } else { self.dict(length) };
            }
            tag::LIST_32 | tag::MAP_32 => {
                let length = u32::from_be_bytes(self.array()?) as usize;
                return if tag == tag::LIST_32 { self.list(length) } else { self.dict(length) };
            }
            tag::TUPLE_32 => {
                let length = u32::from_be_bytes(self.array()?) as usize;
                return self.tuple(length);
            }
            tag::EXT => {
                let [kind] = self.array()?;
                self.enter(at)?;
                let value = self.extension(kind, at)?;
                self.depth -= 1;
                value
            }
            _ => return Err(Fault::at(at, format!("no value begins with {tag:#04x}"))),
        })
    }

    /// One level deeper; who calls it takes it back unless reading has failed.
    #[inline]
    pub fn enter(&mut self, at: usize) -> Read<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::at(at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(())
    }

    /// Whether as many elements can be there: each takes a byte at least.
    #[inline]
    pub fn check(&self, length: usize) -> Read<()> {
        if length > self.bytes.len() - self.at { Err(self.short()) } else { Ok(()) }
    }

    #[inline]
    fn sized(&mut self, is_str: bool, length: usize, at: usize) -> Read<Bound<'py, PyAny>> {
        if is_str {
            return self.str(length, at);
        }
        let bytes = self.take(length)?;
        made_bytes(self.py, bytes).map_err(|error| Fault::raised(at, "bytes()", error))
    }

    #[inline]
    fn str(&mut self, length: usize, at: usize) -> Read<Bound<'py, PyAny>> {
        let utf8 = self.take(length)?;
        made_str(self.py, utf8).map_err(|error| Fault::raised(at, "decoding UTF-8", error))
    }

    #[inline]
    fn short_str(&mut self, length: usize, at: usize) -> Read<Bound<'py, PyAny>> {
        let utf8 = self.take(length)?;
        let make = || made_str(self.py, utf8).map_err(|error| Fault::raised(at, "decoding UTF-8", error));
        if length < 2 || !utf8.is_ascii() {
            return make();
        }
        if self.tables.values.is_none() {
            self.tables.values = Texts::of_values(self.py);
        }
        match &mut self.tables.values {
            Some(texts) => texts.text(self.py, utf8, make),
            None => make(),
        }
    }

    #[inline]
    fn tuple(&mut self, length: usize) -> Read<Bound<'py, PyAny>> {
        self.enter(self.at)?;
        let values = self.values(length)?;
        self.depth -= 1;
        Ok(values.into_any())
    }

    /// So many values as a tuple, without a level of its own.
    #[inline]
    pub fn values(&mut self, length: usize) -> Read<Bound<'py, PyTuple>> {
        self.check(length)?;
        if length > AHEAD {
            let mut values = Vec::with_capacity(AHEAD);
            for _ in 0..length {
                values.push(self.value()?);
            }
            return PyTuple::new(self.py, values).map_err(|error| Fault::raised(self.at, "tuple()", error));
        }
        // SAFETY: a new tuple that nobody else has seen; each place is written once. If reading fails it is dropped with places
        // that are null, which a tuple expects.
        unsafe {
            let made = Bound::from_owned_ptr_or_err(self.py, ffi::PyTuple_New(length as ffi::Py_ssize_t))
                .map_err(|error| Fault::raised(self.at, "tuple()", error))?;
            for place in 0..length {
                let value = self.value()?;
                ffi::PyTuple_SET_ITEM(made.as_ptr(), place as ffi::Py_ssize_t, value.into_ptr());
            }
            Ok(made.cast_into_unchecked())
        }
    }

    fn list(&mut self, length: usize) -> Read<Bound<'py, PyAny>> {
        self.enter(self.at)?;
        self.check(length)?;
        let list = PyList::empty(self.py);
        for _ in 0..length {
            let value = self.value()?;
            list.append(value).map_err(|error| Fault::raised(self.at, "list.append()", error))?;
        }
        self.depth -= 1;
        Ok(list.into_any())
    }

    fn dict(&mut self, length: usize) -> Read<Bound<'py, PyAny>> {
        self.enter(self.at)?;
        let dict = self.entries(length)?;
        self.depth -= 1;
        Ok(dict.into_any())
    }

    /// So many keys and values as a dict.
    pub fn entries(&mut self, length: usize) -> Read<Bound<'py, PyDict>> {
        self.check(length.saturating_mul(2))?;
        let dict = PyDict::new(self.py);
        for _ in 0..length {
            let at = self.at;
            let key = self.key()?;
            let item = self.value()?;
            dict.set_item(key, item).map_err(|error| Fault::raised(at, "setting a key", error))?;
        }
        if dict.len() != length {
            return Err(Fault::at(self.at, "a dict with the same key twice"));
        }
        Ok(dict)
    }

    #[inline]
    fn key(&mut self) -> Read<Bound<'py, PyAny>> {
        let at = self.at;
        let tag = self.bytes.get(at).copied().unwrap_or(0);
        if !(tag::FIX_STR + 2..0xc0).contains(&tag) {
            return self.value();
        }
        self.at += 1;
        let utf8 = self.take(usize::from(tag & 0x1f))?;
        let make = || made_str(self.py, utf8).map_err(|error| Fault::raised(at, "decoding UTF-8", error));
        if !utf8.is_ascii() {
            return make();
        }
        if self.tables.keys.is_none() {
            self.tables.keys = Texts::of_keys(self.py);
        }
        match &mut self.tables.keys {
            Some(keys) => keys.text(self.py, utf8, make),
            None => make(),
        }
    }

    /// The bytes of a blob, each of which is given once and in order.
    pub fn blob(&mut self) -> Read<&'a Bytes> {
        let at = self.at;
        let index = u32::from_be_bytes(self.array()?) as usize;
        match self.blobs.get(index) {
            Some(blob) if index >= self.next_blob => {
                self.next_blob = index + 1;
                Ok(blob)
            }
            _ => Err(Fault::at(at, format!("blob {index} is not there"))),
        }
    }
}

#[inline]
fn made_int(py: Python<'_>, value: i64) -> Bound<'_, PyAny> {
    value.into_pyobject(py).map_or_else(|never| match never {}, Bound::into_any)
}

/// A `bytes`; a lack of memory is an error and no panic.
pub fn made_bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    PyBytes::new_with(py, bytes.len(), |place| {
        place.copy_from_slice(bytes);
        Ok(())
    })
    .map(Bound::into_any)
}

#[inline]
fn made_str<'py>(py: Python<'py>, utf8: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let length = utf8.len() as ffi::Py_ssize_t;
    // SAFETY: a str of `length` ASCII characters is made with room for exactly these bytes, and nobody else has seen it when they
    // are written. Texts of one character are shared, which `PyUnicode_DecodeUTF8` knows; it reads `length` bytes.
    unsafe {
        if utf8.len() > 1 && utf8.is_ascii() {
            let made = Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_New(length, 127))?;
            std::ptr::copy_nonoverlapping(utf8.as_ptr(), ffi::PyUnicode_DATA(made.as_ptr()).cast(), utf8.len());
            return Ok(made);
        }
        let strict = std::ptr::null();
        Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_DecodeUTF8(utf8.as_ptr().cast(), length, strict))
    }
}

/// A str of bytes that "surrogatepass" wrote.
pub fn surrogates<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyString::from_encoded_object(&PyBytes::new(py, bytes), Some(c"utf-8"), Some(c"surrogatepass"))?.into_any())
}

impl Reader<'_, '_> {
    /// Whether `EXT` and `kind` come next; they are passed over then.
    pub fn passes(&mut self, kind: u8) -> bool {
        let is_next = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(&[tag::EXT, kind]));
        if is_next {
            self.at += 2;
        }
        is_next
    }

    /// The count in front of the entries of a dict.
    pub fn map_header(&mut self) -> Read<usize> {
        let at = self.at;
        let [tag] = self.array()?;
        match tag {
            tag::FIX_MAP..0x90 => Ok(usize::from(tag & 0xf)),
            tag::MAP_16 => Ok(usize::from(u16::from_be_bytes(self.array()?))),
            tag::MAP_32 => Ok(u32::from_be_bytes(self.array()?) as usize),
            _ => Err(Fault::at(at, "no dict where one belongs")),
        }
    }
}
