//! The codec of values: what travels between worker processes, and what lies in positions and dead letters.
//!
//! Beside stage 3 of a tuple's path: `collector` writes values for tasks elsewhere as they are emitted, `bolt_loop` of the
//! receiver reads them. Type and value come back exactly, or the value is refused where it is emitted. The bytes are made for
//! `tag`; classes travel by name and are looked up by `python/rainband/codec_types.py`, which says what may be found.
//!
//! Guarantees: a refused value leaves no trace in the buffers; whatever bytes are read, the outcome is a value or a `CodecError`;
//! nothing but registered functions and the hashing of keys runs users' code; nothing is pickled unless the caller says so.
//! Everything here runs attached. Left out: sharing (an object that occurs twice comes back as two) and cycles.

mod arrays;
mod blob;
mod decode;
mod decode_other;
mod door;
mod encode;
mod encode_other;
mod keys;
mod pickled;
mod plan;
mod refusal;
mod tag;
mod times;

use bytes::Bytes;
use pyo3::prelude::*;

pub use blob::Part;
pub use door::{_decode, _decode_parts, _encode, _encode_parts, _forget_types};
pub use keys::Tables;
pub use refusal::Refusal;

/// Levels of values in values.
pub const MAX_DEPTH: usize = 256;

/// Whether values that the codec refuses may travel as pickles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pickle {
    Refused,
    Allowed,
}

/// Appends `value` to `out`, and its large buffers to `blobs`.
///
/// # Errors
///
/// A [`Refusal`] if some part of the value does not travel; `out` and `blobs` are then as they were.
pub fn encode(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, blobs: &mut Vec<Bytes>) -> Result<(), Refusal> {
    encode_with(value, out, Some(blobs), Pickle::Refused)
}

/// The same with a choice: `blobs` of `None` keeps everything in `out`, and pickles may be allowed.
///
/// # Errors
///
/// As [`encode`].
pub fn encode_with(
    value: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    mut blobs: Option<&mut Vec<Bytes>>,
    pickle: Pickle,
) -> Result<(), Refusal> {
    let before = (out.len(), blobs.as_ref().map_or(0, |blobs| blobs.len()));
    let may_pickle = pickle == Pickle::Allowed;
    let mut writer = encode::Writer { out, blobs: blobs.as_deref_mut(), may_pickle, depth: 0 };
    writer.write(value).inspect_err(|_| {
        out.truncate(before.0);
        if let Some(blobs) = blobs {
            blobs.truncate(before.1);
        }
    })
}

/// The one value that `bytes` are.
///
/// # Errors
///
/// `CodecError` if they are anything else.
pub fn decode<'py>(py: Python<'py>, bytes: &[u8], blobs: &[Bytes], pickle: Pickle) -> PyResult<Bound<'py, PyAny>> {
    decode_next(py, bytes, blobs, pickle, &mut Tables::default())
}

/// The same for one of many: what `tables` has borrowed stays borrowed until it is dropped.
///
/// # Errors
///
/// As [`decode`].
#[inline]
pub fn decode_next<'py>(
    py: Python<'py>,
    bytes: &[u8],
    blobs: &[Bytes],
    pickle: Pickle,
    tables: &mut Tables,
) -> PyResult<Bound<'py, PyAny>> {
    let mut reader = decode::Reader::new(py, bytes, blobs, pickle == Pickle::Allowed);
    reader.tables = std::mem::take(tables);
    let value = reader.value();
    *tables = std::mem::take(&mut reader.tables);
    let value = value.map_err(|fault| fault.into_error(py))?;
    if reader.at == bytes.len() {
        return Ok(value);
    }
    let what = format!("{} bytes follow the value", bytes.len() - reader.at);
    Err(refusal::Fault::at(reader.at, what).into_error(py))
}
