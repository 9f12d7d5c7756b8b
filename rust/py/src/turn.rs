//! Whose turn it is. On a Python with a GIL only one executor of a process can run Python at a time, and letting the kernel and
//! the GIL decide which costs half the speed: woken threads spread over the cores, and every object, reference count and freed
//! block travels between caches. So executors take turns: the one that has the turn runs until its inbox is empty, its targets
//! are full or its slice is over, and hands the turn to the next that is ready: one futex wake. Those that take turns are kept on
//! one core, the *home core*, so that what one made is still in the cache for the next. Restricting a thread costs microseconds,
//! so it stays restricted from turn to turn, and is freed before user code starts anything that would inherit it (`affinity`).
//! When the timer sees that they wait for the core although one of them could run, because somebody else uses it, it gives the
//! home up; the kernel moves them, and after a while the core where they run then becomes the home.
//!
//! User code that sleeps, waits for a socket or computes without the GIL must not stop the others: the timer thread takes the
//! turn away from an executor that is in one call for more than a millisecond while others are ready. Who loses it twice in a row
//! becomes *free*: an ordinary thread that takes no turns, as in any Python program, until its calls are short again.
//!
//! Without a GIL everybody is free; where threads cannot be restricted to a core the kernel places them.
//!
//! Locks: `inner` is held for a few instructions and never while Python is called. All waiting happens detached.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rainband_core::queue::Wake;

use crate::affinity;

/// A slice ends here if others are ready: the bound on what a turn costs the others in latency.
pub const SLICE: Duration = Duration::from_micros(500);
/// A free executor whose calls are shorter than this on average takes turns again.
const SHORT_CALL_NS: u64 = 50_000;
const NOBODY: u32 = u32::MAX;
pub(crate) const ANYWHERE: i32 = -1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not waiting for anything here.
    Running,
    /// Waits for its bell.
    Parked,
    /// Has something to do and waits for the turn.
    Ready,
    /// The thread is over.
    Gone,
}

struct SeatState {
    phase: Phase,
    rung: bool,
    is_free: bool,
    lost: u32,
}

struct Inner {
    holder: u32,
    ready: VecDeque<u32>,
    seats: Vec<SeatState>,
}

/// What a seat's thread waits on.
pub(crate) struct Place {
    pub(crate) thread: OnceLock<(Thread, libc::pid_t)>,
    granted: AtomicBool,
    /// The core it is restricted to, or `ANYWHERE`.
    pub(crate) core: AtomicI32,
    is_free: AtomicBool,
    /// When it got the turn, in ns since `Turns::started`.
    pub(crate) turn_began_ns: AtomicU64,
    /// How long it stood in line, in ns, behind those that it woke itself: the kernel runs them at once in its place.
    pub(crate) yielded_ns: AtomicU64,
    /// A file descriptor to write to at each ring, for loops that wait in a way of their own; negative for none.
    bell_fd: AtomicI32,
}

/// The turns of one engine.
pub struct Turns {
    inner: Mutex<Inner>,
    pub(crate) places: Vec<Place>,
    holder: AtomicU32,
    ready: AtomicU32,
    /// Counts hand-overs; the timer sees from it whether the holder is stuck.
    pub(crate) passes: AtomicU64,
    has_gil: bool,
    /// The home core, or `ANYWHERE`.
    pub(crate) home: AtomicI32,
    /// The core of this worker: several would else meet on one, where the kernel happens to have them.
    pub(crate) own_home: Option<i32>,
    /// From when on a home may be chosen, in ns since `started`.
    pub(crate) home_from_ns: AtomicU64,
    started: Instant,
    pub(crate) pins: bool,
    /// The timer's thread, and whether it naps for long.
    timer: OnceLock<Thread>,
    timer_naps: AtomicBool,
}

/// One executor's place among the turns; the waker of everything it waits for.
#[derive(Clone)]
pub struct Seat {
    pub(crate) turns: Arc<Turns>,
    pub(crate) id: u32,
}

impl Wake for Seat {
    fn wake(&self) {
        self.turns.ring(self.id);
    }

    fn is_same(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Turns {
    /// Turns for `seats` executors, of which `here` are of this process. With `takes_turns` false everybody is free. `worker`
    /// counts the processes of the run that share the machine.
    pub fn new(seats: usize, here: usize, takes_turns: bool, worker: Option<usize>) -> Arc<Self> {
        let state = || SeatState { phase: Phase::Running, rung: false, is_free: !takes_turns, lost: 0 };
        let place = || Place {
            thread: OnceLock::new(),
            granted: AtomicBool::new(false),
            core: AtomicI32::new(ANYWHERE),
            is_free: AtomicBool::new(!takes_turns),
            turn_began_ns: AtomicU64::new(0),
            yielded_ns: AtomicU64::new(0),
            bell_fd: AtomicI32::new(-1),
        };
        Arc::new(Self {
            inner: Mutex::new(Inner {
                holder: NOBODY,
                ready: VecDeque::new(),
                seats: (0..seats).map(|_| state()).collect(),
            }),
            places: (0..seats).map(|_| place()).collect(),
            holder: AtomicU32::new(NOBODY),
            ready: AtomicU32::new(0),
            passes: AtomicU64::new(0),
            has_gil: takes_turns,
            home: AtomicI32::new(ANYWHERE),
            own_home: worker.and_then(affinity::core_of_worker),
            home_from_ns: AtomicU64::new(0),
            started: Instant::now(),
            pins: takes_turns && here > 1 && affinity::is_available(),
            timer: OnceLock::new(),
            timer_naps: AtomicBool::new(false),
        })
    }

    /// The seat of executor `id`.
    pub fn seat(self: &Arc<Self>, id: usize) -> Seat {
        Seat { turns: Arc::clone(self), id: id as u32 }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_holder(&self, inner: &mut Inner, holder: u32) {
        inner.holder = holder;
        self.holder.store(holder, Ordering::Relaxed);
        self.ready.store(inner.ready.len() as u32, Ordering::Relaxed);
        self.passes.fetch_add(1, Ordering::Relaxed);
    }

    fn ring(&self, id: u32) {
        let mut inner = self.lock();
        let fd = self.places[id as usize].bell_fd.load(Ordering::Relaxed);
        if fd >= 0 {
            // Whatever its thread does: it may be parked for room, and would take this ring for an answer to that.
            write_bell(fd);
        }
        let state = &mut inner.seats[id as usize];
        state.rung = true;
        if state.phase != Phase::Parked {
            return;
        }
        if state.is_free {
            state.phase = Phase::Running;
            drop(inner);
            self.grant(id);
        } else if inner.holder == NOBODY {
            inner.seats[id as usize].phase = Phase::Running;
            self.set_holder(&mut inner, id);
            drop(inner);
            self.grant(id);
        } else {
            self.stand_in_line(&mut inner, id);
        }
    }

    /// `id` waits for the turn that another has. The timer must not sleep on: that one may be stuck.
    fn stand_in_line(&self, inner: &mut Inner, id: u32) {
        inner.seats[id as usize].phase = Phase::Ready;
        inner.ready.push_back(id);
        self.ready.store(inner.ready.len() as u32, Ordering::Relaxed);
        if self.timer_naps.load(Ordering::Relaxed) && self.timer_naps.swap(false, Ordering::Relaxed) {
            self.wake_timer();
        }
    }

    /// Lets the thread of `id` go on.
    fn grant(&self, id: u32) {
        let place = &self.places[id as usize];
        place.granted.store(true, Ordering::Release);
        if let Some((thread, _)) = place.thread.get() {
            thread.unpark();
        }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Gives the turn to the next that is ready, or to nobody. Returns whom to grant it to.
    fn next_holder(&self, inner: &mut Inner) -> Option<u32> {
        let next = inner.ready.pop_front();
        if let Some(next) = next {
            inner.seats[next as usize].phase = Phase::Running;
        }
        self.set_holder(inner, next.unwrap_or(NOBODY));
        next
    }

    /// Called by the timer thread: if the same turn has lasted since `before` and others are ready, takes it away. Returns the
    /// count of hand-overs to pass in at the next call.
    pub fn retake(&self, before: u64) -> u64 {
        let passes = self.passes.load(Ordering::Relaxed);
        if passes != before || self.ready.load(Ordering::Relaxed) == 0 {
            return passes;
        }
        let mut inner = self.lock();
        let holder = inner.holder;
        if holder == NOBODY || inner.ready.is_empty() || self.passes.load(Ordering::Relaxed) != before {
            return self.passes.load(Ordering::Relaxed);
        }
        let state = &mut inner.seats[holder as usize];
        state.lost += 1;
        if state.lost >= 2 {
            state.is_free = true;
            self.places[holder as usize].is_free.store(true, Ordering::Relaxed);
        }
        let next = self.next_holder(&mut inner);
        drop(inner);
        // It may go on beside the next holder, in parallel if it let go of the interpreter.
        let place = &self.places[holder as usize];
        if let (Some((_, tid)), true) = (place.thread.get(), place.core.swap(ANYWHERE, Ordering::Relaxed) != ANYWHERE) {
            affinity::unpin(*tid);
        }
        if let Some(next) = next {
            self.grant(next);
        }
        self.passes.load(Ordering::Relaxed)
    }

    /// Whether somebody waits for the turn, so that the timer should look often.
    pub fn is_busy(&self) -> bool {
        self.has_gil && self.ready.load(Ordering::Relaxed) > 0
    }

    /// Called by the timer: sleeps for `nap`, or until it is woken: when `is_long`, also because somebody waits for the turn.
    /// Returns whether that was why.
    pub fn nap(&self, nap: Duration, is_long: bool) -> bool {
        let _ = self.timer.set(std::thread::current());
        let naps_long = is_long && !self.is_busy();
        self.timer_naps.store(naps_long, Ordering::Relaxed);
        std::thread::park_timeout(nap);
        naps_long && !self.timer_naps.swap(false, Ordering::Relaxed)
    }

    /// Wakes the timer.
    pub fn wake_timer(&self) {
        if let Some(timer) = self.timer.get() {
            timer.unpark();
        }
    }
}

fn write_bell(fd: i32) {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: eight bytes from a local array, as an eventfd takes them; a full counter fails, which is as good as rung.
    unsafe {
        libc::write(fd, one.as_ptr().cast(), one.len());
    }
}

impl Seat {
    /// From now on `fd`, an eventfd, is written to at each ring; a negative one ends that, and nobody writes when this returns.
    pub fn set_bell(&self, fd: i32) {
        let _inner = self.turns.lock();
        self.turns.places[self.id as usize].bell_fd.store(fd, Ordering::Relaxed);
    }

    /// Called first by the executor's thread.
    pub fn sit(&self) {
        let place = &self.turns.places[self.id as usize];
        let _ = place.thread.set((std::thread::current(), affinity::thread_id()));
        affinity::enter_executor(Some(self.clone()));
        self.take_turn();
    }

    /// Called last by the executor's thread: hands the turn on for good.
    pub fn leave(&self) {
        let turns = &self.turns;
        let mut inner = turns.lock();
        inner.seats[self.id as usize].phase = Phase::Gone;
        self.hand_over(inner);
        self.unpin();
        affinity::enter_executor(None);
    }

    /// Makes this executor free from the start, for loops that wait in a way of their own (asyncio).
    pub fn set_free(&self) {
        let turns = &self.turns;
        let mut inner = turns.lock();
        inner.seats[self.id as usize].is_free = true;
        turns.places[self.id as usize].is_free.store(true, Ordering::Relaxed);
        self.hand_over(inner);
        self.unpin();
    }

    /// Gives the turn on if this seat has it.
    fn hand_over(&self, mut inner: MutexGuard<'_, Inner>) {
        if inner.holder != self.id {
            return;
        }
        let next = self.turns.next_holder(&mut inner);
        drop(inner);
        if let Some(next) = next {
            let before = Instant::now();
            self.turns.grant(next);
            let took = before.elapsed().as_nanos() as u64;
            self.turns.places[self.id as usize].yielded_ns.fetch_add(took, Ordering::Relaxed);
        }
    }

    /// Whether others wait for the turn that this seat has.
    #[inline]
    pub fn is_wanted(&self) -> bool {
        self.turns.ready.load(Ordering::Relaxed) > 0 && self.turns.holder.load(Ordering::Relaxed) == self.id
    }

    /// For how long this seat has had the turn.
    pub fn turn_lasts(&self) -> Duration {
        let began = self.turns.places[self.id as usize].turn_began_ns.load(Ordering::Relaxed);
        Duration::from_nanos(self.turns.now_ns().saturating_sub(began))
    }

    /// Whether the turn was taken away, or was never needed.
    #[inline]
    pub fn has_lost_turn(&self) -> bool {
        self.turns.has_gil && self.turns.holder.load(Ordering::Relaxed) != self.id
    }

    /// Whether this seat takes no turns.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.turns.places[self.id as usize].is_free.load(Ordering::Relaxed)
    }

    /// Waits for the turn, detached, if this seat takes turns and does not have it.
    pub fn take_turn(&self) {
        let turns = &self.turns;
        let mut inner = turns.lock();
        if inner.seats[self.id as usize].is_free || inner.holder == self.id {
            return;
        }
        if inner.holder == NOBODY {
            turns.set_holder(&mut inner, self.id);
            drop(inner);
            self.settle();
            return;
        }
        turns.stand_in_line(&mut inner, self.id);
        drop(inner);
        self.wait_granted();
    }

    /// Lets the others have a turn each and waits for the next one. Call detached, when [`Seat::is_wanted`].
    pub fn pass(&self) {
        let turns = &self.turns;
        let mut inner = turns.lock();
        if inner.holder != self.id || inner.ready.is_empty() {
            return;
        }
        inner.seats[self.id as usize].lost = 0;
        inner.seats[self.id as usize].phase = Phase::Ready;
        inner.ready.push_back(self.id);
        self.hand_over(inner);
        self.wait_granted();
    }

    /// A slice went by with calls of `average_ns`: a free executor with short calls takes turns again.
    pub fn note_calls(&self, average_ns: u64) {
        if !self.turns.has_gil || average_ns > SHORT_CALL_NS {
            return;
        }
        let mut inner = self.turns.lock();
        let state = &mut inner.seats[self.id as usize];
        if state.is_free {
            state.lost = 1; // One more stuck call and it is free again.
            state.is_free = false;
            self.turns.places[self.id as usize].is_free.store(false, Ordering::Relaxed);
        }
    }

    /// Gives the turn away and waits until somebody rings or `timeout` is over; returns with the turn (unless free). Returns at
    /// once if somebody rang since the last wait. Call detached.
    pub fn park(&self, timeout: Option<Duration>) {
        let turns = &self.turns;
        let mut inner = turns.lock();
        let state = &mut inner.seats[self.id as usize];
        if state.rung {
            state.rung = false;
            let needs_turn = !state.is_free && inner.holder != self.id;
            drop(inner);
            if needs_turn {
                self.take_turn();
            }
            return;
        }
        state.phase = Phase::Parked;
        self.hand_over(inner);
        match timeout {
            None => self.wait_granted(),
            Some(timeout) => self.wait_granted_until(Instant::now() + timeout),
        }
        turns.lock().seats[self.id as usize].rung = false;
    }

    fn wait_granted_until(&self, deadline: Instant) {
        let turns = &self.turns;
        let place = &turns.places[self.id as usize];
        loop {
            if place.granted.swap(false, Ordering::Acquire) {
                self.settle();
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                std::thread::park_timeout(left);
                continue;
            }
            let mut inner = turns.lock();
            let state = &mut inner.seats[self.id as usize];
            if state.phase != Phase::Parked {
                drop(inner); // Granted or queued for the turn meanwhile.
                self.wait_granted();
                return;
            }
            if state.is_free {
                state.phase = Phase::Running;
                return;
            }
            if inner.holder == NOBODY {
                inner.seats[self.id as usize].phase = Phase::Running;
                turns.set_holder(&mut inner, self.id);
                drop(inner);
                self.settle();
                return;
            }
            turns.stand_in_line(&mut inner, self.id);
            drop(inner);
            self.wait_granted();
            return;
        }
    }

    fn wait_granted(&self) {
        let place = &self.turns.places[self.id as usize];
        while !place.granted.swap(false, Ordering::Acquire) {
            std::thread::park();
        }
        self.settle();
    }
}
