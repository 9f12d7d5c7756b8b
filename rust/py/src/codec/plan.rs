//! What is known of classes and names: asked of `rainband.codec_types` once, then kept for the process.
//!
//! Values of the nine commonest types never come here. For all others a class leads to a [`Plan`] and a name on the wire to an
//! [`Origin`]. A refusal is not kept: the class may be registered a moment later. Both maps are emptied when they have grown
//! beyond anything that a program means to do. The locks are leaves: no Python is called and nothing dropped under them.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyByteArray, PyComplex, PyDate, PyDateTime, PyDelta, PyFrozenSet, PyRange, PySet, PyString, PyTime, PyTuple, PyType,
};
use rustc_hash::FxHashMap;

use super::refusal::{Fault, Read, Refusal};
use super::tag::ext;

/// Entries of a map at most.
const KEPT: usize = 4096;

/// How values of one class are written.
pub struct Plan {
    pub how: How,
    /// Keeps the class alive, whose address is the key of the map.
    _class: Py<PyType>,
}

pub enum How {
    Set(u8),
    ByteArray,
    Complex,
    Range,
    Date,
    Time,
    DateTime,
    TimeDelta,
    TimeZone,
    ZoneInfo,
    Decimal,
    Uuid,
    /// Members by address, each with its name; with `Some` a `Flag`, whose other members go by value.
    Enum {
        members: FxHashMap<usize, Box<[u8]>>,
        flag: Option<Box<[u8]>>,
    },
    Object(Layout),
    NamedTuple {
        header: Box<[u8]>,
        width: usize,
    },
    Array,
    Scalar,
    NumpyText,
    Registered {
        name: Box<[u8]>,
        encode: Py<PyAny>,
    },
}

/// The state of instances: fields with a place in slots or in `__dict__`, and what else is in `__dict__`.
pub struct Layout {
    pub tag: u8,
    /// "module:Class(field,field)".
    pub header: Box<[u8]>,
    pub class: Py<PyType>,
    pub fields: Vec<Field>,
    pub has_dict: bool,
}

pub struct Field {
    pub name: Py<PyString>,
    /// The descriptor of its slot.
    pub slot: Option<Py<PyAny>>,
    /// Whether the class has something of that name that would catch an assignment.
    pub is_shadowed: bool,
}

/// What a name on the wire stands for.
pub enum Origin {
    Object(Layout),
    NamedTuple {
        class: Py<PyType>,
        width: usize,
    },
    /// A member of an Enum, a time zone, a dtype.
    Constant(Py<PyAny>),
    Flag(Py<PyType>),
    Registered {
        class: Py<PyType>,
        decode: Py<PyAny>,
    },
}

#[derive(Default)]
struct Known {
    plans: Mutex<FxHashMap<usize, Arc<Plan>>>,
    /// By the tag and the text that follows it.
    origins: Mutex<FxHashMap<Box<[u8]>, Arc<Origin>>>,
}

fn known(py: Python<'_>) -> &'static Known {
    static KNOWN: PyOnceLock<Known> = PyOnceLock::new();
    KNOWN.get_or_init(py, Known::default)
}

fn types<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("rainband.codec_types").map(|m| m.into_any().unbind()))?;
    module.bind(py).getattr(name)
}

/// Forgets everything, as a class was registered.
pub fn forget(py: Python<'_>) {
    let known = known(py);
    let plans = std::mem::take(&mut *known.plans.lock().unwrap_or_else(PoisonError::into_inner));
    let origins = std::mem::take(&mut *known.origins.lock().unwrap_or_else(PoisonError::into_inner));
    drop((plans, origins));
}

/// How a value is written.
#[inline]
pub fn plan_of(value: &Bound<'_, PyAny>) -> Result<Arc<Plan>, Refusal> {
    let known = known(value.py());
    // SAFETY: a live object; only the address of its type is taken.
    let class = unsafe { ffi::Py_TYPE(value.as_ptr()) } as usize;
    let found = known.plans.lock().unwrap_or_else(PoisonError::into_inner).get(&class).cloned();
    match found {
        Some(plan) => Ok(plan),
        None => make_plan(&value.get_type(), known),
    }
}

#[cold]
fn make_plan(class: &Bound<'_, PyType>, known: &Known) -> Result<Arc<Plan>, Refusal> {
    let py = class.py();
    let how = match builtin(class) {
        Some(how) => how,
        None => match described(class) {
            Ok(Ok(how)) => how,
            Ok(Err(why)) => return Err(Refusal::of_class(class, &why)),
            Err(error) => return Err(Refusal::raised(py, "looking at its type", error)),
        },
    };
    let plan = Arc::new(Plan { how, _class: class.clone().unbind() });
    let mut plans = known.plans.lock().unwrap_or_else(PoisonError::into_inner);
    let old = if plans.len() >= KEPT { std::mem::take(&mut *plans) } else { FxHashMap::default() };
    let same = plans.insert(class.as_ptr() as usize, plan.clone());
    drop(plans);
    drop((old, same));
    // A class of the same name, made anew, takes the place of the one that its name led to.
    let origins = std::mem::take(&mut *known.origins.lock().unwrap_or_else(PoisonError::into_inner));
    drop(origins);
    Ok(plan)
}

fn builtin(class: &Bound<'_, PyType>) -> Option<How> {
    let py = class.py();
    let table = [
        (py.get_type::<PySet>(), How::Set(ext::SET)),
        (py.get_type::<PyFrozenSet>(), How::Set(ext::FROZENSET)),
        (py.get_type::<PyByteArray>(), How::ByteArray),
        (py.get_type::<PyComplex>(), How::Complex),
        (py.get_type::<PyRange>(), How::Range),
        (py.get_type::<PyDate>(), How::Date),
        (py.get_type::<PyTime>(), How::Time),
        (py.get_type::<PyDateTime>(), How::DateTime),
        (py.get_type::<PyDelta>(), How::TimeDelta),
    ];
    table.into_iter().find(|(each, _)| each.is(class)).map(|(_, how)| how)
}

/// The plan that Python gives, or why there is none.
fn described(class: &Bound<'_, PyType>) -> PyResult<Result<How, String>> {
    let py = class.py();
    let said = types(py, "describe")?.call1((class,))?.cast_into::<PyTuple>()?;
    let word: String = said.get_item(0)?.extract()?;
    Ok(Ok(match word.as_str() {
        "timezone" => How::TimeZone,
        "zoneinfo" => How::ZoneInfo,
        "decimal" => How::Decimal,
        "uuid" => How::Uuid,
        "array" => How::Array,
        "scalar" => How::Scalar,
        "numpy text" => How::NumpyText,
        "enum" => {
            let members: Vec<(Bound<'_, PyAny>, String)> = said.get_item(2)?.extract()?;
            let members = members.into_iter().map(|(member, name)| (member.as_ptr() as usize, boxed(name))).collect();
            let flag = said.get_item(3)?.extract::<bool>()?.then(|| said.get_item(1)).transpose()?;
            How::Enum { members, flag: flag.map(|name| name.extract()).transpose()?.map(boxed) }
        }
        "dataclass" | "model" => How::Object(layout(&said)?),
        "namedtuple" => {
            How::NamedTuple { header: boxed(said.get_item(1)?.extract()?), width: said.get_item(3)?.extract()? }
        }
        "registered" => {
            How::Registered { name: boxed(said.get_item(1)?.extract()?), encode: said.get_item(3)?.unbind() }
        }
        _ => return Ok(Err(said.get_item(1)?.extract()?)),
    }))
}

fn boxed(text: String) -> Box<[u8]> {
    text.into_bytes().into_boxed_slice()
}

/// ("dataclass" | "model", header, class, [(name, slot or None, is shadowed)], has a dict).
fn layout(said: &Bound<'_, PyTuple>) -> PyResult<Layout> {
    let mut fields = Vec::new();
    for each in said.get_item(3)?.try_iter()? {
        let (name, slot, is_shadowed): (Bound<'_, PyString>, Option<Bound<'_, PyAny>>, bool) = each?.extract()?;
        // Interned, so that a lookup in a `__dict__` compares addresses.
        let name = PyString::intern(said.py(), name.to_str()?).unbind();
        fields.push(Field { name, slot: slot.map(Bound::unbind), is_shadowed });
    }
    Ok(Layout {
        tag: if said.get_item(0)?.eq("model")? { ext::MODEL } else { ext::DATACLASS },
        header: boxed(said.get_item(1)?.extract()?),
        class: said.get_item(2)?.cast_into::<PyType>()?.unbind(),
        fields,
        has_dict: said.get_item(4)?.extract()?,
    })
}

/// What `name` behind `tag` stands for, asked of `rainband.codec_types` the first time.
///
/// `key` is the tag's byte and the name's bytes as they stand on the wire, at byte `at`.
#[inline]
pub fn origin_of(py: Python<'_>, tag: u8, name: &[u8], at: usize) -> Read<Arc<Origin>> {
    let known = known(py);
    let mut inline = [0_u8; 256];
    let heap;
    inline[0] = tag;
    let key = if let Some(place) = inline.get_mut(1..=name.len()) {
        place.copy_from_slice(name);
        &inline[..=name.len()]
    } else {
        heap = [&[tag], name].concat();
        &heap[..]
    };
    let found = known.origins.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
    match found {
        Some(origin) => Ok(origin),
        None => find_origin(py, tag, name, at, key, known),
    }
}

#[cold]
fn find_origin(py: Python<'_>, tag: u8, name: &[u8], at: usize, key: &[u8], known: &Known) -> Read<Arc<Origin>> {
    let text = std::str::from_utf8(name).map_err(|_| Fault::at(at, "a name that is not UTF-8"))?;
    let origin = Arc::new(resolved(py, tag, text).map_err(|error| Fault::said(py, at, "finding a name", error))?);
    keep(known, key, &origin);
    Ok(origin)
}

/// Keeps what was made of bytes that are no name, a dtype.
pub fn keep_constant(py: Python<'_>, key: &[u8], value: &Bound<'_, PyAny>) -> Arc<Origin> {
    let origin = Arc::new(Origin::Constant(value.clone().unbind()));
    keep(known(py), key, &origin);
    origin
}

/// What is kept under a key of [`keep_constant`].
pub fn kept(py: Python<'_>, key: &[u8]) -> Option<Arc<Origin>> {
    known(py).origins.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
}

fn keep(known: &Known, key: &[u8], origin: &Arc<Origin>) {
    let mut origins = known.origins.lock().unwrap_or_else(PoisonError::into_inner);
    let old = if origins.len() >= KEPT { std::mem::take(&mut *origins) } else { FxHashMap::default() };
    let same = origins.insert(key.into(), origin.clone());
    drop(origins);
    drop((old, same));
}

fn resolved(py: Python<'_>, tag: u8, text: &str) -> PyResult<Origin> {
    let ask = |kind: &str| -> PyResult<Bound<'_, PyTuple>> {
        Ok(types(py, "resolve")?.call1((kind, text))?.cast_into::<PyTuple>()?)
    };
    Ok(match tag {
        ext::MEMBER => Origin::Constant(ask("enum")?.get_item(1)?.unbind()),
        ext::FLAG => Origin::Flag(ask("flag")?.get_item(1)?.cast_into::<PyType>()?.unbind()),
        ext::ZONEINFO => Origin::Constant(ask("zoneinfo")?.get_item(1)?.unbind()),
        ext::DATACLASS => Origin::Object(layout(&ask("dataclass")?)?),
        ext::MODEL => Origin::Object(layout(&ask("model")?)?),
        ext::NAMEDTUPLE => {
            let said = ask("namedtuple")?;
            let class = said.get_item(2)?.cast_into::<PyType>()?.unbind();
            Origin::NamedTuple { class, width: said.get_item(3)?.extract()? }
        }
        _ => {
            let said = ask("registered")?;
            let class = said.get_item(2)?.cast_into::<PyType>()?.unbind();
            Origin::Registered { class, decode: said.get_item(4)?.unbind() }
        }
    })
}

/// `object.__new__(class)`, which runs nothing of the user's.
pub fn bare_instance<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let arguments = PyTuple::empty(py);
    // SAFETY: `codec_types` let only classes through whose instances `object` makes; a null result means that an exception is set.
    unsafe {
        let new = ffi::PyBaseObject_Type.tp_new.expect("object has a tp_new");
        let made = new(class.as_type_ptr(), arguments.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(py, made)
    }
}
