//! A process: the tasks placed on it, their executors, queues, links. What it has in memory dies with it.

use std::collections::BTreeMap;

use rainband_core::deliver::{Packed, Stopped, Targets};
use rainband_core::fault::{Fault, planted};
use rainband_core::ids::{Incarnation, RootRef, TaskId, WorkerId};
use rainband_core::ledger::{Failure, Reason};
use rainband_core::peer::{Inbox, Links};
use rainband_core::queue::{Frame, Push, Queue, Wake};
use rainband_core::signal::{Kind, Signal};
use rainband_core::tuple::Envelope;
use rainband_core::wire::{self, End, Identity};

use super::super::bell::Bell;
use super::super::check::ensure;
use super::super::payload::Token;
use super::boss::{Boss, Order, Report};
use super::ending::Count;
use super::network::{Letter, Network};
use super::shared::Shared;
use super::task::{Body, Mail, Task};

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
    peers: Vec<Incarnation>,
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
            if !self.hand_over(cx, task)? {
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
                    self.hand_over(cx, task)?;
                }
                return self.task(task).check_account();
            }
        }
        for turn in 0..n {
            let task = self.executors[at].tasks[turn];
            if !self.hand_over(cx, task)? {
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

    /// Hands over acks and tuples of `task`. Returns `false` if its executor has to wait for room.
    fn hand_over(&mut self, cx: &mut Shared, task: TaskId) -> Result<bool, String> {
        let executor = cx.topology.plan.task_executor[task.index()].index();
        for (_, acks) in std::mem::take(&mut self.task(task).acks) {
            self.links.ack(&acks);
        }
        self.task(task).wants_flush = false;
        for _ in 0..100 {
            let targets = Both { queues: &self.queues, links: &self.links };
            let outbox = &mut self.tasks[task.index()].as_mut().expect("it is of this worker").outbox;
            match outbox.flush(cx.topology.loop_bytes, &targets) {
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

    // -- membership ----------------------------------------------------------------------------------------------------

    pub fn obey(&mut self, cx: &mut Shared, order: &Order) {
        match order {
            Order::View(view, peers) => self.install(cx, *view, peers),
            Order::Replay(_) => self.replay(cx),
            Order::Registered(tasks) => {
                for task in tasks {
                    self.tell_consumers(cx, *task, Kind::End);
                }
            }
        }
    }

    fn install(&mut self, cx: &mut Shared, view: u64, peers: &[Incarnation]) {
        for (at, incarnation) in peers.iter().enumerate() {
            let is_new = self.peers[at] != *incarnation;
            self.peers[at] = *incarnation;
            let worker = WorkerId(at as u32);
            if !is_new || worker == self.me.worker {
                continue;
            }
            let lost = self.links.install(worker, Some(*incarnation));
            for root in lost.roots {
                self.tell_failure(cx, &root, worker_lost(root.task));
            }
            self.tell_successor(cx, worker, *incarnation);
        }
        for task in self.tasks.iter_mut().flatten() {
            task.mark = Some(task.ledger.mark());
        }
        cx.reports.push(Report::Installed(view));
    }

    /// Signals are state (ENGINE 5.4): the successor hears those of own tasks again, own tasks hear that theirs are replaced.
    fn tell_successor(&mut self, cx: &Shared, worker: WorkerId, incarnation: Incarnation) {
        let plan = &cx.topology.plan;
        let is_there = |task: &TaskId| cx.placement[task.index()] == worker;
        for (task, kind) in &self.last_signals {
            if *kind == Kind::End && planted(Fault::EndNotRepeated) {
                continue;
            }
            let signal = Signal { kind: *kind, from: *task, incarnation: self.me.incarnation };
            let consumers = plan.consumers(plan.task_component[task.index()]);
            consumers.into_iter().filter(is_there).for_each(|consumer| self.links.signal(consumer, signal));
        }
        for from in (0..plan.task_component.len() as u32).map(TaskId).filter(is_there) {
            for consumer in plan.consumers(plan.task_component[from.index()]) {
                if let Some(queue) = &self.queues[consumer.index()] {
                    queue.signal(Signal { kind: Kind::Anew, from, incarnation });
                }
            }
        }
    }

    fn replay(&mut self, cx: &mut Shared) {
        if planted(Fault::ReplayForgotten) {
            return;
        }
        for task in self.tasks.iter_mut().flatten() {
            let Some(mark) = task.mark else { continue };
            let failed = task.ledger.fail_begun_before(mark, &worker_lost(task.id));
            if failed > 0 {
                cx.note(&("replays", self.me, task.id, failed));
                self.executors[cx.topology.plan.task_executor[task.id.index()].index()].bell.wake();
            }
        }
    }

    /// A tuple of `root` failed, or may be lost.
    pub fn tell_failure(&mut self, cx: &Shared, root: &RootRef, failure: Failure) {
        if cx.placement[root.task.index()] == self.me.worker {
            self.hear_of(cx, root.task, root.incarnation, Mail::Fail(*root, failure));
        } else {
            self.links.fail(root, &failure);
        }
    }

    /// What is said about a root of a task of this worker, in this incarnation or an earlier one.
    pub fn hear_of(&mut self, cx: &Shared, task: TaskId, incarnation: Incarnation, mail: Mail) {
        if incarnation != self.me.incarnation && !planted(Fault::IncarnationIgnored) {
            return;
        }
        self.task(task).mail.push(mail);
        self.ring(cx, task);
    }

    // -- the I/O thread ------------------------------------------------------------------------------------------------

    pub fn has_io(&self, now: u64) -> bool {
        self.io.has_rung() || self.io_due <= now
    }

    pub fn send_all(&mut self, cx: &mut Shared, net: &mut Network) -> Result<(), String> {
        self.io.clear();
        self.io_due = self.links.tick(cx.now);
        ensure(self.io_due > cx.now, || format!("{:?} wants to be called again at once", self.me))?;
        let from = self.me.worker.index();
        for to in 0..self.peers.len() {
            while let Some(parts) = self.links.transmit(WorkerId(to as u32), cx.now) {
                net.send(cx, Letter { from, to, parts });
            }
        }
        Ok(())
    }

    pub fn receive(&mut self, cx: &mut Shared, letter: &Letter) -> Result<(), String> {
        let mut taken = Taken::default();
        let result = self.links.receive(&letter.parts, cx.now, &mut taken);
        cx.note(&("arrives", letter.from, self.me, format!("{result:?}"), taken.0.len()));
        self.io.wake();
        for event in taken.0 {
            match event {
                Event::Tuples(task, frame) => {
                    let is_here = self.queues.get(task.index()).is_some_and(Option::is_some);
                    ensure(is_here, || format!("tuples for task {task} came to {:?}", self.me))?;
                    self.queue(task).push_frame(frame).map_err(|_| "a closed queue")?;
                }
                Event::Mail(task, incarnation, mail) => self.hear_of(cx, task, incarnation, mail),
                Event::Signal(to, signal) => self.queue(to).signal(signal),
            }
        }
        Ok(())
    }
}

pub fn worker_lost(task: TaskId) -> Failure {
    Failure { reason: Reason::WorkerLost, task, error: "".into(), retry: true }
}

enum Event {
    Tuples(TaskId, Box<Frame>),
    Mail(TaskId, Incarnation, Mail),
    Signal(TaskId, Signal),
}

#[derive(Default)]
struct Taken(Vec<Event>);

impl Inbox for Taken {
    fn tuples(&mut self, task: TaskId, frame: Box<Frame>) {
        self.0.push(Event::Tuples(task, frame));
    }

    fn acks(&mut self, task: TaskId, incarnation: Incarnation, pairs: &[u8]) {
        for (attempt, xor) in wire::acks(pairs) {
            let root = RootRef { task, incarnation, attempt };
            self.0.push(Event::Mail(task, incarnation, Mail::Ack(root, xor)));
        }
    }

    fn fail(&mut self, root: RootRef, failure: Failure) {
        self.0.push(Event::Mail(root.task, root.incarnation, Mail::Fail(root, failure)));
    }

    fn signal(&mut self, to: TaskId, signal: Signal) {
        self.0.push(Event::Signal(to, signal));
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
