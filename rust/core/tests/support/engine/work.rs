//! What a task of the model does with a tuple: work, hold, join, let go.

use rainband_core::emit::InHand;
use rainband_core::ids::TaskId;
use rainband_core::ledger::Reason;
use rainband_core::queue::Entry;
use rainband_core::tuple::Envelope;

use super::super::check::ensure;
use super::super::payload::Token;
use super::super::topology::Habit;
use super::World;
use super::task::{Body, Held};

impl World {
    /// One thing that `task` can do. Returns `false` if there is nothing but, perhaps, its end.
    pub fn work(&mut self, task: TaskId) -> Result<bool, String> {
        let owner = &self.tasks[task.index()];
        let has_call_back = owner.held.iter().any(|held| held.due.is_some_and(|due| due <= self.now));
        let has_batch = !owner.batch.is_empty();
        let may_tick = owner.ticks_left > 0 && owner.end.may_tick(self.view(task));
        if self.hear(task)? {
            return Ok(true);
        }
        if may_tick && self.rng.chance(20) {
            self.tick(task)?;
        } else if has_call_back {
            self.call_returns(task)?;
        } else if has_batch {
            self.process_next(task)?;
        } else if self.tasks[task.index()].is_spout {
            return self.next_tuple(task);
        } else {
            return self.pop(task);
        }
        Ok(true)
    }

    fn tick(&mut self, task: TaskId) -> Result<(), String> {
        self.tasks[task.index()].ticks_left -= 1;
        self.tasks[task.index()].end.touch();
        self.emit_root(task, false)
    }

    fn pop(&mut self, task: TaskId) -> Result<bool, String> {
        match self.queues[task.index()].pop() {
            None => return Ok(false),
            Some(Entry::Signal(signal)) => {
                self.tasks[task.index()].end.receive(signal);
                self.ring_cycle(task);
            }
            Some(Entry::Frame(frame)) => return Err(format!("a frame from {:?}", frame.from)),
            Some(Entry::Batch(batch)) => {
                ensure(!batch.is_empty(), || "an empty batch".into())?;
                self.tasks[task.index()].batch = batch.into();
            }
        }
        Ok(true)
    }

    fn process_next(&mut self, task: TaskId) -> Result<(), String> {
        let plan = &self.topology.plan;
        let owner = &mut self.tasks[task.index()];
        let Some(mut envelope) = owner.batch.pop_front() else {
            return Ok(());
        };
        let from = plan.task_component[envelope.from.index()];
        let bytes = u64::from(envelope.bytes);
        if plan.is_back_edge(from, owner.component) {
            owner.to_release.2 += bytes;
        } else {
            owner.to_release.0 += 1;
            owner.to_release.1 += bytes;
        }
        owner.done_inside += u64::from(plan.same_cycle(from, owner.component));
        owner.on_the_way -= 1;
        owner.end.touch();
        ensure(!owner.ran_finish, || format!("task {task} processes after finish"))?;
        owner.check_order(envelope.from, envelope.stream, envelope.payload.body().emission)?;
        let in_hand = InHand::of(&mut envelope);
        let token = self.check_payload(envelope)?;
        self.process(task, Held { in_hand, token, due: None })?;
        let owner = &mut self.tasks[task.index()];
        if owner.batch.is_empty() {
            let (items, bytes, loop_bytes) = std::mem::take(&mut owner.to_release);
            self.queues[task.index()].release(items, bytes, loop_bytes, None);
        }
        Ok(())
    }

    fn check_payload(&self, envelope: Envelope<Token<Body>>) -> Result<Token<Body>, String> {
        let subscribers = &self.topology.plan.streams[envelope.stream.index()].component;
        let is_right = *subscribers == self.topology.plan.task_component[envelope.from.index()];
        ensure(is_right, || format!("task {} does not emit on {:?}", envelope.from, envelope.stream))?;
        Ok(envelope.payload)
    }

    fn process(&mut self, task: TaskId, mut tuple: Held) -> Result<(), String> {
        let character = self.tasks[task.index()].character;
        match character.habit {
            Habit::Auto => self.work_and_let_go(task, vec![tuple]),
            Habit::Async => {
                tuple.due = Some(self.now + self.rng.between(1, 300) as u64);
                self.tasks[task.index()].held.push(tuple);
                Ok(())
            }
            Habit::Join => {
                self.tasks[task.index()].held.push(tuple);
                if self.tasks[task.index()].held.len() < 2 || self.rng.chance(50) {
                    return Ok(());
                }
                self.join(task)
            }
        }
    }

    /// Some of what is held finds its partners.
    fn join(&mut self, task: TaskId) -> Result<(), String> {
        let mut partners = Vec::new();
        for _ in 0..self.rng.between(2, 3) {
            let held = &mut self.tasks[task.index()].held;
            if !held.is_empty() {
                partners.push(held.swap_remove(self.rng.below(held.len())));
            }
        }
        self.work_and_let_go(task, partners)
    }

    /// Emits for the tuples together, then acks them all, or fails them all.
    fn work_and_let_go(&mut self, task: TaskId, mut tuples: Vec<Held>) -> Result<(), String> {
        let character = self.tasks[task.index()].character;
        let lives = tuples.iter().map(|held| held.token.body().lives).min().unwrap_or(0);
        let offspring = self.offspring(task, lives);
        self.emit_for(task, &offspring, &mut tuples)?;
        if self.rng.chance(character.fails) {
            let retry = self.rng.chance(90);
            for held in tuples {
                self.fail(task, held, Reason::Error, retry);
            }
        } else {
            for held in tuples {
                self.ack(held);
            }
        }
        Ok(())
    }

    fn call_returns(&mut self, task: TaskId) -> Result<(), String> {
        let owner = &mut self.tasks[task.index()];
        owner.end.touch();
        let Some(at) = owner.held.iter().position(|held| held.due.is_some_and(|due| due <= self.now)) else {
            return Ok(());
        };
        let tuple = owner.held.swap_remove(at);
        self.work_and_let_go(task, vec![tuple])
    }

    /// `flush()`: a join lets go of all it holds; an async bolt cannot.
    pub fn flush_hook(&mut self, task: TaskId) -> Result<(), String> {
        if self.tasks[task.index()].character.habit != Habit::Join {
            return Ok(());
        }
        while !self.tasks[task.index()].held.is_empty() {
            self.join(task)?;
        }
        Ok(())
    }

    /// `ack_timeout_s` passed for what the task holds; its executor learns of it.
    pub fn time_out(&mut self, holder: usize) -> Result<(), String> {
        let task = self.tasks[holder].id;
        let held = std::mem::take(&mut self.tasks[holder].held);
        ensure(held.iter().all(|held| held.due.is_none()), || "an async call hangs".into())?;
        for held in held {
            self.fail(task, held, Reason::Timeout, true);
        }
        self.ring(task);
        Ok(())
    }
}
