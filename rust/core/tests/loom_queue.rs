//! The queue under loom: every order in which its threads can interleave, up to a number of preemptions, with capacities of
//! one and two tuples. Checked: no wake-up is lost (a thread that waits for one that never comes is a deadlock, which loom
//! reports), nothing is lost or comes twice, order holds per producer.
//!
//! `RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p rainband-core --release --test loom_queue`.
//! `LOOM_MAX_PREEMPTIONS` looks further than the 2 that a run of seconds allows.
#![cfg(loom)]

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use rainband_core::ids::{Incarnation, StreamId, TaskId};
use rainband_core::queue::{Entry, Push, Queue, Wake};
use rainband_core::signal::{Kind, Signal};
use rainband_core::sync::lock;
use rainband_core::tuple::{Envelope, Head};

/// What a parked thread is to the door: a flag that outlives the wake-up, and a place to wait for it.
#[derive(Clone)]
struct Bell(Arc<(Mutex<bool>, Condvar)>);

impl Bell {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(false), Condvar::new())))
    }

    /// Returns once somebody woke this thread since it last waited.
    fn wait(&self) {
        let mut has_rung = lock(&self.0.0);
        while !*has_rung {
            has_rung = self.0.1.wait(has_rung).expect("no thread of these tests panics and goes on");
        }
        *has_rung = false;
    }
}

impl Wake for Bell {
    fn wake(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_one();
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

type Inbox = Arc<Queue<u32, Bell>>;

fn envelope(from: u32, n: u32) -> Envelope<u32> {
    Envelope { payload: n, edge: None, head: Head::default(), stream: StreamId(0), from: TaskId(from), bytes: 1 }
}

/// Pushes tuples 1 to `n` in batches of `batch`, waiting for room, and then a signal. Returns how many a closed queue refused.
fn produce(queue: &Inbox, from: u32, n: u32, batch: usize) -> u32 {
    let bell = Bell::new();
    let numbers: Vec<u32> = (1..=n).collect();
    let mut refused = 0;
    for numbers in numbers.chunks(batch) {
        let mut batch = numbers.iter().map(|n| envelope(from, *n)).collect();
        loop {
            match queue.push(&mut batch) {
                Push::Done => break,
                Push::Closed => {
                    refused += batch.len() as u32;
                    break;
                }
                Push::Full if queue.wait_for_room(&bell) => bell.wait(),
                Push::Full => {}
            }
        }
    }
    queue.signal(Signal { kind: Kind::End, from: TaskId(from), incarnation: Incarnation(0) });
    refused
}

/// Takes all until both producers ended; returns what came, by producer. `slow` releases a tuple at a time.
fn consume(queue: &Inbox, bell: &Bell, is_slow: bool) -> [Vec<u32>; 2] {
    let mut came = [Vec::new(), Vec::new()];
    let mut ended = 0;
    while ended < 2 {
        match queue.pop() {
            None => bell.wait(),
            Some(Entry::Signal(signal)) => {
                assert_eq!(signal.kind, Kind::End);
                ended += 1;
            }
            Some(Entry::Frame(_)) => unreachable!("nobody pushes one"),
            Some(Entry::Batch(batch)) => {
                let n = batch.len();
                for envelope in batch {
                    came[envelope.from.index()].push(envelope.payload);
                }
                if is_slow {
                    (0..n).for_each(|_| queue.release(1, 1, 0, None));
                } else {
                    queue.release(n, n as u64, 0, None);
                }
            }
        }
    }
    came
}

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(check);
}

/// Two producers with `n` tuples each, pushed in batches of `batch`.
fn all_arrives(capacity: usize, n: u32, batch: usize, is_slow: bool) {
    model(move || {
        let bell = Bell::new();
        let queue: Inbox = Arc::new(Queue::new(capacity, 1 << 20, bell.clone()));
        let producers: Vec<_> = (0..2)
            .map(|from| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || produce(&queue, from, n, batch))
            })
            .collect();
        let came = consume(&queue, &bell, is_slow);
        for producer in producers {
            assert_eq!(producer.join().expect("a producer does not panic"), 0);
        }
        let all: Vec<u32> = (1..=n).collect();
        assert_eq!(came, [all.clone(), all]);
        let unreleased = queue.len();
        assert_eq!((unreleased, queue.is_empty(), queue.is_full()), (0, true, false));
    });
}

#[test]
fn capacity_one() {
    all_arrives(1, 2, 1, false);
}

#[test]
fn capacity_one_in_batches_of_two() {
    all_arrives(1, 2, 2, false);
}

#[test]
fn capacity_two() {
    all_arrives(2, 2, 1, true);
}

#[test]
fn capacity_two_in_batches_of_three() {
    all_arrives(2, 3, 3, true);
}

/// The bytes are what is short: tuples of one byte in a queue of one byte.
#[test]
fn one_byte() {
    model(|| {
        let bell = Bell::new();
        let queue: Inbox = Arc::new(Queue::new(8, 1, bell.clone()));
        let producers: Vec<_> = (0..2)
            .map(|from| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || produce(&queue, from, 1, 1))
            })
            .collect();
        let came = consume(&queue, &bell, false);
        for producer in producers {
            assert_eq!(producer.join().expect("a producer does not panic"), 0);
        }
        assert_eq!(came, [vec![1], vec![1]]);
    });
}

/// A back edge beside an ordinary one: the loop lane wakes, and is not held back.
#[test]
fn loop_lane() {
    model(|| {
        let bell = Bell::new();
        let queue: Inbox = Arc::new(Queue::new(1, 1 << 20, bell.clone()));
        let producer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || produce(&queue, 0, 2, 1))
        };
        let looper = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let mut batch = vec![envelope(1, 1), envelope(1, 2), envelope(1, 3)];
                assert_eq!(
                    queue.push_loop(&mut batch, 2),
                    Push::Full,
                    "the limit is two bytes, and two are not released"
                );
                queue.signal(Signal { kind: Kind::End, from: TaskId(1), incarnation: Incarnation(0) });
                assert_eq!(batch.pop().map(|envelope| envelope.payload), Some(3));
            })
        };
        let (mut came, mut ended) = ([0, 0], 0);
        while ended < 2 {
            match queue.pop() {
                None => bell.wait(),
                Some(Entry::Signal(_)) => ended += 1,
                Some(Entry::Frame(_)) => unreachable!("nobody pushes one"),
                Some(Entry::Batch(batch)) => {
                    let own = batch.iter().filter(|envelope| envelope.from == TaskId(0)).count();
                    came[0] += own;
                    came[1] += batch.len() - own;
                    queue.release(own, own as u64, (batch.len() - own) as u64, None);
                }
            }
        }
        producer.join().expect("a producer does not panic");
        looper.join().expect("nor does the other");
        assert_eq!(came, [2, 2]);
    });
}

/// The consumer goes while producers wait: they learn of it, and what was not taken is theirs or handed back.
#[test]
fn close_while_producers_wait() {
    model(|| {
        let bell = Bell::new();
        let queue: Inbox = Arc::new(Queue::new(1, 1 << 20, bell.clone()));
        let producers: Vec<_> = (0..2)
            .map(|from| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || produce(&queue, from, 2, 2))
            })
            .collect();
        let mut came = 0;
        while came == 0 {
            match queue.pop() {
                None => bell.wait(),
                Some(Entry::Batch(batch)) => came += batch.len() as u32,
                Some(Entry::Signal(_) | Entry::Frame(_)) => {}
            }
        }
        for entry in queue.close() {
            if let Entry::Batch(batch) = entry {
                came += batch.len() as u32;
            }
        }
        queue.release(0, 0, 0, None);
        let refused: u32 = producers.into_iter().map(|p| p.join().expect("a producer does not panic")).sum();
        assert_eq!(came + refused, 4);
        assert!(queue.is_empty());
    });
}
