//! One link, as its own end sees it: frames to be sent and confirmed, lanes and their credit, what came in, timers. A state
//! machine without a lock or a clock; `peer` holds the lock.

use std::collections::VecDeque;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::deliver::Packed;
use crate::fault::{Fault, planted};
use crate::ids::{Incarnation, RootRef, TaskId};
use crate::ledger::Failure;
use crate::queue::Wake;
use crate::wire::{self, HEADER_BYTES, Header, Heartbeat, Kind, Reader, Section};

use super::Lost;

/// A frame is closed when its body comes to this: the knee of the transport's cost per byte lies between 16 and 64 kB.
const FRAME_BYTES: usize = 64 << 10;
/// Until the other end has answered, hello is said so often.
const HELLO_EVERY_NS: u64 = 50_000_000;
/// On an idle link.
const BEAT_EVERY_NS: u64 = 1_000_000_000;
/// What was not confirmed for so long is asked after, then after twice the time, and so on.
const PROBE_AFTER_NS: u64 = 20_000_000;
/// What came is confirmed after so many frames or bytes, or so long.
const CONFIRM_FRAMES: u32 = 16;
const CONFIRM_BYTES: u64 = 256 << 10;
const CONFIRM_AFTER_NS: u64 = 5_000_000;
/// What is on its way again is not asked for once more within this time.
const AGAIN_AFTER_NS: u64 = 10_000_000;

/// A row of sections that grows, and its large values.
#[derive(Debug, Default)]
struct Body {
    /// With room for the header; empty if nothing is in it.
    bytes: Vec<u8>,
    blobs: Vec<Bytes>,
}

/// What may be under way to one task.
#[derive(Debug)]
struct Lane<W> {
    sent: u64,
    consumed: u64,
    waiting: Vec<W>,
}

impl<W> Default for Lane<W> {
    fn default() -> Self {
        Self { sent: 0, consumed: 0, waiting: Vec::new() }
    }
}

/// What one of our tasks took of what the other end sent to it.
#[derive(Debug, Default)]
struct Taken {
    consumed: u64,
    told: u64,
}

/// What is said about a root.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Ack(u64),
    Fail(Failure),
}

/// A message, and whether it was sent before.
#[derive(Debug)]
pub(super) struct Transmit {
    pub parts: Vec<Bytes>,
    pub is_again: bool,
}

/// One link.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the link or something owed on it")]
#[derive(Debug)]
pub(super) struct State<W> {
    /// The process at the other end; `None` if there is none.
    pub to: Option<Incarnation>,
    /// The newest process that there was.
    pub newest: Option<Incarnation>,
    /// Its hello came.
    pub heard: bool,
    /// It has heard ours, too.
    pub is_up: bool,
    /// Acks, fails and credit for the next frame.
    control: Vec<u8>,
    /// Acks and fails for a successor that this worker has not installed yet.
    early: Vec<(RootRef, Said)>,
    open: Body,
    closed: VecDeque<Body>,
    /// Sent and not confirmed; the first has the number `confirmed + 1`.
    kept: VecDeque<Vec<Bytes>>,
    confirmed: u64,
    sent: u64,
    /// The next number to be sent again.
    again: Option<u64>,
    again_at_ns: u64,
    lanes: FxHashMap<TaskId, Lane<W>>,
    received: u64,
    unconfirmed_frames: u32,
    unconfirmed_bytes: u64,
    confirm_at_ns: u64,
    wants_again: bool,
    owes_beat: bool,
    owes_hello: bool,
    taken: FxHashMap<TaskId, Taken>,
    hello_at_ns: u64,
    beat_at_ns: u64,
    probe_at_ns: u64,
    probe_wait_ns: u64,
}

impl<W> Default for State<W> {
    fn default() -> Self {
        Self {
            to: None,
            newest: None,
            heard: false,
            is_up: false,
            control: Vec::new(),
            early: Vec::new(),
            open: Body::default(),
            closed: VecDeque::new(),
            kept: VecDeque::new(),
            confirmed: 0,
            sent: 0,
            again: None,
            again_at_ns: 0,
            lanes: FxHashMap::default(),
            received: 0,
            unconfirmed_frames: 0,
            unconfirmed_bytes: 0,
            confirm_at_ns: u64::MAX,
            wants_again: false,
            owes_beat: false,
            owes_hello: false,
            taken: FxHashMap::default(),
            hello_at_ns: 0,
            beat_at_ns: 0,
            probe_at_ns: u64::MAX,
            probe_wait_ns: PROBE_AFTER_NS,
        }
    }
}

/// What a section of tuples costs of a lane's credit; one with large values half of the window at most, so that the next is on its
/// way while the other end takes out the first. Both ends must come to the same.
pub(super) fn weight(bytes: usize, blobs: &[Bytes], window: u64) -> u64 {
    if blobs.is_empty() {
        return bytes as u64;
    }
    let all = bytes + blobs.iter().map(Bytes::len).sum::<usize>();
    (all as u64).min(window.div_ceil(2))
}

impl<W> Lane<W> {
    fn has_room(&self, window: u64) -> bool {
        self.sent - self.consumed < window
    }
}

impl<W: Wake> State<W> {
    // -- lanes ---------------------------------------------------------------------------------------------------------

    /// Takes `packed` if there is credit: `Some(whether some is left)`.
    pub fn push(&mut self, task: TaskId, packed: &mut Packed, window: u64) -> Option<bool> {
        if !self.is_up {
            return None;
        }
        let key = if planted(Fault::CreditPerLink) { TaskId(u32::MAX) } else { task };
        let lane = self.lanes.entry(key).or_default();
        if !lane.has_room(window) {
            return None;
        }
        lane.sent += weight(packed.bytes.len(), &packed.blobs, window);
        let has_room = lane.has_room(window);
        let blobs = packed.blobs.len() as u16;
        wire::put_tuples(self.open_body(), task, packed.count, &packed.bytes, blobs);
        self.open.blobs.append(&mut packed.blobs);
        packed.bytes.clear();
        packed.count = 0;
        if self.open.bytes.len() >= FRAME_BYTES || blobs > 0 {
            self.closed.push_back(std::mem::take(&mut self.open));
        }
        Some(has_room)
    }

    /// The body that grows, with room for its header.
    pub fn open_body(&mut self) -> &mut Vec<u8> {
        if self.open.bytes.is_empty() {
            self.open.bytes = wire::new_body();
        }
        &mut self.open.bytes
    }

    pub fn wait_for_room(&mut self, task: TaskId, waker: &W, window: u64) -> bool {
        let key = if planted(Fault::CreditPerLink) { TaskId(u32::MAX) } else { task };
        let is_up = self.is_up;
        let lane = self.lanes.entry(key).or_default();
        if is_up && lane.has_room(window) {
            return false;
        }
        if !lane.waiting.iter().any(|waiting| waiting.is_same(waker)) {
            lane.waiting.push(waker.clone());
        }
        true
    }

    /// The other end has used up `consumed` bytes of the lane to `task`, ever. Returns who waits, once half of it is free.
    pub fn credit(&mut self, task: TaskId, consumed: u64, window: u64) -> Vec<W> {
        let key = if planted(Fault::CreditPerLink) { TaskId(u32::MAX) } else { task };
        let Some(lane) = self.lanes.get_mut(&key) else { return Vec::new() };
        if key == task {
            lane.consumed = lane.consumed.max(consumed.min(lane.sent));
        } else {
            lane.consumed = (lane.consumed + window / 4).min(lane.sent);
        }
        if lane.sent - lane.consumed <= window / 2 { std::mem::take(&mut lane.waiting) } else { Vec::new() }
    }

    /// One of our tasks took what the other end had sent. Returns whether that is worth telling now.
    pub fn consumed(&mut self, task: TaskId, weight: u64, window: u64) -> bool {
        let taken = self.taken.entry(task).or_default();
        taken.consumed += weight;
        // The sender stops at `window` at the latest, so more than a quarter of it will be untold by then.
        if taken.consumed - taken.told < (window / 4).max(1) {
            return false;
        }
        taken.told = taken.consumed;
        let consumed = taken.consumed;
        wire::put_credit(self.control_body(), task, consumed);
        true
    }

    pub fn take_waiting(&mut self) -> Vec<W> {
        self.lanes.values_mut().flat_map(|lane| std::mem::take(&mut lane.waiting)).collect()
    }

    // -- incarnations --------------------------------------------------------------------------------------------------

    /// The roots of everything that the other end has not confirmed.
    pub fn lost(&self) -> Lost {
        let mut lost = Lost::default();
        let mut note = |parts: &[Bytes]| {
            let Ok((header, body)) = wire::open(parts) else { return };
            debug_assert_eq!(header.kind, Kind::Sections);
            collect_roots(parts, body, &mut lost);
        };
        self.kept.iter().for_each(|parts| note(parts));
        for body in self.closed.iter().chain([&self.open]) {
            if !body.bytes.is_empty() {
                let mut parts = vec![Bytes::copy_from_slice(&body.bytes)];
                parts.extend(body.blobs.iter().cloned());
                collect_roots(&parts, HEADER_BYTES..body.bytes.len(), &mut lost);
            }
        }
        lost
    }

    /// Starts anew with another process at the other end. Those who wait for credit wait on.
    pub fn replace(&mut self, to: Option<Incarnation>) {
        let (lanes, early) = (std::mem::take(&mut self.lanes), std::mem::take(&mut self.early));
        *self = Self { to, newest: self.newest.max(to), ..Self::default() };
        for (root, said) in early {
            self.say(root, said);
        }
        for (task, lane) in lanes {
            self.lanes.insert(task, Lane { waiting: lane.waiting, ..Lane::default() });
        }
    }

    /// Acks, fails and credit, to be added to. What has come to a frame's length is closed, and goes before all that waits: a peer
    /// that is stopped for long must not make a frame that nobody takes.
    pub fn control_body(&mut self) -> &mut Vec<u8> {
        if self.control.len() >= FRAME_BYTES {
            let mut bytes = wire::new_body();
            bytes.append(&mut self.control);
            self.closed.push_front(Body { bytes, blobs: Vec::new() });
        }
        &mut self.control
    }

    /// Says it in the next frame, or later if the root's incarnation is one to come. `false` if it is gone.
    pub fn say(&mut self, root: RootRef, said: Said) -> bool {
        if self.to == Some(root.incarnation) {
            match &said {
                Said::Ack(xor) => wire::put_acks(self.control_body(), &[(root, *xor)]),
                Said::Fail(failure) => wire::put_fail(self.control_body(), &root, failure),
            }
            return true;
        }
        let is_early = Some(root.incarnation) > self.newest && !planted(Fault::EarlyDropped);
        if is_early {
            self.early.push((root, said));
        }
        is_early
    }

    pub fn is_settled(&self) -> bool {
        self.kept.is_empty() && !self.has_output()
    }

    /// How many frames went either way.
    pub fn frames(&self) -> u64 {
        self.sent + self.received
    }

    /// Bytes that wait to be sent or confirmed.
    pub fn backlog(&self) -> usize {
        let parts = |parts: &Vec<Bytes>| parts.iter().map(Bytes::len).sum::<usize>();
        let body = |body: &Body| body.bytes.len() + body.blobs.iter().map(Bytes::len).sum::<usize>();
        let bodies = self.closed.iter().chain([&self.open]).map(body).sum::<usize>();
        self.kept.iter().map(parts).sum::<usize>() + bodies + self.control.len()
    }

    fn has_output(&self) -> bool {
        !self.control.is_empty() || !self.closed.is_empty() || !self.open.bytes.is_empty()
    }

    // -- sending -------------------------------------------------------------------------------------------------------

    pub fn transmit(&mut self, header: Header, now_ns: u64) -> Option<Transmit> {
        let fresh = |parts| Some(Transmit { parts, is_again: false });
        if std::mem::take(&mut self.owes_hello) {
            return fresh(vec![wire::hello(&Header { kind: Kind::Hello, ..header })]);
        }
        if self.heard && self.owes_beat {
            return fresh(vec![self.beat(header, now_ns)]);
        }
        if !self.is_up {
            return None;
        }
        if let Some(again) = self.again {
            let again = again.max(self.confirmed + 1); // Some may have been confirmed since they were asked for.
            self.again = (again < self.sent).then_some(again + 1);
            if let Some(parts) = self.kept.get((again - self.confirmed - 1) as usize) {
                return Some(Transmit { parts: parts.clone(), is_again: true });
            }
        }
        if !self.has_output() {
            return None;
        }
        let mut body = self.closed.pop_front().unwrap_or_else(|| std::mem::take(&mut self.open));
        if body.bytes.is_empty() {
            body.bytes = wire::new_body();
        }
        body.bytes.append(&mut self.control);
        self.sent += 1;
        let header = Header { sequence: self.sent, blobs: body.blobs.len() as u16, ..header };
        wire::seal(&mut body.bytes, &header, &body.blobs);
        let mut parts = vec![Bytes::from(body.bytes)];
        parts.append(&mut body.blobs);
        if self.kept.is_empty() {
            self.probe_wait_ns = PROBE_AFTER_NS;
            self.probe_at_ns = now_ns + PROBE_AFTER_NS;
        }
        self.kept.push_back(parts.clone());
        if planted(Fault::ForgottenWhenSent) {
            self.kept.pop_back();
            self.confirmed = self.sent;
        }
        fresh(parts)
    }

    fn beat(&mut self, header: Header, now_ns: u64) -> Bytes {
        let beat = Heartbeat { sent: self.sent, received: self.received, wants_again: self.wants_again };
        self.owes_beat = false;
        self.wants_again = false;
        self.unconfirmed_frames = 0;
        self.unconfirmed_bytes = 0;
        self.confirm_at_ns = u64::MAX;
        self.beat_at_ns = now_ns + BEAT_EVERY_NS;
        wire::heartbeat(&Header { kind: Kind::Heartbeat, ..header }, beat)
    }

    // -- receiving -----------------------------------------------------------------------------------------------------

    /// The other end said hello, and waits for an answer.
    pub fn hello(&mut self) {
        // Ours was refused if it came before the other end had installed the view. Now it has.
        self.owes_hello |= !self.heard && !self.is_up;
        self.heard = true;
        self.owes_beat = true;
    }

    /// A heartbeat came: the other end has heard us. Returns whether the link came up by that.
    pub fn heartbeat(&mut self, beat: Heartbeat, now_ns: u64) -> bool {
        let came_up = !std::mem::replace(&mut self.is_up, true);
        self.confirm(beat.received, now_ns);
        if beat.wants_again && self.confirmed < self.sent && now_ns >= self.again_at_ns {
            self.again = Some(self.confirmed + 1);
            self.again_at_ns = now_ns + AGAIN_AFTER_NS;
        }
        if beat.sent > self.received && !planted(Fault::TailForgotten) {
            self.wants_again = true; // What comes behind a heartbeat on one connection was sent behind it.
            self.owes_beat = true;
        } else if beat.sent > 0 && self.unconfirmed_frames > 0 {
            self.owes_beat = true; // It asks after what it sent.
        }
        came_up
    }

    fn confirm(&mut self, received: u64, now_ns: u64) {
        let received = if planted(Fault::SequenceOffByOne) { received + 1 } else { received }.min(self.sent);
        while self.confirmed < received {
            self.confirmed += 1;
            self.kept.pop_front();
            self.probe_wait_ns = PROBE_AFTER_NS;
            self.probe_at_ns = now_ns + PROBE_AFTER_NS;
        }
    }

    /// Whether a frame of sections is the next one; then it counts as received.
    pub fn is_next(&mut self, sequence: u64, parts: &[Bytes], now_ns: u64) -> bool {
        if sequence > self.received + 1 {
            self.wants_again = true;
            self.owes_beat = true;
            return planted(Fault::GapTaken) && {
                self.received = sequence;
                true
            };
        }
        if sequence <= self.received {
            self.owes_beat = true; // The confirmation was lost, perhaps.
            return planted(Fault::DuplicateTaken);
        }
        self.received = sequence;
        self.unconfirmed_frames += 1;
        self.unconfirmed_bytes += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        self.confirm_at_ns = self.confirm_at_ns.min(now_ns + CONFIRM_AFTER_NS);
        self.owes_beat |= self.unconfirmed_frames >= CONFIRM_FRAMES || self.unconfirmed_bytes >= CONFIRM_BYTES;
        true
    }

    // -- timers --------------------------------------------------------------------------------------------------------

    /// Says what is due, for `transmit` to send whenever the transport takes it. Returns when to look again.
    pub fn tick(&mut self, now_ns: u64) -> u64 {
        if self.to.is_none() {
            return u64::MAX;
        }
        if !self.is_up && now_ns >= self.hello_at_ns {
            self.hello_at_ns = now_ns + HELLO_EVERY_NS;
            self.owes_hello = true;
        }
        if now_ns >= self.confirm_at_ns {
            self.confirm_at_ns = u64::MAX;
            self.owes_beat = true;
        }
        if !self.kept.is_empty() && now_ns >= self.probe_at_ns {
            self.probe_wait_ns = (self.probe_wait_ns * 2).min(BEAT_EVERY_NS);
            self.probe_at_ns = now_ns + self.probe_wait_ns;
            self.owes_beat = true;
        }
        if self.heard && now_ns >= self.beat_at_ns {
            self.beat_at_ns = now_ns + BEAT_EVERY_NS;
            self.owes_beat = true;
        }
        let hello = if self.is_up { u64::MAX } else { self.hello_at_ns };
        let beat = if self.heard { self.beat_at_ns } else { u64::MAX };
        let probe = if self.kept.is_empty() { u64::MAX } else { self.probe_at_ns };
        hello.min(beat).min(probe).min(self.confirm_at_ns)
    }
}

fn collect_roots(parts: &[Bytes], body: std::ops::Range<usize>, lost: &mut Lost) {
    for section in wire::sections(parts, body).unwrap_or_default() {
        if let Section::Tuples(_, records) = section {
            Reader::new(records).for_each_root(&mut |root: &RootRef| lost.roots.push(*root));
        }
    }
}
