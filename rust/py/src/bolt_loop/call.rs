//! One call of `process`: its arguments from the payload, what it returned, what it raised (part of stage 5).

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use rainband_core::emit::InHand;
use rainband_core::ledger::{Failure, Reason};
use rainband_core::tuple::Envelope;

use crate::ack;
use crate::call::{is_generator, next_of};
use crate::collector::{Current, How};
use crate::emit_call::emit_yielded;
use crate::errors;
use crate::payload::{Checked, Payload};
use crate::shared::{Shared, lock};
use crate::task::{Mode, TUPLE};
use crate::values::{Hold, Tuple, TupleData};

use super::{BoltTask, Popped};

impl BoltTask {
    /// For the asyncio loop: takes up to `max_n` tuples, held from now on, and the signals between them.
    pub fn take<'py>(&mut self, py: Python<'py>, max_n: usize, taken: &mut Vec<Bound<'py, Tuple>>) -> PyResult<()> {
        let shared = Arc::clone(&self.task.shared);
        while taken.len() < max_n {
            if self.worked == self.batch.len() {
                self.batch.clear();
                self.worked = 0;
                match self.pop(py) {
                    Popped::Batch => {}
                    Popped::Signal => continue,
                    Popped::Nothing => return Ok(()),
                }
            }
            self.task.end.touch();
            let mut batch = std::mem::take(&mut self.batch);
            let envelope = &mut batch[self.worked];
            let tuple = self.hold_one(py, &shared, envelope);
            self.worked += 1;
            self.batch = batch;
            taken.extend(tuple?);
        }
        Ok(())
    }

    pub(super) fn hold_one<'py>(
        &mut self,
        py: Python<'py>,
        shared: &Arc<Shared>,
        envelope: &mut Envelope<Payload>,
    ) -> PyResult<Option<Bound<'py, Tuple>>> {
        self.count_in(envelope);
        if let (Mode::Async, Some(executor)) = (self.task.spec.mode, self.slot) {
            self.note_in_hand(py, executor, envelope);
        }
        if envelope.head.hops > shared.settings.max_hops {
            self.fail_hops(&InHand::of(envelope));
            return Ok(None);
        }
        let attempt = envelope.head.attempt;
        let payload = Payload(envelope.payload.inner(py).unbind());
        let key = lock(&shared.task(self.task.id).held).insert(InHand::of(envelope), shared.now_ns());
        let names = Arc::clone(&shared.names[envelope.stream.index()]);
        let hold = Hold::Held { task: self.task.id, key, shared: Arc::clone(shared) };
        self.hand_out(py, TupleData { payload, names, from: envelope.from.0, attempt, hold }).map(Some)
    }

    /// Held until user code acks it.
    pub(super) fn process_manual(&mut self, py: Python<'_>, shared: &Arc<Shared>, envelope: &mut Envelope<Payload>) {
        let own = shared.task(self.task.id);
        let in_hand = InHand::of(envelope);
        let attempt = in_hand.head.attempt;
        let key = lock(&own.held).insert(in_hand, shared.now_ns());
        let is_batch = self.task.spec.mode == Mode::Batch;
        self.task.cell.own().current = if is_batch { Current::None } else { Current::Held(key) };
        let task = self.task.id;
        *lock(&own.in_call) = Some(key);
        let result = self.call(py, shared, envelope, attempt, || Hold::Held { task, key, shared: Arc::clone(shared) });
        lock(&own.held).touch(key, shared.now_ns()); // If it is held on, then by nobody who works on it.
        *lock(&own.in_call) = None;
        self.task.cell.own().current = Current::None;
        if let Err(error) = result {
            let taken = lock(&own.held).remove(key);
            if let Some(in_hand) = taken {
                self.raised(py, shared, &error, &in_hand);
            } else {
                shared.user_error(py, task, "process", &error, "the tuple was acked or failed before");
                self.obey_on_error(py, &error);
            }
        }
    }

    #[inline]
    pub(super) fn call(
        &self,
        py: Python<'_>,
        shared: &Arc<Shared>,
        envelope: &Envelope<Payload>,
        attempt: u32,
        hold: impl FnOnce() -> Hold,
    ) -> PyResult<()> {
        let spec = &self.task.spec;
        let Some(binding) = &spec.bindings[envelope.stream.index()] else {
            return Err(errors::internal(format!("stream {} has no binding", envelope.stream.0)));
        };
        let process = spec.process.as_ref().expect("every bolt has process");
        if binding.is_straight && spec.auto_ack {
            let result = process.call_with(envelope.payload.0.bind(py))?;
            return if result.is_none() { Ok(()) } else { self.follow(py, result) };
        }
        if shared.settings.checked {
            self.check(py, envelope, "before")?;
        }
        let unwrapped;
        let inner = if shared.settings.checked {
            unwrapped = envelope.payload.inner(py);
            &unwrapped
        } else {
            envelope.payload.0.bind(py)
        };
        let names = &shared.names[envelope.stream.index()];
        let tuple = if binding.takes_tuple || !spec.auto_ack {
            let payload = Payload(inner.clone().unbind());
            let (from, hold) = (envelope.from.0, hold());
            Some(match self.spare.take() {
                Some(spare) => {
                    let tuple = spare.into_bound(py);
                    // SAFETY: it was emptied when it became the spare one.
                    unsafe { Tuple::fill(&tuple, payload, names, (from, attempt, hold)) };
                    tuple
                }
                None => self.hand_out(py, TupleData { payload, names: Arc::clone(names), from, attempt, hold })?,
            })
        } else {
            None
        };
        let width = names.width;
        let result = process.call(py, binding.args.len(), binding.kwnames.as_ref().map(|k| k.bind(py)), |places| {
            for (place, from) in places.iter_mut().zip(&binding.args) {
                *place = if *from == TUPLE {
                    tuple.as_ref().map_or(std::ptr::null_mut(), pyo3::Bound::as_ptr)
                } else if width == 1 {
                    inner.as_ptr()
                } else {
                    // SAFETY: the payload of a stream of several fields is an exact tuple of that width; the binding names
                    // fields of it.
                    unsafe { pyo3::ffi::PyTuple_GET_ITEM(inner.as_ptr(), *from as pyo3::ffi::Py_ssize_t) }
                };
            }
        });
        let result = result?;
        if !result.is_none() {
            self.follow(py, result)?;
        }
        if shared.settings.checked {
            self.check(py, envelope, "after")?;
        }
        if let Some(tuple) = tuple
            && spec.auto_ack
            && shared.has_gil
            && Tuple::empty(&tuple)
        {
            self.spare.set(Some(tuple.unbind()));
        }
        Ok(())
    }

    /// Makes the `Tuple` that user code gets. Where the task wants to know what timed out, the table keeps a weak reference.
    pub(super) fn hand_out<'py>(&self, py: Python<'py>, tuple: TupleData) -> PyResult<Bound<'py, Tuple>> {
        let key = match (&tuple.hold, &self.task.spec.cancel) {
            (Hold::Held { key, .. }, Some(_)) => Some(*key),
            _ => None,
        };
        let tuple = Bound::new(py, Tuple::of(tuple))?;
        if let Some(key) = key {
            let reference = PyWeakrefReference::new(tuple.as_any())?.into_any().unbind();
            let rest = lock(&self.task.shared.task(self.task.id).held).attach(key, reference);
            drop(rest);
        }
        Ok(tuple)
    }

    /// What `process` returned decides what happens: a generator is run here and its values emitted, a coroutine by Python.
    pub(super) fn follow(&self, py: Python<'_>, result: Bound<'_, PyAny>) -> PyResult<()> {
        if is_generator(&result) {
            while let Some(value) = next_of(&result)? {
                let mut collector = self.task.cell.enter(py, "yield")?;
                emit_yielded(py, &mut collector, value, How::Current)?;
            }
            return Ok(());
        }
        let kind = result.get_type().name()?.to_string();
        if let (true, Some(settle)) = (kind == "coroutine" || kind == "async_generator", &self.task.spec.settle) {
            let values = settle.bind(py).call1((result,))?;
            if values.is_none() {
                return Ok(());
            }
            for value in values.try_iter()? {
                let mut collector = self.task.cell.enter(py, "yield")?;
                emit_yielded(py, &mut collector, value?, How::Current)?;
            }
            return Ok(());
        }
        Err(pyo3::exceptions::PyTypeError::new_err(format!(
            "process() returned {kind}; what it returns is not emitted: yield it or emit it"
        )))
    }

    #[cold]
    pub(super) fn check(&self, py: Python<'_>, envelope: &Envelope<Payload>, when: &str) -> PyResult<()> {
        let Ok(checked) = envelope.payload.0.bind(py).cast::<Checked>() else { return Ok(()) };
        let shared = &self.task.shared;
        let width = shared.names[envelope.stream.index()].width;
        let values = envelope.payload.to_tuple(py, width)?;
        let component = shared.plan.task_component[self.task.id.index()].0;
        let token = checked.get().token.clone_ref(py);
        shared.call_runtime(py, "check_receive", (component, token, values, when)).map(drop)
    }

    /// User code raised with a tuple in hand.
    #[cold]
    pub(super) fn raised(&mut self, py: Python<'_>, shared: &Arc<Shared>, error: &PyErr, in_hand: &InHand) {
        if shared.was_cut(py, error) {
            return;
        }
        let is_reject = errors::is_reject(py, error);
        let reason = if is_reject { Reason::Rejected } else { Reason::Error };
        let text = if is_reject { error.value(py).to_string() } else { errors::text_of(py, error) };
        if !is_reject {
            let note = Self::note(shared, in_hand);
            shared.user_error(py, self.task.id, "process", error, &note);
        }
        self.fail(in_hand, reason, &text, !is_reject);
        if !is_reject {
            self.obey_on_error(py, error);
        }
    }

    pub(super) fn note(shared: &Shared, in_hand: &InHand) -> String {
        let Some(root) = in_hand.head.roots.as_slice().first() else {
            return "the tuple is untracked and gone".to_string();
        };
        let limit = shared.settings_of(root.task).max_attempts;
        let attempt = in_hand.head.attempt;
        if attempt >= limit {
            format!("the tuple failed for good (attempt {attempt} of {limit})")
        } else {
            format!("the tuple failed and is replayed (attempt {attempt} of {limit})")
        }
    }

    pub(super) fn fail(&self, in_hand: &InHand, reason: Reason, text: &str, retry: bool) {
        let failure = Failure { reason, task: self.task.id, error: text.into(), retry };
        ack::fail_in_hand(&self.task.shared, self.task.id, in_hand, &failure);
    }
}
