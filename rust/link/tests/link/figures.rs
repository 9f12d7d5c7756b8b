//! What the link costs, printed: `make figures-link`. No test: it measures, and asserts nothing but that messages arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rainband_link::wake::Wake;
use rainband_link::zmq::PollItem;

use crate::Folder;
use crate::libzmq::{Context, PULL, PUSH};
use crate::sockets::{inbound, outbound};
use crate::worker::{Worker, text};

const ROUNDS: usize = 5;

/// Median and spread of what a few runs give.
fn report(what: &str, unit: &str, mut run: impl FnMut() -> f64) {
    let mut values: Vec<f64> = (0..ROUNDS).map(|_| run()).collect();
    values.sort_by(f64::total_cmp);
    println!("{what:<46} {:>9.2} {unit:<5} ({:.2} to {:.2})", values[ROUNDS / 2], values[0], values[ROUNDS - 1]);
}

#[test]
#[ignore = "measures"]
fn figures() {
    println!("\n{} cores, libzmq {:?}", std::thread::available_parallelism().unwrap(), crate::libzmq::open().version());
    wake_of_who_is_awake();
    round_trip();
    for transport in ["ipc", "tcp"] {
        for size in [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10] {
            throughput(transport, size);
        }
    }
}

fn wake_of_who_is_awake() {
    const COUNT: u32 = 10_000_000;
    let bell = Wake::new().unwrap();
    report("wake() of a thread that is awake", "ns", || {
        let start = Instant::now();
        (0..COUNT).for_each(|_| std::hint::black_box(&bell).wake());
        start.elapsed().as_secs_f64() * 1e9 / f64::from(COUNT)
    });
}

/// A message of a few bytes from a thread that waits for its answer, through the own link and libzmq's thread and back.
fn round_trip() {
    const COUNT: u32 = 20_000;
    let folder = Folder::new();
    for address in ["inproc://worker".into(), folder.ipc("worker"), "tcp://127.0.0.1:*".into()] {
        let context = Context::new();
        let worker = Worker::start(&context, &address);
        worker.connect(&context, 0, &worker.address, 100);
        let transport = address.split(':').next().unwrap();
        report(&format!("round trip of a sleeping link over {transport}"), "us", || {
            let start = Instant::now();
            for _ in 0..COUNT {
                worker.send(0, text("a"));
                worker.next();
            }
            start.elapsed().as_secs_f64() * 1e6 / f64::from(COUNT)
        });
        worker.stop();
    }
}

/// Messages of two parts, a small head and a body of `size`, between two threads.
fn throughput(transport: &str, size: usize) {
    let folder = Folder::new();
    let context = Arc::new(Context::new());
    let receiver = context.socket(PULL, &[]);
    let address = if transport == "ipc" { folder.ipc("pull") } else { "tcp://127.0.0.1:*".into() };
    let address = receiver.bind(&address);
    let mut into = inbound(&context, receiver);
    let mut out = outbound(&context, context.socket(PUSH, &[]).connect(&address));
    let is_over = Arc::new(AtomicBool::new(false));
    let sender = std::thread::spawn({
        let (context, is_over) = (Arc::clone(&context), Arc::clone(&is_over));
        move || {
            let body = Bytes::from(vec![1; size]);
            while !is_over.load(Ordering::Relaxed) {
                let message = [Bytes::from_static(&[0; 40]), body.clone()];
                if out.send(&message).unwrap() == rainband_link::zmq::Sent::WouldBlock {
                    context.zmq.poll(&mut [PollItem::writable(&out)], Some(Duration::from_millis(10))).unwrap();
                }
            }
        }
    });
    report(&format!("{} KiB in a message of two parts over {transport}", size >> 10), "GB/s", || {
        let (start, mut bytes) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_millis(500) {
            match into.recv().unwrap() {
                Some(parts) => bytes += parts.iter().map(Bytes::len).sum::<usize>(),
                None => context.zmq.poll(&mut [PollItem::readable(&into)], Some(Duration::from_millis(10))).unwrap(),
            }
        }
        bytes as f64 / start.elapsed().as_secs_f64() / 1e9
    });
    is_over.store(true, Ordering::Relaxed);
    sender.join().unwrap();
}
