//! The loop: what it carries between workers, and that nobody holds up the others.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rainband_link::{LinkError, PeerIndex, Place, SocketHandle};

use crate::libzmq::{Context, PULL, PUSH, RCVHWM, no_socket};
use crate::sockets::{inbound, next};
use crate::worker::{Worker, text};
use crate::{Folder, pin, run_alone, wait_until};

const LARGE: usize = 10 << 20;

fn messages_go_both_ways(addresses: [&str; 2]) {
    const COUNT: u32 = 20_000;
    let context = Context::new();
    let workers = addresses.map(|address| Worker::start(&context, address));
    for (own, other) in [(0, 1), (1, 0)] {
        workers[own].connect(&context, other, &workers[other as usize].address, 100);
    }
    let large = Bytes::from(vec![7; LARGE]);
    std::thread::scope(|scope| {
        for (own, other) in [(0, 1), (1, 0)] {
            let (worker, large) = (&workers[own], &large);
            scope.spawn(move || {
                for number in 0..COUNT {
                    let mut message = text(format!("{own} {number}"));
                    if number % 1000 == 0 {
                        message.push(large.clone());
                    }
                    worker.send(other, message);
                }
            });
            scope.spawn(move || {
                for number in 0..COUNT {
                    let message = worker.next();
                    assert_eq!(message[0], format!("{other} {number}"));
                    assert_eq!(message.len(), 1 + usize::from(number % 1000 == 0));
                    assert!(message.get(1).is_none_or(|part| part == large), "the large part differs");
                }
            });
        }
    });
    for worker in workers {
        assert!(!worker.has_message());
        assert_eq!(worker.stop().len(), 2);
    }
}

#[test]
fn messages_go_both_ways_over_ipc() {
    let folder = Folder::new();
    messages_go_both_ways([&folder.ipc("a"), &folder.ipc("b")]);
}

#[test]
fn messages_go_both_ways_over_tcp() {
    messages_go_both_ways(["tcp://127.0.0.1:*"; 2]);
}

#[test]
fn a_peer_without_room_holds_up_nobody() {
    const COUNT: u32 = 200;
    let folder = Folder::new();
    let context = Context::new();
    let stuck = context.socket(PULL, &[(RCVHWM, 1)]);
    let stuck_address = stuck.bind(&folder.ipc("stuck"));
    let mut stuck = inbound(&context, stuck);
    let worker = Worker::start(&context, &folder.ipc("worker"));
    let other = Worker::start(&context, &folder.ipc("other"));
    worker.connect(&context, 0, &stuck_address, 1);
    worker.connect(&context, 1, &other.address, 100);
    other.connect(&context, 0, &worker.address, 100);

    let filling = Bytes::from(vec![0; 100_000]);
    for number in 0..COUNT {
        worker.send(0, vec![number.to_string().into(), filling.clone()]);
    }
    wait_until("one of the messages finds no room", || worker.waiting(0) < COUNT as usize);
    for number in 0..5_000 {
        worker.send(1, text(number.to_string()));
        other.send(0, text(number.to_string()));
    }
    for number in 0..5_000 {
        assert_eq!(other.next()[0], number.to_string());
        assert_eq!(worker.next()[0], number.to_string());
    }
    assert!(worker.waiting(0) > COUNT as usize / 2, "nobody has read these");
    let ticks = worker.desk.ticks.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(100));
    assert!(worker.desk.ticks.load(Ordering::Relaxed) - ticks < 10, "it sleeps while there is no room");
    // What was refused comes first when there is room, and nothing is lost or changes places.
    for number in 0..COUNT {
        assert_eq!(next(&context, &mut stuck)[0], number.to_string());
    }
    worker.stop();
    other.stop();
}

#[test]
fn no_wake_up_is_lost() {
    echo(50_000);
}

#[test]
fn no_wake_up_is_lost_on_one_core() {
    run_alone("thread::echo_on_one_core");
}

#[test]
#[ignore = "restricts its process; run by another"]
fn echo_on_one_core() {
    pin();
    echo(50_000);
}

/// Sends to itself, one message at a time, so that its thread falls asleep between most of them.
fn echo(count: u32) {
    let folder = Folder::new();
    let context = Context::new();
    let worker = Worker::start(&context, &folder.ipc("worker"));
    worker.connect(&context, 0, &worker.address, 100);
    for number in 0..count {
        worker.send(0, text(number.to_string()));
        for _ in 0..number % 300 {
            std::hint::spin_loop();
        }
        assert_eq!(worker.next()[0], number.to_string());
    }
    worker.stop();
}

#[test]
fn a_new_socket_takes_the_place_of_the_old_one() {
    let folder = Folder::new();
    let context = Context::new();
    let worker = Worker::start(&context, &folder.ipc("worker"));
    let others = ["a", "b"].map(|name| Worker::start(&context, &folder.ipc(name)));
    let first = worker.connect(&context, 2, &others[0].address, 100);
    worker.send(2, text("first"));
    assert_eq!(others[0].next()[0], "first");

    let second = worker.connect(&context, 2, &others[1].address, 100);
    worker.send(2, text("second"));
    assert_eq!(others[1].next()[0], "second");
    let released = worker.control.take_released();
    assert_eq!(released.iter().map(SocketHandle::address).collect::<Vec<_>>(), [first]);
    context.close(&released[0]);
    assert_eq!(*worker.desk.connected.lock().unwrap(), [PeerIndex(2); 2]);

    worker.control.disconnect(PeerIndex(2));
    worker.send(2, text("third"));
    let mut released = Vec::new();
    wait_until("the socket is released", || {
        released.extend(worker.control.take_released());
        !released.is_empty()
    });
    assert_eq!(released[0].address(), second);
    assert_eq!(worker.waiting(2), 1, "nobody is asked for what cannot be sent");
    assert_eq!(worker.stop().len(), 1);
    for other in others {
        assert!(!other.has_message());
        other.stop();
    }
}

#[test]
fn a_message_without_room_does_not_go_to_the_next_socket() {
    let folder = Folder::new();
    let context = Context::new();
    let worker = Worker::start(&context, &folder.ipc("worker"));
    let nobody = context.socket(PUSH, &[]).hand_over(); // Connected to nobody: there is no room.
    worker.control.connect(PeerIndex(0), nobody);
    worker.send(0, text("for the old one"));
    wait_until("it is taken", || worker.waiting(0) == 0);
    worker.connect(&context, 0, &worker.address, 100);
    worker.send(0, text("for the new one"));
    assert_eq!(worker.next()[0], "for the new one");
    worker.stop();
}

#[test]
fn all_sockets_are_released_at_the_end() {
    let folder = Folder::new();
    let context = Context::new();
    let worker = Worker::start(&context, &folder.ipc("worker"));
    let places = [0, 1].map(|peer| worker.connect(&context, peer, &worker.address, 1));
    assert!(!worker.control.is_over());
    let control = std::sync::Arc::clone(&worker.control);
    let released = worker.stop();
    assert_eq!(released.len(), 3);
    assert!(places.iter().all(|place| released.iter().any(|handle| handle.address() == *place)));
    assert!(control.is_over());
    // What comes too late goes back at once.
    let late = context.socket(PUSH, &[]).hand_over();
    let place = late.address();
    control.connect(PeerIndex(0), late);
    assert_eq!(control.take_released()[0].address(), place);
    assert!(control.take_released().is_empty());
    for handle in released {
        context.close(&handle);
    }
}

#[test]
fn a_machine_that_panics_ends_the_thread_and_releases_the_sockets() {
    let folder = Folder::new();
    let context = Context::new();
    let worker = Worker::start(&context, &folder.ipc("worker"));
    worker.connect(&context, 0, &worker.address, 1);
    worker.send(0, text("panic"));
    let (control, thread) = worker.into_thread();
    assert!(thread.join().is_err());
    assert!(control.is_over());
    assert_eq!(control.take_released().len(), 2);
}

#[test]
fn a_terminated_context_ends_the_thread() {
    let folder = Folder::new();
    let context = Context::new();
    let worker = Worker::start(&context, &folder.ipc("worker"));
    context.shut_down();
    let Err(LinkError::Terminated { .. }) = worker.result() else { panic!("another end") };
    assert_eq!(worker.join().unwrap().len(), 1);
}

#[test]
fn what_is_no_socket_ends_the_thread() {
    let folder = Folder::new();
    let context = Context::new();
    let worker = Worker::with_inbound(&context, no_socket());
    assert_eq!(worker.result(), Err(LinkError::NotASocket { place: Place::Inbound }));

    let worker = Worker::start(&context, &folder.ipc("worker"));
    worker.control.connect(PeerIndex(1), no_socket());
    worker.send(1, text("to nowhere"));
    assert_eq!(worker.result(), Err(LinkError::NotASocket { place: Place::Peer(PeerIndex(1)) }));
    assert_eq!(worker.join().unwrap().len(), 2);
}

#[test]
fn timers_are_called_in_time_and_no_more_often() {
    let folder = Folder::new();
    let context = Context::new();
    let worker = Worker::start(&context, &folder.ipc("worker"));
    worker.desk.tick_ns.store(20_000_000, Ordering::Relaxed);
    worker.control.wake();
    let before = worker.desk.ticks.load(Ordering::Relaxed);
    let start = Instant::now();
    // A sleep is two rounds: one finds nothing, one makes sure.
    wait_until("ten sleeps are over", || worker.desk.ticks.load(Ordering::Relaxed) - before >= 20);
    assert!(start.elapsed() >= Duration::from_millis(150));
    worker.desk.tick_ns.store(0, Ordering::Relaxed);
    wait_until("it sleeps without an end", || {
        let before = worker.desk.ticks.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(60));
        worker.desk.ticks.load(Ordering::Relaxed) == before
    });
    worker.stop();
}

#[test]
fn no_file_descriptor_is_left() {
    run_alone("thread::descriptors_come_and_go");
}

#[test]
#[ignore = "counts what its whole process has; run by another"]
fn descriptors_come_and_go() {
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let round = || {
        let folder = Folder::new();
        let context = Context::new();
        let worker = Worker::start(&context, &folder.ipc("worker"));
        for _ in 0..3 {
            worker.connect(&context, 0, &worker.address, 10);
        }
        worker.send(0, text("a"));
        worker.next();
        worker.stop();
    };
    round();
    let before = count();
    (0..20).for_each(|_| round());
    assert_eq!(count(), before);
}
