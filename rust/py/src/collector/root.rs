//! Emissions that are roots: of spouts, of `tick`, `flush` and `finish` (part of stage 1). A root is in the ledger before its
//! first delivery is.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use rainband_core::deliver::{Anchors, Emission};
use rainband_core::frontier::Ticket;
use rainband_core::ids::{RootRef, TaskId};
use rainband_core::ledger::{Failure, Reason};
use rainband_core::tuple::{Head, Roots};

use crate::errors;
use crate::payload::Payload;
use crate::remote;
use crate::roots::{NO_TASK, Record};
use crate::shared::lock;

use super::{Collector, Straight};

impl Collector {
    /// As [`Collector::emit_straight`], for a root of a spout without position.
    ///
    /// # Errors
    /// No room for another root.
    #[inline(always)]
    pub fn root_straight(
        &mut self,
        py: Python<'_>,
        payload: Payload,
        bytes: u32,
        id: Py<PyAny>,
    ) -> PyResult<Straight<Py<PyAny>>> {
        let Some(target) = self.straight_target(py, &payload) else { return Ok(Straight::Not(payload, id)) };
        if !self.pack_straight(py, &payload, target) {
            return Ok(Straight::Not(payload, id)); // It says there why.
        }
        let stream = self.streams[0].id;
        let edge = self.edges.draw();
        let record = Record {
            payload: payload.share(py),
            id: Some(id),
            stream,
            direct: NO_TASK,
            ticket: Ticket::NONE,
            dead: None,
        };
        let Some(head) = self.begin(py, record, edge.bits())? else { return Ok(Straight::Sent) };
        self.emitted += 1;
        self.delivered += 1;
        let emission = Emission { payload, head, stream, from: self.task, bytes };
        let (rest, wants_flush) = self.outbox.send_drawn(emission, target, edge, self.packed.values());
        drop(rest);
        Ok(Straight::sent(wants_flush))
    }

    /// Emits a tuple that is its own root: a spout's, or of `tick`, `flush`, `finish`.
    pub(super) fn send_root(
        &mut self,
        py: Python<'_>,
        emission: Emission<Payload>,
        id: Option<Py<PyAny>>,
        position: Option<Py<PyAny>>,
        direct: Option<TaskId>,
    ) -> PyResult<bool> {
        self.drawn.clear();
        self.drawn.extend((0..self.targets.len()).map(|_| self.edges.draw()));
        let sum = self.drawn.iter().fold(0, |sum, edge| sum ^ edge.bits());
        let shared = self.shared.task(self.task);
        let ticket = match position {
            None => Ticket::NONE,
            Some(position) => lock(&shared.positions).frontier.enter(position),
        };
        let record = Record {
            payload: emission.payload.share(py),
            id,
            stream: emission.stream,
            direct: direct.map_or(NO_TASK, |t| t.0),
            ticket,
            dead: None,
        };
        let Some(head) = self.begin(py, record, sum)? else { return Ok(false) };
        self.count();
        let emission = Emission { head, ..emission };
        let (anchors, values) = (Anchors::Root(&self.drawn), self.packed.values());
        let (rest, wants_flush) =
            self.outbox.send(emission, &self.targets, anchors, &mut self.edges, values, |p| p.share(py));
        drop(rest);
        Ok(wants_flush)
    }

    /// How often a process of this worker has died with this root in hand.
    #[inline]
    fn charged(&self, py: Python<'_>, record: &Record) -> Option<u32> {
        let remote = self.shared.remote.as_ref().filter(|remote| !remote.charged.is_empty())?;
        let id = remote::hash_of_id(record.id.as_ref()?.bind(py));
        remote.charged.get(&(self.task, id)).copied().filter(|attempts| *attempts > 0)
    }

    /// Enters a root whose deliveries' edges XOR to `sum` into the task's ledger; the head is what they carry. `None`: earlier
    /// processes died with it in hand, so it is not delivered beside others.
    #[inline]
    fn begin(&self, py: Python<'_>, record: Record, sum: u64) -> PyResult<Option<Head>> {
        let shared = self.shared.task(self.task);
        let charged = self.charged(py, &record);
        let mut ledger = lock(&shared.ledger);
        let begun = ledger.begin(record, sum, self.now_ns);
        if let (Ok(attempt), Some(attempts)) = (&begun, charged) {
            // As after a death that this process saw: it is buried, or goes alone, with one attempt more.
            ledger.charge(*attempt, attempts - 1);
            let error = format!("worker {} died {attempts} times with it in hand", self.shared.me());
            let failure = Failure { reason: Reason::Crashed, task: self.task, error: error.into(), retry: true };
            ledger.fail(*attempt, failure);
        }
        shared.pending.store(ledger.pending(), Ordering::Relaxed);
        drop(ledger);
        let attempt = begun.map_err(|record| {
            let position = lock(&shared.positions).frontier.take_back(record.ticket);
            drop((record, position));
            errors::emit_error(py, format!("task {}: 16,777,216 roots are pending; lower max_pending", self.task))
        })?;
        let root = RootRef { task: self.task, incarnation: self.shared.incarnation, attempt };
        let head = Head { roots: Roots::One(root), hops: 0, attempt: 1, ..Head::default() };
        Ok(charged.is_none().then_some(head))
    }
}
