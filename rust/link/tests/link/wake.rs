//! No wake-up is lost: every wait has a deadline far beyond what a wake-up takes.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rainband_link::wake::Wake;

use crate::{DEADLINE, pin, run_alone};

/// Sleeps until `word` is another than `seen`, as the I/O thread does; returns what it is then, and whether it came to sleeping.
fn wait_for_change(bell: &Wake, word: &AtomicU64, seen: u64) -> (u64, bool) {
    let mut has_slept = false;
    let mut is_announced = false;
    loop {
        // Relaxed: the order must come from the bell.
        let now = word.load(Ordering::Relaxed);
        if now != seen {
            bell.rise();
            return (now, has_slept);
        }
        if !is_announced {
            bell.announce();
            is_announced = true;
            continue;
        }
        let mut item = libc::pollfd { fd: bell.event().unwrap().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one item, which is ours.
        let ready = unsafe { libc::poll(&raw mut item, 1, DEADLINE.as_millis() as i32) };
        assert_eq!(ready, 1, "a wake-up is lost");
        has_slept = true;
        bell.rise();
        bell.clear();
        is_announced = false;
    }
}

/// Passes a number to and fro; `pauses` moves the moments against each other.
fn ping_pong(rounds: u64, pauses: u64) -> u64 {
    let bells = [Wake::new().unwrap(), Wake::new().unwrap()];
    let words = [AtomicU64::new(0), AtomicU64::new(0)];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..rounds {
                assert_eq!(wait_for_change(&bells[1], &words[1], round).0, round + 1);
                pause(round * 7 % pauses);
                words[0].store(round + 1, Ordering::Relaxed);
                bells[0].wake();
            }
        });
        let mut sleeps = 0;
        for round in 0..rounds {
            pause(round % pauses);
            words[1].store(round + 1, Ordering::Relaxed);
            bells[1].wake();
            let (number, has_slept) = wait_for_change(&bells[0], &words[0], round);
            assert_eq!(number, round + 1);
            sleeps += u64::from(has_slept);
        }
        sleeps
    })
}

/// Without a system call, so that two threads stay close; but not for ever, so that a failure of one ends the other.
fn spin_until(mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        pause(1);
        assert!(start.elapsed() < DEADLINE, "the other side has failed");
    }
}

fn is_readable(bell: &Wake) -> bool {
    let mut item = libc::pollfd { fd: bell.event().unwrap().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one item, which is ours.
    unsafe { libc::poll(&raw mut item, 1, 0) == 1 }
}

fn pause(turns: u64) {
    for _ in 0..turns {
        std::hint::spin_loop();
    }
}

#[test]
fn no_wake_up_is_lost_between_two_cores() {
    ping_pong(100_000, 1);
    ping_pong(200_000, 300);
}

#[test]
fn no_wake_up_is_lost_on_one_core() {
    run_alone("wake::ping_pong_on_one_core");
}

#[test]
#[ignore = "restricts its process; run by another"]
fn ping_pong_on_one_core() {
    pin();
    assert!(ping_pong(300_000, 50) > 100_000, "on one core nearly every wait is a sleep");
}

/// The race itself, without the system calls that hide it: in every round one of the two must notice the other.
#[test]
fn producer_or_sleeper_notices_the_other() {
    const ROUNDS: u64 = 500_000;
    let bell = Wake::new().unwrap();
    let [word, turn, looked] = [AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                spin_until(|| turn.load(Ordering::Acquire) >= round);
                word.store(round, Ordering::Relaxed);
                bell.wake();
                looked.store(round, Ordering::Release);
            }
        });
        for round in 1..=ROUNDS {
            turn.store(round, Ordering::Release);
            pause(round % 8);
            bell.announce();
            let is_seen = word.load(Ordering::Relaxed) == round;
            spin_until(|| looked.load(Ordering::Acquire) >= round);
            let is_rung = is_readable(&bell);
            assert!(is_seen || is_rung, "round {round}: neither has noticed the other");
            bell.rise();
            if is_rung {
                bell.clear();
            }
        }
    });
}

#[test]
fn no_wake_up_of_many_producers_is_lost() {
    const PRODUCERS: u64 = 4;
    const EACH: u64 = 100_000;
    let bell = Wake::new().unwrap();
    let word = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (bell, word) = (&bell, &word);
            scope.spawn(move || {
                for round in 0..EACH {
                    pause((round * (producer + 3)) % 400);
                    word.fetch_add(1, Ordering::Relaxed);
                    bell.wake();
                }
            });
        }
        let mut seen = 0;
        while seen < PRODUCERS * EACH {
            seen = wait_for_change(&bell, &word, seen).0;
        }
    });
}

#[test]
fn waking_who_is_awake_writes_nothing() {
    let bell = Wake::new().unwrap();
    bell.wake();
    assert!(!is_readable(&bell));
    bell.announce();
    assert!(!is_readable(&bell));
    bell.wake();
    bell.wake();
    assert!(is_readable(&bell));
    bell.rise();
    bell.clear();
    assert!(!is_readable(&bell));
    bell.wake();
    assert!(!is_readable(&bell));
}

#[test]
fn a_bell_that_nobody_sleeps_by_any_more_holds_no_descriptor() {
    let bell = Wake::new().unwrap();
    bell.announce();
    bell.close();
    bell.wake();
    bell.clear();
    assert!(bell.event().is_none());
}
