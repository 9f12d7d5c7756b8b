//! Writes frames, sections and records.

use bytes::Bytes;

use crate::ids::{EdgeId, RootRef, StreamId, TaskId};
use crate::ledger::Failure;
use crate::signal;
use crate::tuple::{Head, Roots};

use super::{
    CRC_AT, HAS_EDGE, HAS_MANY_ROOTS, HAS_ONE_ROOT, HAS_STAMP, HEADER_BYTES, Header, Heartbeat, MAGIC, VERSION,
};

/// An empty body with room for the header before it.
pub fn new_body() -> Vec<u8> {
    vec![0; HEADER_BYTES]
}

/// Completes a frame whose body was appended to [`new_body`]: the table of blobs, the header, the checksum.
pub fn seal(body: &mut Vec<u8>, header: &Header, blobs: &[Bytes]) {
    debug_assert_eq!(usize::from(header.blobs), blobs.len());
    for blob in blobs {
        put_u32(body, blob.len() as u32);
        put_u32(body, crc32c::crc32c(blob));
    }
    let length = (body.len() - HEADER_BYTES) as u32;
    let mut head = Vec::with_capacity(HEADER_BYTES);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&[header.kind as u8, 0]);
    head.extend_from_slice(&header.identity.run.to_le_bytes());
    head.extend_from_slice(&header.identity.plan.to_le_bytes());
    for end in [header.from, header.to] {
        put_u32(&mut head, end.worker.0);
        put_u32(&mut head, end.incarnation.0);
    }
    put_u64(&mut head, header.sequence);
    put_u32(&mut head, length);
    head.extend_from_slice(&header.blobs.to_le_bytes());
    head.extend_from_slice(&[0; 6]);
    debug_assert_eq!(head.len(), CRC_AT);
    body[..CRC_AT].copy_from_slice(&head);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&body[..CRC_AT]), &body[HEADER_BYTES..]);
    body[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// A whole heartbeat frame.
pub fn heartbeat(header: &Header, beat: Heartbeat) -> Bytes {
    let mut body = new_body();
    put_u64(&mut body, beat.sent);
    put_u64(&mut body, beat.received);
    body.push(u8::from(beat.wants_again));
    seal(&mut body, header, &[]);
    body.into()
}

/// A whole hello frame.
pub fn hello(header: &Header) -> Bytes {
    let mut body = new_body();
    seal(&mut body, header, &[]);
    body.into()
}

/// Appends a section of `count` records, `blobs` of whose values are blobs of the frame.
pub fn put_tuples(body: &mut Vec<u8>, task: TaskId, count: u32, records: &[u8], blobs: u16) {
    body.push(1);
    put_u32(body, task.0);
    put_u32(body, count);
    put_u32(body, records.len() as u32);
    body.extend_from_slice(&blobs.to_le_bytes());
    body.extend_from_slice(records);
}

/// Appends acks of roots of one task in one incarnation.
pub fn put_acks(body: &mut Vec<u8>, acks: &[(RootRef, u64)]) {
    let Some((first, _)) = acks.first() else { return };
    body.push(2);
    put_u32(body, first.task.0);
    put_u32(body, first.incarnation.0);
    put_u32(body, acks.len() as u32);
    for (root, xor) in acks {
        put_u64(body, root.attempt.bits());
        put_u64(body, *xor);
    }
}

/// Appends the failure of a tuple. A text longer than 64 KiB is cut.
pub fn put_fail(body: &mut Vec<u8>, root: &RootRef, failure: &Failure) {
    let mut end = failure.error.len().min(64 << 10);
    while !failure.error.is_char_boundary(end) {
        end -= 1;
    }
    body.push(3);
    put_u32(body, root.task.0);
    put_u32(body, root.incarnation.0);
    put_u64(body, root.attempt.bits());
    body.extend_from_slice(&[failure.reason as u8, u8::from(failure.retry)]);
    put_u32(body, failure.task.0);
    put_u32(body, end as u32);
    body.extend_from_slice(&failure.error.as_bytes()[..end]);
}

/// Appends a signal.
pub fn put_signal(body: &mut Vec<u8>, to: TaskId, signal: signal::Signal) {
    body.push(4);
    put_u32(body, to.0);
    body.push(signal.kind as u8);
    put_u32(body, signal.from.0);
    put_u32(body, signal.incarnation.0);
}

/// Appends how many bytes of a lane were used up, ever.
pub fn put_credit(body: &mut Vec<u8>, task: TaskId, consumed: u64) {
    body.push(5);
    put_u32(body, task.0);
    put_u64(body, consumed);
}

/// Appends a record to the records of a section.
#[inline]
pub fn put_record(
    out: &mut Vec<u8>,
    head: &Head,
    stream: StreamId,
    from: TaskId,
    edge: Option<EdgeId>,
    values: &[u8],
    blobs: usize,
) {
    let roots = match &head.roots {
        Roots::None => 0,
        Roots::One(_) => HAS_ONE_ROOT,
        Roots::Many(_) => HAS_MANY_ROOTS,
    };
    let stamp = if head.stamp == 0 { 0 } else { HAS_STAMP };
    out.push(roots | stamp | if edge.is_some() { HAS_EDGE } else { 0 });
    for number in [stream.0, from.0, head.hops, head.attempt] {
        put_varint(out, number);
    }
    if let Some(edge) = edge {
        put_u64(out, edge.bits());
    }
    if head.stamp != 0 {
        put_u64(out, head.stamp);
    }
    match &head.roots {
        Roots::None => {}
        Roots::One(root) => put_root(out, root),
        Roots::Many(roots) => {
            put_varint(out, roots.len() as u32);
            roots.iter().for_each(|root| put_root(out, root));
        }
    }
    put_varint(out, blobs as u32);
    put_varint(out, values.len() as u32);
    out.extend_from_slice(values);
}

#[inline]
fn put_root(out: &mut Vec<u8>, root: &RootRef) {
    put_varint(out, root.task.0);
    put_varint(out, root.incarnation.0);
    put_u64(out, root.attempt.bits());
}

#[inline]
fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline]
fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline]
fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
