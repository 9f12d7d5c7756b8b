//! The bytes between workers. `golden` holds them to the files in `tests/wire`, the rest here draws random frames and reads
//! them back.

pub mod golden;

use bytes::Bytes;
use proptest::prelude::any;
use rainband_core::ids::{AttemptId, EdgeId, Incarnation, RootRef, StreamId, TaskId, WorkerId};
use rainband_core::ledger::{Failure, Reason};
use rainband_core::signal::{Kind, Signal};
use rainband_core::tuple::{Head, LineageId, Roots};
use rainband_core::wire::{self, End, Header, Heartbeat, Identity, Reader, Records, Section};

use super::check::{Effort, ensure, for_all};
use super::rng::Rng;

/// A tuple as it is put on the wire.
#[derive(Clone, Debug)]
pub struct Tuple {
    pub head: Head,
    pub stream: StreamId,
    pub from: TaskId,
    pub edge: Option<EdgeId>,
    pub values: Vec<u8>,
    pub blobs: Vec<Bytes>,
}

/// A section as it is put on the wire.
#[derive(Clone, Debug)]
pub enum Part {
    Tuples(TaskId, Vec<Tuple>),
    Acks(Vec<(RootRef, u64)>),
    Fail(RootRef, Failure),
    Signal(TaskId, Signal),
    Credit(TaskId, u64),
}

/// The message that carries `parts`.
pub fn message(header: &Header, parts: &[Part]) -> Vec<Bytes> {
    let mut body = wire::new_body();
    let mut blobs: Vec<Bytes> = Vec::new();
    for part in parts {
        match part {
            Part::Tuples(task, tuples) => {
                let mut records = Vec::new();
                let before = blobs.len();
                for tuple in tuples {
                    let Tuple { head, stream, from, edge, values, blobs: its } = tuple;
                    wire::put_record(&mut records, head, *stream, *from, *edge, values, its.len());
                    blobs.extend(its.iter().cloned());
                }
                let count = (blobs.len() - before) as u16;
                wire::put_tuples(&mut body, *task, tuples.len() as u32, &records, count);
            }
            Part::Acks(acks) => wire::put_acks(&mut body, acks),
            Part::Fail(root, failure) => wire::put_fail(&mut body, root, failure),
            Part::Signal(to, signal) => wire::put_signal(&mut body, *to, *signal),
            Part::Credit(task, consumed) => wire::put_credit(&mut body, *task, *consumed),
        }
    }
    wire::seal(&mut body, &Header { blobs: blobs.len() as u16, ..*header }, &blobs);
    let mut message = vec![Bytes::from(body)];
    message.extend(blobs);
    message
}

/// What was put in comes out again.
pub fn round_trip(effort: Effort) -> Result<(), String> {
    for_all(effort, 2000, &any::<u64>(), |seed| {
        let mut rng = Rng::new(seed);
        let header = random_header(&mut rng);
        let parts: Vec<Part> = (0..rng.below(6)).map(|_| random_part(&mut rng)).collect();
        let message = message(&header, &parts);
        let (got, body) = wire::open(&message).map_err(|error| format!("{error:?}"))?;
        let expected = Header { blobs: (message.len() - 1) as u16, ..header };
        ensure(got == expected, || format!("{got:?}, expected {expected:?}"))?;
        let sections = wire::sections(&message, body).map_err(|error| format!("{error:?} of {parts:?}"))?;
        ensure(sections.len() == parts.len(), || format!("{} sections of {}", sections.len(), parts.len()))?;
        sections.into_iter().zip(&parts).try_for_each(|(section, part)| compare(&section, part))
    })
}

/// A heartbeat and a hello, too.
pub fn beats_round_trip(effort: Effort) -> Result<(), String> {
    for_all(effort, 300, &any::<u64>(), |seed| {
        let mut rng = Rng::new(seed);
        let beat = Heartbeat { sent: rng.bits(), received: rng.bits(), wants_again: rng.chance(50) };
        let header = Header { kind: wire::Kind::Heartbeat, sequence: 0, ..random_header(&mut rng) };
        let frame = wire::heartbeat(&header, beat);
        let (got, body) = wire::open(std::slice::from_ref(&frame)).map_err(|error| format!("{error:?}"))?;
        ensure(got == header, || format!("{got:?}"))?;
        let got = wire::read_heartbeat(&frame[body.clone()]);
        ensure(got == Ok(beat), || format!("{got:?}, expected {beat:?}"))?;
        let short = wire::read_heartbeat(&frame[body.start..body.end - 1]);
        ensure(short.is_err(), || "a short heartbeat was read".into())?;
        let header = Header { kind: wire::Kind::Hello, ..header };
        let got = wire::open(&[wire::hello(&header)]).map(|(header, body)| (header, body.len()));
        ensure(got == Ok((header, 0)), || format!("{got:?}"))
    })
}

fn compare(section: &Section, part: &Part) -> Result<(), String> {
    let is_same = match (section, part) {
        (Section::Tuples(task, records), Part::Tuples(expected, tuples)) => {
            task == expected && compare_records(records, tuples)?
        }
        (Section::Acks(task, incarnation, pairs), Part::Acks(acks)) => {
            let got = wire::acks(pairs)
                .map(|(attempt, xor)| (RootRef { task: *task, incarnation: *incarnation, attempt }, xor));
            got.eq(acks.iter().copied())
        }
        (Section::Fail(root, failure), Part::Fail(expected, why)) => root == expected && failure == why,
        (Section::Signal(to, signal), Part::Signal(expected, what)) => to == expected && signal == what,
        (Section::Credit(task, consumed), Part::Credit(expected, n)) => task == expected && consumed == n,
        _ => false,
    };
    ensure(is_same, || format!("{section:?}, expected {part:?}"))
}

fn compare_records(records: &Records, tuples: &[Tuple]) -> Result<bool, String> {
    let mut reader = Reader::new(records.clone());
    let mut roots = Vec::new();
    reader.for_each_root(&mut |root| roots.push(*root));
    let expected: Vec<RootRef> = tuples.iter().flat_map(|tuple| tuple.head.roots.as_slice()).copied().collect();
    ensure(roots == expected, || format!("roots {roots:?}, expected {expected:?}"))?;
    for tuple in tuples {
        let Ok(Some(record)) = reader.read_next() else { return Ok(false) };
        let is_same = record.head.roots.as_slice() == tuple.head.roots.as_slice()
            && (record.head.hops, record.head.attempt) == (tuple.head.hops, tuple.head.attempt)
            && record.head.stamp == tuple.head.stamp
            && (record.stream, record.from, record.edge) == (tuple.stream, tuple.from, tuple.edge)
            && (record.values, record.blobs) == (&tuple.values[..], &tuple.blobs[..]);
        ensure(is_same, || format!("{record:?}, expected {tuple:?}"))?;
    }
    Ok(reader.left() == 0 && matches!(reader.read_next(), Ok(None)))
}

/// A number of any size: small ones are as likely as large ones.
fn number(rng: &mut Rng) -> u32 {
    (rng.bits() >> 32) as u32 >> rng.below(32)
}

pub fn random_header(rng: &mut Rng) -> Header {
    let end = |rng: &mut Rng| End { worker: WorkerId(number(rng)), incarnation: Incarnation(number(rng)) };
    Header {
        kind: wire::Kind::Sections,
        identity: Identity { run: u128::from(rng.bits()) << 64 | u128::from(rng.bits()), plan: rng.bits() },
        from: end(rng),
        to: end(rng),
        sequence: rng.bits(),
        blobs: 0,
    }
}

fn random_root(rng: &mut Rng) -> RootRef {
    let attempt = AttemptId::from_bits(rng.bits());
    RootRef { task: TaskId(number(rng)), incarnation: Incarnation(number(rng)), attempt }
}

fn random_tuple(rng: &mut Rng) -> Tuple {
    let roots = match rng.below(4) {
        0 => Roots::None,
        1 => Roots::Many((0..rng.between(0, 5)).map(|_| random_root(rng)).collect()),
        _ => Roots::One(random_root(rng)),
    };
    let stamp = if rng.chance(70) { 0 } else { rng.bits() };
    let blob = |rng: &mut Rng| Bytes::from(vec![rng.bits() as u8; rng.below(40)]);
    Tuple {
        head: Head { roots, hops: number(rng), attempt: number(rng), stamp, lineage: LineageId },
        stream: StreamId(number(rng)),
        from: TaskId(number(rng)),
        edge: if rng.chance(20) { None } else { std::num::NonZeroU64::new(rng.bits()).map(EdgeId) },
        values: (0..rng.below(30)).map(|_| rng.bits() as u8).collect(),
        blobs: if rng.chance(80) { Vec::new() } else { (0..rng.between(1, 3)).map(|_| blob(rng)).collect() },
    }
}

pub fn random_part(rng: &mut Rng) -> Part {
    let task = TaskId(number(rng));
    match rng.below(6) {
        0 => {
            let first = random_root(rng);
            let another = |rng: &mut Rng| (RootRef { attempt: AttemptId::from_bits(rng.bits()), ..first }, rng.bits());
            Part::Acks((0..rng.between(1, 5)).map(|_| another(rng)).collect())
        }
        1 => {
            let reason = Reason::ALL[rng.below(Reason::ALL.len())];
            let error = "KeyError('ä')".repeat(rng.below(3)).into();
            Part::Fail(random_root(rng), Failure { reason, task, error, retry: rng.chance(50) })
        }
        2 => {
            let kind = [Kind::Flush, Kind::End, Kind::Anew][rng.below(3)];
            Part::Signal(task, Signal { kind, from: TaskId(number(rng)), incarnation: Incarnation(number(rng)) })
        }
        3 => Part::Credit(task, rng.bits()),
        _ => Part::Tuples(task, (0..rng.between(1, 4)).map(|_| random_tuple(rng)).collect()),
    }
}
