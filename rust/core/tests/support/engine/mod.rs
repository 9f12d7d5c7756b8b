//! A model of the whole engine in one thread: the real plan, routers, outboxes, queues, ledgers, frontiers and ends, driven by
//! a random scheduler instead of the door's threads. An executor that waits for room is not run until it is woken; one that
//! found nothing to do is not run until it is woken or something is due.
//!
//! What must hold, whatever the topology and the order (ENGINE 1.1, 1.2, 3.1, 4.3, 4.5, 5, 6.5): the run ends within a bounded
//! number of steps, and nobody needs a timeout once the spouts have ended; the account of every task that emits roots balances
//! after every step; no root completes while one of its deliveries is in flight or held; positions never pass an unresolved
//! root; order holds per producer task, consumer task and stream; `finish` runs once a task, after all its input, and nothing
//! is processed after it; at the end every queue, outbox and ledger is empty and every payload came back.
//!
//! Files: `mod` schedules, `task` is what a task owns, `emission` emits, `work` processes, `roots` hears acks and retries,
//! `ending` ends.

mod emission;
mod ending;
mod roots;
mod task;
mod work;

use std::collections::BTreeMap;
use std::fmt::Write;

use proptest::prelude::any;
use rainband_core::deliver::{Packed, Stopped, Targets};
use rainband_core::ids::TaskId;
use rainband_core::queue::{Entry, Push, Queue, Wake};
use rainband_core::signal::Signal;
use rainband_core::tuple::Envelope;

use self::ending::Count;
use self::task::{Body, Task};
use super::bell::Bell;
use super::check::{Effort, ensure, for_all};
use super::payload::{Census, Token};
use super::rng::Rng;
use super::topology::{self, Topology};

/// Deliveries of one run after which nobody emits for a tuple any more, so that cycles with fan-out stay small.
const ENOUGH: usize = 400;
/// More steps than any run needs; one that takes more goes round for ever.
const TOO_MANY_STEPS: usize = 200_000;

/// ENGINE 4.3: every topology ends, and everything above holds on the way.
pub fn every_topology_ends(effort: Effort) -> Result<(), String> {
    for_all(effort, 6000, &any::<u64>(), |seed| {
        let census = Census::begin();
        let mut rng = Rng::new(seed);
        let mut world = World::new(topology::random(&mut rng), rng);
        world.run(&census).map_err(|error| format!("{error}\n{}", world.describe()))?;
        drop(world);
        census.end()
    })
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum State {
    Running,
    /// Found nothing to do.
    Parked,
    /// This task's outbox waits for room.
    Blocked(TaskId),
}

struct Executor {
    tasks: Vec<TaskId>,
    bell: Bell,
    state: State,
}

struct World {
    topology: Topology,
    tasks: Vec<Task>,
    queues: Vec<Queue<Token<Body>, Bell>>,
    executors: Vec<Executor>,
    counts: Vec<Count>,
    /// Deliveries of each attempt that are in flight or held: the truth about completeness.
    alive: BTreeMap<(TaskId, u64), usize>,
    deliveries: usize,
    rng: Rng,
    now: u64,
}

impl World {
    fn new(topology: Topology, mut rng: Rng) -> Self {
        let plan = &topology.plan;
        let executors: Vec<Executor> = plan
            .executors
            .iter()
            .map(|(_, tasks)| Executor { tasks: tasks.clone(), bell: Bell::default(), state: State::Running })
            .collect();
        let queue = |task: usize| {
            let bell = executors[plan.task_executor[task].index()].bell.clone();
            Queue::new(topology.queue_capacity, topology.queue_bytes, bell)
        };
        let run_key = rng.bits();
        Self {
            tasks: (0..plan.task_component.len() as u32).map(|id| Task::new(&topology, TaskId(id), run_key)).collect(),
            queues: (0..plan.task_component.len()).map(queue).collect(),
            counts: (0..plan.cycles).map(|cycle| Count::new(plan, cycle)).collect(),
            executors,
            topology,
            alive: BTreeMap::new(),
            deliveries: 0,
            rng,
            now: 0,
        }
    }

    fn run(&mut self, census: &Census) -> Result<(), String> {
        for _ in 0..TOO_MANY_STEPS {
            if self.tasks.iter().all(|task| task.end.is_over()) {
                return self.check_end();
            }
            self.now += 1;
            if self.rng.chance(15) {
                self.ask_a_member()?;
            }
            let runnable: Vec<usize> = (0..self.executors.len()).filter(|at| self.is_runnable(*at)).collect();
            if runnable.is_empty() {
                self.pass_time()?;
            } else {
                let at = runnable[self.rng.below(runnable.len())];
                self.step(at)?;
            }
            census.check()?;
            self.tasks.iter().try_for_each(Task::check_account)?;
        }
        Err("the run goes on for ever".into())
    }

    fn is_runnable(&self, at: usize) -> bool {
        let executor = &self.executors[at];
        let is_due = |task: &TaskId| self.tasks[task.index()].next_due().is_some_and(|due| due <= self.now);
        match executor.state {
            State::Running => true,
            State::Parked => executor.bell.has_rung() || executor.tasks.iter().any(is_due),
            State::Blocked(_) => executor.bell.has_rung(),
        }
    }

    /// Nobody can run: some time passes, or a cycle is found to be over, or a spout that stands at `max_pending` for tuples
    /// that are held gets them back by timeout. Anything else is a hang.
    fn pass_time(&mut self) -> Result<(), String> {
        let is_blocked = |task: &Task| {
            let executor = self.topology.plan.task_executor[task.id.index()];
            matches!(self.executors[executor.index()].state, State::Blocked(_))
        };
        let due = self.tasks.iter().filter(|task| !is_blocked(task)).filter_map(Task::next_due).min();
        if let Some(due) = due {
            self.now = self.now.max(due);
            return Ok(());
        }
        for _ in 0..40 * self.tasks.len() {
            if self.ask_a_member()? {
                return Ok(());
            }
        }
        let at_limit = |task: &Task| task.is_spout && !task.has_ended;
        let holder = self.tasks.iter().position(|task| !task.held.is_empty());
        match holder.filter(|_| self.tasks.iter().any(at_limit)) {
            Some(holder) => self.time_out(holder),
            None => Err("nobody can run".into()),
        }
    }

    /// One executor does one thing, or finds that there is nothing.
    fn step(&mut self, at: usize) -> Result<(), String> {
        self.executors[at].bell.clear();
        if let State::Blocked(task) = self.executors[at].state {
            self.executors[at].state = State::Running;
            if !self.hand_over(task)? {
                return Ok(());
            }
        }
        self.executors[at].state = State::Running;
        let tasks = self.executors[at].tasks.clone();
        let first = self.rng.below(tasks.len());
        for n in 0..tasks.len() {
            let task = tasks[(first + n) % tasks.len()];
            if self.work(task)? {
                if self.tasks[task.index()].wants_flush || self.rng.chance(self.topology.flushes) {
                    self.hand_over(task)?;
                }
                return Ok(());
            }
        }
        for task in tasks.clone() {
            if !self.hand_over(task)? {
                return Ok(());
            }
        }
        for task in tasks {
            if self.end_step(task)? {
                return Ok(());
            }
        }
        self.executors[at].state = State::Parked;
        Ok(())
    }

    /// Flushes the outbox of `task`. Returns `false` if its executor has to wait for room.
    fn hand_over(&mut self, task: TaskId) -> Result<bool, String> {
        let executor = self.topology.plan.task_executor[task.index()].index();
        self.tasks[task.index()].wants_flush = false;
        for _ in 0..100 {
            let queues = &self.queues;
            let outbox = &mut self.tasks[task.index()].outbox;
            match outbox.flush(self.topology.loop_bytes, &Here(queues)) {
                Ok(()) => return Ok(true),
                Err(Stopped::Full(target)) => {
                    if queues[target.index()].wait_for_room(&self.executors[executor].bell) {
                        self.executors[executor].state = State::Blocked(task);
                        return Ok(false);
                    }
                }
                Err(Stopped::LoopFull(target)) => self.fail_what_is_too_much(task, target),
                Err(Stopped::Closed(target)) => return Err(format!("the queue of task {target} is closed")),
            }
        }
        Err(format!("task {task} spins between a full queue and room in it"))
    }

    fn ring(&self, task: TaskId) {
        self.executors[self.topology.plan.task_executor[task.index()].index()].bell.wake();
    }

    fn check_end(&mut self) -> Result<(), String> {
        ensure(self.alive.values().all(|n| *n == 0), || "a delivery is left over".into())?;
        let plan = &self.topology.plan;
        for (task, queue) in self.tasks.iter().zip(&self.queues) {
            // Members of a cycle tell each other of their ends, too late for anybody to listen.
            while let Some(entry) = queue.pop() {
                let is_late =
                    |signal: Signal| plan.same_cycle(plan.task_component[signal.from.index()], task.component);
                let is_late = matches!(entry, Entry::Signal(signal) if is_late(signal));
                ensure(is_late, || format!("task {} leaves {entry:?} in its queue", task.id))?;
            }
            let unreleased = queue.len();
            ensure(unreleased == 0, || format!("task {} did not release all", task.id))?;
            task.check_end()?;
        }
        self.tasks.iter_mut().zip(&self.queues).try_for_each(|(task, queue)| {
            let left = queue.close().len() + task.ledger.drain().len() + task.frontier.drain().count();
            ensure(left == 0, || format!("task {} left {left} things behind", task.id))
        })
    }

    /// For the one who looks into a failure.
    fn describe(&self) -> String {
        let mut text = format!("{:?}\n", self.topology);
        for task in &self.tasks {
            let state = self.executors[self.topology.plan.task_executor[task.id.index()].index()].state;
            _ = writeln!(text, "task {} {state:?} {}", task.id, task.describe());
        }
        text
    }
}

/// Hands over to the queues of the one worker there is.
struct Here<'a, P>(&'a [Queue<P, Bell>]);

impl<P> Targets<P> for Here<'_, P> {
    fn push(&self, task: TaskId, batch: &mut Vec<Envelope<P>>) -> Push {
        self.0[task.index()].push(batch)
    }

    fn push_loop(&self, task: TaskId, batch: &mut Vec<Envelope<P>>, limit: u64) -> Push {
        self.0[task.index()].push_loop(batch, limit)
    }

    fn push_packed(&self, _task: TaskId, _packed: &mut Packed) -> Push {
        Push::Closed
    }
}
