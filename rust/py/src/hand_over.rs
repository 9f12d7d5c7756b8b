//! Stages 3 and 6 of 8: what a task emitted goes to the queues, what it acked to the owners of the roots.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use rainband_core::deliver::Stopped;
use rainband_core::emit::settle_alone;
use rainband_core::ids::{RootRef, TaskId};
use rainband_core::ledger::{Failure, Reason};
use rainband_core::tuple::Envelope;

use crate::collector::Collector;
use crate::errors;
use crate::payload::Payload;
use crate::snapshot::counts_of;
use crate::stats::add;

/// What goes to other workers waits for so long at most, and of acks so many at most.
const HOLD_NS: u64 = 800_000;
const FEW_ACKS: usize = 256;

/// XORs about one root that follow each other become one.
#[inline(always)]
fn merge(acks: &mut Vec<(RootRef, u64)>, root: RootRef, xor: u64) {
    match acks.last_mut() {
        Some((last, sum)) if *last == root => *sum ^= xor,
        _ => acks.push((root, xor)),
    }
}

impl Collector {
    /// Hands over all that was emitted, for an emit of user code; waits, detached, while targets are full.
    ///
    /// # Errors
    /// The run was stopped: a call that emits without end would otherwise never notice.
    #[cold]
    #[inline(never)]
    pub fn flush_emitted(&mut self, py: Python<'_>) -> PyResult<()> {
        self.flush(py);
        if self.shared.is_stopping() {
            return Err(errors::emit_error(py, format!("emit() of task {}: the run was stopped", self.task)));
        }
        Ok(())
    }

    /// Hands over all that was emitted; waits, detached, while targets are full. When the run is stopped what has no room is
    /// counted and gone; its roots are not acked.
    pub fn flush(&mut self, py: Python<'_>) {
        self.flush_to(py, true);
    }

    /// As [`Collector::flush`], but what goes to other workers may be kept.
    fn flush_to(&mut self, py: Python<'_>, mut is_elsewhere_too: bool) {
        self.publish(); // First: what others have seen must have been counted, should the process die.
        loop {
            let shared = &*self.shared;
            let result = if is_elsewhere_too {
                self.outbox.flush(self.loop_bytes, shared)
            } else {
                self.outbox.flush_here(self.loop_bytes, shared)
            };
            match result {
                Ok(()) => return,
                Err(Stopped::Full(task)) if shared.is_stopping() => self.discard(task),
                Err(Stopped::Full(_)) if !is_elsewhere_too => is_elsewhere_too = true, // The wait may be long.
                Err(Stopped::Full(task)) => {
                    self.apply_acks();
                    if self.shared.wait_for_room(task, &self.seat) {
                        let own = self.shared.task(self.task);
                        own.waits_for_room.store(true, Ordering::Relaxed);
                        py.detach(|| self.seat.park(None));
                        own.waits_for_room.store(false, Ordering::Relaxed);
                    }
                }
                Err(Stopped::Closed(task)) => self.discard(task),
                Err(Stopped::LoopFull(task)) => drop(self.fail_loop(task)),
            }
        }
    }

    /// Hands over at the end of a slice: tuples to the queues, acks to the owners of the roots. Each time that something goes to
    /// another worker the I/O threads of both are woken, so that waits for [`HOLD_NS`] if the task says that it comes by here
    /// soon; if it does not, because a call takes long after all, the timer sees to it.
    pub fn hand_over(&mut self, py: Python<'_>, comes_soon: bool) {
        let is_held = comes_soon && self.shared.remote.is_some() && self.now_ns < self.handed_over_ns + HOLD_NS;
        if !is_held {
            self.handed_over_ns = self.now_ns;
        }
        if self.outbox.is_empty() {
            self.publish();
        } else {
            self.flush_to(py, !is_held);
        }
        if !(self.acks.is_empty() || is_held && self.acks.len() < FEW_ACKS) {
            self.apply_acks();
        }
    }

    /// When what [`Collector::hand_over`] kept has to go; `None` if it kept nothing.
    pub fn held_until_ns(&self) -> Option<u64> {
        (!self.outbox.is_empty() || !self.acks.is_empty()).then_some(self.handed_over_ns + HOLD_NS)
    }

    #[cold]
    fn discard(&mut self, task: TaskId) {
        let count = self.outbox.buffered(task);
        let left = self.outbox.take(task);
        add(&self.shared.run_stats.discarded_at_stop, count as u64);
        drop(left);
    }

    /// Hands over as much as there is room for, without waiting; for the timer, while the task's thread is in user code. What a
    /// full back edge refused is failed and given back, to be dropped when the collector is let go.
    #[must_use]
    pub fn flush_some(&mut self) -> Vec<Envelope<Payload>> {
        let shared = Arc::clone(&self.shared);
        self.publish();
        let mut refused = Vec::new();
        for _ in 0..8 {
            match self.outbox.flush(self.loop_bytes, &*shared) {
                Err(Stopped::LoopFull(task)) => refused.extend(self.fail_loop(task)),
                _ => break,
            }
        }
        self.apply_acks();
        refused
    }

    #[cold]
    fn fail_loop(&mut self, task: TaskId) -> Vec<Envelope<Payload>> {
        let left = self.outbox.take(task);
        let to = self.shared.plan.component_of(task).name.clone();
        for envelope in &left {
            let failure = Failure {
                reason: Reason::LoopFull,
                task: self.task,
                error: format!("more than {} bytes wait on the back edge to {to:?}", self.loop_bytes).into(),
                retry: true,
            };
            let roots = envelope.head.roots.as_slice();
            self.shared.count_failed(self.task, Reason::LoopFull, roots.is_empty());
            if roots.is_empty() {
                add(&self.shared.run_stats.loop_dropped, 1);
            }
            self.shared.fail_roots(roots, &failure);
        }
        left
    }

    /// Tells the owners of the roots what was acked since the last call.
    pub fn apply_acks(&mut self) {
        let mut rest = self.acks.as_slice();
        while let Some((first, _)) = rest.first() {
            let task = first.task;
            let incarnation = first.incarnation;
            let is_same = |root: &RootRef| root.task == task && root.incarnation == incarnation;
            let same = rest.iter().take_while(|(root, _)| is_same(root)).count();
            let (now, later) = rest.split_at(same);
            self.shared.apply_acks(task, now);
            rest = later;
        }
        self.acks.clear();
    }

    /// Notes the ack of the tuple in hand.
    #[inline(always)]
    pub fn ack_current(&mut self) {
        let acks = &mut self.acks;
        self.in_hand.settle(|root, xor| merge(acks, root, xor));
    }

    /// Notes the ack of a tuple of which nothing came.
    #[inline(always)]
    pub fn ack_alone(&mut self, envelope: &Envelope<Payload>) {
        let acks = &mut self.acks;
        settle_alone(envelope, |root, xor| merge(acks, root, xor));
    }

    /// Brings the counters of the slice to where others read them.
    pub fn publish(&mut self) {
        let shared = self.shared.task(self.task);
        add(&shared.stats.emitted, std::mem::take(&mut self.emitted));
        add(&shared.stats.delivered, std::mem::take(&mut self.delivered));
        shared.sent_inside.store(self.outbox.sent_inside(), Ordering::Release);
        if let Some(slots) = self.shared.remote.as_ref().and_then(|remote| remote.slots.as_ref()) {
            slots.count(self.task, &counts_of(shared));
        }
    }
}
