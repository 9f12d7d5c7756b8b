//! Answers the router's questions about Python values: hashes of keys, full queues, the user's own grouping (stage 2).

use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use rainband_core::deliver::Outbox;
use rainband_core::ids::{ComponentId, StreamId, TaskId};
use rainband_core::key::KeyBytes;
use rainband_core::plan::{Grouping, Plan, Subscription};
use rainband_core::route::Chooser;

use crate::keys::{self, KeyError};
use crate::payload::Payload;
use crate::shared::Shared;

/// The tasks that shuffles of `stream` choose among, a list a subscription, where there is a choice.
pub fn shuffled(
    plan: &Plan,
    stream: &rainband_core::plan::Stream,
    is_here: impl Fn(TaskId) -> bool,
) -> Vec<Arc<[TaskId]>> {
    let is_shuffle =
        |grouping: &Grouping| matches!(grouping, Grouping::Shuffle | Grouping::None | Grouping::LocalOrShuffle);
    let several = |subscription: &&Subscription| {
        is_shuffle(&subscription.grouping)
            && plan.components[subscription.component.index()].tasks.len() > 1
            && !plan.is_back_edge(stream.component, subscription.component)
    };
    let tasks = |subscription: &Subscription| {
        let tasks = plan.components[subscription.component.index()].tasks.clone().map(TaskId);
        let stays = subscription.grouping == Grouping::LocalOrShuffle && tasks.clone().any(&is_here);
        tasks.filter(|task| !stays || is_here(*task)).collect()
    };
    stream.subscriptions.iter().filter(several).map(tasks).collect()
}

/// Whether a value of a stream of one field is a key for sure: exactly a str or an int.
#[inline]
pub fn is_plain_key(payload: &Payload) -> bool {
    // SAFETY: a live object; only its type pointer is compared.
    let kind = unsafe { ffi::Py_TYPE(payload.0.as_ptr()) };
    kind == &raw mut ffi::PyUnicode_Type || kind == &raw mut ffi::PyLong_Type
}

/// Why the router was refused an answer.
pub enum Refused {
    NotAKey(usize, String),
    Stranger(String),
    Raised(PyErr),
}

/// Answers the router's questions about Python values.
pub struct Ask<'a, 'py> {
    pub py: Python<'py>,
    pub shared: &'a Shared,
    pub width: usize,
    pub key: &'a mut KeyBytes,
    pub outbox: &'a Outbox<Payload>,
}

impl Chooser<Payload> for Ask<'_, '_> {
    type Error = Refused;

    #[inline]
    fn key_hash(&mut self, payload: &Payload, fields: &[u16]) -> Result<u64, Refused> {
        self.key.clear();
        let unwrapped;
        let inner = if self.shared.settings.checked {
            unwrapped = payload.inner(self.py);
            &unwrapped
        } else {
            payload.0.bind(self.py)
        };
        for field in fields {
            let written = if self.width == 1 {
                keys::write(inner, self.key)
            } else {
                // SAFETY: the payload of a stream of several fields is an exact tuple of that width.
                let value = unsafe { inner.cast_unchecked::<PyTuple>() }.get_borrowed_item(usize::from(*field));
                value.map_err(KeyError::Raised).and_then(|value| keys::write(&value, self.key))
            };
            written.map_err(|error| match error {
                KeyError::NotAKey(what) => Refused::NotAKey(usize::from(*field), what),
                KeyError::Raised(error) => Refused::Raised(error),
            })?;
        }
        Ok(self.key.hash())
    }

    #[inline]
    fn check_key(&mut self, payload: &Payload, fields: &[u16]) -> Result<(), Refused> {
        if self.width == 1 && is_plain_key(payload) {
            return Ok(());
        }
        self.key_hash(payload, fields).map(drop)
    }

    #[inline]
    fn is_full(&mut self, task: TaskId) -> bool {
        // What waits here for that task wants its room too.
        self.outbox.buffered(task) >= self.shared.room_hint(task)
    }

    fn custom(
        &mut self,
        payload: &Payload,
        stream: StreamId,
        component: ComponentId,
        targets: &mut Vec<TaskId>,
    ) -> Result<(), Refused> {
        let subscriber = &self.shared.plan.components[component.index()];
        let chosen = || -> PyResult<Vec<u32>> {
            let object = &self.shared.custom[&(stream, component)];
            let values = payload.to_tuple(self.py, self.width)?;
            let chosen = object.bind(self.py).call_method1("choose", (values,))?;
            chosen.try_iter()?.map(|task| task?.extract::<u32>()).collect()
        };
        for task in chosen().map_err(Refused::Raised)? {
            if !subscriber.tasks.contains(&task) {
                return Err(Refused::Stranger(format!(
                    "the custom grouping of {:?} chose task {task}; its tasks are {} to {}",
                    subscriber.name,
                    subscriber.tasks.start,
                    subscriber.tasks.end - 1
                )));
            }
            targets.push(TaskId(task));
        }
        Ok(())
    }
}
