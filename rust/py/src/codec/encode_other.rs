//! Writes what has a plan: everything but the nine commonest types.

use bytes::Bytes;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyComplex, PyComplexMethods, PyDict, PyTuple};

use super::encode::{Writer, changed};
use super::plan::{Field, How, Layout};
use super::refusal::{Done, Refusal};
use super::tag::{self, ext};
use super::{arrays, times};

impl Writer<'_> {
    pub fn other(&mut self, value: &Bound<'_, PyAny>, how: &How) -> Done {
        match how {
            How::Object(layout) => self.object(value, layout),
            How::Enum { members, flag } => match members.get(&(value.as_ptr() as usize)) {
                Some(name) => {
                    self.out.extend([tag::EXT, ext::MEMBER]);
                    self.text(name)
                }
                None => self.flag(value, flag.as_deref()),
            },
            How::NamedTuple { header, width } => self.named_tuple(value, header, *width),
            How::Date | How::Time | How::DateTime | How::TimeDelta | How::TimeZone | How::ZoneInfo => {
                times::write(self, value, how)
            }
            How::Array => arrays::write_array(self, value),
            How::Scalar => arrays::write_scalar(self, value),
            How::NumpyText => arrays::write_text(self, value),
            How::Registered { name, encode } => {
                let plain = encode.bind(value.py()).call1((value,)).map_err(|error| {
                    let what = format!("encode of \"{}\"", String::from_utf8_lossy(name));
                    Refusal::raised(value.py(), &what, error)
                })?;
                self.out.extend([tag::EXT, ext::REGISTERED]);
                self.text(name)?;
                self.write(&plain).map_err(|refusal| refusal.inside(".encode()"))
            }
            How::Set(tag) => self.set(value, *tag),
            How::ByteArray => {
                self.out.extend([tag::EXT, ext::BYTEARRAY]);
                // SAFETY: an exact bytearray; nothing of Python runs while its bytes are copied.
                let bytes = unsafe { value.cast_unchecked::<PyByteArray>().as_bytes() };
                self.long(bytes)
            }
            How::Complex => {
                // SAFETY: the plan is that of exact complex numbers.
                let number = unsafe { value.cast_unchecked::<PyComplex>() };
                self.out.extend([tag::EXT, ext::COMPLEX]);
                self.out.extend_from_slice(&number.real().to_be_bytes());
                self.out.extend_from_slice(&number.imag().to_be_bytes());
                Ok(())
            }
            How::Range => {
                self.out.extend([tag::EXT, ext::RANGE]);
                for name in ["start", "stop", "step"] {
                    let bound = value.getattr(name).map_err(|error| Refusal::raised(value.py(), name, error))?;
                    self.write(&bound)?;
                }
                Ok(())
            }
            How::Decimal => {
                let text = value.str().map_err(|error| Refusal::raised(value.py(), "str()", error))?;
                self.out.extend([tag::EXT, ext::DECIMAL]);
                self.write(&text)
            }
            How::Uuid => self.uuid(value).map_err(|error| Refusal::raised(value.py(), "reading the UUID", error)),
        }
    }

    fn uuid(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let number: u128 = value.getattr(pyo3::intern!(value.py(), "int"))?.extract()?;
        let safe = value.getattr(pyo3::intern!(value.py(), "is_safe"))?;
        let safe = safe.getattr(pyo3::intern!(value.py(), "_value_"))?.extract::<Option<i8>>()?;
        self.out.extend([tag::EXT, ext::UUID]);
        self.out.extend_from_slice(&number.to_be_bytes());
        self.out.push(safe.map_or(2, |safe| u8::from(safe != 0)));
        Ok(())
    }

    fn set(&mut self, value: &Bound<'_, PyAny>, kind: u8) -> Done {
        let py = value.py();
        // SAFETY: a live set or frozenset.
        let length = unsafe { ffi::PySet_Size(value.as_ptr()) } as usize;
        self.out.extend([tag::EXT, kind]);
        self.count(length)?;
        let mut written = 0;
        for element in value.try_iter().map_err(|error| Refusal::raised(py, "iter()", error))? {
            let Ok(element) = element else { return Err(changed("set")) };
            self.write(&element).map_err(|refusal| refusal.inside("{element}"))?;
            written += 1;
        }
        if written == length { Ok(()) } else { Err(changed("set")) }
    }

    /// A member of a `Flag` that has no name of its own, as `Colour.RED | Colour.BLUE`.
    fn flag(&mut self, value: &Bound<'_, PyAny>, class: Option<&[u8]>) -> Done {
        let number = value.getattr(pyo3::intern!(value.py(), "_value_"));
        match (class, number) {
            (Some(class), Ok(number)) => {
                self.out.extend([tag::EXT, ext::FLAG]);
                self.text(class)?;
                self.write(&number)
            }
            _ => Err(Refusal::of_class(&value.get_type(), ": this is none of its members; emit one of them")),
        }
    }

    fn named_tuple(&mut self, value: &Bound<'_, PyAny>, header: &[u8], width: usize) -> Done {
        // SAFETY: the plan is that of subclasses of tuple.
        let values = unsafe { value.cast_unchecked::<PyTuple>() };
        if values.len() != width {
            let why = format!(": it has {width} fields and this one {} values; make it with as many", values.len());
            return Err(Refusal::of_class(&value.get_type(), &why));
        }
        self.out.extend([tag::EXT, ext::NAMEDTUPLE]);
        self.text(header)?;
        self.elements(values)?;
        self.rest(state_of(value)?.as_ref(), 0, &[])
    }

    fn object(&mut self, value: &Bound<'_, PyAny>, layout: &Layout) -> Done {
        self.out.extend([tag::EXT, layout.tag]);
        self.text(&layout.header)?;
        let state = if layout.has_dict { state_of(value)? } else { None };
        let mut in_dict = 0;
        for field in &layout.fields {
            let held = match &field.slot {
                Some(slot) => slot_of(slot.bind(value.py()), value),
                None => state.as_ref().and_then(|state| {
                    let held = entry_of(state, field);
                    in_dict += usize::from(held.is_some());
                    held
                }),
            };
            match held {
                Some(held) => self.write(&held).map_err(|refusal| refusal.inside(&format!(".{}", field.name)))?,
                None => self.out.extend([tag::EXT, ext::UNSET]),
            }
        }
        self.rest(state.as_ref(), in_dict, &layout.fields)
    }

    /// What the instance holds beside its fields, as a dict that is empty most of the time.
    fn rest(&mut self, state: Option<&Bound<'_, PyDict>>, in_dict: usize, fields: &[Field]) -> Done {
        match state {
            Some(state) if state.len() > in_dict => {
                let count = state.len() - in_dict;
                self.map_header(count)?;
                self.entries(state, count, |key| {
                    fields.iter().any(|field| field.slot.is_none() && key.eq(&field.name).unwrap_or(false))
                })
            }
            _ => self.map_header(0),
        }
    }

    /// Writes plain values ahead, without blobs.
    pub fn scratch(out: &mut Vec<u8>) -> Writer<'_> {
        Writer { out, blobs: None::<&mut Vec<Bytes>>, may_pickle: false, depth: 0 }
    }
}

/// The `__dict__` of an instance, whatever its class has under that name.
fn state_of<'py>(value: &Bound<'py, PyAny>) -> Result<Option<Bound<'py, PyDict>>, Refusal> {
    let py = value.py();
    // SAFETY: a live object; the result is a new reference, or null with an exception set if it has no `__dict__`.
    let state = unsafe {
        let found = ffi::PyObject_GenericGetDict(value.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_opt(py, found)
    };
    let Some(state) = state else {
        drop(PyErr::take(py));
        return Ok(None);
    };
    state.cast_into::<PyDict>().map(Some).map_err(|error| Refusal::raised(py, "__dict__", error.into()))
}

fn entry_of<'py>(state: &Bound<'py, PyDict>, field: &Field) -> Option<Bound<'py, PyAny>> {
    let py = state.py();
    // SAFETY: a live dict and str; the result is borrowed and gets a reference of its own at once. A str neither hashes nor
    // compares by code of the user's.
    unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyDict_GetItemWithError(state.as_ptr(), field.name.as_ptr())) }
}

/// What stands in a slot; `None` if nothing does.
fn slot_of<'py>(slot: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let py = slot.py();
    // SAFETY: `codec_types` gives member descriptors of the value's own class; null means that the slot is empty.
    let held = unsafe {
        let get = (*ffi::Py_TYPE(slot.as_ptr())).tp_descr_get?;
        let class = ffi::Py_TYPE(value.as_ptr()).cast();
        Bound::from_owned_ptr_or_opt(py, get(slot.as_ptr(), value.as_ptr(), class))
    };
    if held.is_none() {
        drop(PyErr::take(py));
    }
    held
}
