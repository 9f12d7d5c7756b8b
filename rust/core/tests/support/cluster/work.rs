//! What a task does with a tuple: work, hold, join, let go.

use rainband_core::emit::InHand;
use rainband_core::fault::{Fault, planted};
use rainband_core::ids::{RootRef, TaskId};
use rainband_core::ledger::{Failure, Reason};
use rainband_core::queue::{Entry, Frame};
use rainband_core::tuple::{Envelope, Roots};

use super::super::check::ensure;
use super::super::payload::Token;
use super::super::topology::Habit;
use super::shared::{MICROSECOND, MILLISECOND, Shared};
use super::task::{Body, Desk, Held, Mail};
use super::worker::Worker;

/// What is held so long fails as `timeout`.
const ACK_TIMEOUT: u64 = 100 * MILLISECOND;

impl Worker {
    /// One thing that `task` can do. Returns `false` if there is nothing but, perhaps, its end.
    pub fn work(&mut self, cx: &mut Shared, task: TaskId) -> Result<bool, String> {
        let view = self.view_of(cx, task);
        let owner = self.task(task);
        if owner.is_over() {
            return self.finds_nothing_more(task);
        }
        let has_due = owner.held.iter().any(|held| held.due <= cx.now);
        let has_desk = owner.desk.is_some();
        let is_spout = owner.is_spout;
        let may_tick = owner.ticks_left > 0 && owner.end.may_tick(view);
        if self.hear(cx, task)? {
            return Ok(true);
        }
        if may_tick && cx.rng.chance(20) {
            self.task(task).ticks_left -= 1;
            self.task(task).end.touch();
            self.emit_root(cx, task, false)?;
        } else if has_due {
            self.let_due_go(cx, task)?;
        } else if has_desk {
            self.process_next(cx, task)?;
        } else if is_spout {
            return self.next_tuple(cx, task);
        } else {
            return self.pop(cx, task);
        }
        Ok(true)
    }

    /// Signals may come to a task that is over, and letters about attempts that are; tuples may not.
    fn finds_nothing_more(&mut self, task: TaskId) -> Result<bool, String> {
        self.task(task).mail.clear();
        match self.queue(task).pop() {
            None => Ok(false),
            Some(Entry::Signal(_)) => Ok(true),
            Some(entry) => Err(format!("task {task} is over and gets {entry:?}")),
        }
    }

    fn pop(&mut self, cx: &mut Shared, task: TaskId) -> Result<bool, String> {
        match self.queue(task).pop() {
            None => return Ok(false),
            Some(Entry::Signal(signal)) => {
                self.task(task).end.receive(signal);
                self.ring_cycle(cx, task);
            }
            Some(Entry::Frame(frame)) => {
                ensure(frame.reader.left() > 0, || "an empty frame".into())?;
                self.task(task).desk = Some(Desk::Frame(frame));
            }
            Some(Entry::Batch(batch)) => {
                ensure(!batch.is_empty(), || "an empty batch".into())?;
                self.task(task).desk = Some(Desk::Batch(batch.into()));
            }
        }
        Ok(true)
    }

    /// Takes the next tuple from the desk; a frame is decoded as it is worked on.
    fn process_next(&mut self, cx: &mut Shared, task: TaskId) -> Result<(), String> {
        let its = self.me.incarnation;
        let owner = self.task(task);
        owner.end.touch();
        ensure(!owner.ran_finish, || format!("task {task} processes after finish"))?;
        let (mut envelope, incarnation) = match &mut owner.desk {
            None => return Ok(()),
            Some(Desk::Batch(batch)) => (batch.pop_front().ok_or("an empty batch on the desk")?, its),
            Some(Desk::Frame(frame)) => (decode(frame)?, frame.from.incarnation),
        };
        let is_frame = matches!(owner.desk, Some(Desk::Frame(_)));
        let is_last = match &owner.desk {
            Some(Desk::Batch(batch)) => batch.is_empty(),
            Some(Desk::Frame(frame)) => frame.reader.left() == 0,
            None => true,
        };
        let plan = &cx.topology.plan;
        let from = plan.task_component[envelope.from.index()];
        let bytes = u64::from(envelope.bytes);
        if plan.is_back_edge(from, owner.component) {
            owner.to_release.2 += bytes;
        } else {
            owner.to_release.0 += 1;
            owner.to_release.1 += if is_frame { 0 } else { bytes };
        }
        owner.done_inside += u64::from(plan.same_cycle(from, owner.component));
        let producer = (envelope.from, incarnation);
        let emission = envelope.payload.body().emission;
        cx.truth.works_on(producer, envelope.stream.0, emission, (task, its))?;
        cx.note(&("works", task, its, producer, emission));
        let in_hand = InHand::of(&mut envelope);
        self.process(cx, task, Held { in_hand, token: envelope.payload, due: 0, is_call: false })?;
        if is_last {
            self.clear_desk(task);
        }
        Ok(())
    }

    fn clear_desk(&mut self, task: TaskId) {
        let owner = self.task(task);
        let (items, bytes, loop_bytes) = std::mem::take(&mut owner.to_release);
        let desk = owner.desk.take();
        self.queue(task).release(items, bytes, loop_bytes, None);
        if let Some(Desk::Frame(frame)) = desk {
            self.links.consumed(frame.from, task, frame.weight);
        }
    }

    fn process(&mut self, cx: &mut Shared, task: TaskId, mut tuple: Held) -> Result<(), String> {
        match self.task(task).character.habit {
            Habit::Auto => self.work_and_let_go(cx, task, vec![tuple]),
            Habit::Async => {
                tuple.due = cx.now + cx.delay(100 * MICROSECOND, 5 * MILLISECOND);
                tuple.is_call = true;
                if planted(Fault::AckedBeforeWork) {
                    let mut said = Vec::new();
                    tuple.in_hand.settle(|root, xor| said.push((root, xor)));
                    for (root, xor) in said {
                        self.say(cx, task, root, xor);
                    }
                    tuple.in_hand.head.roots = Roots::None;
                }
                self.task(task).held.push(tuple);
                Ok(())
            }
            Habit::Join => {
                tuple.due = cx.now + ACK_TIMEOUT;
                self.task(task).held.push(tuple);
                if self.task(task).held.len() < 2 || cx.rng.chance(50) {
                    return Ok(());
                }
                self.join(cx, task)
            }
        }
    }

    /// Some of what is held finds its partners.
    fn join(&mut self, cx: &mut Shared, task: TaskId) -> Result<(), String> {
        let mut partners = Vec::new();
        for _ in 0..cx.rng.between(2, 3) {
            let held = &mut self.task(task).held;
            if !held.is_empty() {
                partners.push(held.swap_remove(cx.rng.below(held.len())));
            }
        }
        self.work_and_let_go(cx, task, partners)
    }

    /// Emits for the tuples together, then acks them all, or fails them all.
    fn work_and_let_go(&mut self, cx: &mut Shared, task: TaskId, mut tuples: Vec<Held>) -> Result<(), String> {
        let character = self.task(task).character;
        let lives = tuples.iter().map(|held| held.token.body().lives).min().unwrap_or(0);
        let offspring = self.offspring(cx, task, lives);
        self.emit_for(cx, task, &offspring, &mut tuples)?;
        if cx.rng.chance(character.fails) {
            let retry = cx.rng.chance(90);
            for held in tuples {
                self.fail(cx, task, held, Reason::Error, retry);
            }
            Ok(())
        } else {
            tuples.into_iter().try_for_each(|held| self.ack(cx, task, held))
        }
    }

    /// A call returns, or something was held too long.
    fn let_due_go(&mut self, cx: &mut Shared, task: TaskId) -> Result<(), String> {
        let owner = self.task(task);
        owner.end.touch();
        let Some(at) = owner.held.iter().position(|held| held.due <= cx.now) else { return Ok(()) };
        let tuple = owner.held.swap_remove(at);
        if tuple.is_call {
            return self.work_and_let_go(cx, task, vec![tuple]);
        }
        self.fail(cx, task, tuple, Reason::Timeout, true);
        Ok(())
    }

    fn ack(&mut self, cx: &mut Shared, task: TaskId, held: Held) -> Result<(), String> {
        let mut said = Vec::new();
        held.in_hand.settle(|root, xor| said.push((root, xor)));
        for (root, xor) in said {
            cx.truth.acks(root)?;
            self.say(cx, task, root, xor);
        }
        held.token.retire();
        Ok(())
    }

    fn say(&mut self, cx: &mut Shared, task: TaskId, root: RootRef, xor: u64) {
        if cx.placement[root.task.index()] == self.me.worker {
            self.hear_of(cx, root.task, root.incarnation, Mail::Ack(root, xor));
        } else {
            self.task(task).acks.entry(root.task).or_default().push((root, xor));
        }
    }

    fn fail(&mut self, cx: &mut Shared, task: TaskId, held: Held, reason: Reason, retry: bool) {
        for root in held.in_hand.head.roots.as_slice() {
            let failure = Failure { reason, task, error: "".into(), retry };
            self.tell_failure(cx, root, failure);
        }
        held.token.retire();
    }

    /// `flush()`: a join lets go of all it holds; an async bolt cannot.
    pub fn flush_hook(&mut self, cx: &mut Shared, task: TaskId) -> Result<(), String> {
        if self.task(task).character.habit != Habit::Join {
            return Ok(());
        }
        while !self.task(task).held.is_empty() {
            self.join(cx, task)?;
        }
        Ok(())
    }
}

fn decode(frame: &mut Frame) -> Result<Envelope<Token<Body>>, String> {
    let record = frame.reader.read_next().map_err(|error| format!("a record: {error:?}"))?;
    let record = record.ok_or("a frame that is at its end on the desk")?;
    let body = Body::decode(record.values).ok_or("other values than were sent")?;
    Ok(Envelope {
        payload: Token::new(body),
        edge: record.edge,
        head: record.head,
        stream: record.stream,
        from: record.from,
        bytes: 0,
    })
}
