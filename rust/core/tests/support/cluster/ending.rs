//! The end of tasks and cycles.

use rainband_core::fault::{Fault, planted};
use rainband_core::ids::TaskId;
use rainband_core::plan::Plan;
use rainband_core::signal::{CycleCount, Kind, Signal, Step, View};

use super::super::check::ensure;
use super::boss::Report;
use super::shared::Shared;
use super::worker::Worker;

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

impl Worker {
    /// `end()` of a spout, and later the end of its last root. Returns whether something new was to be said.
    pub fn spout_end(&mut self, task: TaskId) -> bool {
        let signal = |kind| Signal { kind, from: task, incarnation: self.me.incarnation };
        let (flush, end) = (signal(Kind::Flush), signal(Kind::End));
        let owner = self.task(task);
        if !owner.has_ended {
            owner.has_ended = true;
            owner.end.receive(flush);
        } else if !owner.has_resolved && owner.ledger.pending() == 0 {
            owner.has_resolved = true;
            owner.end.receive(end);
        } else {
            return false;
        }
        true
    }

    fn count_of(&self, cx: &Shared, task: TaskId) -> Option<&Count> {
        let cycle = cx.topology.plan.component_of(task).cycle?;
        self.counts[cycle as usize].as_ref()
    }

    pub fn view_of(&mut self, cx: &Shared, task: TaskId) -> View {
        let owner = self.task(task);
        let (held, pending) = (owner.held.len(), owner.ledger.pending());
        let count = self.count_of(cx, task);
        let is_flushed = |member: &TaskId| {
            self.tasks[member.index()].as_ref().is_some_and(|task| task.was_over || task.end.is_flushed())
        };
        View {
            held,
            pending,
            is_cycle_flushed: count.is_none_or(|count| count.members.iter().all(is_flushed)),
            is_cycle_over: count.is_none_or(|count| count.is_over),
        }
    }

    /// The next step of a task that has an empty inbox and outbox. Returns `false` if there is none.
    pub fn end_step(&mut self, cx: &mut Shared, task: TaskId) -> Result<bool, String> {
        let view = self.view_of(cx, task);
        let owner = self.task(task);
        if owner.was_over {
            return Ok(false);
        }
        let step = owner.end.next(view);
        if step != Step::Wait {
            cx.note(&("end", self.me, task, format!("{step:?}")));
        }
        match step {
            Step::Wait => return Ok(false),
            Step::RunFlush => self.flush_hook(cx, task)?,
            Step::SendFlush => self.tell_consumers(cx, task, Kind::Flush),
            Step::RunFinish => self.finish_hook(cx, task)?,
            Step::SendEnd => {
                let owner = self.task(task);
                ensure(owner.ledger.pending() == 0, || format!("task {task} ends with roots pending"))?;
                owner.check_end()?;
                self.register_end(cx, task);
            }
        }
        Ok(true)
    }

    /// The consumers hear of the end when it is registered. The members of a cycle are registered together: a successor that
    /// finds one of them over and another not would let the other work, tick and emit into the one that is over.
    fn register_end(&mut self, cx: &mut Shared, task: TaskId) {
        let count = self.count_of(cx, task).filter(|_| !planted(Fault::CycleEndsApart));
        let members = count.map_or_else(|| vec![task], |count| count.members.clone());
        if members.iter().all(|member| self.task(*member).is_over()) {
            cx.reports.push(Report::Ended(members));
        }
        if planted(Fault::EndUnregistered) {
            self.tell_consumers(cx, task, Kind::End);
        }
    }

    fn finish_hook(&mut self, cx: &mut Shared, task: TaskId) -> Result<(), String> {
        let owner = self.task(task);
        ensure(!owner.ran_finish, || format!("task {task} finishes twice"))?;
        ensure(owner.held.is_empty() && owner.desk.is_none(), || format!("task {task} finishes with tuples in hand"))?;
        owner.ran_finish = true;
        let (component, last_words) = (owner.component, owner.character.last_words);
        cx.truth.finishes[task.index()] += 1;
        for producer in cx.topology.plan.producers(component).0 {
            let is_over = cx.truth.ended[producer.index()] || planted(Fault::EndUnregistered);
            ensure(is_over, || format!("task {task} finishes before the end of task {producer} is registered"))?;
        }
        for _ in 0..last_words {
            self.emit_root(cx, task, true)?;
        }
        Ok(())
    }

    /// Wakes the cycle of `task`: what its members may do depends on one another.
    pub fn ring_cycle(&self, cx: &Shared, task: TaskId) {
        if let Some(count) = self.count_of(cx, task) {
            count.members.iter().for_each(|member| self.ring(cx, *member));
        }
    }

    pub fn has_open_cycle(&self) -> bool {
        self.counts.iter().flatten().any(|count| !count.is_over)
    }

    /// Asks the next member of some cycle.
    pub fn ask_a_member(&mut self, cx: &mut Shared) -> Result<(), String> {
        let is_open = |at: &usize| self.counts[*at].as_ref().is_some_and(|count| !count.is_over);
        let open: Vec<usize> = (0..self.counts.len()).filter(is_open).collect();
        if open.is_empty() {
            return Ok(());
        }
        let cycle = open[cx.rng.below(open.len())];
        let Some(count) = &self.counts[cycle] else { return Ok(()) };
        let member = count.members[count.asked];
        let is_idle = self.is_idle(cx, member);
        let owner = self.task(member);
        let (sent, done) = (owner.outbox.sent_inside(), owner.done_inside);
        let Some(count) = &mut self.counts[cycle] else { return Ok(()) };
        count.sent += sent;
        count.done += done;
        count.all_idle &= is_idle;
        count.asked += 1;
        if count.asked < count.members.len() {
            return Ok(());
        }
        count.is_over = count.rounds.round(count.sent, count.done, count.all_idle);
        (count.asked, count.sent, count.done, count.all_idle) = (0, 0, 0, true);
        if !count.is_over {
            return Ok(());
        }
        for member in count.members.clone() {
            let owner = self.task(member);
            let open = owner.held.len() + owner.ledger.pending() + usize::from(owner.desk.is_some());
            ensure(open == 0, || format!("cycle {cycle} is over, but task {member} has {open} things open"))?;
            self.ring(cx, member);
        }
        Ok(())
    }

    fn is_idle(&mut self, cx: &Shared, member: TaskId) -> bool {
        let view = self.view_of(cx, member);
        let is_empty = self.queue(member).is_empty();
        let owner = self.task(member);
        let has_work = owner.desk.is_some() || !owner.mail.is_empty() || !owner.outbox.is_empty();
        owner.was_over || (!has_work && is_empty && owner.end.is_idle_member(view))
    }
}
