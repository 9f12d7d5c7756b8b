//! Values on their way to another worker and from there: encoded where they are emitted, so that what cannot travel is refused at
//! the emit, and decoded by the task that receives them, while both are attached.

use bytes::Bytes;
use pyo3::prelude::*;
use rainband_core::deliver::{Outbox, Values};
use rainband_core::ids::{StreamId, TaskId};
use rainband_core::wire::MAX_PART_BYTES;

use crate::codec::{self, Pickle};
use crate::payload::Payload;
use crate::shared::Shared;

/// Large values of one tuple.
const MAX_BLOBS: usize = 1024;

/// The values of one emission as they travel.
#[derive(Default)]
pub struct PackedValues {
    bytes: Vec<u8>,
    blobs: Vec<Bytes>,
}

impl PackedValues {
    /// For the outbox.
    #[inline]
    pub fn values(&self) -> Values<'_> {
        Values { bytes: &self.bytes, blobs: &self.blobs }
    }

    /// Encodes `payload`, emitted on `stream`, if one of `targets` is of another worker.
    ///
    /// # Errors
    /// Which field holds a value that cannot travel, and why.
    #[inline]
    pub fn pack(
        &mut self,
        py: Python<'_>,
        shared: &Shared,
        outbox: &Outbox<Payload>,
        payload: &Payload,
        stream: StreamId,
        targets: &[TaskId],
    ) -> Result<(), String> {
        self.bytes.clear();
        if !self.blobs.is_empty() {
            self.blobs.clear();
        }
        if shared.remote.is_none() || !targets.iter().any(|task| outbox.is_elsewhere(*task)) {
            return Ok(());
        }
        let value = payload.inner(py);
        match codec::encode_with(&value, &mut self.bytes, Some(&mut self.blobs), shared.names[stream.index()].pickle) {
            Ok(()) if self.is_too_large() => Err(self.too_large()),
            Ok(()) => Ok(()),
            Err(refusal) => Err(Self::blame(py, shared, payload, stream, &refusal.text())),
        }
    }

    fn is_too_large(&self) -> bool {
        self.bytes.len() > MAX_PART_BYTES / 2
            || self.blobs.len() > MAX_BLOBS
            || self.blobs.iter().any(|blob| blob.len() > MAX_PART_BYTES)
    }

    #[cold]
    fn too_large(&self) -> String {
        let largest = self.blobs.iter().map(Bytes::len).max().unwrap_or(0).max(self.bytes.len());
        format!(
            "a tuple with {} large values, the largest part of {largest} bytes, cannot travel to another worker; expected at most {MAX_BLOBS} bytes objects or arrays of {} bytes each, and {} bytes besides: split it, or send where it is stored",
            self.blobs.len(),
            MAX_PART_BYTES,
            MAX_PART_BYTES / 2
        )
    }

    /// Finds the field whose value was refused.
    #[cold]
    fn blame(py: Python<'_>, shared: &Shared, payload: &Payload, stream: StreamId, text: &str) -> String {
        let width = shared.plan.streams[stream.index()].width;
        let fields = shared.names[stream.index()].fields.bind(py);
        let values = payload.to_tuple(py, width);
        let refused = values.ok().and_then(|values| {
            values.iter().zip(fields.iter()).find_map(|(value, field)| {
                let refusal = codec::encode(&value, &mut Vec::new(), &mut Vec::new()).err()?;
                Some(format!("field {:?}: {}", field.to_string(), refusal.text()))
            })
        });
        refused.unwrap_or_else(|| text.to_string())
    }
}

/// The payload that these bytes were made of; `tables` may serve a whole batch.
///
/// # Errors
/// They are malformed, or name a class that this process does not have.
#[inline]
pub fn unpack(
    py: Python<'_>,
    values: &[u8],
    blobs: &[Bytes],
    pickle: Pickle,
    tables: &mut codec::Tables,
) -> PyResult<Payload> {
    codec::decode_next(py, values, blobs, pickle, tables).map(|value| Payload(value.unbind()))
}
