//! What can be said of this process as a whole: who holds a root, for the audit (ENGINE 2.2), and whether anything moves, for the
//! warning about a standstill (ENGINE 5.1). In a run of several workers the supervisor asks all of them and judges
//! (`python/rainband/cluster/audit.py`); alone, the timer does.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use rainband_core::ids::{RootRef, TaskId};
use rainband_core::ledger::{Failure, Reason};
use rustc_hash::FxHashSet;

use crate::shared::{Shared, TaskShared, lock};
use crate::stats::add;

/// The oldest roots that are asked after at a time.
const ASKED: usize = 10_000;

/// The roots of this process that are older than `audit_s` and not in backoff.
pub fn old_roots(shared: &Shared, now_ns: u64) -> Vec<RootRef> {
    let Some(before) = now_ns.checked_sub(shared.settings.audit_ns) else { return Vec::new() };
    let mut old = Vec::new();
    for (index, task) in shared.tasks.iter().enumerate() {
        let root = |attempt| RootRef { task: TaskId(index as u32), incarnation: shared.incarnation, attempt };
        old.extend(lock(&task.ledger).older_than(before).map(|(began, attempt)| (began, root(attempt))));
    }
    old.sort_unstable_by_key(|(began, _)| *began);
    old.into_iter().take(ASKED).map(|(_, root)| root).collect()
}

/// What a look at queues and held tuples found.
pub struct Look {
    /// The roots of what is there.
    pub found: FxHashSet<RootRef>,
    /// Grows with every call of user code and every frame between workers: between two looks with the same number nothing moved.
    pub moves: u64,
}

/// The roots of everything that is queued or held here; `None` if somebody has something in hand or a link has not been confirmed
/// all that was sent, because that is not seen from here.
pub fn look(shared: &Shared) -> Option<Look> {
    let (was_busy, before) = (is_busy(shared), moves(shared));
    let mut found = FxHashSet::default();
    for task in &shared.tasks {
        task.queue.for_each_root(|root| {
            found.insert(*root);
        });
        lock(&task.held).for_each_root(|root| {
            found.insert(*root);
        });
    }
    let is_still = !was_busy && !is_busy(shared) && moves(shared) == before;
    is_still.then_some(Look { found, moves: before })
}

/// Fails those of these roots that are still pending here: nobody holds them, which is a bug of ours.
pub fn lose(shared: &Shared, roots: &[RootRef]) {
    for RootRef { task, incarnation, attempt } in roots {
        if *incarnation != shared.incarnation || !shared.is_here(*task) {
            continue;
        }
        let error = "an audit found nobody who holds it; this is a bug of rainband".into();
        let failure = Failure { reason: Reason::Lost, task: *task, error, retry: true };
        if lock(&shared.task(*task).ledger).fail(*attempt, failure) {
            add(&shared.run_stats.lost, 1);
            shared.ring(*task);
        }
    }
}

/// What a standstill is seen by.
pub struct Standing {
    /// Some spout task of this process stands at `max_pending`.
    pub is_at_limit: bool,
    /// Calls of user code so far.
    pub calls: u64,
    /// The tasks that hold tuples, and how many.
    pub holders: Vec<(TaskId, usize)>,
}

/// How this process stands.
pub fn standing(shared: &Shared) -> Standing {
    let tasks = || (0..).map(TaskId).zip(&shared.tasks);
    let is_at_limit = tasks().any(|(id, task)| {
        shared.plan.component_of(id).is_spout
            && task.pending.load(Ordering::Relaxed) >= shared.settings_of(id).max_pending
    });
    let holders = tasks().map(|(id, task)| (id, lock(&task.held).len())).filter(|(_, held)| *held > 0).collect();
    Standing { is_at_limit, calls: calls(shared), holders }
}

/// Whether there is something in the outbox of a task whose thread is in user code, or that cannot be said.
fn has_emitted(shared: &Shared, task: &TaskShared) -> bool {
    let Some(cell) = lock(&task.cell).clone() else { return false };
    if !shared.has_gil {
        return true; // There its owner may be changing it.
    }
    Python::attach(|py| {
        // SAFETY: attached, on a Python with a GIL.
        let collector = unsafe { cell.borrow_from_timer(py) };
        collector.is_none_or(|collector| !collector.outbox.is_empty())
    })
}

fn calls(shared: &Shared) -> u64 {
    shared.tasks.iter().map(|task| task.calls.load(Ordering::Acquire)).sum()
}

fn moves(shared: &Shared) -> u64 {
    calls(shared) + shared.remote.as_ref().map_or(0, |remote| remote.links.frames())
}

/// Whether a task has something in its hands (in a call, in a batch, emitted and not handed over), or something is between two
/// workers, or waits for a replay.
fn is_busy(shared: &Shared) -> bool {
    let has_hands_full = shared.tasks.iter().enumerate().any(|(index, task)| {
        let is_spout = shared.plan.component_of(TaskId(index as u32)).is_spout;
        let is_in_call = task.in_user_since_ns.load(Ordering::Relaxed) != 0;
        // A spout may wait in a call for hours, and may have emitted in it.
        is_in_call && (!is_spout || has_emitted(shared, task))
            || task.has_in_hand.load(Ordering::Acquire)
            || task.roots.try_lock().map_or(true, |roots| !roots.replayer.outbox.is_empty())
    });
    has_hands_full || shared.remote.as_ref().is_some_and(|remote| !remote.links.is_settled() || remote.has_unsaid())
}
