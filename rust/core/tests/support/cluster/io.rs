//! The I/O thread of a process: sends what its links have to send, takes what comes, hands it on.

use rainband_core::ids::{Incarnation, RootRef, TaskId, WorkerId};
use rainband_core::ledger::Failure;
use rainband_core::peer::Inbox;
use rainband_core::queue::{Frame, Wake};
use rainband_core::signal::Signal;
use rainband_core::wire;

use super::super::check::ensure;
use super::network::{Letter, Network};
use super::shared::Shared;
use super::task::Mail;
use super::worker::Worker;

impl Worker {
    pub fn has_io(&self, now: u64) -> bool {
        self.io.has_rung() || self.io_due <= now
    }

    pub fn send_all(&mut self, cx: &mut Shared, net: &mut Network) -> Result<(), String> {
        self.hand_on(cx)?;
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

    /// Takes a letter. What is in it is handed on later: a view may be installed in between, by another thread.
    pub fn receive(&mut self, cx: &mut Shared, letter: &Letter) -> Result<(), String> {
        self.hand_on(cx)?;
        let result = self.links.receive(&letter.parts, cx.now, &mut self.taken);
        cx.note(&("arrives", letter.from, self.me, format!("{result:?}"), self.taken.0.len()));
        self.io.wake();
        if cx.rng.chance(50) { self.hand_on(cx) } else { Ok(()) }
    }

    fn hand_on(&mut self, cx: &Shared) -> Result<(), String> {
        for event in std::mem::take(&mut self.taken.0) {
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

/// What was in a frame.
enum Event {
    Tuples(TaskId, Box<Frame>),
    Mail(TaskId, Incarnation, Mail),
    Signal(TaskId, Signal),
}

/// All of it, in order.
#[derive(Default)]
pub struct Taken(Vec<Event>);

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
