//! Roots of the model: spouts emit them, acks and fails come back as mail in any order, retries follow, positions move.

use rainband_core::ids::{RootRef, TaskId};
use rainband_core::ledger::{Failure, News, Reason};

use super::super::check::ensure;
use super::super::payload::Token;
use super::World;
use super::task::{Held, Mail, Record};

impl World {
    /// A spout task's turn: another root, or `end()`. Returns `false` if it has to wait.
    pub fn next_tuple(&mut self, task: TaskId) -> Result<bool, String> {
        let owner = &mut self.tasks[task.index()];
        if owner.roots_left > 0 {
            if owner.ledger.pending() >= self.topology.max_pending {
                return Ok(false);
            }
            owner.roots_left -= 1;
            return self.emit_root(task, false).map(|()| true);
        }
        Ok(self.spout_end(task))
    }

    pub fn ack(&mut self, held: Held) {
        let mut said = Vec::new();
        held.in_hand.settle(|root, xor| said.push((root, xor)));
        for (root, xor) in said {
            self.is_gone(root);
            self.tasks[root.task.index()].mail.push(Mail::Ack(root, xor));
            self.ring(root.task);
        }
        held.token.retire();
    }

    pub fn fail(&mut self, task: TaskId, held: Held, reason: Reason, retry: bool) {
        self.fail_roots(task, held.in_hand.head.roots.as_slice(), reason, retry);
        held.token.retire();
    }

    pub fn fail_roots(&mut self, task: TaskId, roots: &[RootRef], reason: Reason, retry: bool) {
        for root in roots {
            self.is_gone(*root);
            let failure = Failure { reason, task, error: "".into(), retry };
            self.tasks[root.task.index()].mail.push(Mail::Fail(*root, failure));
            self.ring(root.task);
        }
    }

    fn is_gone(&mut self, root: RootRef) {
        if let Some(alive) = self.alive.get_mut(&(root.task, root.attempt.bits())) {
            *alive -= 1;
        }
    }

    /// One letter, or a retry that is due. Returns `false` if there is neither.
    pub fn hear(&mut self, task: TaskId) -> Result<bool, String> {
        let owner = &mut self.tasks[task.index()];
        if let Some(slot) = owner.ledger.take_due(self.now) {
            self.emit_again(task, slot)?;
            return Ok(true);
        }
        if owner.mail.is_empty() {
            return Ok(false);
        }
        match owner.mail.swap_remove(self.rng.below(owner.mail.len())) {
            Mail::Ack(root, xor) => {
                let alive = self.alive.get(&(root.task, root.attempt.bits())).copied().unwrap_or(0);
                let completed = owner.ledger.ack(root.attempt, xor, self.now);
                ensure(!completed || alive == 0, || format!("{root:?} completed with {alive} deliveries about"))?;
            }
            Mail::Fail(root, failure) => {
                owner.ledger.fail(root.attempt, failure);
            }
        }
        self.hear_news(task)?;
        Ok(true)
    }

    /// What became of the roots of `task`: resolved, or to be tried again, or given up.
    pub fn hear_news(&mut self, task: TaskId) -> Result<(), String> {
        let mut news = Vec::new();
        self.tasks[task.index()].ledger.take_news(&mut news);
        for news in news {
            let owner = &mut self.tasks[task.index()];
            match news {
                News::Acked { record, .. } => {
                    owner.acked += 1;
                    self.resolve(task, record)?;
                }
                News::Failed { slot, failure } => {
                    let (_, attempts, _) = owner.ledger.record(slot);
                    ensure(attempts <= self.topology.max_attempts, || format!("attempt {attempts}"))?;
                    if failure.retry && attempts < self.topology.max_attempts {
                        owner.ledger.retry_at(slot, self.now + self.rng.between(1, 60) as u64);
                    } else {
                        owner.dead += 1;
                        let record = owner.ledger.resolve(slot);
                        self.resolve(task, record)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn resolve(&mut self, task: TaskId, record: Record) -> Result<(), String> {
        let owner = &mut self.tasks[task.index()];
        record.token.retire();
        owner.frontier.resolve(record.ticket);
        if let Some(position) = record.position {
            owner.unresolved.remove(&position);
        }
        let reached = owner.frontier.advance(|before| _ = before.retire()).map(Token::retire);
        if let Some(position) = reached {
            let first = owner.unresolved.first().copied();
            ensure(first.is_none_or(|first| position < first), || format!("position {position} passed {first:?}"))?;
            ensure(owner.position < reached, || format!("position {position} after {:?}", owner.position))?;
            owner.position = reached;
        }
        Ok(())
    }
}
