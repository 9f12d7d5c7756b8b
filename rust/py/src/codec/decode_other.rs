//! Reads what stands behind `EXT`. Of users' code only a registered `decode` is called, and what hashing and comparing keys of
//! dicts and elements of sets calls.

use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyComplex, PyDict, PyInt, PyString, PyTuple, PyType};

use super::decode::{Reader, made_bytes, surrogates};
use super::plan::{self, Field, Layout, Origin};
use super::refusal::{Fault, Read, dotted_name};
use super::tag::ext;
use super::{arrays, pickled, times};

impl<'py> Reader<'_, 'py> {
    pub fn extension(&mut self, kind: u8, at: usize) -> Read<Bound<'py, PyAny>> {
        let py = self.py;
        match kind {
            ext::DATACLASS | ext::MODEL => {
                let origin = self.origin(kind)?;
                let Origin::Object(layout) = &*origin else { return Err(Fault::at(at, "no such class")) };
                self.object(layout, at)
            }
            ext::MEMBER => {
                let origin = self.origin(kind)?;
                let Origin::Constant(member) = &*origin else { return Err(Fault::at(at, "no such member")) };
                Ok(member.bind(py).clone())
            }
            ext::FLAG => {
                let origin = self.origin(kind)?;
                let Origin::Flag(class) = &*origin else { return Err(Fault::at(at, "no such flag")) };
                let value = self.value()?;
                flag(class.bind(py), &value).map_err(|error| Fault::raised(at, "the Flag", error))
            }
            ext::NAMEDTUPLE => {
                let origin = self.origin(kind)?;
                let Origin::NamedTuple { class, width } = &*origin else { return Err(Fault::at(at, "no such tuple")) };
                self.named_tuple(class.bind(py), *width, at)
            }
            ext::DATE..=ext::ZONEINFO => times::read(self, kind, at),
            ext::SET | ext::FROZENSET => self.set(kind == ext::FROZENSET, at),
            ext::ARRAY => arrays::read_array(self, at),
            ext::SCALAR => arrays::read_scalar(self, at),
            ext::NUMPY_TEXT => arrays::read_text(self, at),
            ext::REGISTERED => self.registered(at),
            ext::BLOB => {
                let blob = self.blob()?;
                made_bytes(py, blob).map_err(|error| Fault::raised(at, "bytes()", error))
            }
            ext::COMPLEX => {
                let (real, imag) = (f64::from_be_bytes(self.array()?), f64::from_be_bytes(self.array()?));
                Ok(PyComplex::from_doubles(py, real, imag).into_any())
            }
            ext::RANGE => {
                let bounds = (self.value()?, self.value()?, self.value()?);
                let class = py.get_type::<pyo3::types::PyRange>();
                class.call1(bounds).map_err(|error| Fault::raised(at, "range()", error))
            }
            ext::DECIMAL => self.decimal(at),
            ext::UUID => self.uuid(at),
            ext::BYTEARRAY => Ok(PyByteArray::new(py, self.long()?).into_any()),
            ext::BIG_INT => {
                let bytes = self.long()?;
                big_int(py, bytes).map_err(|error| Fault::raised(at, "int.from_bytes()", error))
            }
            ext::SURROGATES => {
                let bytes = self.long()?;
                surrogates(py, bytes).map_err(|error| Fault::raised(at, "decoding UTF-8", error))
            }
            ext::PICKLED if self.may_unpickle => {
                let bytes = self.long()?;
                pickled::loads(py, bytes).map_err(|error| Fault::raised(at, "pickle.loads()", error))
            }
            ext::PICKLED => Err(Fault::at(at, "a pickled value, which is read only where pickle=True allows it")),
            _ => Err(Fault::at(at, format!("no extension has the number {kind}"))),
        }
    }

    fn origin(&mut self, kind: u8) -> Read<Arc<Origin>> {
        let at = self.at;
        let name = self.name()?;
        plan::origin_of(self.py, kind, name, at)
    }

    fn set(&mut self, is_frozen: bool, at: usize) -> Read<Bound<'py, PyAny>> {
        let length = u32::from_be_bytes(self.array()?) as usize;
        self.check(length)?;
        let py = self.py;
        let raised = |error| Fault::raised(at, "adding to a set", error);
        let mut elements = Vec::new();
        for _ in 0..length {
            elements.push(self.value()?);
        }
        let filled = pyo3::types::PySet::new(py, elements).map_err(raised)?;
        if filled.len() != length {
            return Err(Fault::at(at, "a set with the same element twice"));
        }
        if !is_frozen {
            return Ok(filled.into_any());
        }
        py.get_type::<pyo3::types::PyFrozenSet>().call1((filled,)).map_err(raised)
    }

    fn object(&mut self, layout: &Layout, at: usize) -> Read<Bound<'py, PyAny>> {
        let raised = |error| Fault::raised(at, "making the instance", error);
        let made = plan::bare_instance(layout.class.bind(self.py)).map_err(raised)?;
        for field in &layout.fields {
            if self.passes(ext::UNSET) {
                continue;
            }
            let value = self.value()?;
            set_field(&made, field, layout.has_dict, &value).map_err(raised)?;
        }
        self.rest(&made, layout.has_dict, at)?;
        Ok(made)
    }

    fn named_tuple(&mut self, class: &Bound<'py, PyType>, width: usize, at: usize) -> Read<Bound<'py, PyAny>> {
        let values = self.values(width)?;
        let arguments = PyTuple::new(self.py, [values]).map_err(|error| Fault::raised(at, "tuple()", error))?;
        // SAFETY: `codec_types` let only subclasses of tuple through; it takes one iterable. Null means that an exception is set.
        let made = unsafe {
            let new = ffi::PyTuple_Type.tp_new.expect("tuple has a tp_new");
            let made = new(class.as_type_ptr(), arguments.as_ptr(), std::ptr::null_mut());
            Bound::from_owned_ptr_or_err(self.py, made).map_err(|error| Fault::raised(at, "tuple.__new__()", error))?
        };
        self.rest(&made, true, at)?;
        Ok(made)
    }

    /// What the instance held beside its fields.
    fn rest(&mut self, made: &Bound<'py, PyAny>, has_dict: bool, at: usize) -> Read<()> {
        let count = self.map_header()?;
        if count == 0 {
            return Ok(());
        }
        if !has_dict {
            return Err(Fault::at(at, "attributes for a class that has no place for them"));
        }
        let entries = self.entries(count)?;
        if !entries.keys().iter().all(|key| key.is_exact_instance_of::<PyString>()) {
            return Err(Fault::at(at, "an attribute whose name is no str"));
        }
        dict_of(made)
            .and_then(|state| state.update(entries.as_mapping()))
            .map_err(|error| Fault::raised(at, "setting attributes", error))
    }

    fn registered(&mut self, at: usize) -> Read<Bound<'py, PyAny>> {
        let name = self.name()?;
        let origin = plan::origin_of(self.py, ext::REGISTERED, name, at)?;
        let Origin::Registered { class, decode } = &*origin else { return Err(Fault::at(at, "no such type")) };
        let plain = self.value()?;
        let what = || format!("decode of \"{}\"", String::from_utf8_lossy(name));
        let made = decode.bind(self.py).call1((plain,)).map_err(|error| Fault::raised(at, &what(), error))?;
        let class = class.bind(self.py);
        if !made.get_type().is(class) {
            let (got, expected) = (dotted_name(&made.get_type()), dotted_name(class));
            return Err(Fault::at(at, format!("{} returned type \"{got}\", not \"{expected}\"", what())));
        }
        Ok(made)
    }

    fn decimal(&mut self, at: usize) -> Read<Bound<'py, PyAny>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let text = self.value()?;
        if !text.is_exact_instance_of::<PyString>() {
            return Err(Fault::at(at, "a Decimal that is no text"));
        }
        let class = CLASS.import(self.py, "decimal", "Decimal");
        class.and_then(|class| class.call1((text,))).map_err(|error| Fault::raised(at, "Decimal()", error))
    }

    fn uuid(&mut self, at: usize) -> Read<Bound<'py, PyAny>> {
        let number = u128::from_be_bytes(self.array()?);
        let [safe] = self.array()?;
        if safe > 2 {
            return Err(Fault::at(at, "a UUID that is neither safe nor unsafe nor unknown"));
        }
        uuid(self.py, number, usize::from(safe)).map_err(|error| Fault::raised(at, "the UUID", error))
    }
}

/// The class, its two slots and the three values of `SafeUUID`.
type UuidParts = (Py<PyType>, Py<PyAny>, Py<PyAny>, [Py<PyAny>; 3]);

/// A UUID, slot by slot: `UUID()` itself takes ten times as long.
fn uuid(py: Python<'_>, number: u128, safe: usize) -> PyResult<Bound<'_, PyAny>> {
    static PARTS: PyOnceLock<UuidParts> = PyOnceLock::new();
    let (class, int_slot, safe_slot, safeties) = PARTS.get_or_try_init(py, || -> PyResult<_> {
        let module = py.import("uuid")?;
        let class = module.getattr("UUID")?.cast_into::<PyType>()?;
        let (int_slot, safe_slot) = (class.getattr("int")?, class.getattr("is_safe")?);
        let safeties = module.getattr("SafeUUID")?;
        let safeties = [safeties.getattr("safe")?, safeties.getattr("unsafe")?, safeties.getattr("unknown")?];
        Ok((class.unbind(), int_slot.unbind(), safe_slot.unbind(), safeties.map(Bound::unbind)))
    })?;
    let made = plan::bare_instance(class.bind(py))?;
    set_slot(int_slot.bind(py), &made, number.into_pyobject(py)?.as_any())?;
    set_slot(safe_slot.bind(py), &made, safeties[safe].bind(py))?;
    Ok(made)
}

fn set_slot(slot: &Bound<'_, PyAny>, made: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: live objects; a descriptor of another kind has no such function or refuses the instance.
    let done = unsafe {
        let Some(set) = (*ffi::Py_TYPE(slot.as_ptr())).tp_descr_set else {
            return Err(crate::errors::internal("a slot that cannot be set".to_string()));
        };
        set(slot.as_ptr(), made.as_ptr(), value.as_ptr())
    };
    if done == 0 { Ok(()) } else { Err(PyErr::fetch(slot.py())) }
}

/// Sets a field where the instance keeps it, past `__setattr__`: frozen classes refuse that.
fn set_field(made: &Bound<'_, PyAny>, field: &Field, has_dict: bool, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = made.py();
    if let Some(slot) = &field.slot {
        return set_slot(slot.bind(py), made, value);
    }
    if field.is_shadowed || !has_dict {
        // Something in the class would catch the assignment, a property for instance.
        return dict_of(made)?.set_item(&field.name, value);
    }
    // SAFETY: live objects. Unlike writing into `__dict__` this keeps the values inline, where CPython reads them faster.
    let done = unsafe { ffi::PyObject_GenericSetAttr(made.as_ptr(), field.name.as_ptr(), value.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(PyErr::fetch(py)) }
}

fn dict_of<'py>(made: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: a live object; the result is a new reference, or null with an exception set if it has no `__dict__`.
    let state = unsafe {
        let found = ffi::PyObject_GenericGetDict(made.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(made.py(), found)?
    };
    Ok(state.cast_into::<PyDict>()?)
}

/// A member of a `Flag` by its value, past its metaclass; `codec_types` saw that the class leaves `_missing_` alone.
fn flag<'py>(class: &Bound<'py, PyType>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static NEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = class.py();
    let new = NEW.get_or_try_init(py, || -> PyResult<_> {
        Ok(py.import("enum")?.getattr("Enum")?.getattr("__new__")?.unbind())
    })?;
    if !value.is_exact_instance_of::<PyInt>() {
        return Err(pyo3::exceptions::PyValueError::new_err("a Flag whose value is no int"));
    }
    let member = new.bind(py).call1((class, value))?;
    if !member.get_type().is(class) || !member.getattr("_value_")?.eq(value)? {
        return Err(pyo3::exceptions::PyValueError::new_err("a Flag without such a member"));
    }
    Ok(member)
}

fn big_int<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let signed = PyDict::new(py);
    signed.set_item("signed", true)?;
    py.get_type::<PyInt>().call_method("from_bytes", (PyBytes::new(py, bytes), "little"), Some(&signed))
}
