//! One frame of each kind, section and shape of record, held to the bytes in `tests/wire/v<VERSION>/*.hex`: workers of the same
//! version understand each other. A file that is missing is written by `RAINBAND_GOLDEN=write`; one that is there is never
//! changed: another layout needs another version, and so another folder.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use rainband_core::ids::{AttemptId, EdgeId, Incarnation, RootRef, StreamId, TaskId, WorkerId};
use rainband_core::ledger::{Failure, Reason};
use rainband_core::signal::{Kind, Signal};
use rainband_core::tuple::{Head, LineageId, Roots};
use rainband_core::wire::{self, End, Header, Heartbeat, Identity};

use super::super::check::{Effort, ensure};
use super::{Part, Tuple, compare, message};

/// The bytes are those of the files, and there is no file more.
pub fn match_the_files(_: Effort) -> Result<(), String> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire")).join(format!("v{}", wire::VERSION));
    let frames = frames();
    for (name, parts) in &frames {
        let path = folder.join(name).with_extension("hex");
        let text = as_text(parts);
        if !path.exists() && std::env::var("RAINBAND_GOLDEN").is_ok_and(|value| value == "write") {
            fs::create_dir_all(&folder).and_then(|()| fs::write(&path, &text)).map_err(|error| error.to_string())?;
        }
        let expected = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        ensure(text == expected, || format!("{name}: the bytes changed; that needs another wire::VERSION\n{text}"))?;
    }
    let files = fs::read_dir(&folder).map_err(|error| error.to_string())?.count();
    ensure(files == frames.len(), || format!("{files} files for {} frames", frames.len()))
}

/// The files are understood: their bytes are the sections that they were made of.
pub fn files_are_understood(_: Effort) -> Result<(), String> {
    for (name, parts) in sections() {
        let message = message(&header(wire::Kind::Sections, 7), &parts);
        let body = wire::open(&message).map_err(|error| format!("{name}: {error:?}"))?.1;
        let got = wire::sections(&message, body).map_err(|error| format!("{name}: {error:?}"))?;
        ensure(got.len() == parts.len(), || format!("{name}: {} sections", got.len()))?;
        got.into_iter().zip(&parts).try_for_each(|(section, part)| compare(&section, part))?;
    }
    Ok(())
}

fn header(kind: wire::Kind, sequence: u64) -> Header {
    Header {
        kind,
        identity: Identity { run: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff, plan: 0x0102_0304_0506_0708 },
        from: End { worker: WorkerId(1), incarnation: Incarnation(2) },
        to: End { worker: WorkerId(3), incarnation: Incarnation(4) },
        sequence,
        blobs: 0,
    }
}

fn frames() -> Vec<(&'static str, Vec<Bytes>)> {
    let beat = |sent, received, wants_again| {
        vec![wire::heartbeat(&header(wire::Kind::Heartbeat, 0), Heartbeat { sent, received, wants_again })]
    };
    let mut frames = vec![
        ("hello", vec![wire::hello(&header(wire::Kind::Hello, 0))]),
        ("heartbeat", beat(300, 200, false)),
        ("heartbeat-again", beat(0, u64::MAX, true)),
    ];
    let with_header =
        |(name, parts): (&'static str, Vec<Part>)| (name, message(&header(wire::Kind::Sections, 7), &parts));
    frames.extend(sections().into_iter().map(with_header));
    frames
}

fn root(task: u32, sequence: u64) -> RootRef {
    RootRef { task: TaskId(task), incarnation: Incarnation(2), attempt: AttemptId::new(sequence, 5) }
}

fn tuple(roots: Roots, edge: u64, stamp: u64) -> Tuple {
    Tuple {
        head: Head { roots, hops: 3, attempt: 1, stamp, lineage: LineageId },
        stream: StreamId(200),
        from: TaskId(1),
        edge: std::num::NonZeroU64::new(edge).map(EdgeId),
        values: b"values".to_vec(),
        blobs: Vec::new(),
    }
}

fn sections() -> Vec<(&'static str, Vec<Part>)> {
    let edge = 0xa1a2_a3a4_a5a6_a7a8;
    let many = Roots::Many([root(0, 1), root(300, 70_000)].into());
    let records = |tuple| vec![Part::Tuples(TaskId(9), vec![tuple])];
    let large = || Tuple { blobs: vec![b"large".to_vec().into(), Bytes::new()], ..tuple(Roots::None, 0, 0) };
    let numbers = || Tuple {
        head: Head { hops: u32::MAX, attempt: 1 << 14, ..Head::default() },
        stream: StreamId(127),
        from: TaskId(128),
        values: Vec::new(),
        ..tuple(Roots::None, 0, 0)
    };
    let fail = |reason, error: &str, retry| {
        Part::Fail(root(6, 8), Failure { reason, task: TaskId(2), error: error.into(), retry })
    };
    let signal = |kind| Part::Signal(TaskId(4), Signal { kind, from: TaskId(3), incarnation: Incarnation(2) });
    let acks = || Part::Acks(vec![(root(6, 8), edge), (root(6, 9), 1)]);
    vec![
        ("record-untracked", records(tuple(Roots::None, 0, 0))),
        ("record-one-root", records(tuple(Roots::One(root(0, 1)), edge, 0))),
        ("record-many-roots", records(tuple(many.clone(), edge, 0))),
        ("record-stamp", records(tuple(Roots::One(root(0, 1)), edge, 0xb1b2))),
        ("record-blobs", records(large())),
        ("record-large-numbers", records(numbers())),
        ("acks", vec![acks()]),
        ("fails", Reason::ALL.map(|reason| fail(reason, reason.as_str(), reason != Reason::Rejected)).to_vec()),
        ("signals", [Kind::Flush, Kind::End, Kind::Anew].map(signal).to_vec()),
        ("credit", vec![Part::Credit(TaskId(9), 1 << 40)]),
        (
            "all",
            vec![
                Part::Tuples(TaskId(9), vec![tuple(many, edge, 1), large()]),
                signal(Kind::Flush),
                Part::Tuples(TaskId(8), vec![large(), numbers()]),
                acks(),
                fail(Reason::Error, "KeyError('ä')", true),
                Part::Credit(TaskId(9), 123),
            ],
        ),
    ]
}

/// 32 bytes a line, a blank line between the parts of the message.
fn as_text(parts: &[Bytes]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<String>>().concat();
    let line = |bytes: &[u8]| hex(bytes) + "\n";
    let part = |part: &Bytes| part.chunks(32).map(line).collect::<String>();
    parts.iter().map(part).collect::<Vec<String>>().join("\n")
}
