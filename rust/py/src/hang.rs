//! Finds the call of user code that does not come back (ENGINE 2.2). Never attaches.

use std::sync::atomic::Ordering;

use rainband_core::ids::TaskId;

use crate::shared::Shared;

const LOOK_EVERY_NS: u64 = 50_000_000;

/// The count of calls when it was first seen, and when.
#[derive(Clone, Copy, Default)]
struct Seen {
    calls: u64,
    since_ns: u64,
}

/// What was seen of the calls of all tasks.
pub struct Hangs {
    seen: Vec<Seen>,
    look_ns: u64,
}

impl Hangs {
    pub fn new(tasks: usize) -> Self {
        Self { seen: vec![Seen::default(); tasks], look_ns: 0 }
    }

    /// Which call has lasted longer than it may, in words, and when to look again.
    pub fn look(&mut self, shared: &Shared, now: u64) -> (Option<String>, u64) {
        if now < self.look_ns {
            return (None, self.look_ns);
        }
        self.look_ns = now + LOOK_EVERY_NS;
        for (index, task) in shared.tasks.iter().enumerate() {
            let seen = &mut self.seen[index];
            let calls = task.calls.load(Ordering::Relaxed);
            let is_in_user =
                task.in_user_since_ns.load(Ordering::Relaxed) != 0 && !task.waits_for_room.load(Ordering::Relaxed);
            if !is_in_user || seen.calls != calls || seen.since_ns == 0 {
                *seen = Seen { calls, since_ns: now };
                continue;
            }
            let id = TaskId(index as u32);
            let limit = shared.settings_of(id).execute_timeout_ns;
            let component = shared.plan.component_of(id);
            if component.is_spout || now - seen.since_ns < limit || shared.is_stopping() {
                continue;
            }
            let text = format!(
                "bolt {:?} task {id}: one call of user code has lasted longer than execute_timeout_s ({} s); the stacks of all threads are on stderr",
                component.name,
                limit as f64 / 1e9
            );
            return (Some(text), self.look_ns);
        }
        (None, self.look_ns)
    }
}
