//! A process hears of deaths and successors: it installs views, fails what was lost, repeats its signals, replays.

use rainband_core::fault::{Fault, planted};
use rainband_core::ids::{Incarnation, RootRef, TaskId, WorkerId};
use rainband_core::ledger::{Failure, Reason};
use rainband_core::queue::Wake;
use rainband_core::signal::{Kind, Signal};

use super::boss::{Order, Report};
use super::shared::Shared;
use super::task::Mail;
use super::worker::Worker;

/// A view that is installed by half.
pub struct Installing {
    view: u64,
    peers: Vec<Incarnation>,
    links_first: bool,
}

impl Worker {
    pub fn obey(&mut self, cx: &mut Shared, order: &Order) {
        self.end_install(cx);
        match order {
            Order::View(view, peers) => self.begin_install(cx, *view, peers),
            Order::Replay(_) => self.replay(cx),
            Order::Registered(tasks) => {
                for task in tasks {
                    self.tell_consumers(cx, *task, Kind::End);
                }
            }
        }
    }

    /// The links first or the ledgers first: other threads go on in between, and both must do.
    fn begin_install(&mut self, cx: &mut Shared, view: u64, peers: &[Incarnation]) {
        let links_first = cx.rng.chance(50);
        self.installing = Some(Installing { view, peers: peers.to_vec(), links_first });
        if links_first { self.install_links(cx, peers) } else { self.mark_ledgers() }
    }

    /// The other half; then it is confirmed.
    pub fn end_install(&mut self, cx: &mut Shared) {
        let Some(Installing { view, peers, links_first }) = self.installing.take() else { return };
        if links_first {
            self.mark_ledgers();
        } else {
            self.install_links(cx, &peers);
        }
        cx.reports.push(Report::Installed(view));
    }

    fn mark_ledgers(&mut self) {
        for task in self.tasks.iter_mut().flatten() {
            task.mark = Some(task.ledger.mark());
        }
    }

    fn install_links(&mut self, cx: &Shared, peers: &[Incarnation]) {
        for (at, incarnation) in peers.iter().enumerate() {
            let is_new = self.peers[at] != *incarnation;
            self.peers[at] = *incarnation;
            let worker = WorkerId(at as u32);
            if !is_new || worker == self.me.worker {
                continue;
            }
            for root in self.links.install(worker, Some(*incarnation)).roots {
                self.tell_failure(cx, &root, worker_lost(root.task));
            }
            self.tell_successor(cx, worker, *incarnation);
        }
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
}

pub fn worker_lost(task: TaskId) -> Failure {
    Failure { reason: Reason::WorkerLost, task, error: "".into(), retry: true }
}
