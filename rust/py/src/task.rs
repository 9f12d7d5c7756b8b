//! One task as its loop sees it: the user's instance, its callables and how fields are bound, read once from the `TaskSpec` that
//! the runtime builds.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use rainband_core::ids::TaskId;
use rainband_core::signal::TaskEnd;

use crate::base::{BoltBase, SpoutBase};
use crate::call::Callable;
use crate::collector::Collector;
use crate::shared::Shared;
use crate::task_cell::TaskCell;

/// Where the arguments of `process` come from, for one input stream.
pub struct Binding {
    /// Positions of fields, or `TUPLE`; keyword arguments last.
    pub args: Box<[i32]>,
    pub kwnames: Option<Py<PyTuple>>,
    pub takes_tuple: bool,
    /// One positional argument, the only field of the stream.
    pub is_straight: bool,
}

/// In `Binding::args`: the whole tuple.
pub const TUPLE: i32 = -1;

/// How a bolt is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `process` by the loop of this crate.
    Plain,
    /// As plain, with held tuples and a timer: the batch is filled by Python.
    Batch,
    /// By a loop of its own: asyncio.
    Async,
}

/// What the user gave, ready to be called.
pub struct Spec {
    pub instance: Py<PyAny>,
    pub mode: Mode,
    pub auto_ack: bool,
    pub process: Option<Callable>,
    /// By stream id.
    pub bindings: Vec<Option<Binding>>,
    pub open: Option<Py<PyAny>>,
    pub close: Option<Py<PyAny>>,
    pub ack: Option<Py<PyAny>>,
    pub fail: Option<Py<PyAny>>,
    pub dead: Option<Py<PyAny>>,
    pub activate: Option<Py<PyAny>>,
    pub deactivate: Option<Py<PyAny>>,
    pub tick: Option<Py<PyAny>>,
    pub flush: Option<Py<PyAny>>,
    pub finish: Option<Py<PyAny>>,
    pub timer: Option<Py<PyAny>>,
    pub run_loop: Option<Py<PyAny>>,
    pub cancel: Option<Py<PyAny>>,
    pub settle: Option<Py<PyAny>>,
}

fn optional(spec: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<Py<PyAny>>> {
    Ok(spec.getattr_opt(name)?.filter(|value| !value.is_none()).map(Bound::unbind))
}

impl Spec {
    /// Builds a fresh instance of `task`.
    pub fn build(py: Python<'_>, shared: &Shared, task: TaskId) -> PyResult<Self> {
        let component = shared.plan.task_component[task.index()];
        let index = task.0 - shared.plan.components[component.index()].tasks.start;
        let spec = shared.call_runtime(py, "build", (component.0, task.0, index))?;
        let is_spout = shared.plan.components[component.index()].is_spout;
        let mode = match spec.getattr("mode")?.extract::<String>()?.as_str() {
            "batch" => Mode::Batch,
            "async" => Mode::Async,
            _ => Mode::Plain,
        };
        let call = if is_spout { "next_tuple" } else { "process" };
        let process = optional(&spec, call)?.map(|callable| Callable::new(callable.bind(py)));
        Ok(Self {
            instance: spec.getattr("instance")?.unbind(),
            mode,
            auto_ack: mode == Mode::Plain && spec.getattr("auto_ack")?.extract::<bool>()?,
            process,
            bindings: Self::bindings(shared, &spec)?,
            open: optional(&spec, "open")?,
            close: optional(&spec, "close")?,
            ack: optional(&spec, "ack")?,
            fail: optional(&spec, "fail")?,
            dead: optional(&spec, "dead")?,
            activate: optional(&spec, "activate")?,
            deactivate: optional(&spec, "deactivate")?,
            tick: optional(&spec, "tick")?,
            flush: optional(&spec, "flush")?,
            finish: optional(&spec, "finish")?,
            timer: optional(&spec, "timer")?,
            run_loop: optional(&spec, "loop")?,
            cancel: optional(&spec, "cancel")?,
            settle: optional(&spec, "settle")?,
        })
    }

    fn bindings(shared: &Shared, spec: &Bound<'_, PyAny>) -> PyResult<Vec<Option<Binding>>> {
        let mut bindings: Vec<Option<Binding>> = shared.plan.streams.iter().map(|_| None).collect();
        let Some(given) = optional(spec, "bindings")? else { return Ok(bindings) };
        let given = PyDict::from_sequence(&given.bind(spec.py()).call_method0("items")?)?;
        for (key, binding) in given.iter() {
            let (component, name): (u32, String) = key.extract()?;
            let streams = shared.plan.components[component as usize].streams.clone();
            let Some(id) = streams.into_iter().find(|id| shared.plan.streams[*id as usize].name == name) else {
                continue;
            };
            let args: Vec<i32> = binding.getattr("args")?.extract()?;
            let kwnames = binding.getattr("kwnames")?.cast_into::<PyTuple>()?;
            let is_straight =
                args == [0] && kwnames.is_empty() && shared.names[id as usize].width == 1 && !shared.settings.checked;
            bindings[id as usize] = Some(Binding {
                is_straight,
                takes_tuple: args.contains(&TUPLE),
                args: args.into(),
                kwnames: (!kwnames.is_empty()).then(|| kwnames.unbind()),
            });
        }
        Ok(bindings)
    }

    /// Attaches the instance to `cell`, so that its `emit` works.
    pub fn attach(&self, py: Python<'_>, cell: &Arc<TaskCell>) -> PyResult<()> {
        let instance = self.instance.bind(py);
        if let Ok(spout) = instance.cast::<SpoutBase>() {
            spout.get().link.attach(cell);
        } else {
            instance.cast::<BoltBase>()?.get().link.attach(cell);
        }
        Ok(())
    }
}

/// A task with its place in the run.
pub struct Task {
    pub id: TaskId,
    pub shared: Arc<Shared>,
    pub cell: Arc<TaskCell>,
    pub spec: Spec,
    pub end: TaskEnd,
    pub is_open: bool,
    /// Its executor has no other task, whose calls it would wait for.
    pub is_only: bool,
}

impl Task {
    /// Builds the task; its hook `open` or `prepare` is still to be called.
    pub fn build(py: Python<'_>, shared: &Arc<Shared>, id: TaskId) -> PyResult<Self> {
        let spec = Spec::build(py, shared, id)?;
        let cell = Arc::new(TaskCell::new(Collector::new(py, shared, id)));
        let component = shared.plan.task_component[id.index()];
        if !shared.custom.is_empty() {
            shared.call_runtime(py, "prepare_groupings", (component.0, id.0))?;
        }
        *crate::shared::lock(&shared.task(id).cell) = Some(Arc::clone(&cell));
        let producers = if shared.plan.components[component.index()].is_spout {
            vec![id]
        } else {
            shared.plan.producers(component).0
        };
        let executor = shared.plan.task_executor[id.index()];
        Ok(Self {
            id,
            shared: Arc::clone(shared),
            cell,
            spec,
            end: TaskEnd::new(&producers),
            is_open: false,
            is_only: shared.plan.executors[executor.index()].1.len() == 1,
        })
    }

    /// Calls `open` or `prepare`; from then on the instance may emit and must be closed. One that raises was not opened.
    pub fn open(&mut self, py: Python<'_>) -> PyResult<()> {
        if let Some(open) = &self.spec.open {
            open.call0(py)?;
        }
        self.is_open = true;
        self.spec.attach(py, &self.cell)?;
        self.cell.open(py);
        Ok(())
    }

    /// Calls `close` if the task was opened; an exception is told and otherwise ignored.
    pub fn close(&mut self, py: Python<'_>) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        self.cell.close(); // Nobody would hand over what is emitted now.
        if let Some(close) = &self.spec.close
            && let Err(error) = close.call0(py)
        {
            self.shared.user_error(py, self.id, "close", &error, "the task ends all the same");
        }
    }
}
