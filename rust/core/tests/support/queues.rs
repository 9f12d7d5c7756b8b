//! The queue against a naive one: a list of what was pushed, and sums over what was not released.
//!
//! Rules checked: a push takes the longest beginning that there is room for and leaves the rest with its producer, in order;
//! room is counted until the release; the loop lane is bounded by its own bytes alone; signals and frames from other workers
//! are always let in and keep their place; who finds the consumer idle wakes it; who is told to wait is woken as soon as there
//! is room, and who is not told to wait finds room.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use rainband_core::ids::{AttemptId, Incarnation, RootRef, StreamId, TaskId, WorkerId};
use rainband_core::queue::{BATCH, Entry, Frame, Push, Queue, Wake};
use rainband_core::signal::{Kind, Signal};
use rainband_core::tuple::{Envelope, Head, Roots};
use rainband_core::wire::{self, End, Reader, Records};

use super::check::{Effort, ensure, for_all};
use super::payload::{Census, Token};

/// Counts how often it was woken.
#[derive(Clone, Debug, Default)]
struct Bell(Rc<Cell<u32>>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.set(self.0.get() + 1);
    }

    fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push(Vec<u8>),
    PushLoop(Vec<u8>, u8),
    /// So many tuples from another worker.
    PushFrame(u8),
    Signal(u8),
    Pop,
    Release,
    Wait,
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    let sizes = || prop_oneof![8 => vec(0_u8..8, 0..6), 1 => vec(0_u8..2, 60..140)];
    prop_oneof![
        8 => sizes().prop_map(Op::Push),
        3 => (sizes(), 0_u8..20).prop_map(|(sizes, limit)| Op::PushLoop(sizes, limit)),
        3 => (1_u8..5).prop_map(Op::PushFrame),
        2 => any::<u8>().prop_map(Op::Signal),
        7 => proptest::prelude::Just(Op::Pop),
        6 => proptest::prelude::Just(Op::Release),
        3 => proptest::prelude::Just(Op::Wait),
    ]
}

/// Any sequence of calls, with small and with large capacities, closed at the end.
pub fn follows_the_model(effort: Effort) -> Result<(), String> {
    let capacity = prop_oneof![4 => 1_usize..6, 1 => 100_usize..200];
    let bytes = prop_oneof![3 => 1_u64..16, 1 => proptest::prelude::Just(1 << 40)];
    for_all(effort, 1500, &(capacity, bytes, vec(op(), 1..80)), |(capacity, byte_capacity, ops)| {
        let census = Census::begin();
        let mut world = World::new(capacity, byte_capacity);
        for op in ops.into_iter().chain([
            Op::Close,
            Op::Push(vec![1]),
            Op::PushLoop(vec![1], 9),
            Op::PushFrame(2),
            Op::Release,
        ]) {
            world.apply(op)?;
            census.check()?;
        }
        census.end()
    })
}

/// What the naive queue holds: the numbers and bytes of tuples, or a signal.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Item {
    Tuple { serial: u64, bytes: u64, is_loop: bool },
    Signal(TaskId),
}

/// Serial numbers of tuples in frames begin here.
const OF_FRAME: u64 = 1 << 60;

struct World {
    queue: Queue<Token<()>, Bell>,
    consumer: Bell,
    producer: Bell,
    is_waiting: bool,
    is_closed: bool,
    capacity: usize,
    byte_capacity: u64,
    waiting: VecDeque<Item>,
    popped: Vec<Item>,
}

impl World {
    fn new(capacity: usize, byte_capacity: u64) -> Self {
        let consumer = Bell::default();
        Self {
            queue: Queue::new(capacity, byte_capacity, consumer.clone()),
            consumer,
            producer: Bell::default(),
            is_waiting: false,
            is_closed: false,
            capacity,
            byte_capacity,
            waiting: VecDeque::new(),
            popped: Vec::new(),
        }
    }

    fn apply(&mut self, op: Op) -> Result<(), String> {
        let (was_idle, rung) = (self.waiting.is_empty(), self.consumer.0.get());
        match op {
            Op::Push(sizes) => self.push(&sizes)?,
            Op::PushLoop(sizes, limit) => self.push_loop(&sizes, u64::from(limit))?,
            Op::PushFrame(count) => self.push_frame(count)?,
            Op::Signal(from) => self.signal(TaskId(from.into())),
            Op::Pop => self.pop()?,
            Op::Release => self.release()?,
            Op::Wait => self.wait()?,
            Op::Close => self.close()?,
        }
        let is_news = was_idle && !self.waiting.is_empty();
        ensure(!is_news || self.consumer.0.get() > rung, || "an idle consumer was not woken".into())?;
        let items = self.unreleased(false).count();
        ensure(self.queue.len() == items, || format!("{} tuples count, expected {items}", self.queue.len()))?;
        ensure(self.queue.is_empty() == self.waiting.is_empty(), || "is_empty is wrong".into())?;
        let is_full = items >= self.capacity || self.bytes(false) >= self.byte_capacity;
        ensure(self.is_closed || self.queue.is_full() == is_full, || format!("is_full is not {is_full}"))?;
        let mut visited = 0;
        self.queue.for_each_root(|_| visited += 1);
        let tuples = self.waiting.iter().filter(|item| matches!(item, Item::Tuple { .. })).count();
        ensure(visited == tuples, || format!("{visited} tuples visited of {tuples}"))
    }

    /// Bytes of the tuples of one lane that were pushed and not released.
    fn unreleased(&self, of_loop: bool) -> impl Iterator<Item = u64> {
        self.waiting.iter().chain(&self.popped).filter_map(move |item| match item {
            Item::Tuple { bytes, is_loop, .. } if *is_loop == of_loop => Some(*bytes),
            _ => None,
        })
    }

    fn bytes(&self, of_loop: bool) -> u64 {
        self.unreleased(of_loop).sum()
    }

    fn has_room(&self) -> bool {
        let items = self.unreleased(false).count();
        items == 0 || (items <= self.capacity / 2 && self.bytes(false) <= self.byte_capacity / 2)
    }

    fn batch(sizes: &[u8]) -> Vec<Envelope<Token<()>>> {
        let root = RootRef { task: TaskId(0), incarnation: Incarnation(0), attempt: AttemptId::new(1, 0) };
        let envelope = |bytes: &u8| Envelope {
            payload: Token::new(()),
            edge: None,
            head: Head { roots: Roots::One(root), ..Head::default() },
            stream: StreamId(0),
            from: TaskId(0),
            bytes: u32::from(*bytes),
        };
        sizes.iter().map(envelope).collect()
    }

    /// Compares what a push took with what it should take, and notes it.
    fn pushed(
        &mut self,
        pushed: &[u8],
        serials: &[u64],
        rest: Vec<Envelope<Token<()>>>,
        push: Push,
        is_loop: bool,
        fits: usize,
    ) -> Result<(), String> {
        let left: Vec<u64> = rest.iter().map(|envelope| envelope.payload.serial).collect();
        for envelope in rest {
            envelope.payload.retire();
        }
        let fits = if self.is_closed { 0 } else { fits };
        ensure(left == serials[fits..], || format!("left {left:?} of {serials:?}, {fits} fit"))?;
        let expected = match (self.is_closed, fits == pushed.len()) {
            (true, false) => Push::Closed,
            (false, false) => Push::Full,
            (_, true) => Push::Done,
        };
        ensure(push == expected, || format!("{push:?}, expected {expected:?}"))?;
        let items = serials.iter().zip(pushed).take(fits);
        self.waiting.extend(items.map(|(serial, bytes)| Item::Tuple {
            serial: *serial,
            bytes: u64::from(*bytes),
            is_loop,
        }));
        Ok(())
    }

    fn push(&mut self, sizes: &[u8]) -> Result<(), String> {
        let mut batch = Self::batch(sizes);
        let serials: Vec<u64> = batch.iter().map(|envelope| envelope.payload.serial).collect();
        let push = self.queue.push(&mut batch);
        let (mut items, mut bytes) = (self.unreleased(false).count(), self.bytes(false));
        let fits = sizes.iter().take_while(|size| {
            let is_let_in = bytes + u64::from(**size) <= self.byte_capacity || bytes <= self.byte_capacity / 2;
            let fits = items < self.capacity && is_let_in;
            (items, bytes) = (items + 1, bytes + u64::from(**size));
            fits
        });
        let fits = fits.count();
        self.pushed(sizes, &serials, batch, push, false, fits)
    }

    fn push_loop(&mut self, sizes: &[u8], limit: u64) -> Result<(), String> {
        let mut batch = Self::batch(sizes);
        let serials: Vec<u64> = batch.iter().map(|envelope| envelope.payload.serial).collect();
        let push = self.queue.push_loop(&mut batch, limit);
        let mut bytes = self.bytes(true);
        let fits = sizes.iter().take_while(|size| {
            bytes += u64::from(**size);
            bytes <= limit
        });
        let fits = fits.count();
        self.pushed(sizes, &serials, batch, push, true, fits)
    }

    /// Always let in; its tuples count, its bytes do not. Numbered with its count, because it carries no token.
    fn push_frame(&mut self, count: u8) -> Result<(), String> {
        let mut bytes = Vec::new();
        let root = RootRef { task: TaskId(0), incarnation: Incarnation(0), attempt: AttemptId::new(1, 0) };
        let head = Head { roots: Roots::One(root), ..Head::default() };
        for _ in 0..count {
            wire::put_record(&mut bytes, &head, StreamId(0), TaskId(0), None, &[], 0);
        }
        let from = End { worker: WorkerId(1), incarnation: Incarnation(0) };
        let records = Records { count: u32::from(count), bytes: bytes.into(), blobs: Vec::new() };
        let frame = Frame { from, weight: 1, reader: Reader::new(records) };
        let is_refused = self.queue.push_frame(Box::new(frame)).is_err();
        if !is_refused {
            let tuple = Item::Tuple { serial: OF_FRAME + u64::from(count), bytes: 0, is_loop: false };
            self.waiting.extend((0..count).map(|_| tuple));
        }
        ensure(is_refused == self.is_closed, || format!("a frame was refused: {is_refused}"))
    }

    fn signal(&mut self, from: TaskId) {
        self.queue.signal(Signal { kind: Kind::Flush, from, incarnation: Incarnation(0) });
        if !self.is_closed {
            self.waiting.push_back(Item::Signal(from));
        }
    }

    fn pop(&mut self) -> Result<(), String> {
        match self.queue.pop() {
            None => ensure(self.waiting.is_empty(), || "pop finds nothing".into()),
            Some(entry) => self.took(entry),
        }
    }

    /// The front of the naive queue must be what `entry` holds; tuples of it are in work from now on.
    fn took(&mut self, entry: Entry<Token<()>>) -> Result<(), String> {
        match entry {
            Entry::Frame(frame) => (0..frame.reader.left()).try_for_each(|_| {
                let front = self.waiting.pop_front();
                let expected = OF_FRAME + frame.reader.left() as u64;
                let is_right = matches!(front, Some(Item::Tuple { serial, .. }) if serial == expected);
                self.popped.extend(front);
                ensure(is_right, || format!("a frame of {} instead of {front:?}", frame.reader.left()))
            }),
            Entry::Signal(signal) => {
                let front = self.waiting.pop_front();
                ensure(front == Some(Item::Signal(signal.from)), || format!("{signal:?} instead of {front:?}"))
            }
            Entry::Batch(batch) => {
                ensure((1..=BATCH).contains(&batch.len()), || format!("a batch of {}", batch.len()))?;
                batch.into_iter().try_for_each(|envelope| {
                    let serial = envelope.payload.serial;
                    envelope.payload.retire();
                    let front = self.waiting.pop_front();
                    let is_right = matches!(front, Some(Item::Tuple { serial: first, .. }) if first == serial);
                    self.popped.extend(front);
                    ensure(is_right, || format!("tuple {serial} instead of {front:?}"))
                })
            }
        }
    }

    fn release(&mut self) -> Result<(), String> {
        let popped: Vec<Item> = self.popped.drain(..self.popped.len().div_ceil(2)).collect();
        let (mut items, mut bytes, mut loop_bytes) = (0, 0, 0);
        for item in popped {
            match item {
                Item::Tuple { bytes: size, is_loop: true, .. } => loop_bytes += size,
                Item::Tuple { bytes: size, .. } => (items, bytes) = (items + 1, bytes + size),
                Item::Signal(_) => {}
            }
        }
        let rung = self.producer.0.get();
        self.queue.release(items, bytes, loop_bytes, Some(Vec::new()));
        let is_due = self.is_waiting && self.has_room();
        let got = self.producer.0.get() - rung;
        self.is_waiting &= !is_due;
        ensure(got == u32::from(is_due), || format!("a producer that waits: woken {got} times, due {is_due}"))
    }

    fn wait(&mut self) -> Result<(), String> {
        let waits = self.queue.wait_for_room(&self.producer);
        self.is_waiting |= waits;
        let expected = !self.is_closed && !self.has_room();
        ensure(waits == expected, || format!("told to wait: {waits}, expected {expected}"))?;
        if !waits && !self.is_closed {
            let mut batch = Self::batch(&[7]);
            let serial = batch[0].payload.serial;
            let push = self.queue.push(&mut batch);
            let is_left = !batch.is_empty();
            for envelope in batch {
                envelope.payload.retire();
            }
            ensure(push == Push::Done && !is_left, || "told of room that is not there".into())?;
            self.waiting.push_back(Item::Tuple { serial, bytes: 7, is_loop: false });
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let rung = self.producer.0.get();
        let entries = self.queue.close();
        self.is_closed = true;
        let got = self.producer.0.get() - rung;
        ensure(got == u32::from(self.is_waiting), || format!("closing woke {got} producers"))?;
        self.is_waiting = false;
        entries.into_iter().try_for_each(|entry| self.took(entry))?;
        ensure(self.waiting.is_empty(), || "close kept something back".into())
    }
}
