//! Stage 4r of 8: what is under way between this worker and the others. Called by `deliver` (tuples), by whoever acks, fails or
//! signals across a link, and by the I/O thread, which asks what to send and hands in what came. Sends nothing itself.
//!
//! A link joins two incarnations of two workers, and loses nothing while both live: frames are numbered and kept until the
//! other end has confirmed them; heartbeats carry what was sent and received, so that a lost tail shows; what is missing is
//! sent again from the first gap on, and what comes twice is dropped by its number. When a worker dies, [`Links::install`] gives
//! back the roots of all that it had not confirmed; what it had confirmed was begun before, and is replayed by its owners.
//!
//! Tuples need credit: so many bytes may be under way per (link, destination task), plus one section; of large values two may
//! be. A lane without credit refuses, and its producer waits as it does for a full queue. The receiver gives credit back when
//! the task takes the tuples out of its queue, so its I/O thread always reads, and one slow task holds up nobody else: with
//! credit per link the line a → x → c → y with a, c here and x, y there stands still. Acks, fails and credit go into the next
//! frame whatever waits; signals keep their place behind the tuples that were pushed before them.
//!
//! Example: a pushes 2 tuples for x (sequence 1). The frame is lost. After a pause a's heartbeat says `sent 1`, x answers
//! `received 0, again`, a sends 1 again, x takes it, and its next heartbeat says `received 1`: a forgets the frame.
//!
//! Threads: everything may be called from any thread; a peer has one lock, a leaf. [`Links::receive`] is for one thread, the I/O
//! thread, because what it hands on must keep its order.

use bytes::Bytes;

use crate::deliver::Packed;
use crate::fault::{Fault, planted};
use crate::ids::{Incarnation, RootRef, TaskId, WorkerId};
use crate::ledger::Failure;
use crate::queue::{Frame, Push, Wake};
use crate::signal::Signal;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};
use crate::wire::{self, End, Header, Identity, Reader, Section, WireError};

mod state;

use state::{Said, State};

/// Who takes what other workers sent.
pub trait Inbox {
    /// Tuples for a task of this worker. Once its queue has let go of them, [`Links::consumed`] must follow.
    fn tuples(&mut self, task: TaskId, frame: Box<Frame>);
    /// Acks for the roots of a task of this worker; [`wire::acks`] reads the pairs.
    fn acks(&mut self, task: TaskId, incarnation: Incarnation, pairs: &[u8]);
    /// A tuple of one of this worker's roots failed.
    fn fail(&mut self, root: RootRef, failure: Failure);
    /// A signal for a task of this worker.
    fn signal(&mut self, to: TaskId, signal: Signal);
}

/// Why something that came was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is damaged, or no frame; the link sends it again.
    Damaged(WireError),
    /// Of another run or plan, or meant for somebody else.
    Stranger,
    /// Of an incarnation that is not the one of the current view.
    OldIncarnation,
    /// Before the two ends knew each other.
    NoHello,
}

/// What was lost with a worker: the roots of all that it had not confirmed, to be failed.
#[derive(Debug, Default)]
pub struct Lost {
    /// Each as often as a tuple had it.
    pub roots: Vec<RootRef>,
}

/// Counters of everything that should be rare.
#[derive(Debug, Default)]
pub struct LinkStats {
    /// Frames refused: damaged, strangers, old, before hello.
    pub refused: AtomicU64,
    /// Frames that came twice.
    pub duplicates: AtomicU64,
    /// Frames sent again.
    pub sent_again: AtomicU64,
    /// Acks and fails for incarnations that are gone.
    pub late: AtomicU64,
    /// Frames taken.
    pub received: AtomicU64,
}

/// The links of one worker. `W` wakes producers that wait for credit, `I` the I/O thread.
#[derive(Debug)]
pub struct Links<W, I> {
    me: End,
    identity: Identity,
    window: u64,
    placement: Vec<WorkerId>,
    peers: Vec<Mutex<State<W>>>,
    /// Whether the lane to each task has credit: a hint that is read without the lock.
    has_room: Vec<AtomicBool>,
    io: I,
    /// Counters.
    pub stats: LinkStats,
}

impl<W: Wake, I: Wake> Links<W, I> {
    /// The links of worker `me` among `workers`; `placement` says of which worker each task is, `window` how many bytes may be
    /// under way to a task.
    pub fn new(me: End, identity: Identity, workers: usize, placement: Vec<WorkerId>, window: u64, io: I) -> Self {
        Self {
            me,
            identity,
            window: window.max(1),
            peers: (0..workers).map(|_| Mutex::new(State::default())).collect(),
            has_room: placement.iter().map(|_| AtomicBool::new(false)).collect(),
            placement,
            io,
            stats: LinkStats::default(),
        }
    }

    /// The own end.
    pub fn me(&self) -> End {
        self.me
    }

    /// How many workers there are, this one included.
    pub fn workers(&self) -> usize {
        self.peers.len()
    }

    /// Whether `task` is of this worker.
    #[inline]
    pub fn is_here(&self, task: TaskId) -> bool {
        self.placement[task.index()] == self.me.worker
    }

    /// The worker of `task`.
    #[inline]
    pub fn worker_of(&self, task: TaskId) -> WorkerId {
        self.placement[task.index()]
    }

    fn peer(&self, worker: WorkerId) -> &Mutex<State<W>> {
        &self.peers[worker.index()]
    }

    // -- what producers call -------------------------------------------------------------------------------------------

    /// Takes all of `packed` if the lane to `task` has credit, else nothing. Never [`Push::Closed`]: the successor of a dead
    /// worker will take it.
    pub fn push(&self, task: TaskId, packed: &mut Packed) -> Push {
        if packed.count == 0 {
            return Push::Done;
        }
        let mut state = lock(self.peer(self.worker_of(task)));
        let room = state.push(task, packed, self.window);
        let is_done = room.is_some();
        self.has_room[task.index()].store(room == Some(true), Ordering::Relaxed);
        drop(state);
        if is_done {
            self.io.wake();
            return Push::Done;
        }
        Push::Full
    }

    /// Leaves `waker` to be woken once the lane to `task` has credit. Returns `false`, leaving nothing, if it has some now.
    #[must_use]
    pub fn wait_for_room(&self, task: TaskId, waker: &W) -> bool {
        let waits = lock(self.peer(self.worker_of(task))).wait_for_room(task, waker, self.window);
        if !waits {
            // The hint must agree, or a shuffle that asks it would come back here for ever.
            self.has_room[task.index()].store(true, Ordering::Relaxed);
        }
        waits
    }

    /// Whether the last push to `task` used up the credit: a hint for shuffle, without the lock.
    #[inline]
    pub fn is_full(&self, task: TaskId) -> bool {
        !self.has_room[task.index()].load(Ordering::Relaxed)
    }

    /// Sends acks for roots of one task of another worker. Those of an incarnation that is gone are dropped and counted; those of
    /// one that this worker has not installed yet wait for that: its tuples may come by a third worker that knows it already.
    pub fn ack(&self, acks: &[(RootRef, u64)]) {
        let Some((first, _)) = acks.first() else { return };
        let mut state = lock(self.peer(self.worker_of(first.task)));
        if acks.iter().all(|(root, _)| state.to == Some(root.incarnation)) {
            let skipped = usize::from(planted(Fault::AckSkipped));
            wire::put_acks(state.control_body(), &acks[..acks.len() - skipped]);
        } else {
            // A section speaks of one incarnation: those of a dead one would count for its successor's roots.
            let late = acks.iter().filter(|(root, xor)| !state.say(*root, Said::Ack(*xor))).count();
            self.stats.late.fetch_add(late as u64, Ordering::Relaxed);
        }
        drop(state);
        self.io.wake();
    }

    /// Tells the owner of `root`, in another worker, that a tuple of it failed; as [`Links::ack`].
    pub fn fail(&self, root: &RootRef, failure: &Failure) {
        let mut state = lock(self.peer(self.worker_of(root.task)));
        let is_said = state.say(*root, Said::Fail(failure.clone()));
        drop(state);
        self.stats.late.fetch_add(u64::from(!is_said), Ordering::Relaxed);
        self.io.wake();
    }

    /// Sends a signal to a task of another worker, behind all that was pushed before. Nothing happens while that worker is
    /// dead: its successor is told again by whoever installs the view.
    pub fn signal(&self, to: TaskId, signal: Signal) {
        let mut state = lock(self.peer(self.worker_of(to)));
        if state.to.is_none() {
            return;
        }
        wire::put_signal(state.open_body(), to, signal);
        drop(state);
        self.io.wake();
    }

    /// A task of this worker took tuples of this weight, which `from` had sent, out of its queue.
    pub fn consumed(&self, from: End, task: TaskId, weight: u64) {
        let mut state = lock(self.peer(from.worker));
        if state.to != Some(from.incarnation) || planted(Fault::CreditNotReturned) {
            return;
        }
        let is_due = state.consumed(task, weight, self.window);
        drop(state);
        if is_due {
            self.io.wake();
        }
    }

    // -- membership ----------------------------------------------------------------------------------------------------

    /// From now on `worker` is the process `incarnation`, or nobody. Of a worker that was replaced, gives back the roots of what
    /// it had not confirmed; nothing more is sent to that incarnation nor taken from it. An incarnation that was replaced does
    /// not come back: its numbers of frames would begin again at one end only.
    pub fn install(&self, worker: WorkerId, incarnation: Option<Incarnation>) -> Lost {
        let mut state = lock(self.peer(worker));
        let is_over = incarnation.is_some_and(|incarnation| state.newest >= Some(incarnation));
        if state.to == incarnation || is_over || worker == self.me.worker {
            return Lost::default();
        }
        let lost = if planted(Fault::HeldNotFailed) { Lost::default() } else { state.lost() };
        state.replace(incarnation);
        self.note_room(worker, false);
        drop(state);
        self.io.wake();
        lost
    }

    /// Whether every live worker is connected both ways.
    pub fn is_up(&self) -> bool {
        self.peers.iter().all(|peer| {
            let state = lock(peer);
            state.to.is_none() || state.is_up
        })
    }

    /// Whether nothing of ours waits to be confirmed by any live worker.
    pub fn is_settled(&self) -> bool {
        self.peers.iter().all(|peer| {
            let state = lock(peer);
            state.to.is_none() || state.is_settled()
        })
    }

    /// How many frames were sent and received on all links, to and from those who live.
    pub fn frames(&self) -> u64 {
        self.peers.iter().map(|peer| lock(peer).frames()).sum()
    }

    /// Bytes of ours that wait to be sent or confirmed, on all links.
    pub fn backlog(&self) -> usize {
        self.peers.iter().map(|peer| lock(peer).backlog()).sum()
    }

    // -- what the I/O thread calls -------------------------------------------------------------------------------------

    /// The next message for `worker`, if there is something to send now. Call until it returns `None`.
    pub fn transmit(&self, worker: WorkerId, now_ns: u64) -> Option<Vec<Bytes>> {
        let mut state = lock(self.peer(worker));
        let incarnation = state.to?;
        let header = Header {
            kind: wire::Kind::Sections,
            identity: self.identity,
            from: self.me,
            to: End { worker, incarnation },
            sequence: 0,
            blobs: 0,
        };
        let again = state.transmit(header, now_ns)?;
        self.stats.sent_again.fetch_add(u64::from(again.is_again), Ordering::Relaxed);
        Some(again.parts)
    }

    /// Timers of all links. Returns when to be called again at the latest.
    pub fn tick(&self, now_ns: u64) -> u64 {
        self.peers.iter().map(|peer| lock(peer).tick(now_ns)).min().unwrap_or(u64::MAX)
    }

    /// Takes a message that came and hands what is in it to `inbox`.
    ///
    /// # Errors
    /// [`Refused`]: it was not taken; counted. If it was of a live link it will come again.
    pub fn receive(&self, parts: &[Bytes], now_ns: u64, inbox: &mut impl Inbox) -> Result<(), Refused> {
        let taken = self.take(parts, now_ns);
        match taken {
            Ok((from, sections)) => {
                for section in sections {
                    self.apply(from, section, inbox);
                }
                Ok(())
            }
            Err(refused) => {
                self.stats.refused.fetch_add(1, Ordering::Relaxed);
                Err(refused)
            }
        }
    }

    fn take(&self, parts: &[Bytes], now_ns: u64) -> Result<(End, Vec<Section>), Refused> {
        let (header, body) = wire::open(parts).map_err(Refused::Damaged)?;
        let is_known = header.from.worker.index() < self.peers.len() && header.from.worker != self.me.worker;
        let is_for_me = header.to == self.me || (planted(Fault::OldIncarnationTaken) && is_known);
        if header.identity != self.identity || !is_for_me || !is_known {
            return Err(Refused::Stranger);
        }
        let mut state = lock(self.peer(header.from.worker));
        if state.to != Some(header.from.incarnation) && !planted(Fault::OldIncarnationTaken) {
            return Err(Refused::OldIncarnation);
        }
        match header.kind {
            wire::Kind::Hello => {
                state.hello();
                drop(state);
                self.io.wake();
            }
            wire::Kind::Heartbeat => {
                let beat = wire::read_heartbeat(&parts[0][body]).map_err(Refused::Damaged)?;
                if !state.heard {
                    return Err(Refused::NoHello);
                }
                if state.heartbeat(beat, now_ns) {
                    // Else shuffle passes over its lanes, and they never get the push that would open them.
                    self.note_room(header.from.worker, true);
                    let waiting = state.take_waiting();
                    drop(state);
                    waiting.iter().for_each(Wake::wake);
                    self.io.wake();
                }
            }
            wire::Kind::Sections => {
                if !state.heard {
                    return Err(Refused::NoHello);
                }
                // Malformed is nothing that a second copy would mend, but neither is it a reason to believe the rest.
                let sections = wire::sections(parts, body).map_err(Refused::Damaged)?;
                if !sections.iter().all(|section| self.is_right(header.from.worker, section)) {
                    return Err(Refused::Damaged(WireError::Malformed));
                }
                if state.is_next(header.sequence, parts, now_ns) {
                    self.stats.received.fetch_add(1, Ordering::Relaxed);
                    return Ok((header.from, sections));
                }
                self.stats.duplicates.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok((header.from, Vec::new()))
    }

    /// Whether a section from `sender` speaks of a task of this worker, or credit of one of the sender's: an [`Inbox`] need not ask.
    fn is_right(&self, sender: WorkerId, section: &Section) -> bool {
        let (task, worker) = match section {
            Section::Tuples(to, _) | Section::Signal(to, _) => (to, self.me.worker),
            Section::Acks(owner, ..) => (owner, self.me.worker),
            Section::Fail(root, _) => (&root.task, self.me.worker),
            Section::Credit(task, _) => (task, sender),
        };
        self.placement.get(task.index()) == Some(&worker)
    }

    fn note_room(&self, worker: WorkerId, has_room: bool) {
        for (task, _) in self.placement.iter().enumerate().filter(|(_, of)| **of == worker) {
            self.has_room[task].store(has_room, Ordering::Relaxed);
        }
    }

    fn apply(&self, from: End, section: Section, inbox: &mut impl Inbox) {
        match section {
            Section::Tuples(task, records) => {
                let weight = state::weight(records.bytes.len(), &records.blobs, self.window);
                inbox.tuples(task, Box::new(Frame { from, weight, reader: Reader::new(records) }));
            }
            Section::Acks(task, incarnation, pairs) => inbox.acks(task, incarnation, &pairs),
            Section::Fail(root, failure) => inbox.fail(root, failure),
            Section::Signal(to, signal) => inbox.signal(to, signal),
            Section::Credit(task, consumed) => {
                let mut state = lock(self.peer(from.worker));
                if state.to != Some(from.incarnation) {
                    return;
                }
                let waiting = state.credit(task, consumed, self.window);
                if let Some(has_room) = self.has_room.get(task.index()) {
                    has_room.store(true, Ordering::Relaxed);
                }
                drop(state);
                waiting.iter().for_each(Wake::wake);
            }
        }
    }
}
