//! A process: the tasks placed on it, their executors, queues, links. What it has in memory dies with it.

use std::collections::BTreeMap;

use rainband_core::deliver::{Packed, Stopped, Targets};
use rainband_core::ids::{Incarnation, TaskId, WorkerId};
use rainband_core::peer::Links;
use rainband_core::queue::{Push, Queue, Wake};
use rainband_core::signal::{Kind, Signal};
use rainband_core::tuple::Envelope;
use rainband_core::wire::{End, Identity};

use super::super::bell::Bell;
use super::super::payload::Token;
use super::boss::Boss;
use super::ending::Count;
use super::io::Taken;
use super::membership::Installing;
use super::shared::Shared;
use super::task::{Body, Task};

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum State {
    Running,
    /// Found nothing to do.
    Parked,
    /// This task's outbox waits for room.
    Blocked(TaskId),
}

pub struct Executor {
    pub tasks: Vec<TaskId>,
    pub bell: Bell,
    pub state: State,
}

pub type Inboxes = Vec<Option<Queue<Token<Body>, Bell>>>;

pub struct Worker {
    pub me: End,
    /// As in the plan; those elsewhere have no tasks.
    pub executors: Vec<Executor>,
    pub tasks: Vec<Option<Box<Task>>>,
    pub queues: Inboxes,
    pub counts: Vec<Option<Count>>,
    pub links: Links<Bell, Bell>,
    pub io: Bell,
    pub io_due: u64,
    pub peers: Vec<Incarnation>,
    /// A view that is being installed: the links know it, or the ledgers do.
    pub installing: Option<Installing>,
    /// What was taken from the network and not handed on yet.
    pub taken: Taken,
    /// What each own task said last to its consumers; a successor of a consumer's worker is told again.
    pub last_signals: BTreeMap<TaskId, Kind>,
}

impl Worker {
    pub fn new(cx: &mut Shared, boss: &Boss, me: End) -> Self {
        let plan = &cx.topology.plan;
        let is_here = |task: &TaskId| cx.placement[task.index()] == me.worker;
        let executor = |(_, tasks): &(_, Vec<TaskId>)| {
            let tasks: Vec<TaskId> = tasks.iter().copied().filter(is_here).collect();
            let state = if tasks.is_empty() { State::Parked } else { State::Running };
            Executor { tasks, bell: Bell::default(), state }
        };
        let executors: Vec<Executor> = plan.executors.iter().map(executor).collect();
        let all = (0..plan.task_component.len() as u32).map(TaskId);
        let queue = |task: TaskId| {
            let bell = executors[plan.task_executor[task.index()].index()].bell.clone();
            is_here(&task).then(|| Queue::new(cx.topology.queue_capacity, cx.topology.queue_bytes, bell))
        };
        let task = |task: TaskId| {
            let make = || Task::new(cx, task, me, boss.stored[task.index()], boss.ended[task.index()]);
            is_here(&task).then(|| Box::new(make()))
        };
        let tasks: Vec<Option<Box<Task>>> = all.clone().map(task).collect();
        let cycle_is_here = |cycle: &u32| {
            let component = plan.components.iter().find(|component| component.cycle == Some(*cycle));
            component.is_some_and(|component| is_here(&TaskId(component.tasks.start)))
        };
        let counts = (0..plan.cycles).map(|cycle| cycle_is_here(&cycle).then(|| Count::new(plan, cycle))).collect();
        let io = Bell::default();
        let identity = Identity { run: u128::from(cx.run_key), plan: 1 };
        let peers = boss.incarnations();
        let mut worker = Self {
            me,
            queues: all.clone().map(queue).collect(),
            executors,
            tasks,
            counts,
            links: Links::new(me, identity, peers.len(), cx.placement.clone(), cx.window, io.clone()),
            io,
            io_due: 0,
            peers,
            installing: None,
            taken: Taken::default(),
            last_signals: BTreeMap::new(),
        };
        for (peer, incarnation) in worker.peers.iter().enumerate() {
            worker.links.install(WorkerId(peer as u32), Some(*incarnation));
        }
        for task in all.filter(|task| boss.ended[task.index()] && cx.placement[task.index()] == me.worker) {
            worker.tell_consumers(cx, task, Kind::End);
        }
        worker
    }

    pub fn task(&mut self, task: TaskId) -> &mut Task {
        self.tasks[task.index()].as_mut().expect("it is of this worker")
    }

    pub fn queue(&self, task: TaskId) -> &Queue<Token<Body>, Bell> {
        self.queues[task.index()].as_ref().expect("it is of this worker")
    }

    pub fn own_tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().flatten().map(Box::as_ref)
    }

    pub fn ring(&self, cx: &Shared, task: TaskId) {
        self.executors[cx.topology.plan.task_executor[task.index()].index()].bell.wake();
    }

    pub fn is_runnable(&self, at: usize, now: u64) -> bool {
        let executor = &self.executors[at];
        let is_due = |task: &TaskId| {
            self.tasks[task.index()].as_ref().and_then(|task| task.next_due()).is_some_and(|due| due <= now)
        };
        match executor.state {
            State::Running => true,
            State::Parked => executor.bell.has_rung() || executor.tasks.iter().any(is_due),
            State::Blocked(_) => executor.bell.has_rung(),
        }
    }

    /// When an executor that is not blocked has something to do.
    pub fn next_due(&self) -> Option<u64> {
        let free = self.executors.iter().filter(|executor| !matches!(executor.state, State::Blocked(_)));
        free.flat_map(|executor| &executor.tasks)
            .filter_map(|task| self.tasks[task.index()].as_ref().and_then(|task| task.next_due()))
            .min()
    }

    /// One executor does one thing, or finds that there is nothing.
    pub fn step(&mut self, cx: &mut Shared, at: usize) -> Result<(), String> {
        self.executors[at].bell.clear();
        if let State::Blocked(task) = self.executors[at].state {
            self.executors[at].state = State::Running;
            if !self.hand_over(cx, task, true)? {
                return Ok(());
            }
        }
        self.executors[at].state = State::Running;
        let n = self.executors[at].tasks.len();
        let first = cx.rng.below(n);
        for turn in 0..n {
            let task = self.executors[at].tasks[(first + turn) % n];
            if self.work(cx, task)? {
                if self.task(task).wants_flush || cx.rng.chance(cx.topology.flushes) {
                    let is_elsewhere_too = cx.rng.chance(70);
                    self.hand_over(cx, task, is_elsewhere_too)?;
                }
                return self.task(task).check_account();
            }
        }
        for turn in 0..n {
            let task = self.executors[at].tasks[turn];
            if !self.hand_over(cx, task, true)? {
                return Ok(());
            }
        }
        for turn in 0..n {
            let task = self.executors[at].tasks[turn];
            if self.end_step(cx, task)? {
                return self.task(task).check_account();
            }
        }
        self.executors[at].state = State::Parked;
        Ok(())
    }

    /// Hands over acks and tuples of `task`, perhaps without those for other workers. Returns `false` if its executor has to wait for room.
    fn hand_over(&mut self, cx: &mut Shared, task: TaskId, is_elsewhere_too: bool) -> Result<bool, String> {
        let executor = cx.topology.plan.task_executor[task.index()].index();
        for (_, acks) in std::mem::take(&mut self.task(task).acks) {
            self.links.ack(&acks);
        }
        self.task(task).wants_flush = false;
        for _ in 0..100 {
            let targets = Both { queues: &self.queues, links: &self.links };
            let outbox = &mut self.tasks[task.index()].as_mut().expect("it is of this worker").outbox;
            let result = if is_elsewhere_too {
                outbox.flush(cx.topology.loop_bytes, &targets)
            } else {
                outbox.flush_here(cx.topology.loop_bytes, &targets)
            };
            match result {
                Ok(()) => return Ok(true),
                Err(Stopped::Full(target)) => {
                    let bell = &self.executors[executor].bell;
                    let waits = match &self.queues[target.index()] {
                        Some(queue) => queue.wait_for_room(bell),
                        None => self.links.wait_for_room(target, bell),
                    };
                    if waits {
                        self.executors[executor].state = State::Blocked(task);
                        return Ok(false);
                    }
                }
                Err(Stopped::LoopFull(target)) => self.fail_what_is_too_much(cx, task, target),
                Err(Stopped::Closed(target)) => return Err(format!("the queue of task {target} is closed")),
            }
        }
        Err(format!("task {task} spins between a full queue and room in it"))
    }

    pub fn tell_consumers(&mut self, cx: &Shared, task: TaskId, kind: Kind) {
        self.last_signals.insert(task, kind);
        let component = cx.topology.plan.task_component[task.index()];
        for consumer in cx.topology.plan.consumers(component) {
            self.tell(consumer, Signal { kind, from: task, incarnation: self.me.incarnation });
        }
    }

    fn tell(&self, consumer: TaskId, signal: Signal) {
        match &self.queues[consumer.index()] {
            Some(queue) => queue.signal(signal),
            None => self.links.signal(consumer, signal),
        }
    }
}

/// Hands over to the queues of this worker and the lanes to others.
struct Both<'a> {
    queues: &'a Inboxes,
    links: &'a Links<Bell, Bell>,
}

impl Targets<Token<Body>> for Both<'_> {
    fn push(&self, task: TaskId, batch: &mut Vec<Envelope<Token<Body>>>) -> Push {
        self.queues[task.index()].as_ref().map_or(Push::Closed, |queue| queue.push(batch))
    }

    fn push_loop(&self, task: TaskId, batch: &mut Vec<Envelope<Token<Body>>>, limit: u64) -> Push {
        self.queues[task.index()].as_ref().map_or(Push::Closed, |queue| queue.push_loop(batch, limit))
    }

    fn push_packed(&self, task: TaskId, packed: &mut Packed) -> Push {
        self.links.push(task, packed)
    }
}
