//! A model of several workers: the real plan, routers, outboxes, queues, ledgers, frontiers, ends and links, wire bytes
//! included, in one thread under virtual time, driven by chance from a seed. The network loses, doubles, reorders, damages and
//! cuts; processes die at any step with all they have in memory; a model of the supervisor sees it and starts successors.
//! Then the network heals, nobody dies any more, and the run must end.
//!
//! What must hold (ENGINE 1.1, 1.2, 1.6, 3.1, 4.4, 4.5, 5, 7.1, 7.2), whatever happens: no attempt completes while one of its
//! deliveries was not acked by who worked on it; every record of a source was worked on to its end or dead-lettered before the
//! stored position passes it; no delivery is worked on twice; order holds per producer, consumer, incarnations and stream;
//! nothing comes to a task that finished; `finish` runs after the ends of all inputs, at most once a process, exactly once if
//! nobody dies; a death costs no attempt; accounts balance; after healing the run ends in bounded time, and then nothing is
//! left in any queue, lane or ledger; payloads come back.
//!
//! Files: `mod` schedules, `network` and `boss` (the supervisor) are what is between processes, `worker` is a process, `io` and
//! `membership` are its dealings with others, `task` is what a task owns, `emission`, `work`, `roots` and `ending` what it does,
//! `shared` the truth and the trace.

mod boss;
mod emission;
mod ending;
mod io;
mod membership;
mod network;
mod roots;
mod shared;
mod task;
mod work;
mod worker;

use std::fmt::Write;
use std::panic::{self, AssertUnwindSafe};

use rainband_core::ids::{Incarnation, TaskId, WorkerId};
use rainband_core::queue::Entry;
use rainband_core::wire::End;

use self::boss::{Boss, Deed};
use self::network::{Network, Weather};
use self::shared::{MICROSECOND, MILLISECOND, SECOND, Shared, Source, Trace, Truth};
use self::worker::Worker;
use super::check::{Effort, ensure};
use super::payload::{Census, write_off};
use super::rng::Rng;
use super::topology;

/// Seeds that the property tries; `make simulate` tries more.
const SEEDS: u64 = 2500;
/// After healing a run must be over within this time and so many steps.
const PATIENCE: u64 = 60 * SECOND;
const TOO_MANY_STEPS: usize = 400_000;
/// So long after its end nothing waits to be confirmed, and every successor is known to all.
const QUIET: u64 = 3 * SECOND;
/// What one section of tuples, and what is said about one delivery, may take in a link.
const SECTION_BYTES: usize = 8192;
const SAID_BYTES: usize = 300;

/// Everything above, over the first seeds.
pub fn survives(effort: Effort) -> Result<(), String> {
    (0..SEEDS * u64::from(effort.factor)).try_for_each(|seed| run(seed, false).map(drop))
}

/// Equal seeds give equal runs.
pub fn is_repeatable(_: Effort) -> Result<(), String> {
    (0..20).try_for_each(|seed| {
        let (one, other) = (run(seed, false)?, run(seed, false)?);
        ensure(one == other, || format!("seed {seed} runs in two ways"))
    })
}

/// Runs one seed: the hash of all that happened.
///
/// # Errors
/// What was found, with the seed, the state and, if it `is_readable`, the trace.
pub fn run(seed: u64, is_readable: bool) -> Result<u64, String> {
    let census = Census::begin();
    let mut sim = Sim::new(seed, is_readable);
    let result = panic::catch_unwind(AssertUnwindSafe(|| sim.run(&census)));
    let result = result.unwrap_or_else(|why| {
        let text = why.downcast_ref::<String>().cloned();
        Err(format!("panic: {}", text.or(why.downcast_ref::<&str>().map(|t| (*t).into())).unwrap_or_default()))
    });
    let hash = sim.cx.trace.hash();
    let result = result.map_err(|error| format!("RAINBAND_SEED={seed}: {error}\n{}", sim.describe()));
    if result.is_err() {
        write_off(|| drop(sim));
    } else {
        drop(sim);
        census.end().map_err(|error| format!("RAINBAND_SEED={seed}: {error}"))?;
    }
    result.map(|()| hash)
}

struct Sim {
    cx: Shared,
    workers: Vec<Option<Worker>>,
    boss: Boss,
    net: Network,
    /// At which steps somebody dies.
    kills: Vec<usize>,
    /// From which step on nothing happens to anybody any more.
    heals: usize,
    healed_at: Option<u64>,
    step: usize,
}

impl Sim {
    fn new(seed: u64, is_readable: bool) -> Self {
        let mut rng = Rng::new(seed);
        let workers = rng.between(2, 4);
        let topology = topology::random(&mut rng);
        let plan = &topology.plan;
        let tasks = plan.task_component.len();
        let homes: Vec<usize> = (0..plan.cycles).map(|_| rng.below(workers)).collect();
        let mut placement = vec![WorkerId(0); tasks];
        for (component, tasks) in &plan.executors {
            let cycle = plan.components[component.index()].cycle;
            let worker = cycle.map_or_else(|| rng.below(workers), |cycle| homes[cycle as usize]);
            for task in tasks {
                placement[task.index()] = WorkerId(worker as u32);
            }
        }
        let source = |task: &rainband_core::ids::ComponentId| {
            let character = topology.characters[task.index()];
            let roots = if plan.components[task.index()].is_spout { character.roots } else { 0 };
            Source { has_positions: character.has_positions, done: vec![false; roots], next: 0 }
        };
        let truth = Truth::new(plan.task_component.iter().map(source).collect());
        let deaths = [0, 1, 2, 3, 5][rng.below(5)];
        let early = [100, 500, 1000, 2000][rng.below(4)];
        let kills: Vec<usize> = (0..deaths).map(|_| rng.below(early)).collect();
        let heals = kills.iter().max().map_or(0, |last| last + 1).max(rng.below(2000));
        let net = Network::new(workers, Weather::random(&mut rng));
        let mut cx = Shared {
            placement,
            window: [1, 60, 300, 4000][rng.below(4)],
            run_key: rng.bits(),
            rng,
            now: 1,
            truth,
            trace: Trace::new(is_readable),
            reports: Vec::new(),
            tempting: None,
            topology,
        };
        let boss = Boss::new(workers, tasks);
        let start = |at: usize| {
            Some(Worker::new(&mut cx, &boss, End { worker: WorkerId(at as u32), incarnation: Incarnation(0) }))
        };
        let workers = (0..workers).map(start).collect();
        Self { cx, workers, boss, net, kills, heals, healed_at: None, step: 0 }
    }

    fn run(&mut self, census: &Census) -> Result<(), String> {
        while !self.cx.truth.ended.iter().all(|is_ended| *is_ended) {
            self.step += 1;
            self.cx.now += self.cx.delay(1, 20 * MICROSECOND);
            self.faults()?;
            if !self.act()? {
                self.pass_time()?;
            }
            census.check()?;
        }
        self.heal();
        let over = self.cx.now + QUIET;
        let ended = self.step;
        while self.cx.now < over {
            self.step += 1;
            ensure(self.step - ended <= TOO_MANY_STEPS, || "no rest after the end".into())?;
            if !self.act()? {
                self.pass_time()?;
            }
        }
        self.check_end()
    }

    fn heal(&mut self) {
        self.cx.note(&"heals");
        self.healed_at = Some(self.cx.now);
        self.heals = self.step;
        self.net.heal();
    }

    /// What befalls the cluster in this step.
    fn faults(&mut self) -> Result<(), String> {
        if let Some(healed) = self.healed_at {
            let steps = self.step - self.heals;
            let late = self.cx.now > healed + PATIENCE || steps > TOO_MANY_STEPS;
            return ensure(!late, || {
                format!("no end {} s and {steps} steps after healing", (self.cx.now - healed) / SECOND)
            });
        }
        self.net.storm(&mut self.cx);
        if self.step >= self.heals {
            self.heal();
        } else if self.kills.contains(&self.step) {
            let victim = self.cx.rng.below(self.workers.len());
            self.kill(victim);
        } else if let Some(victim) = self.cx.tempting.take()
            && self.kills.len() > 1
            && self.cx.rng.chance(5)
        {
            self.kill(victim);
        }
        Ok(())
    }

    fn kill(&mut self, at: usize) {
        let Some(worker) = self.workers[at].take() else { return };
        self.cx.note(&("dies", worker.me));
        self.cx.truth.deaths += 1;
        write_off(|| drop(worker));
        self.boss.dies(&mut self.cx, at);
        self.net.sender_died(&mut self.cx.rng, at);
        // Troubles come in company: sometimes another dies while this death is dealt with.
        if self.cx.rng.chance(30) {
            let next = self.step + self.cx.rng.between(1, 200);
            self.kills.push(next);
            self.heals = self.heals.max(next + 1);
        }
    }

    /// Somebody does something. Returns `false` if nobody has anything to do now.
    fn act(&mut self) -> Result<bool, String> {
        let first = [0, 0, 0, 0, 0, 1, 1, 2, 2, 3][self.cx.rng.below(10)];
        for n in 0..4 {
            let acted = match (first + n) % 4 {
                0 => self.executors()?,
                1 => self.letters()?,
                2 => self.io()?,
                _ => self.supervisor()?,
            };
            if acted {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn executors(&mut self) -> Result<bool, String> {
        let first = self.cx.rng.below(self.workers.len());
        for n in 0..self.workers.len() {
            let at = (first + n) % self.workers.len();
            let Some(worker) = &mut self.workers[at] else { continue };
            if worker.installing.is_some() && self.cx.rng.chance(20) {
                worker.end_install(&mut self.cx);
                self.pass_on(at);
                return Ok(true);
            }
            if worker.has_open_cycle() && self.cx.rng.chance(15) {
                worker.ask_a_member(&mut self.cx)?;
            }
            let executors = worker.executors.len();
            let first = self.cx.rng.below(executors);
            let all = (0..executors).map(|n| (first + n) % executors);
            let now = self.cx.now;
            if let Some(executor) = all.into_iter().find(|executor| worker.is_runnable(*executor, now)) {
                worker.step(&mut self.cx, executor)?;
                self.pass_on(at);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the worker told the supervisor goes its way.
    fn pass_on(&mut self, at: usize) {
        if let Some(worker) = &self.workers[at] {
            for report in std::mem::take(&mut self.cx.reports) {
                self.boss.report(&mut self.cx, worker.me, report);
            }
        }
    }

    fn letters(&mut self) -> Result<bool, String> {
        let Some(letter) = self.net.take(self.cx.now) else { return Ok(false) };
        if let Some(worker) = &mut self.workers[letter.to] {
            worker.receive(&mut self.cx, &letter)?;
        }
        Ok(true)
    }

    fn io(&mut self) -> Result<bool, String> {
        let first = self.cx.rng.below(self.workers.len());
        for n in 0..self.workers.len() {
            let at = (first + n) % self.workers.len();
            let Some(worker) = &mut self.workers[at] else { continue };
            if worker.has_io(self.cx.now) {
                let lanes =
                    worker.links.workers() * self.cx.placement.len() * (self.cx.window as usize + SECTION_BYTES);
                let (backlog, most) = (worker.links.backlog(), lanes + self.cx.truth.sent * SAID_BYTES);
                ensure(backlog <= most, || format!("{backlog} bytes wait in the links of {:?}", worker.me))?;
                worker.send_all(&mut self.cx, &mut self.net)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn supervisor(&mut self) -> Result<bool, String> {
        match self.boss.step(&mut self.cx)? {
            Deed::Nothing => return Ok(false),
            Deed::Done => {}
            Deed::Start(me) => {
                self.cx.note(&("starts", me));
                self.workers[me.worker.index()] = Some(Worker::new(&mut self.cx, &self.boss, me));
            }
            Deed::Deliver(to, order) => {
                let at = to.worker.index();
                if let Some(worker) = self.workers[at].as_mut().filter(|worker| worker.me == to) {
                    self.cx.note(&("order", to, &order));
                    worker.obey(&mut self.cx, &order);
                    self.pass_on(at);
                }
            }
        }
        Ok(true)
    }

    /// Nobody has anything to do now: the time of the next who will.
    fn pass_time(&mut self) -> Result<(), String> {
        for at in 0..self.workers.len() {
            if let Some(worker) = &mut self.workers[at] {
                worker.end_install(&mut self.cx);
                self.pass_on(at);
            }
        }
        let cycles = self.workers.iter().flatten().any(Worker::has_open_cycle);
        if cycles {
            let asks = |worker: &mut Worker| worker.ask_a_member(&mut self.cx);
            self.workers.iter_mut().flatten().try_for_each(asks)?;
        }
        let workers = self.workers.iter().flatten();
        let due = workers.flat_map(|worker| [Some(worker.io_due), worker.next_due()]).flatten();
        let due = due.chain(self.net.next_due()).chain(self.boss.next_due());
        let due = due.chain(cycles.then_some(self.cx.now + 2 * MILLISECOND)).min();
        self.cx.now = self.cx.now.max(due.ok_or("nobody will ever have anything to do")?);
        Ok(())
    }

    /// All tasks have ended: what is left of them?
    fn check_end(&mut self) -> Result<(), String> {
        let truth = &self.cx.truth;
        for (task, source) in truth.sources.iter().enumerate().filter(|(_, source)| source.has_positions) {
            ensure(source.done.iter().all(|is_done| *is_done), || format!("task {task} lost records: {source:?}"))?;
        }
        let is_once = |n: &u32| *n == 1 || (*n > 0 && truth.deaths > 0);
        ensure(truth.finishes.iter().all(is_once), || format!("finish ran {:?} times", truth.finishes))?;
        ensure(self.boss.is_calm(), || "not all know all successors".into())?;
        for worker in self.workers.iter_mut().flatten() {
            let is_well = worker.links.is_up() && worker.links.is_settled() && worker.links.backlog() == 0;
            ensure(is_well, || format!("{:?} waits for confirmations of {} bytes", worker.me, worker.links.backlog()))?;
            for at in 0..worker.tasks.len() {
                let task = TaskId(at as u32);
                let (Some(own), Some(queue)) = (&mut worker.tasks[at], &worker.queues[at]) else { continue };
                own.check_account()?;
                own.check_end()?;
                // Nobody listens any more to ends of a cycle's own tasks, or to successors.
                while let Some(entry) = queue.pop() {
                    ensure(matches!(entry, Entry::Signal(_)), || format!("task {task} leaves {entry:?}"))?;
                }
                let left = queue.len() + queue.close().len() + own.ledger.drain().len() + own.frontier.drain().count();
                ensure(left == 0, || format!("task {task} left {left} things behind"))?;
            }
        }
        Ok(())
    }

    /// For the one who looks into a failure.
    fn describe(&self) -> String {
        let mut text = self.cx.trace.text();
        _ = writeln!(text, "\n{:?}", self.cx.topology.characters);
        for component in &self.cx.topology.plan.components {
            _ = writeln!(text, "{component:?}");
        }
        _ = writeln!(
            text,
            "step {}, {:.3} ms, view {}, incarnations {:?}, stored {:?}, {:?}, window {}, placement {:?}",
            self.step,
            self.cx.now as f64 / MILLISECOND as f64,
            self.boss.view,
            self.boss.incarnations(),
            self.boss.stored,
            self.net.weather,
            self.cx.window,
            self.cx.placement,
        );
        for worker in self.workers.iter().flatten() {
            _ = writeln!(text, "{:?}, up {}, settled {}", worker.me, worker.links.is_up(), worker.links.is_settled());
            for executor in worker.executors.iter().filter(|executor| !executor.tasks.is_empty()) {
                let rung = executor.bell.has_rung();
                _ = writeln!(text, "  {:?}, rung {rung}", executor.state);
                for task in &executor.tasks {
                    let own = worker.tasks[task.index()].as_ref();
                    _ = writeln!(text, "    {}", own.map(|own| own.describe()).unwrap_or_default());
                }
            }
        }
        text
    }
}
