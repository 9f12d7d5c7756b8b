//! The life of an executor: builds and opens its tasks, runs their loop, closes them. Its thread is Python's, attached for life,
//! detached only to wait.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use rainband_core::ids::TaskId;

use crate::bolt_loop::{self, BoltTask};
use crate::engine::Waker;
use crate::errors;
use crate::shared::{Shared, lock};
use crate::spout_loop::{self, SpoutTask};
use crate::task::{Mode, Task};
use crate::turn::Seat;

/// The body of executor `index`'s thread.
pub fn run(py: Python<'_>, shared: &Arc<Shared>, index: usize) {
    let seat = shared.turns.seat(index);
    py.detach(|| seat.sit());
    let (component, mut ids) = shared.plan.executors[index].clone();
    let is_spout = shared.plan.components[component.index()].is_spout;
    if let Some(remote) = &shared.remote {
        for task in ids.extract_if(.., |task| remote.ended.contains(task)) {
            drop(shared.task(task).queue.close()); // An earlier incarnation brought it to its end.
        }
    }
    let mut guard = Leave { shared, seat: &seat, ids: &ids, is_ready: false };
    let mut tasks = build(py, shared, &ids);
    shared.note_ready();
    guard.is_ready = true;
    if is_spout {
        let mut tasks: Vec<SpoutTask> = tasks.drain(..).map(SpoutTask::new).collect();
        if tasks.len() == ids.len() && !ids.is_empty() {
            spout_loop::run(py, shared, &seat, &mut tasks);
        }
        for task in &mut tasks {
            end(py, shared, &mut task.task);
        }
    } else {
        let mut tasks: Vec<BoltTask> = tasks.drain(..).map(BoltTask::new).collect();
        if tasks.len() == ids.len() && !ids.is_empty() {
            tasks = run_bolts(py, shared, &seat, tasks);
        }
        for task in &mut tasks {
            end(py, shared, &mut task.task);
            task.discard(py);
        }
    }
    drop(guard);
}

/// After a round of work: gives the others a turn if they want one and this one has lasted for `slice`, and waits for the turn if
/// it was taken away.
pub fn share_turn(py: Python<'_>, seat: &Seat, slice: Duration) {
    if seat.is_wanted() {
        if seat.turn_lasts() > slice {
            py.detach(|| seat.pass());
        }
    } else if seat.has_lost_turn() && !seat.is_free() {
        py.detach(|| seat.take_turn());
    }
}

/// Ends an executor whatever happens in it, so that nobody waits for it for ever.
struct Leave<'a> {
    shared: &'a Arc<Shared>,
    seat: &'a Seat,
    ids: &'a [TaskId],
    is_ready: bool,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        for id in self.ids {
            drop(self.shared.task(*id).queue.close());
            let cell = lock(&self.shared.task(*id).cell).take();
            drop(cell); // Not under the lock: what it holds may be Python's.
        }
        if !self.is_ready {
            self.shared.note_ready();
        }
        self.seat.leave();
        self.shared.note_gone();
    }
}

fn run_bolts(py: Python<'_>, shared: &Arc<Shared>, seat: &Seat, mut tasks: Vec<BoltTask>) -> Vec<BoltTask> {
    if tasks[0].task.spec.mode == Mode::Async {
        return crate::aio::run(py, shared, seat, tasks);
    }
    bolt_loop::run(py, shared, seat, &mut tasks);
    tasks
}

/// Builds and opens the tasks; those that were opened are returned, also if a later one could not be, and the run fails.
fn build(py: Python<'_>, shared: &Arc<Shared>, ids: &[TaskId]) -> Vec<Task> {
    let mut tasks = Vec::with_capacity(ids.len());
    for id in ids {
        if shared.is_stopping() {
            break;
        }
        match Task::build(py, shared, *id) {
            Ok(task) => tasks.push(task),
            Err(error) => {
                refuse(py, shared, *id, "__init__", &error);
                return tasks;
            }
        }
    }
    for task in &mut tasks {
        let hook = if shared.plan.component_of(task.id).is_spout { "open" } else { "prepare" };
        if let Err(error) = set_waker(py, shared, task).and_then(|()| task.open(py)) {
            refuse(py, shared, task.id, hook, &error);
            break;
        }
    }
    tasks
}

fn refuse(py: Python<'_>, shared: &Shared, task: TaskId, place: &str, error: &PyErr) {
    shared.user_error(py, task, place, error, "the topology stops");
    shared.fail_run(py, &errors::value_of(py, error));
}

/// Gives an instance that has a `_wake` the callable that wakes its executor.
pub fn set_waker(py: Python<'_>, shared: &Shared, task: &Task) -> PyResult<()> {
    let instance = task.spec.instance.bind(py);
    if !instance.hasattr("_wake")? {
        return Ok(());
    }
    let executor = shared.plan.task_executor[task.id.index()];
    let waker = Waker::new(shared.turns.seat(executor.index()));
    instance.setattr("_wake", Py::new(py, waker)?)
}

fn end(py: Python<'_>, shared: &Shared, task: &mut Task) {
    // What is held can be acked no more; it stays pending at its spout.
    let held = lock(&shared.task(task.id).held).keys();
    for key in held {
        let in_hand = lock(&shared.task(task.id).held).remove(key);
        drop(in_hand);
    }
    task.close(py);
    task.cell.close();
}
