//! The decoder against bytes that nobody in his right mind would send: it never panics, never allocates by a length that it has
//! not checked, and takes nothing of a frame that it refuses.
//!
//! `make fuzz` runs many more cases. A case is a number: `RAINBAND_SEED=…` runs that one alone.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic;

use bytes::Bytes;
use rainband_core::wire::{self, Reader, Section};
use support::check::Effort;
use support::rng::Rng;
use support::wires::{message, random_header, random_part};

/// Counts the bytes that this thread asks for.
struct Counting;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator as it came; the counter neither allocates nor has a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.with(|asked| asked.set(asked.get() + layout.size()));
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Cases of the quick run; ten kinds of damage each.
const CASES: u64 = 5_000;
/// A section of 13 bytes becomes about 100 in a vector that doubles.
const BYTES_PER_BYTE: usize = 64;
const BYTES_AT_LEAST: usize = 4096;

#[test]
fn damaged_frames_do_no_damage() {
    if let Some(seed) = std::env::var("RAINBAND_SEED").ok().and_then(|text| text.parse().ok()) {
        return damage(seed);
    }
    let cases = CASES * u64::from(Effort::from_env().factor);
    for seed in 0..cases {
        if let Err(why) = panic::catch_unwind(|| damage(seed)) {
            println!("RAINBAND_SEED={seed} runs this case alone");
            panic::resume_unwind(why);
        }
    }
    println!("{} frames were refused, or understood as far as they go", cases * 10);
}

fn damage(seed: u64) {
    let mut rng = Rng::new(seed);
    let header = random_header(&mut rng);
    let parts: Vec<_> = (0..rng.between(1, 4)).map(|_| random_part(&mut rng)).collect();
    let whole = message(&header, &parts);
    assert!(decode(&whole), "a whole frame was refused");
    let with_first = |first: Vec<u8>| {
        let mut message = whole.clone();
        message[0] = first.into();
        decode(&message)
    };
    let frame = whole[0].to_vec();
    // What the checksum is for: cut, longer, other bits; nothing at all of it is taken.
    assert!(!with_first(frame[..rng.below(frame.len())].to_vec()), "a frame that was cut was taken");
    assert!(!with_first([&frame[..], &[0]].concat()), "a frame with more behind it was taken");
    for _ in 0..3 {
        let mut flipped = frame.clone();
        for _ in 0..rng.between(1, 3) {
            let at = rng.below(flipped.len());
            flipped[at] = flipped[at].wrapping_add(rng.between(1, 255) as u8);
        }
        assert!(flipped == frame || !with_first(flipped), "a frame with other bits was taken");
    }
    // What a defect of the sender might do: damage with the right checksum, at lengths and counts above all.
    for _ in 0..3 {
        let mut body = frame.clone();
        match rng.below(3) {
            0 => body.truncate(wire::HEADER_BYTES + rng.below(body.len() - wire::HEADER_BYTES + 1)),
            1 => {
                let at = rng.between(wire::HEADER_BYTES, body.len() - 4);
                body[at..at + 4].copy_from_slice(&[0xff, 0xff, 0xff, [0x7f, 0xff][rng.below(2)]]);
            }
            _ => {
                let at = rng.between(wire::HEADER_BYTES, body.len() - 1);
                body[at] = rng.bits() as u8;
            }
        }
        wire::seal(&mut body, &header, &[]);
        decode(&[body.into()]);
    }
    let noise: Vec<u8> = (0..rng.below(200)).map(|_| rng.bits() as u8).collect();
    decode(&[noise.clone().into()]);
    let mut body = wire::new_body();
    body.extend_from_slice(&noise);
    wire::seal(&mut body, &header, &[]);
    decode(&[body.into()]);
    // Parts of the message that are missing, or too many, or not the right ones.
    let fewer = &whole[..whole.len() - 1];
    let more: Vec<Bytes> = whole.iter().cloned().chain([Bytes::from_static(b"more")]).collect();
    assert!(!decode(fewer) && !decode(&more), "a message with another number of parts was taken");
}

/// Reads all there is to read; whether the frame was taken.
fn decode(message: &[Bytes]) -> bool {
    let before = ASKED.get();
    let is_taken = read(message);
    let asked = ASKED.get() - before;
    let length: usize = message.iter().map(Bytes::len).sum();
    assert!(asked <= BYTES_AT_LEAST + BYTES_PER_BYTE * length, "{asked} bytes allocated for {length}");
    is_taken
}

fn read(message: &[Bytes]) -> bool {
    let Ok((header, body)) = wire::open(message) else { return false };
    if header.kind == wire::Kind::Heartbeat {
        return wire::read_heartbeat(&message[0][body]).is_ok();
    }
    let Ok(sections) = wire::sections(message, body) else { return false };
    for section in sections {
        match section {
            Section::Tuples(_, records) => {
                let mut reader = Reader::new(records);
                reader.for_each_root(&mut |_| {});
                let mut left = reader.left();
                while let Ok(Some(_)) = reader.read_next() {
                    left -= 1;
                    assert_eq!(reader.left(), left, "a record is read and not counted");
                }
            }
            Section::Acks(.., pairs) => assert_eq!(wire::acks(&pairs).count() * 16, pairs.len()),
            Section::Fail(..) | Section::Signal(..) | Section::Credit(..) => {}
        }
    }
    true
}
