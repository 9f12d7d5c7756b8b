//! Stage 4r of 8: the bytes between two workers. The only place that knows them; golden files hold them (`tests/wire/`).
//!
//! A *frame* is one message of the transport: a header of [`HEADER_BYTES`], a body, and perhaps *blobs*, large values that
//! travel as message parts of their own so that nobody copies them. The body of a frame of kind [`Kind::Sections`] is a row of
//! sections; one of them holds the records (tuples) for one task.
//!
//! ```text
//! header   magic "RBND"  version u16  kind u8  0 u8  run u128  plan u64  sender u32  incarnation u32
//!          receiver u32  incarnation u32  sequence u64  length u32  blobs u16  6 × 0 u8  crc32c u32  (little endian)
//! body     sections, then (length u32, crc32c u32) of each blob
//! tuples   1 u8  task u32  records u32  length u32  blobs u16  records
//! acks     2 u8  task u32  incarnation u32  count u32  (attempt u64, xor u64) …
//! fail     3 u8  task u32  incarnation u32  attempt u64  reason u8  retry u8  by u32  length u32  text
//! signal   4 u8  to u32  kind u8  from u32  incarnation u32
//! credit   5 u8  task u32  consumed u64
//! record   flags u8  stream, from, hops, attempt as varints  edge u64?  stamp u64?  roots?  blobs, length as varints  values
//! ```
//!
//! The checksum covers the header before it and the body. Decoding never panics, never reads beyond what is there, and
//! allocates nothing by a length that it has not checked against the bytes at hand. A frame is decoded as a whole before
//! anything of it is applied.

use bytes::Bytes;

use crate::ids::{EdgeId, Incarnation, RootRef, StreamId, TaskId, WorkerId};
use crate::ledger::Failure;
use crate::signal;
use crate::tuple::Head;

mod put;
mod read;

pub use put::{heartbeat, hello, new_body, put_acks, put_credit, put_fail, put_record, put_signal, put_tuples, seal};
pub use read::{Reader, acks, open, read_heartbeat, sections};

/// Of this layout. Workers of different versions refuse each other.
pub const VERSION: u16 = 1;
/// Before the body of every frame.
pub const HEADER_BYTES: usize = 72;
/// The longest body, and the longest blob. Above it a tuple cannot travel.
pub const MAX_PART_BYTES: usize = 16 << 20;

const MAGIC: [u8; 4] = *b"RBND";
const CRC_AT: usize = HEADER_BYTES - 4;
const BLOB_ENTRY: usize = 8;

/// What kind of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first of a link: both ends have to know each other before anything else is decoded.
    Hello = 1,
    /// Sections, numbered; sent again until acknowledged.
    Sections = 2,
    /// What was sent and received so far; not numbered.
    Heartbeat = 3,
}

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct End {
    /// Which worker.
    pub worker: WorkerId,
    /// Its how-many-eth process.
    pub incarnation: Incarnation,
}

/// Which run of which plan; frames of another are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Drawn at random by the supervisor.
    pub run: u128,
    /// Equal in workers with equal plans.
    pub plan: u64,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What kind.
    pub kind: Kind,
    /// Of the run and the plan.
    pub identity: Identity,
    /// Who sends.
    pub from: End,
    /// Who is meant.
    pub to: End,
    /// The number of a frame of sections, from 1; else 0.
    pub sequence: u64,
    /// How many blobs follow.
    pub blobs: u16,
}

/// What a heartbeat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The highest number sent, so that a lost tail shows.
    pub sent: u64,
    /// The highest number received without a gap.
    pub received: u64,
    /// Something is missing behind `received`: send it again.
    pub wants_again: bool,
}

/// Why a frame is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// Shorter than it says, or than its header.
    Truncated,
    /// Not a frame of ours.
    BadMagic,
    /// Of another version of this layout.
    Version(u16),
    /// The checksum does not fit.
    Checksum,
    /// A kind, a tag or a number that there is not.
    Malformed,
}

/// The records of one section, for one task, undecoded.
#[derive(Clone, Debug)]
pub struct Records {
    /// How many.
    pub count: u32,
    /// The records.
    pub bytes: Bytes,
    /// Their large values, in order.
    pub blobs: Vec<Bytes>,
}

/// A part of the body.
#[derive(Clone, Debug)]
pub enum Section {
    /// Tuples for a task of the receiver.
    Tuples(TaskId, Records),
    /// Acks for the roots of a task: (attempt, XOR) pairs, 16 bytes each.
    Acks(TaskId, Incarnation, Bytes),
    /// A tuple of this root failed.
    Fail(RootRef, Failure),
    /// A signal for a task of the receiver.
    Signal(TaskId, signal::Signal),
    /// The receiver has used up so many bytes of the sender's lane to this task, ever.
    Credit(TaskId, u64),
}

/// A tuple as it travels.
#[derive(Debug)]
pub struct Record<'a> {
    /// Roots, hops, attempt, stamp.
    pub head: Head,
    /// The stream it was emitted on.
    pub stream: StreamId,
    /// The task that emitted it.
    pub from: TaskId,
    /// This delivery's id.
    pub edge: Option<EdgeId>,
    /// The values, encoded by the door.
    pub values: &'a [u8],
    /// Its large values.
    pub blobs: &'a [Bytes],
}

const HAS_EDGE: u8 = 1;
const HAS_ONE_ROOT: u8 = 2;
const HAS_MANY_ROOTS: u8 = 4;
const HAS_STAMP: u8 = 8;
