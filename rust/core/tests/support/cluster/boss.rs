//! The supervisor: sees deaths, raises the view, starts successors, collects what is confirmed, says replay; keeps positions and
//! who has ended. Its pipes to the workers lose nothing and keep the order, as long as both ends live.

use std::collections::VecDeque;

use rainband_core::ids::{Incarnation, TaskId, WorkerId};
use rainband_core::wire::End;

use super::super::check::ensure;
use super::shared::{MICROSECOND, MILLISECOND, Shared};

/// What a worker tells.
#[derive(Clone, Debug, Hash)]
pub enum Report {
    /// It has installed this view.
    Installed(u64),
    /// The tasks, one or those of a cycle, are over; they say so to their consumers when they know that it was registered.
    Ended(Vec<TaskId>),
    /// Everything up to this position is resolved.
    Position(TaskId, u64),
}

/// What a worker is told.
#[derive(Clone, Debug, Hash)]
pub enum Order {
    View(u64, Vec<Incarnation>),
    Replay(u64),
    Registered(Vec<TaskId>),
}

/// What is for whoever drives the cluster to do.
pub enum Deed {
    /// Nothing is due.
    Nothing,
    /// It did something itself.
    Done,
    Start(End),
    Deliver(End, Order),
}

struct Pipe<T> {
    messages: VecDeque<(u64, T)>,
}

impl<T> Pipe<T> {
    fn put(&mut self, at: u64, message: T) {
        let at = self.messages.back().map_or(at, |(last, _)| at.max(*last));
        self.messages.push_back((at, message));
    }

    fn due(&self) -> Option<u64> {
        self.messages.front().map(|(at, _)| *at)
    }

    fn take(&mut self, now: u64) -> Option<T> {
        self.due().filter(|at| *at <= now)?;
        self.messages.pop_front().map(|(_, message)| message)
    }
}

/// What the supervisor knows of a worker, which may be dead already.
struct Known {
    incarnation: Incarnation,
    is_alive: bool,
    installed: u64,
    /// When the death of this incarnation will be noticed.
    death: Option<u64>,
    start: Option<u64>,
    orders: Pipe<(Incarnation, Order)>,
    reports: Pipe<(Incarnation, Report)>,
}

pub struct Boss {
    pub view: u64,
    replayed: u64,
    workers: Vec<Known>,
    pub stored: Vec<Option<u64>>,
    pub ended: Vec<bool>,
}

impl Boss {
    pub fn new(workers: usize, tasks: usize) -> Self {
        let known = |_| Known {
            incarnation: Incarnation(0),
            is_alive: true,
            installed: 0,
            death: None,
            start: None,
            orders: Pipe { messages: VecDeque::new() },
            reports: Pipe { messages: VecDeque::new() },
        };
        Self {
            view: 0,
            replayed: 0,
            workers: (0..workers).map(known).collect(),
            stored: vec![None; tasks],
            ended: vec![false; tasks],
        }
    }

    pub fn incarnations(&self) -> Vec<Incarnation> {
        self.workers.iter().map(|known| known.incarnation).collect()
    }

    /// Whether no death is unseen, and every successor is started and known to all.
    pub fn is_calm(&self) -> bool {
        let calm = |known: &Known| known.is_alive && known.death.is_none() && known.installed == self.view;
        self.workers.iter().all(calm) && self.replayed == self.view
    }

    /// The process is dead; what it told last may not have come through.
    pub fn dies(&mut self, cx: &mut Shared, worker: usize) {
        let known = &mut self.workers[worker];
        known.death = Some(cx.now + cx.delay(10 * MICROSECOND, 30 * MILLISECOND));
        let left = cx.rng.below(known.reports.messages.len() + 1);
        known.reports.messages.truncate(left);
    }

    pub fn report(&mut self, cx: &mut Shared, from: End, report: Report) {
        let at = cx.now + cx.delay(10 * MICROSECOND, 2 * MILLISECOND);
        self.workers[from.worker.index()].reports.put(at, (from.incarnation, report));
    }

    pub fn next_due(&self) -> Option<u64> {
        let due = |known: &Known| {
            [known.death, known.start, known.orders.due(), known.reports.due()].into_iter().flatten().min()
        };
        self.workers.iter().filter_map(due).min()
    }

    /// One thing that is due.
    pub fn step(&mut self, cx: &mut Shared) -> Result<Deed, String> {
        let first = cx.rng.below(self.workers.len());
        for n in 0..self.workers.len() {
            let at = (first + n) % self.workers.len();
            let known = &mut self.workers[at];
            let worker = WorkerId(at as u32);
            if known.death.is_some_and(|due| due <= cx.now) {
                self.sees_death(cx, at);
                return Ok(Deed::Done);
            }
            if known.start.is_some_and(|due| due <= cx.now) {
                known.start = None;
                known.is_alive = true;
                known.installed = self.view; // It begins with it.
                let incarnation = known.incarnation;
                self.perhaps_replay(cx);
                return Ok(Deed::Start(End { worker, incarnation }));
            }
            if let Some((incarnation, report)) = known.reports.take(cx.now) {
                self.hears(cx, at, incarnation, report)?;
                return Ok(Deed::Done);
            }
            if let Some((incarnation, order)) = known.orders.take(cx.now) {
                return Ok(Deed::Deliver(End { worker, incarnation }, order));
            }
        }
        Ok(Deed::Nothing)
    }

    fn sees_death(&mut self, cx: &mut Shared, at: usize) {
        let start = cx.now + cx.delay(MILLISECOND, 60 * MILLISECOND);
        let known = &mut self.workers[at];
        known.death = None;
        known.is_alive = false;
        known.incarnation.0 += 1;
        known.start = Some(start);
        self.view += 1;
        cx.note(&("view", self.view, at));
        let order = Order::View(self.view, self.incarnations());
        self.tell_all(cx, &order);
        self.perhaps_replay(cx);
    }

    fn tell_all(&mut self, cx: &mut Shared, order: &Order) {
        for known in self.workers.iter_mut().filter(|known| known.is_alive) {
            let slowest = if cx.rng.chance(20) { 300 * MILLISECOND } else { 10 * MILLISECOND };
            let at = cx.now + cx.delay(10 * MICROSECOND, slowest);
            known.orders.put(at, (known.incarnation, order.clone()));
        }
    }

    fn hears(&mut self, cx: &mut Shared, at: usize, incarnation: Incarnation, report: Report) -> Result<(), String> {
        cx.note(&("report", at, incarnation, &report));
        let known = &mut self.workers[at];
        let is_current = known.incarnation == incarnation && known.is_alive;
        if !matches!(report, Report::Position(..)) {
            cx.tempting = Some(at);
        }
        match report {
            Report::Installed(view) if is_current => {
                known.installed = view;
                self.perhaps_replay(cx);
            }
            Report::Ended(tasks) if is_current => {
                for task in &tasks {
                    self.ended[task.index()] = true;
                    cx.truth.ended[task.index()] = true;
                }
                let due = cx.now + cx.delay(10 * MICROSECOND, 2 * MILLISECOND);
                known.orders.put(due, (incarnation, Order::Registered(tasks)));
            }
            Report::Position(task, position) => {
                let done = &cx.truth.sources[task.index()].done;
                let first = done.iter().take(position as usize + 1).position(|is_done| !is_done);
                ensure(first.is_none(), || format!("position {position} of task {task} stored before {first:?}"))?;
                self.stored[task.index()] = self.stored[task.index()].max(Some(position));
            }
            Report::Installed(_) | Report::Ended(_) => {}
        }
        Ok(())
    }

    fn perhaps_replay(&mut self, cx: &mut Shared) {
        let has_installed = |known: &Known| !known.is_alive || known.installed == self.view;
        if self.workers.iter().all(has_installed) && self.replayed < self.view {
            self.replayed = self.view;
            self.tell_all(cx, &Order::Replay(self.view));
        }
    }
}
