//! Acks and fails of held tuples, from any thread (ENGINE 1.7): who wins the entry of the held table settles the tuple.

use rainband_core::emit::InHand;
use rainband_core::ids::{RootRef, TaskId};
use rainband_core::ledger::{Failure, Reason};

use crate::held::HeldKey;
use crate::shared::{Shared, lock};
use crate::stats::add;

/// Acks a held tuple. Returns whether it was held; a second ack is counted and ignored.
pub fn ack(shared: &Shared, task: TaskId, key: HeldKey) -> bool {
    let taken = lock(&shared.task(task).held).remove(key);
    let Some(in_hand) = taken else {
        add(&shared.run_stats.double_ack, 1);
        return false;
    };
    add(&shared.task(task).stats.acked, 1);
    settle(shared, &in_hand);
    shared.ring(task); // Its end may have waited for this tuple.
    true
}

/// Says what is owed for a tuple to the owners of its roots.
pub fn settle(shared: &Shared, in_hand: &InHand) {
    in_hand.settle(|root, xor| shared.apply_acks(root.task, &[(root, xor)]));
}

/// Fails a held tuple. Returns whether it was held.
pub fn fail(shared: &Shared, task: TaskId, key: HeldKey, failure: &Failure) -> bool {
    let taken = lock(&shared.task(task).held).remove(key);
    let Some(in_hand) = taken else {
        add(&shared.run_stats.double_ack, 1);
        return false;
    };
    fail_in_hand(shared, task, &in_hand, failure);
    shared.ring(task);
    true
}

/// Fails a tuple that was in hand, and counts it.
pub fn fail_in_hand(shared: &Shared, task: TaskId, in_hand: &InHand, failure: &Failure) {
    let roots: &[RootRef] = in_hand.head.roots.as_slice();
    shared.count_failed(task, failure.reason, roots.is_empty());
    shared.fail_roots(roots, failure);
}

/// The last reference to a held tuple went away.
pub fn forget(shared: &Shared, task: TaskId, key: HeldKey) {
    if shared.is_forked() || lock(&shared.task(task).held).get_mut(key).is_none() {
        return; // Acked or failed before: the rule.
    }
    let failure = Failure {
        reason: Reason::Forgotten,
        task,
        error: "the last reference to the tuple went away before it was acked or failed".into(),
        retry: true,
    };
    fail(shared, task, key, &failure);
}
