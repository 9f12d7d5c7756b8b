//! Links alone: two or three workers without tasks, and a network that the test holds in its hand. What a link promises
//! (ENGINE 4.4, 7.1): nothing is lost, nothing comes twice, order holds, control passes by data that waits, timers are few.
//!
//! Files: `mod` is the network, `scenes` are scenes with a plot, `timers` those in which nothing comes, `storms` are random.

pub mod scenes;
pub mod storms;
pub mod timers;

use bytes::Bytes;
use rainband_core::deliver::Packed;
use rainband_core::ids::{AttemptId, EdgeId, Incarnation, RootRef, StreamId, TaskId, WorkerId};
use rainband_core::ledger::Failure;
use rainband_core::peer::{Inbox, Links, Refused};
use rainband_core::queue::Frame;
use rainband_core::signal::Signal;
use rainband_core::tuple::{Head, Roots};
use rainband_core::wire::{self, End, Identity};

use super::bell::Bell;

pub const IDENTITY: Identity = Identity { run: 0x1234_5678_9abc_def0, plan: 77 };
pub const MILLISECOND: u64 = 1_000_000;
pub const SECOND: u64 = 1000 * MILLISECOND;

/// A message under way.
#[derive(Clone, Debug)]
pub struct Letter {
    pub from: usize,
    pub to: usize,
    pub parts: Vec<Bytes>,
}

impl Letter {
    pub fn kind(&self) -> wire::Kind {
        wire::open(&self.parts).expect("it comes from the core").0.kind
    }
}

/// What came out of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The values of a tuple, for a task.
    Tuple(TaskId, u64),
    Ack(RootRef, u64),
    Fail(RootRef, Failure),
    Signal(TaskId, Signal),
}

/// What a worker received, in order, and the frames that it has not paid for.
#[derive(Debug, Default)]
pub struct Recorder {
    pub events: Vec<Event>,
    pub unpaid: Vec<(TaskId, End, u64)>,
}

impl Inbox for Recorder {
    fn tuples(&mut self, task: TaskId, mut frame: Box<Frame>) {
        while let Ok(Some(record)) = frame.reader.read_next() {
            let values = record.values.try_into().map_or(u64::MAX, u64::from_le_bytes);
            self.events.push(Event::Tuple(task, values));
        }
        self.unpaid.push((task, frame.from, frame.weight));
    }

    fn acks(&mut self, task: TaskId, incarnation: Incarnation, pairs: &[u8]) {
        let pairs = wire::acks(pairs).map(|(attempt, xor)| Event::Ack(RootRef { task, incarnation, attempt }, xor));
        self.events.extend(pairs);
    }

    fn fail(&mut self, root: RootRef, failure: Failure) {
        self.events.push(Event::Fail(root, failure));
    }

    fn signal(&mut self, to: TaskId, signal: Signal) {
        self.events.push(Event::Signal(to, signal));
    }
}

/// A worker without tasks.
#[derive(Debug)]
pub struct Station {
    pub links: Links<Bell, Bell>,
    pub io: Bell,
    pub inbox: Recorder,
    /// When its timers want to be called.
    pub due: u64,
}

impl Station {
    fn new(me: End, placement: &[WorkerId], workers: usize, window: u64) -> Self {
        let io = Bell::default();
        let links = Links::new(me, IDENTITY, workers, placement.to_vec(), window, io.clone());
        Self { links, io, inbox: Recorder::default(), due: 0 }
    }

    /// All that it received and has not paid for is consumed.
    pub fn consume(&mut self) {
        for (task, from, weight) in self.inbox.unpaid.drain(..) {
            self.links.consumed(from, task, weight);
        }
    }
}

/// Some workers, task number `t` of which is of worker `placement[t]`.
#[derive(Debug)]
pub struct Net {
    pub now: u64,
    pub stations: Vec<Station>,
    pub placement: Vec<WorkerId>,
    pub window: u64,
    /// Letters sent so far.
    pub sent: usize,
}

impl Net {
    pub fn new(placement: &[u32], window: u64) -> Self {
        let placement: Vec<WorkerId> = placement.iter().map(|worker| WorkerId(*worker)).collect();
        let workers = placement.iter().map(|worker| worker.index() + 1).max().unwrap_or(0);
        let station = |at: usize| Station::new(end(at, 0), &placement, workers, window);
        let net = Self { now: 1, stations: (0..workers).map(station).collect(), placement, window, sent: 0 };
        for station in &net.stations {
            (0..workers).for_each(|peer| _ = station.links.install(WorkerId(peer as u32), Some(Incarnation(0))));
        }
        net
    }

    /// Worker `at` begins anew; the others do not know yet.
    pub fn restart(&mut self, at: usize) {
        let incarnation = self.stations[at].links.me().incarnation.0 + 1;
        let workers = self.stations.len();
        self.stations[at] = Station::new(end(at, incarnation), &self.placement, workers, self.window);
        for peer in 0..workers {
            let its = self.stations[peer].links.me().incarnation;
            _ = self.stations[at].links.install(WorkerId(peer as u32), Some(its));
        }
    }

    /// What everybody has to send now.
    pub fn collect(&mut self) -> Vec<Letter> {
        let mut letters = Vec::new();
        for from in 0..self.stations.len() {
            let station = &mut self.stations[from];
            station.due = station.links.tick(self.now);
            station.io.clear();
            for to in 0..self.stations.len() {
                while let Some(parts) = self.stations[from].links.transmit(WorkerId(to as u32), self.now) {
                    letters.push(Letter { from, to, parts });
                }
            }
        }
        self.sent += letters.len();
        letters
    }

    pub fn deliver(&mut self, letter: &Letter) -> Result<(), Refused> {
        let station = &mut self.stations[letter.to];
        station.links.receive(&letter.parts, self.now, &mut station.inbox)
    }

    /// What there is to send is sent and arrives, if `passes` says so, until `duration` is over. Timers fire when they are due.
    pub fn run(&mut self, duration: u64, mut passes: impl FnMut(&Letter) -> bool) {
        let end = self.now + duration;
        loop {
            let letters = self.collect();
            for letter in &letters {
                if passes(letter) {
                    _ = self.deliver(letter);
                }
            }
            if !letters.is_empty() || self.stations.iter().any(|station| station.io.has_rung()) {
                self.now += 10_000; // What came is answered at once.
            } else {
                let due = self.stations.iter().map(|station| station.due).min().unwrap_or(end);
                self.now = due.max(self.now + 1).min(end);
            }
            if self.now >= end {
                return;
            }
        }
    }

    /// As [`Net::run`] on a network without faults.
    pub fn settle(&mut self, duration: u64) {
        self.run(duration, |_| true);
    }

    /// The events of worker `at` so far.
    pub fn take_events(&mut self, at: usize) -> Vec<Event> {
        std::mem::take(&mut self.stations[at].inbox.events)
    }
}

pub fn end(worker: usize, incarnation: u32) -> End {
    End { worker: WorkerId(worker as u32), incarnation: Incarnation(incarnation) }
}

pub fn root(task: u32, incarnation: u32, sequence: u64) -> RootRef {
    RootRef { task: TaskId(task), incarnation: Incarnation(incarnation), attempt: AttemptId::new(sequence, 0) }
}

/// Tuples with these values, each of the root that its value numbers.
pub fn packed(from: u32, values: &[u64]) -> Packed {
    let mut packed = Packed::default();
    for value in values {
        let head = Head { roots: Roots::One(root(from, 0, *value)), attempt: 1, ..Head::default() };
        let edge = EdgeId(std::num::NonZeroU64::MIN);
        wire::put_record(&mut packed.bytes, &head, StreamId(0), TaskId(from), Some(edge), &value.to_le_bytes(), 0);
        packed.count += 1;
    }
    packed
}
