//! numpy arrays and scalars, both ways.
//!
//! An array is its dtype, shape, order and memory. In order of C or Fortran the memory is taken as it is, in any other it is
//! copied into that of C. Large memory travels beside and is not copied on either end: what comes back is a read-only array over
//! the received bytes. numpy is imported when the first array is read; what a dtype may be, `rainband.codec_arrays` says.

use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};

use super::blob::{Part, View};
use super::decode::Reader;
use super::encode::Writer;
use super::plan::{self, Origin};
use super::refusal::{Done, Fault, Read, Refusal};
use super::tag::{self, ext};

/// More dimensions than numpy has.
const MAX_DIMENSIONS: usize = 64;

fn helper<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("rainband.codec_arrays").map(|m| m.into_any().unbind()))?;
    module.bind(py).getattr(name)
}

/// (type of the elements, dtype) → the bytes of the dtype. A dict of Python's, since dtypes are equal and hashed as it knows;
/// the type beside, since long and long long are equal where both have 64 bits.
fn known_dtypes(py: Python<'_>) -> &Bound<'_, PyDict> {
    static KNOWN: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    KNOWN.get_or_init(py, || PyDict::new(py).unbind()).bind(py)
}

/// The bytes of a dtype, or why it does not travel.
fn dtype_bytes<'py>(dtype: &Bound<'py, PyAny>) -> PyResult<Result<Bound<'py, PyBytes>, String>> {
    let py = dtype.py();
    let known = known_dtypes(py);
    let key = (dtype.getattr(pyo3::intern!(py, "type"))?, dtype).into_pyobject(py)?;
    if let Some(bytes) = known.get_item(&key)? {
        return Ok(Ok(bytes.cast_into::<PyBytes>()?));
    }
    let (spec, why): (Bound<'_, PyAny>, Option<String>) = helper(py, "dtype_spec")?.call1((dtype,))?.extract()?;
    if let Some(why) = why {
        return Ok(Err(why));
    }
    let mut bytes = Vec::new();
    if let Err(refusal) = Writer::scratch(&mut bytes).write(&spec) {
        return Ok(Err(format!(": its dtype: {}", refusal.text())));
    }
    if known.len() >= 1024 {
        known.clear();
    }
    let bytes = PyBytes::new(py, &bytes);
    known.set_item(key, &bytes)?;
    Ok(Ok(bytes))
}

fn write_dtype(writer: &mut Writer<'_>, value: &Bound<'_, PyAny>, kind: u8) -> Done {
    let found = value.getattr(pyo3::intern!(value.py(), "dtype")).and_then(|dtype| dtype_bytes(&dtype));
    match found {
        Ok(Ok(bytes)) => {
            writer.out.extend([tag::EXT, kind]);
            writer.long(bytes.as_bytes())
        }
        Ok(Err(why)) => Err(Refusal::of_class(&value.get_type(), &why)),
        Err(error) => Err(Refusal::raised(value.py(), "reading the dtype", error)),
    }
}

pub fn write_array(writer: &mut Writer<'_>, value: &Bound<'_, PyAny>) -> Done {
    write_dtype(writer, value, ext::ARRAY)?;
    let (order, shape, flat) =
        in_order(value).map_err(|error| Refusal::raised(value.py(), "reading the array", error))?;
    writer.out.extend([order, shape.len() as u8]);
    for length in shape {
        writer.out.extend_from_slice(&length.to_be_bytes());
    }
    let view =
        View::of(&flat, ffi::PyBUF_SIMPLE).map_err(|error| Refusal::raised(value.py(), "reading the array", error))?;
    // An array holds on to its memory as long as it lives; resizing refuses while there is a second reference.
    writer.bytes_of(view.as_slice(), &flat)
}

/// b'C' or b'F', the shape, and an array whose memory is the values in that order, one after the other.
fn in_order<'py>(value: &Bound<'py, PyAny>) -> PyResult<(u8, Vec<u64>, Bound<'py, PyAny>)> {
    let py = value.py();
    let shape: Vec<u64> = value.getattr(pyo3::intern!(py, "shape"))?.extract()?;
    let flags = value.getattr(pyo3::intern!(py, "flags"))?;
    if flags.getattr(pyo3::intern!(py, "c_contiguous"))?.extract()? {
        return Ok((b'C', shape, value.clone()));
    }
    if flags.getattr(pyo3::intern!(py, "f_contiguous"))?.extract()? {
        return Ok((b'F', shape, value.getattr(pyo3::intern!(py, "T"))?));
    }
    Ok((b'C', shape, value.call_method1("copy", ("C",))?))
}

pub fn write_scalar(writer: &mut Writer<'_>, value: &Bound<'_, PyAny>) -> Done {
    write_dtype(writer, value, ext::SCALAR)?;
    let bytes = value.call_method0(pyo3::intern!(value.py(), "tobytes"));
    let bytes = bytes.and_then(|bytes| Ok(bytes.cast_into::<PyBytes>()?));
    writer.long(bytes.map_err(|error| Refusal::raised(value.py(), "tobytes()", error))?.as_bytes())
}

/// `numpy.str_` and `numpy.bytes_`, which are a str and a bytes: their memory would lose trailing zeros.
pub fn write_text(writer: &mut Writer<'_>, value: &Bound<'_, PyAny>) -> Done {
    let py = value.py();
    // Their own `str()` and `bytes()` would cut trailing zeros off.
    let plain = if let Ok(bytes) = value.cast::<PyBytes>() {
        Ok(PyBytes::new(py, bytes.as_bytes()).into_any())
    } else {
        // SAFETY: a live object; a str is copied into a plain one, anything else is refused with an exception.
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_FromObject(value.as_ptr())) }
    };
    writer.out.extend([tag::EXT, ext::NUMPY_TEXT]);
    writer.write(&plain.map_err(|error| Refusal::raised(py, "reading the text", error))?)
}

fn numpy<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("numpy")?.getattr(name)
}

/// The dtype that stands next, kept by its bytes.
fn read_dtype(reader: &mut Reader<'_, '_>) -> Read<Arc<Origin>> {
    let at = reader.at;
    let bytes = reader.long()?;
    let key = [&[ext::ARRAY], bytes].concat();
    if let Some(origin) = plan::kept(reader.py, &key) {
        return Ok(origin);
    }
    let mut inner = Reader::new(reader.py, bytes, &[], false);
    inner.depth = reader.depth;
    let spec = inner.value()?;
    let dtype = helper(reader.py, "dtype_of").and_then(|helper| helper.call1((spec,)));
    let dtype = dtype.map_err(|error| Fault::raised(at, "reading a dtype", error))?;
    Ok(plan::keep_constant(reader.py, &key, &dtype))
}

pub fn read_array<'py>(reader: &mut Reader<'_, 'py>, at: usize) -> Read<Bound<'py, PyAny>> {
    let py = reader.py;
    let origin = read_dtype(reader)?;
    let Origin::Constant(dtype) = &*origin else { return Err(Fault::at(at, "no dtype")) };
    let dtype = dtype.bind(py);
    let [order, dimensions] = reader.array()?;
    if !matches!(order, b'C' | b'F') || usize::from(dimensions) > MAX_DIMENSIONS {
        return Err(Fault::at(at, "an array of no known order or of too many dimensions"));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(u64::from_be_bytes(reader.array()?));
    }
    let memory = if reader.passes(ext::BLOB) {
        let bytes = reader.blob()?;
        let part = Bound::new(py, Part(bytes.clone())).map_err(|error| Fault::raised(at, "the memory", error))?;
        (part.into_any(), bytes.len())
    } else {
        let bytes = reader.value()?;
        let length =
            bytes.cast_exact::<PyBytes>().map_err(|_| Fault::at(at, "an array without memory"))?.as_bytes().len();
        (bytes, length)
    };
    made_array(py, dtype, order, &shape, &memory.0, memory.1)
        .map_err(|error| Fault::raised(at, "making the array", error))?
        .ok_or_else(|| Fault::at(at, "an array whose memory is not as long as its shape"))
}

/// `None` if the memory is not exactly what shape and dtype ask for.
fn made_array<'py>(
    py: Python<'py>,
    dtype: &Bound<'py, PyAny>,
    order: u8,
    shape: &[u64],
    memory: &Bound<'py, PyAny>,
    length: usize,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let item: u64 = dtype.getattr(pyo3::intern!(py, "itemsize"))?.extract()?;
    let wanted = shape.iter().try_fold(item, |product, each| product.checked_mul(*each));
    if wanted != Some(length as u64) {
        return Ok(None);
    }
    let shape = PyTuple::new(py, shape)?;
    let order = if order == b'C' { pyo3::intern!(py, "C") } else { pyo3::intern!(py, "F") };
    let class = CLASS.import(py, "numpy", "ndarray")?;
    if length == 0 {
        // numpy refuses a buffer that is empty.
        let made = class.call1((shape, dtype, py.None(), 0, py.None(), order))?;
        made.call_method1("setflags", (false,))?;
        return Ok(Some(made));
    }
    class.call1((shape, dtype, memory, 0, py.None(), order)).map(Some)
}

pub fn read_scalar<'py>(reader: &mut Reader<'_, 'py>, at: usize) -> Read<Bound<'py, PyAny>> {
    let py = reader.py;
    let origin = read_dtype(reader)?;
    let Origin::Constant(dtype) = &*origin else { return Err(Fault::at(at, "no dtype")) };
    let bytes = reader.long()?;
    let made = made_array(py, dtype.bind(py), b'C', &[], &PyBytes::new(py, bytes), bytes.len());
    let made = made.map_err(|error| Fault::raised(at, "making the scalar", error))?;
    let made = made.ok_or_else(|| Fault::at(at, "a scalar that is not as long as its dtype"))?;
    made.get_item(PyTuple::empty(py)).map_err(|error| Fault::raised(at, "making the scalar", error))
}

pub fn read_text<'py>(reader: &mut Reader<'_, 'py>, at: usize) -> Read<Bound<'py, PyAny>> {
    let plain = reader.value()?;
    let name = if plain.is_exact_instance_of::<PyString>() {
        "str_"
    } else if plain.is_exact_instance_of::<PyBytes>() {
        "bytes_"
    } else {
        return Err(Fault::at(at, "a text of numpy that is none"));
    };
    let made = numpy(reader.py, name).and_then(|class| class.call1((plain,)));
    made.map_err(|error| Fault::raised(at, "making the text", error))
}
