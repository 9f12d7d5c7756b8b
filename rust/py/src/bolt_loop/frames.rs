//! What a bolt's task does only in a worker of several: it decodes tuples of other workers, a batch at a time when it comes to them,
//! and notes what it has in hand.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use rainband_core::emit::InHand;
use rainband_core::ids::RootRef;
use rainband_core::ledger::Reason;
use rainband_core::queue::{BATCH, Frame};
use rainband_core::tuple::Envelope;
use rainband_core::wire::Record;

use crate::ack;
use crate::codec;
use crate::errors;
use crate::packing;
use crate::payload::Payload;
use crate::shared::lock;
use crate::task::Mode;

use super::BoltTask;

impl BoltTask {
    /// The task took a frame from its inbox.
    pub(super) fn open_frame(&mut self, py: Python<'_>, frame: Box<Frame>) {
        let own = self.task.shared.task(self.task.id);
        own.is_idle_member.store(false, Ordering::Release);
        own.has_in_hand.store(true, Ordering::Release);
        self.frame = Some(frame);
        let mut batch = std::mem::take(&mut self.batch);
        self.next_of_frame(py, &mut batch);
        self.batch = batch;
    }

    /// Decodes up to a batch of what is left of the frame in hand. Returns whether there was any.
    pub(super) fn next_of_frame(&mut self, py: Python<'_>, batch: &mut Vec<Envelope<Payload>>) -> bool {
        let Some(mut frame) = self.frame.take() else { return false };
        let mut tables = codec::Tables::default();
        while batch.len() < BATCH {
            match frame.reader.read_next() {
                Ok(Some(record)) if !self.is_right(&record) => {
                    let error = errors::run_error(py, "a record came that names what there is not".to_string());
                    self.task.shared.fail_run(py, &errors::value_of(py, &error));
                    return false;
                }
                Ok(Some(record)) => {
                    let head = record.head;
                    let envelope = |payload| Envelope {
                        payload,
                        edge: record.edge,
                        head,
                        stream: record.stream,
                        from: record.from,
                        bytes: 0, // Its sender's credit bounded it.
                    };
                    let names = &self.task.shared.names;
                    let pickle = names[record.stream.index()].pickle;
                    match packing::unpack(py, record.values, record.blobs, pickle, &mut tables) {
                        Ok(payload) => batch.push(envelope(payload)),
                        Err(error) => {
                            let mut envelope = envelope(Payload(py.None()));
                            self.refuse(py, &InHand::of(&mut envelope), &error);
                        }
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    // The checksum was right: the sender wrote what we cannot read.
                    let text = format!("a frame from worker {} cannot be read: {error:?}", frame.from.worker);
                    let error = errors::run_error(py, text);
                    self.task.shared.fail_run(py, &errors::value_of(py, &error));
                    return false;
                }
            }
        }
        if frame.reader.left() > 0 {
            self.frame = Some(frame);
        } else if let Some(remote) = &self.task.shared.remote {
            remote.links.consumed(frame.from, self.task.id, frame.weight);
        }
        !batch.is_empty()
    }

    /// Whether the stream and the tasks that a record names exist.
    fn is_right(&self, record: &Record<'_>) -> bool {
        let tasks = self.task.shared.tasks.len();
        record.stream.index() < self.kinds.len()
            && record.from.index() < tasks
            && record.head.roots.as_slice().iter().all(|root| root.task.index() < tasks)
    }

    /// A tuple whose values cannot be had here fails, as if `process` had raised.
    #[cold]
    fn refuse(&mut self, py: Python<'_>, in_hand: &InHand, error: &PyErr) {
        self.done.0 += 1;
        self.executed += 1;
        self.task.shared.user_error(py, self.task.id, "decode", error, "the tuple failed");
        let failure = rainband_core::ledger::Failure {
            reason: Reason::Error,
            task: self.task.id,
            error: errors::text_of(py, error).into(),
            retry: true,
        };
        ack::fail_in_hand(&self.task.shared, self.task.id, in_hand, &failure);
    }

    /// Notes what the task has in hand where it survives the process. Batches and coroutines hold several at a time.
    pub(super) fn note_in_hand(&self, py: Python<'_>, executor: usize, envelope: &Envelope<Payload>) {
        let shared = &self.task.shared;
        let Some(slots) = shared.remote.as_ref().and_then(|remote| remote.slots.as_ref()) else { return };
        let roots = envelope.head.roots.as_slice();
        // An attempt of a spout that dies with this process is known again by the user's id; the first death is not worth the time.
        let id_of = |root: &RootRef| if shared.incarnation.0 > 1 { shared.id_hash(py, root) } else { 0 };
        if self.task.spec.mode == Mode::Plain {
            slots.set(executor, self.task.id, roots, id_of);
        } else {
            slots.add(executor, self.task.id, roots, id_of);
        }
    }

    /// Notes what the tasks of the executor still have in hand at the end of a slice.
    pub(super) fn note_hands(&self, py: Python<'_>) {
        let shared = &self.task.shared;
        let slots = shared.remote.as_ref().and_then(|remote| remote.slots.as_ref());
        let (Some(executor), Some(slots)) = (self.slot, slots) else { return };
        let written = slots.written(executor);
        if self.task.spec.mode == Mode::Plain || written == 0 {
            slots.clear(executor);
            return;
        }
        let tasks = &shared.plan.executors[executor].1;
        let held: usize = tasks.iter().map(|task| lock(&shared.task(*task).held).len()).sum();
        if held == 0 {
            slots.clear(executor);
        } else if written > held + held / 8 {
            let mut roots = Vec::with_capacity(held);
            for task in tasks {
                lock(&shared.task(*task).held).for_each_root(|root| roots.push(*root));
            }
            let id_of = |root: &RootRef| if shared.incarnation.0 > 1 { shared.id_hash(py, root) } else { 0 };
            slots.renew(executor, &roots, id_of);
        }
    }
}
