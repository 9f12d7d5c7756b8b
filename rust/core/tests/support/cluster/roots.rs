//! Roots: spouts emit them, acks and fails come back as mail in any order, retries follow, positions move.

use rainband_core::ids::TaskId;
use rainband_core::ledger::{News, Reason};

use super::super::check::ensure;
use super::super::payload::Token;
use super::boss::Report;
use super::shared::{MICROSECOND, MILLISECOND, Shared};
use super::task::{Mail, Record};
use super::worker::Worker;

impl Worker {
    /// A spout task's turn: another root, or `end()`. Returns `false` if it has to wait.
    pub fn next_tuple(&mut self, cx: &mut Shared, task: TaskId) -> Result<bool, String> {
        let source = &cx.truth.sources[task.index()];
        let owner = self.task(task);
        let next = if source.has_positions { owner.next_number } else { source.next };
        if next < source.done.len() as u64 {
            if owner.ledger.pending() >= cx.topology.max_pending {
                return Ok(false);
            }
            return self.emit_root(cx, task, false).map(|()| true);
        }
        Ok(self.spout_end(task))
    }

    /// One letter, or a retry that is due. Returns `false` if there is neither.
    pub fn hear(&mut self, cx: &mut Shared, task: TaskId) -> Result<bool, String> {
        let now = cx.now;
        let owner = self.task(task);
        if let Some(slot) = owner.ledger.take_due(now) {
            self.emit_again(cx, task, slot)?;
            return Ok(true);
        }
        if owner.mail.is_empty() && !owner.ledger.has_news() {
            return Ok(false);
        }
        if !owner.mail.is_empty() {
            match owner.mail.swap_remove(cx.rng.below(owner.mail.len())) {
                Mail::Ack(root, xor) => {
                    let open = cx.truth.open.get(&root).copied().unwrap_or(0);
                    let completed = owner.ledger.ack(root.attempt, xor, now);
                    ensure(!completed || open == 0, || format!("{root:?} completed with {open} deliveries open"))?;
                }
                Mail::Fail(root, failure) => {
                    owner.ledger.fail(root.attempt, failure);
                }
            }
        }
        self.hear_news(cx, task)?;
        Ok(true)
    }

    /// What became of the roots of `task`: resolved, or to be tried again, or given up.
    pub fn hear_news(&mut self, cx: &mut Shared, task: TaskId) -> Result<(), String> {
        let mut news = Vec::new();
        self.task(task).ledger.take_news(&mut news);
        for news in news {
            let owner = self.task(task);
            match news {
                News::Acked { record, .. } => {
                    owner.acked += 1;
                    self.resolve(cx, task, record);
                }
                News::Failed { slot, failure } => {
                    let (_, attempts, _) = owner.ledger.record(slot);
                    ensure(attempts <= cx.topology.max_attempts, || format!("attempt {attempts} of task {task}"))?;
                    cx.note(&("fails", task, failure.reason, attempts));
                    let due = cx.now + cx.delay(10 * MICROSECOND, 10 * MILLISECOND);
                    if failure.reason == Reason::WorkerLost {
                        ensure(cx.truth.deaths > 0, || "a worker was lost and none died".into())?;
                        self.task(task).ledger.retry_uncounted(slot, due);
                    } else if failure.retry && attempts < cx.topology.max_attempts {
                        self.task(task).ledger.retry_at(slot, due);
                    } else {
                        owner.dead += 1;
                        let record = owner.ledger.resolve(slot);
                        self.resolve(cx, task, record);
                    }
                }
            }
        }
        Ok(())
    }

    fn resolve(&mut self, cx: &mut Shared, task: TaskId, record: Record) {
        record.token.retire();
        cx.note(&("resolved", task, record.number));
        if let Some(number) = record.number {
            cx.truth.sources[task.index()].done[number as usize] = true;
        }
        let frontier = &mut self.task(task).frontier;
        frontier.resolve(record.ticket);
        let reached = frontier.advance(|before| _ = before.retire()).map(Token::retire);
        if let Some(position) = reached {
            cx.reports.push(Report::Position(task, position));
        }
    }
}
