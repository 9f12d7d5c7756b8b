//! Reads frames, sections and records that somebody else may have written, or damaged.

use std::num::NonZeroU64;
use std::ops::Range;

use bytes::Bytes;

use crate::ids::{AttemptId, EdgeId, Incarnation, RootRef, StreamId, TaskId, WorkerId};
use crate::ledger::{Failure, Reason};
use crate::signal;
use crate::tuple::{Head, LineageId, Roots};

use super::{
    BLOB_ENTRY, CRC_AT, End, HAS_EDGE, HAS_MANY_ROOTS, HAS_ONE_ROOT, HAS_STAMP, HEADER_BYTES, Header, Heartbeat,
    Identity, Kind, MAGIC, Record, Records, Section, VERSION, WireError,
};

/// What is left to read of some bytes.
#[derive(Debug)]
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u32, WireError> {
        match self.rest {
            [byte @ ..0x80, rest @ ..] => {
                self.rest = rest;
                Ok(u32::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    #[cold]
    fn long_varint(&mut self) -> Result<u32, WireError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            if shift == 28 && byte > 0x0f {
                return Err(WireError::Malformed);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Malformed)
    }

    #[inline]
    fn root(&mut self) -> Result<RootRef, WireError> {
        Ok(RootRef {
            task: TaskId(self.varint()?),
            incarnation: Incarnation(self.varint()?),
            attempt: AttemptId::from_bits(self.u64()?),
        })
    }
}

/// The header and the body of a frame, its checksums found right. `parts` are the parts of the message.
///
/// # Errors
/// [`WireError`]: it is no frame, or a damaged one.
pub fn open(parts: &[Bytes]) -> Result<(Header, Range<usize>), WireError> {
    let [frame, blobs @ ..] = parts else { return Err(WireError::Truncated) };
    let mut cursor = Cursor { rest: frame };
    if cursor.array()? != MAGIC {
        return Err(WireError::BadMagic);
    }
    let version = cursor.u16()?;
    if version != VERSION {
        return Err(WireError::Version(version));
    }
    let kind = cursor.u8()?;
    cursor.u8()?;
    let identity = Identity { run: u128::from_le_bytes(cursor.array()?), plan: cursor.u64()? };
    let mut end = || Ok(End { worker: WorkerId(cursor.u32()?), incarnation: Incarnation(cursor.u32()?) });
    let (from, to) = (end()?, end()?);
    let sequence = cursor.u64()?;
    let length = cursor.u32()? as usize;
    let blob_count = cursor.u16()?;
    let _reserved: [u8; 6] = cursor.array()?;
    let crc = cursor.u32()?;
    if frame.len() - HEADER_BYTES != length {
        return Err(WireError::Truncated);
    }
    if crc != crc32c::crc32c_append(crc32c::crc32c(&frame[..CRC_AT]), &frame[HEADER_BYTES..]) {
        return Err(WireError::Checksum);
    }
    let kind = match kind {
        1 => Kind::Hello,
        2 => Kind::Sections,
        3 => Kind::Heartbeat,
        _ => return Err(WireError::Malformed),
    };
    let table = usize::from(blob_count) * BLOB_ENTRY;
    if blobs.len() != usize::from(blob_count) || table > length {
        return Err(WireError::Truncated);
    }
    let body = HEADER_BYTES..frame.len() - table;
    let mut entries = Cursor { rest: &frame[body.end..] };
    for blob in blobs {
        let (length, crc) = (entries.u32()?, entries.u32()?);
        if blob.len() != length as usize {
            return Err(WireError::Truncated);
        }
        if crc32c::crc32c(blob) != crc {
            return Err(WireError::Checksum);
        }
    }
    Ok((Header { kind, identity, from, to, sequence, blobs: blob_count }, body))
}

/// What the body of a heartbeat says.
///
/// # Errors
/// [`WireError`]: it is none.
pub fn read_heartbeat(body: &[u8]) -> Result<Heartbeat, WireError> {
    let mut cursor = Cursor { rest: body };
    let (sent, received) = (cursor.u64()?, cursor.u64()?);
    let wants_again = match cursor.u8()? {
        0 => false,
        1 => true,
        _ => return Err(WireError::Malformed),
    };
    if cursor.rest.is_empty() { Ok(Heartbeat { sent, received, wants_again }) } else { Err(WireError::Malformed) }
}

/// All sections of a frame that [`open`] found right. Records and acks stay undecoded and share the frame's memory.
///
/// # Errors
/// [`WireError`]: any of them is malformed; then none counts.
pub fn sections(parts: &[Bytes], body: Range<usize>) -> Result<Vec<Section>, WireError> {
    let [frame, blobs @ ..] = parts else { return Err(WireError::Truncated) };
    let body = frame.slice(body);
    let mut cursor = Cursor { rest: &body };
    let mut blobs = blobs.iter();
    let mut found = Vec::new();
    while !cursor.rest.is_empty() {
        found.push(section(&mut cursor, &body, &mut blobs)?);
    }
    if blobs.next().is_some() {
        return Err(WireError::Malformed);
    }
    Ok(found)
}

fn section<'b>(
    cursor: &mut Cursor<'_>,
    body: &Bytes,
    blobs: &mut impl Iterator<Item = &'b Bytes>,
) -> Result<Section, WireError> {
    Ok(match cursor.u8()? {
        1 => {
            let task = TaskId(cursor.u32()?);
            let count = cursor.u32()?;
            let length = cursor.u32()? as usize;
            let blob_count = usize::from(cursor.u16()?);
            let bytes = body.slice_ref(cursor.take(length)?);
            let blobs: Vec<Bytes> = blobs.take(blob_count).cloned().collect();
            if blobs.len() != blob_count || count == 0 || count as usize > length {
                return Err(WireError::Malformed);
            }
            Section::Tuples(task, Records { count, bytes, blobs })
        }
        2 => {
            let (task, incarnation) = (TaskId(cursor.u32()?), Incarnation(cursor.u32()?));
            let length = (cursor.u32()? as usize).checked_mul(16).ok_or(WireError::Truncated)?;
            Section::Acks(task, incarnation, body.slice_ref(cursor.take(length)?))
        }
        3 => {
            let (task, incarnation) = (TaskId(cursor.u32()?), Incarnation(cursor.u32()?));
            let root = RootRef { task, incarnation, attempt: AttemptId::from_bits(cursor.u64()?) };
            let reason = *Reason::ALL.get(usize::from(cursor.u8()?)).ok_or(WireError::Malformed)?;
            let retry = cursor.u8()? != 0;
            let task = TaskId(cursor.u32()?);
            let length = cursor.u32()? as usize;
            let error = std::str::from_utf8(cursor.take(length)?).map_err(|_| WireError::Malformed)?;
            Section::Fail(root, Failure { reason, task, error: error.into(), retry })
        }
        4 => {
            let to = TaskId(cursor.u32()?);
            let kind = match cursor.u8()? {
                0 => signal::Kind::Flush,
                1 => signal::Kind::End,
                2 => signal::Kind::Anew,
                _ => return Err(WireError::Malformed),
            };
            let (from, incarnation) = (TaskId(cursor.u32()?), Incarnation(cursor.u32()?));
            Section::Signal(to, signal::Signal { kind, from, incarnation })
        }
        5 => Section::Credit(TaskId(cursor.u32()?), cursor.u64()?),
        _ => return Err(WireError::Malformed),
    })
}

/// The acks of a section.
pub fn acks(pairs: &[u8]) -> impl Iterator<Item = (AttemptId, u64)> {
    pairs.chunks_exact(16).map(|pair| {
        let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| pair[at + i]));
        (AttemptId::from_bits(half(0)), half(8))
    })
}

/// Reads the records of a section one by one; they may come to somebody else's hands in between.
#[derive(Debug)]
pub struct Reader {
    records: Records,
    at: usize,
    left: u32,
    blobs_at: usize,
}

impl Reader {
    /// A reader of these records.
    pub fn new(records: Records) -> Self {
        Self { left: records.count, records, at: 0, blobs_at: 0 }
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.left as usize
    }

    /// Visits the roots of the records that are left; a malformed one ends it.
    pub fn for_each_root(&self, visit: &mut impl FnMut(&RootRef)) {
        let records = self.records.clone();
        let mut rest = Self { records, ..*self };
        while let Ok(Some(record)) = rest.read_next() {
            record.head.roots.as_slice().iter().for_each(&mut *visit);
        }
    }

    /// The next record.
    ///
    /// # Errors
    /// [`WireError`]: it is malformed, which the checksum should have shown: a defect of the sender.
    #[inline]
    pub fn read_next(&mut self) -> Result<Option<Record<'_>>, WireError> {
        if self.left == 0 {
            return if self.at == self.records.bytes.len() { Ok(None) } else { Err(WireError::Malformed) };
        }
        let mut cursor = Cursor { rest: &self.records.bytes[self.at..] };
        let flags = cursor.u8()?;
        let stream = StreamId(cursor.varint()?);
        let from = TaskId(cursor.varint()?);
        let (hops, attempt) = (cursor.varint()?, cursor.varint()?);
        let edge = if flags & HAS_EDGE == 0 {
            None
        } else {
            Some(EdgeId(NonZeroU64::new(cursor.u64()?).ok_or(WireError::Malformed)?))
        };
        let stamp = if flags & HAS_STAMP == 0 { 0 } else { cursor.u64()? };
        let roots = match flags & (HAS_ONE_ROOT | HAS_MANY_ROOTS) {
            0 => Roots::None,
            HAS_ONE_ROOT => Roots::One(cursor.root()?),
            HAS_MANY_ROOTS => {
                let count = cursor.varint()? as usize;
                if count > cursor.rest.len() {
                    return Err(WireError::Truncated); // A root has more than one byte.
                }
                Roots::Many((0..count).map(|_| cursor.root()).collect::<Result<_, _>>()?)
            }
            _ => return Err(WireError::Malformed),
        };
        let blob_count = cursor.varint()? as usize;
        let length = cursor.varint()? as usize;
        let values = cursor.take(length)?;
        let blobs_end = self.blobs_at.checked_add(blob_count).ok_or(WireError::Malformed)?;
        let blobs = self.records.blobs.get(self.blobs_at..blobs_end).ok_or(WireError::Malformed)?;
        self.at = self.records.bytes.len() - cursor.rest.len();
        self.blobs_at = blobs_end;
        self.left -= 1;
        let head = Head { roots, hops, attempt, stamp, lineage: LineageId };
        Ok(Some(Record { head, stream, from, edge, values, blobs }))
    }
}
