//! The home core of the executors (see `turn`): seats move there with their turn; the timer gives it up when somebody else uses
//! it, and frees what inherited it.

use std::sync::atomic::Ordering;

use crate::affinity;
use crate::turn::{ANYWHERE, Seat, Turns};

/// Executors that wait for their core for a larger part of the time find somebody else on it.
const CROWDED: f64 = 0.15;
/// How long the kernel places the executors after that, at first and at most; it doubles while nothing gets better.
const HOMELESS_NS: (u64, u64) = (60_000_000, 1_000_000_000);

/// Fewer hand-overs between two looks than these, and nobody waits for the core.
const FEW_PASSES: u64 = 40;
/// Idle executors may still have started something: a call may last long.
const STRANGERS_NS: u64 = 250_000_000;

/// What the timer remembers about the home core.
#[derive(Default)]
pub struct HomeWatch {
    /// Of each executor, in ns: how long it stood in line for a core, and behind those that it woke itself.
    waits: Vec<(u64, u64)>,
    looked_ns: u64,
    /// When to look for threads that inherited the core at the latest.
    strangers_ns: u64,
    passes: u64,
    homeless_ns: u64,
}

impl HomeWatch {
    /// Gives the home up if the executors wait for it too much, and frees what inherited it. Call every 20 to 100 ms.
    pub fn look(&mut self, turns: &Turns) {
        let home = turns.home.load(Ordering::Relaxed);
        let passes = turns.passes.load(Ordering::Relaxed);
        let now = turns.now_ns();
        let is_idle = passes - self.passes < FEW_PASSES;
        if !turns.pins || (is_idle && now < self.strangers_ns) {
            self.looked_ns = 0;
            return;
        }
        self.strangers_ns = now + STRANGERS_NS;
        self.passes = passes;
        let tids: Vec<libc::pid_t> = turns.places.iter().filter_map(|p| p.thread.get().map(|t| t.1)).collect();
        let waits = turns.places.iter().filter_map(|place| {
            let delay = affinity::run_delay_ns(place.thread.get()?.1);
            Some((delay, place.yielded_ns.load(Ordering::Relaxed)))
        });
        let before = std::mem::replace(&mut self.waits, waits.collect());
        let span = now - std::mem::replace(&mut self.looked_ns, now);
        if home != ANYWHERE {
            affinity::free_strangers(home, &tids);
        }
        if home == ANYWHERE || span == now || before.len() != self.waits.len() {
            return;
        }
        let behind_others =
            |(now, before): (&(u64, u64), &(u64, u64))| now.0.saturating_sub(before.0).saturating_sub(now.1 - before.1);
        let waited: u64 = self.waits.iter().zip(&before).map(behind_others).sum();
        if (waited as f64) < CROWDED * span as f64 {
            self.homeless_ns = 0;
            return;
        }
        self.homeless_ns = (self.homeless_ns * 2).clamp(HOMELESS_NS.0, HOMELESS_NS.1);
        turns.home_from_ns.store(now + self.homeless_ns, Ordering::Relaxed);
        turns.home.store(ANYWHERE, Ordering::Relaxed);
        for place in &turns.places {
            if let (Some((_, tid)), true) =
                (place.thread.get(), place.core.swap(ANYWHERE, Ordering::Relaxed) != ANYWHERE)
            {
                affinity::unpin(*tid);
            }
        }
    }
}

impl Seat {
    /// Moves to the home core, or away from a former one, after the turn was got. Chooses the home if there is none.
    #[inline]
    pub(crate) fn settle(&self) {
        let turns = &self.turns;
        let place = &turns.places[self.id as usize];
        place.turn_began_ns.store(turns.now_ns(), Ordering::Relaxed);
        let home = turns.home.load(Ordering::Relaxed);
        if home != place.core.load(Ordering::Relaxed) || (home == ANYWHERE && turns.pins) {
            self.move_home(home);
        }
    }

    #[cold]
    fn move_home(&self, home: i32) {
        let turns = &self.turns;
        let place = &turns.places[self.id as usize];
        if self.is_free() || !turns.pins {
            return;
        }
        let mut home = home;
        if home == ANYWHERE {
            if place.core.swap(ANYWHERE, Ordering::Relaxed) != ANYWHERE {
                affinity::unpin(0);
            }
            if turns.now_ns() < turns.home_from_ns.load(Ordering::Relaxed) {
                return;
            }
            // A core that was given up is somebody else's, and the kernel knows a better one; but of several workers each would
            // come to where another is.
            home = turns.own_home.unwrap_or_else(affinity::current_core);
            turns.home.store(home, Ordering::Relaxed);
        }
        if home >= 0 && affinity::pin(home) {
            place.core.store(home, Ordering::Relaxed);
        }
    }

    /// Whether this seat's thread is restricted to a core.
    #[inline]
    pub fn is_pinned(&self) -> bool {
        self.turns.places[self.id as usize].core.load(Ordering::Relaxed) != ANYWHERE
    }

    /// Lifts the restriction until the next turn. Call on the seat's thread.
    pub fn unpin(&self) {
        if self.turns.places[self.id as usize].core.swap(ANYWHERE, Ordering::Relaxed) != ANYWHERE {
            affinity::unpin(0);
        }
    }
}
