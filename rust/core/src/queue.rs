//! Stage 4 of 8: what waits for one task. Many producers, one consumer, a short lock.
//!
//! A queue holds batches and signals in the order they were pushed. `capacity` counts tuples from the push until the consumer
//! *releases* them after the work, so that a consumer that takes a batch does not invite the next before it is done. A push
//! that finds no room takes what fits and leaves the rest with the producer, in order. Nothing here blocks: a producer that
//! wants to wait leaves its waker with [`Queue::wait_for_room`] and parks in its own way; whoever makes room wakes it. That is
//! what lets the door detach from Python first, and loom check the protocol.
//!
//! Two lanes are never refused: signals, and pushes over back edges ([`Queue::push_loop`]), which are bounded by `loop_bytes`
//! instead.
//!
//! Producers are woken when half of the capacity is free rather than at the first free place; else producer and consumer take
//! turns with every batch. With capacity 1, half is 0: the queue must be empty.

use std::collections::VecDeque;

use crate::fault::{Fault, planted};
use crate::ids::RootRef;
use crate::signal::Signal;
use crate::sync::{AtomicUsize, Mutex, Ordering, lock};
use crate::tuple::Envelope;
use crate::wire::{End, Reader};

/// Tuples per batch at most.
pub const BATCH: usize = 64;

/// Wakes a thread that parked, or makes its next park return at once.
pub trait Wake: Clone {
    /// Called outside of the queue's lock.
    fn wake(&self);

    /// Whether both wake the same thread. A producer that was woken for another reason and waits again is then kept once, not
    /// once more per wait. Called under the queue's lock.
    fn is_same(&self, _other: &Self) -> bool {
        false
    }
}

/// What the consumer takes.
#[derive(Debug)]
pub enum Entry<P> {
    /// Up to [`BATCH`] tuples of one or several producers.
    Batch(Vec<Envelope<P>>),
    /// Tuples from another worker, not decoded yet.
    Frame(Box<Frame>),
    /// A signal, behind all that its sender had pushed before.
    Signal(Signal),
}

/// Tuples from another worker, in the bytes in which they came. The consumer decodes them as it works.
#[derive(Debug)]
pub struct Frame {
    /// Who sent it.
    pub from: End,
    /// The credit that it used up and that its sender gets back.
    pub weight: u64,
    /// The tuples.
    pub reader: Reader,
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// All of it was taken.
    Done,
    /// There was not room for all; the rest is still the producer's.
    Full,
    /// The consumer is gone; all of it is still the producer's.
    Closed,
}

#[derive(Debug)]
struct Inner<P, W> {
    entries: VecDeque<Entry<P>>,
    /// Tuples that were pushed and not released, and their bytes; those that came over back edges apart.
    items: usize,
    bytes: u64,
    loop_bytes: u64,
    waiting: Vec<W>,
    spare: Vec<Vec<Envelope<P>>>,
    closed: bool,
}

/// The inbox of one task.
///
/// ```
/// use rainband_core::ids::{StreamId, TaskId};
/// use rainband_core::queue::{Entry, Push, Queue, Wake};
/// use rainband_core::tuple::{Envelope, Head};
///
/// #[derive(Clone)]
/// struct Polls; // Looks again by itself; a thread would be unparked here.
/// impl Wake for Polls {
///     fn wake(&self) {}
/// }
///
/// let envelope = |payload| Envelope {
///     payload,
///     edge: None,
///     head: Head::default(),
///     stream: StreamId(0),
///     from: TaskId(0),
///     bytes: 1,
/// };
/// let queue = Queue::new(1, 1 << 20, Polls);
/// let mut batch = vec![envelope("a"), envelope("b")];
/// assert_eq!(queue.push(&mut batch), Push::Full);
/// assert_eq!(batch[0].payload, "b");
/// assert!(queue.wait_for_room(&Polls));
/// assert!(matches!(queue.pop(), Some(Entry::Batch(batch)) if batch[0].payload == "a"));
/// queue.release(1, 1, 0, None);
/// assert_eq!(queue.push(&mut batch), Push::Done);
/// ```
#[derive(Debug)]
pub struct Queue<P, W> {
    inner: Mutex<Inner<P, W>>,
    /// Free places, 0 also when the bytes are used up: a hint that is read without the lock.
    room: AtomicUsize,
    consumer: W,
    capacity: usize,
    byte_capacity: u64,
}

impl<P, W: Wake> Queue<P, W> {
    /// A queue for at most `capacity` tuples of `byte_capacity` bytes together. A tuple is also let in, however large, while no
    /// more than half of the bytes are used: a producer that is told of room must find room, else it would spin between
    /// [`Queue::push`] and [`Queue::wait_for_room`]. `consumer` is woken when something arrives in an empty queue.
    pub fn new(capacity: usize, byte_capacity: u64, consumer: W) -> Self {
        Self {
            inner: Mutex::new(Inner {
                entries: VecDeque::new(),
                items: 0,
                bytes: 0,
                loop_bytes: 0,
                waiting: Vec::new(),
                spare: Vec::new(),
                closed: false,
            }),
            room: AtomicUsize::new(capacity.max(1)),
            consumer,
            capacity: capacity.max(1),
            byte_capacity: byte_capacity.max(1),
        }
    }

    /// Takes from the front of `batch` as much as there is room for.
    pub fn push(&self, batch: &mut Vec<Envelope<P>>) -> Push {
        if batch.is_empty() {
            return Push::Done;
        }
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Push::Closed;
        }
        let room = self.room(&inner, batch);
        let was_empty = inner.entries.is_empty();
        if room == batch.len() {
            inner.items += room;
            inner.bytes += batch.iter().map(|e| u64::from(e.bytes)).sum::<u64>();
            inner.append(batch);
        } else if room > 0 {
            let rest = batch.split_off(room);
            inner.items += room;
            inner.bytes += batch.iter().map(|e| u64::from(e.bytes)).sum::<u64>();
            inner.append(batch);
            batch.clear();
            if planted(Fault::PayloadDropped) {
                drop(rest);
            } else {
                batch.extend(rest);
            }
        }
        self.note_room(&inner);
        drop(inner);
        if was_empty && room > 0 && !planted(Fault::WakeLost) {
            self.consumer.wake();
        }
        if batch.is_empty() { Push::Done } else { Push::Full }
    }

    fn room(&self, inner: &Inner<P, W>, batch: &[Envelope<P>]) -> usize {
        let by_count = self.capacity.saturating_sub(inner.items).min(batch.len());
        let mut bytes = inner.bytes;
        let mut fits = 0;
        for envelope in &batch[..by_count] {
            let before = bytes;
            bytes += u64::from(envelope.bytes);
            if bytes > self.byte_capacity && before > self.byte_capacity / 2 {
                break;
            }
            fits += 1;
        }
        fits
    }

    /// Takes all of `batch` whatever is waiting already, as long as what came this way stays within `limit` bytes; the rest
    /// stays in `batch` and is the caller's to fail.
    pub fn push_loop(&self, batch: &mut Vec<Envelope<P>>, limit: u64) -> Push {
        if batch.is_empty() {
            return Push::Done;
        }
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Push::Closed;
        }
        let was_empty = inner.entries.is_empty();
        let mut fits = 0;
        for envelope in batch.iter() {
            if inner.loop_bytes + u64::from(envelope.bytes) > limit {
                break;
            }
            inner.loop_bytes += u64::from(envelope.bytes);
            fits += 1;
        }
        if fits == 0 && !planted(Fault::EmptyBatch) {
            // Appending nothing would leave an empty batch behind, and the next push would not wake for it.
            return Push::Full;
        }
        let rest = batch.split_off(fits);
        inner.append(batch);
        batch.clear();
        batch.extend(rest);
        drop(inner);
        if was_empty {
            self.consumer.wake();
        }
        if batch.is_empty() { Push::Done } else { Push::Full }
    }

    /// Puts tuples from another worker behind all that was pushed before. Never refused for want of room, because their sender
    /// had credit for them; they count as tuples until they are released, but not as bytes, which the credit bounds.
    ///
    /// # Errors
    /// The frame, if the queue is closed.
    pub fn push_frame(&self, frame: Box<Frame>) -> Result<(), Box<Frame>> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(frame);
        }
        let was_empty = inner.entries.is_empty();
        inner.items += frame.reader.left();
        inner.entries.push_back(Entry::Frame(frame));
        self.note_room(&inner);
        drop(inner);
        if was_empty {
            self.consumer.wake();
        }
        Ok(())
    }

    /// Puts a signal behind all that was pushed before. Never refused; a closed queue ignores it.
    pub fn signal(&self, signal: Signal) {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return;
        }
        let was_empty = inner.entries.is_empty();
        if planted(Fault::SignalOvertakes) {
            inner.entries.push_front(Entry::Signal(signal));
        } else {
            inner.entries.push_back(Entry::Signal(signal));
        }
        drop(inner);
        if was_empty {
            self.consumer.wake();
        }
    }

    /// What is at the front. The tuples of a batch still count until they are released.
    pub fn pop(&self) -> Option<Entry<P>> {
        lock(&self.inner).entries.pop_front()
    }

    /// The next batch, for a consumer that is through with the last one: `batch`, empty now, is given back to be reused. Returns
    /// `false`, leaving everything, if a signal or nothing is at the front.
    pub fn next_batch(&self, batch: &mut Vec<Envelope<P>>) -> bool {
        debug_assert!(batch.is_empty());
        let mut inner = lock(&self.inner);
        if !matches!(inner.entries.front(), Some(Entry::Batch(_))) {
            return false;
        }
        if let Some(Entry::Batch(next)) = inner.entries.pop_front() {
            let spare = std::mem::replace(batch, next);
            self.keep_spare(&mut inner, spare);
        }
        true
    }

    fn keep_spare(&self, inner: &mut Inner<P, W>, spare: Vec<Envelope<P>>) {
        if inner.spare.len() <= self.capacity / BATCH {
            inner.spare.push(spare);
        }
    }

    /// The signal at the front, if there is one: for a consumer that takes tuples at its own pace.
    pub fn pop_signal(&self) -> Option<Signal> {
        let mut inner = lock(&self.inner);
        match inner.entries.front() {
            Some(Entry::Signal(signal)) => {
                let signal = *signal;
                inner.entries.pop_front();
                Some(signal)
            }
            _ => None,
        }
    }

    /// The consumer is done with `items` tuples of `bytes` bytes that came over ordinary edges, and with `loop_bytes` that came
    /// over back edges. `spare` is an empty batch to be reused.
    pub fn release(&self, items: usize, bytes: u64, loop_bytes: u64, spare: Option<Vec<Envelope<P>>>) {
        let mut inner = lock(&self.inner);
        inner.items -= items;
        inner.bytes -= bytes;
        inner.loop_bytes -= loop_bytes;
        if let Some(spare) = spare {
            debug_assert!(spare.is_empty());
            self.keep_spare(&mut inner, spare);
        }
        self.note_room(&inner);
        if inner.waiting.is_empty() || !self.has_room(&inner) || planted(Fault::RoomNotTold) {
            return;
        }
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.iter().for_each(Wake::wake);
    }

    fn has_room(&self, inner: &Inner<P, W>) -> bool {
        inner.items == 0 || (inner.items <= self.capacity / 2 && inner.bytes <= self.byte_capacity / 2)
    }

    fn note_room(&self, inner: &Inner<P, W>) {
        let is_full = inner.bytes >= self.byte_capacity;
        let room = if is_full { 0 } else { self.capacity.saturating_sub(inner.items) };
        self.room.store(room, Ordering::Relaxed);
    }

    /// Leaves `waker` to be woken once there is room. Returns `false`, leaving nothing, if there is room now or the queue is
    /// closed: then push again.
    #[must_use]
    pub fn wait_for_room(&self, waker: &W) -> bool {
        let mut inner = lock(&self.inner);
        if inner.closed || self.has_room(&inner) {
            return false;
        }
        if !inner.waiting.iter().any(|waiting| waiting.is_same(waker)) {
            inner.waiting.push(waker.clone());
        }
        true
    }

    /// How many more tuples there was room for after the last push or release: a hint for shuffle, without the lock.
    #[inline]
    pub fn room_hint(&self) -> usize {
        self.room.load(Ordering::Relaxed)
    }

    /// Whether the last push or release left no room.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.room_hint() == 0
    }

    /// Whether nothing waits to be popped.
    pub fn is_empty(&self) -> bool {
        lock(&self.inner).entries.is_empty()
    }

    /// Tuples that were pushed over ordinary edges and not released.
    pub fn len(&self) -> usize {
        lock(&self.inner).items
    }

    /// Visits the roots of every tuple that waits, for the audit.
    pub fn for_each_root(&self, mut visit: impl FnMut(&RootRef)) {
        for entry in &lock(&self.inner).entries {
            match entry {
                Entry::Batch(batch) => batch.iter().flat_map(|e| e.head.roots.as_slice()).for_each(&mut visit),
                Entry::Frame(frame) => frame.reader.for_each_root(&mut visit),
                Entry::Signal(_) => {}
            }
        }
    }

    /// The consumer goes: hands back all that waits, refuses what comes, and wakes the producers that wait.
    pub fn close(&self) -> Vec<Entry<P>> {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        let entries = inner.entries.drain(..).collect();
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.iter().for_each(Wake::wake);
        entries
    }
}

impl<P, W> Inner<P, W> {
    /// Moves all of `batch` to the back and gives an empty vector in exchange. Small batches are filled up, so that a slow
    /// consumer does not find a thousand vectors of one.
    fn append(&mut self, batch: &mut Vec<Envelope<P>>) {
        if let Some(Entry::Batch(last)) = self.entries.back_mut()
            && last.len() + batch.len() <= BATCH
        {
            last.append(batch);
            return;
        }
        while batch.len() > BATCH {
            let mut first = self.spare.pop().unwrap_or_default();
            first.extend(batch.drain(..BATCH));
            self.entries.push_back(Entry::Batch(first));
        }
        let spare = self.spare.pop().unwrap_or_default();
        self.entries.push_back(Entry::Batch(std::mem::replace(batch, spare)));
    }
}
