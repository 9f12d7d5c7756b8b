//! The end of tasks and cycles in the model.

use rainband_core::ids::{Incarnation, TaskId};
use rainband_core::plan::Plan;
use rainband_core::signal::{CycleCount, Kind, Signal, Step, View};

use super::super::check::ensure;
use super::World;

/// Who counts in one cycle, and how far the round is. Members are asked one at a time, while the others go on.
pub struct Count {
    members: Vec<TaskId>,
    asked: usize,
    sent: u64,
    done: u64,
    all_idle: bool,
    rounds: CycleCount,
    is_over: bool,
}

impl Count {
    pub fn new(plan: &Plan, cycle: u32) -> Self {
        let members = plan.components.iter().filter(|component| component.cycle == Some(cycle));
        Self {
            members: members.flat_map(|component| component.tasks.clone().map(TaskId)).collect(),
            asked: 0,
            sent: 0,
            done: 0,
            all_idle: true,
            rounds: CycleCount::default(),
            is_over: false,
        }
    }
}

impl World {
    fn signal_of(task: TaskId, kind: Kind) -> Signal {
        Signal { kind, from: task, incarnation: Incarnation(0) }
    }

    /// `end()` of a spout, and later the end of its last root. Returns whether something new was to be said.
    pub fn spout_end(&mut self, task: TaskId) -> bool {
        let owner = &mut self.tasks[task.index()];
        if !owner.has_ended {
            owner.has_ended = true;
            owner.end.receive(Self::signal_of(task, Kind::Flush));
        } else if !owner.has_resolved && owner.ledger.pending() == 0 {
            owner.has_resolved = true;
            owner.end.receive(Self::signal_of(task, Kind::End));
        } else {
            return false;
        }
        true
    }

    pub fn view(&self, task: TaskId) -> View {
        let owner = &self.tasks[task.index()];
        let cycle = self.topology.plan.component_of(task).cycle.map(|cycle| &self.counts[cycle as usize]);
        let flushed = |count: &Count| count.members.iter().all(|member| self.tasks[member.index()].end.is_flushed());
        View {
            held: owner.held.len(),
            pending: owner.ledger.pending(),
            is_cycle_flushed: cycle.is_none_or(flushed),
            is_cycle_over: cycle.is_none_or(|count| count.is_over),
        }
    }

    /// The next step of a task that has an empty inbox and outbox. Returns `false` if there is none.
    pub fn end_step(&mut self, task: TaskId) -> Result<bool, String> {
        let view = self.view(task);
        let owner = &mut self.tasks[task.index()];
        match owner.end.next(view) {
            Step::Wait => return Ok(false),
            Step::RunFlush => self.flush_hook(task)?,
            Step::SendFlush => self.tell_consumers(task, Kind::Flush),
            Step::RunFinish => self.finish_hook(task)?,
            Step::SendEnd => {
                ensure(owner.ledger.pending() == 0, || format!("task {task} ends with roots pending"))?;
                self.tell_consumers(task, Kind::End);
            }
        }
        Ok(true)
    }

    fn tell_consumers(&mut self, task: TaskId, kind: Kind) {
        for consumer in self.topology.plan.consumers(self.tasks[task.index()].component) {
            self.queues[consumer.index()].signal(Self::signal_of(task, kind));
        }
    }

    fn finish_hook(&mut self, task: TaskId) -> Result<(), String> {
        let owner = &mut self.tasks[task.index()];
        ensure(!owner.ran_finish, || format!("task {task} finishes twice"))?;
        let open = owner.on_the_way + owner.held.len() + owner.batch.len();
        ensure(open == 0, || format!("task {task} finishes with {open} tuples on the way or held"))?;
        owner.ran_finish = true;
        for producer in self.topology.plan.producers(self.tasks[task.index()].component).0 {
            let is_over = self.tasks[producer.index()].end.is_over();
            ensure(is_over, || format!("task {task} finishes before task {producer} ended"))?;
        }
        for _ in 0..self.tasks[task.index()].character.last_words {
            self.emit_root(task, true)?;
        }
        Ok(())
    }

    /// Wakes the cycle of `task`: what its members may do depends on one another.
    pub fn ring_cycle(&self, task: TaskId) {
        if let Some(cycle) = self.topology.plan.component_of(task).cycle {
            self.counts[cycle as usize].members.iter().for_each(|member| self.ring(*member));
        }
    }

    /// Asks the next member of some cycle. Returns whether a cycle was found to be over.
    pub fn ask_a_member(&mut self) -> Result<bool, String> {
        let open: Vec<usize> = (0..self.counts.len()).filter(|at| !self.counts[*at].is_over).collect();
        if open.is_empty() {
            return Ok(false);
        }
        let cycle = open[self.rng.below(open.len())];
        let member = self.counts[cycle].members[self.counts[cycle].asked];
        let is_idle = self.is_idle(member);
        let owner = &self.tasks[member.index()];
        let count = &mut self.counts[cycle];
        count.sent += owner.outbox.sent_inside();
        count.done += owner.done_inside;
        count.all_idle &= is_idle;
        count.asked += 1;
        if count.asked < count.members.len() {
            return Ok(false);
        }
        count.is_over = count.rounds.round(count.sent, count.done, count.all_idle);
        (count.asked, count.sent, count.done, count.all_idle) = (0, 0, 0, true);
        if !count.is_over {
            return Ok(false);
        }
        for member in count.members.clone() {
            let owner = &self.tasks[member.index()];
            let open = owner.on_the_way + owner.held.len() + owner.ledger.pending();
            ensure(open == 0, || format!("cycle {cycle} is over, but task {member} has {open} things open"))?;
            self.ring(member);
        }
        Ok(true)
    }

    fn is_idle(&self, member: TaskId) -> bool {
        let owner = &self.tasks[member.index()];
        let has_work = !owner.batch.is_empty() || !owner.mail.is_empty() || !owner.outbox.is_empty();
        !has_work && self.queues[member.index()].is_empty() && owner.end.is_idle_member(self.view(member))
    }
}
