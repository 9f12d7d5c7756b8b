//! The engine as Python sees it: made of a plan dict, run by Python's threads, watched and stopped by the main thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use rainband_core::frontier::Ticket;
use rainband_core::ids::{ComponentId, StreamId, TaskId};
use rainband_core::plan::{ComponentSpec, Grouping, InputSpec, Plan, StreamSpec};
use rainband_core::queue::{Queue, Wake};
use rustc_hash::FxHashMap;

use crate::errors;
use crate::held::Held;
use crate::roots::Positions;
use crate::settings::{ComponentSettings, Settings};
use crate::shared::{Shared, State, TaskShared, lock};
use crate::stats::TaskStats;
use crate::turn::{Seat, Turns};
use crate::values::StreamNames;
use crate::{executor, service, snapshot, timer};

/// Wakes an executor from any thread; calling it twice is as good as once.
#[pyclass(frozen, module = "rainband._core")]
pub struct Waker {
    seat: Seat,
}

impl Waker {
    pub fn new(seat: Seat) -> Self {
        Self { seat }
    }
}

#[pymethods]
impl Waker {
    fn __call__(&self) {
        self.seat.wake();
    }
}

/// One run of one plan. Made of the plan dict of `plan.py` and the `Runtime` that builds tasks; its threads are Python's.
#[pyclass(frozen, module = "rainband._core")]
pub struct Engine {
    shared: Arc<Shared>,
}

#[pymethods]
impl Engine {
    #[new]
    fn new(plan: &Bound<'_, PyDict>, runtime: Py<PyAny>) -> PyResult<Self> {
        crate::fork::watch();
        crate::affinity::watch_starts(plan.py());
        Ok(Self { shared: Arc::new(read_plan(plan, runtime)?) })
    }

    /// The executors: (component index, task ids), a row each.
    fn executors(&self) -> Vec<(u32, Vec<u32>)> {
        let ids = |tasks: &[TaskId]| tasks.iter().map(|t| t.0).collect();
        self.shared.plan.executors.iter().map(|(component, tasks)| (component.0, ids(tasks))).collect()
    }

    /// The body of an executor's thread; returns when it is over.
    fn run_executor(&self, py: Python<'_>, index: usize) {
        executor::run(py, &self.shared, index);
    }

    /// The body of the timer thread; returns when every executor is over.
    fn run_timer(&self, py: Python<'_>) {
        timer::run(py, &self.shared);
    }

    /// Waits, detached, until the run is over or `timeout_s` passed. Returns the state: "starting", "running", "draining",
    /// and when every executor is over "ended", "failed" or "stopped".
    fn wait(&self, py: Python<'_>, timeout_s: f64) -> &'static str {
        let shared = &self.shared;
        let deadline = Instant::now() + Duration::from_secs_f64(timeout_s.clamp(0.0, 3600.0));
        py.detach(|| {
            let mut status = lock(&shared.status);
            while !status.is_over {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let waited = shared.status_changed.wait_timeout(status, left);
                status = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
            }
        });
        let is_over = lock(&shared.status).is_over;
        match shared.state() {
            state if is_over || state < State::Ended => state.as_str(),
            _ => "stopping",
        }
    }

    /// Lets spouts emit again after `deactivate`.
    fn activate(&self) {
        self.shared.set_active(true);
    }

    /// Pauses the spouts: no new roots; trees complete and timers run.
    fn deactivate(&self) {
        self.shared.set_active(false);
    }

    /// Ends the spouts; the run is over when all that is pending is resolved.
    fn drain(&self) {
        self.shared.advance(State::Draining);
    }

    /// Stops: executors return after the call in progress, and every task that was opened is closed.
    fn stop(&self) {
        self.shared.advance(State::Stopped);
    }

    /// Stops the run because of `error`.
    fn fail_run(&self, py: Python<'_>, error: &Bound<'_, PyAny>) {
        self.shared.fail_run(py, error);
    }

    /// Why the run failed; `None` if it did not.
    fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        lock(&self.shared.status).error.as_ref().map(|error| error.clone_ref(py))
    }

    /// The counters of this moment.
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        snapshot::snapshot(py, &self.shared)
    }

    /// The roots that are not resolved: (component, task id, user id, attempt, age in seconds, has a position).
    fn pending<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        let now = self.shared.now_ns();
        for (index, task) in self.shared.tasks.iter().enumerate() {
            let rows: Vec<(Option<Py<PyAny>>, u32, u64, bool)> = lock(&task.ledger)
                .iter_pending()
                .map(|(record, attempt, began)| {
                    let id = record.id.as_ref().map(|id| id.clone_ref(py));
                    (id, attempt, began, record.ticket != Ticket::NONE)
                })
                .collect();
            let name = &self.shared.plan.component_of(TaskId(index as u32)).name;
            for (id, attempt, began, has_position) in rows {
                let age_s = now.saturating_sub(began) as f64 / 1e9;
                list.append((name, index, id, attempt, age_s, has_position))?;
            }
        }
        Ok(list)
    }
}

fn item<'py>(dict: &Bound<'py, PyDict>, key: &str) -> PyResult<Bound<'py, PyAny>> {
    dict.get_item(key)?.ok_or_else(|| errors::internal(format!("the plan has no key {key:?}")))
}

/// The custom objects of a plan by (component, stream, subscriber), until streams have ids.
type Customs = Vec<(usize, String, usize, Py<PyAny>)>;

fn read_plan(plan: &Bound<'_, PyDict>, runtime: Py<PyAny>) -> PyResult<Shared> {
    let py = plan.py();
    let settings = Settings::read(item(plan, "config")?.cast::<PyDict>()?)?;
    let mut specs = Vec::new();
    let mut configs = Vec::new();
    let mut names = Vec::new();
    let mut customs = Customs::new();
    for component in item(plan, "components")?.try_iter()? {
        let component = component?;
        let component = component.cast::<PyDict>()?;
        configs.push(ComponentSettings::read(item(component, "config")?.cast::<PyDict>()?)?);
        specs.push(read_component(component, specs.len(), &mut names, &mut customs)?);
    }
    let compiled =
        Plan::compile(&specs).map_err(|error| errors::internal(format!("the plan does not compile: {error:?}")))?;
    let mut custom = FxHashMap::default();
    for (component, stream, subscriber, object) in customs {
        let streams = compiled.components[component].streams.clone();
        let id = streams.into_iter().find(|id| compiled.streams[*id as usize].name == stream);
        custom.insert((StreamId(id.unwrap_or_default()), ComponentId(subscriber as u32)), object);
    }
    let takes_turns = has_gil(py)?;
    let turns = Turns::new(compiled.executors.len(), takes_turns);
    let run_key = random_key();
    let tasks = (0..compiled.task_component.len())
        .map(|t| new_task(&compiled, &configs, &turns, run_key, TaskId(t as u32)))
        .collect();
    Ok(Shared::new(compiled, settings, configs, runtime, turns, takes_turns, tasks, custom, names, run_key))
}

fn read_component(
    component: &Bound<'_, PyDict>,
    at: usize,
    names: &mut Vec<Arc<StreamNames>>,
    customs: &mut Customs,
) -> PyResult<ComponentSpec> {
    let py = component.py();
    let name: String = item(component, "name")?.extract()?;
    let mut streams = Vec::new();
    for stream in item(component, "streams")?.try_iter()? {
        let stream = stream?;
        let stream = stream.cast::<PyDict>()?;
        let fields = item(stream, "fields")?.extract::<Vec<String>>()?;
        let stream_name: String = item(stream, "name")?.extract()?;
        names.push(Arc::new(StreamNames {
            component: PyString::intern(py, &name).unbind(),
            stream: PyString::intern(py, &stream_name).unbind(),
            fields: PyTuple::new(py, fields.iter().map(|f| PyString::intern(py, f)))?.unbind(),
            width: fields.len(),
        }));
        streams.push(StreamSpec { name: stream_name, width: fields.len(), direct: item(stream, "direct")?.extract()? });
    }
    let mut inputs = Vec::new();
    for input in item(component, "inputs")?.try_iter()? {
        let input = input?;
        let input = input.cast::<PyDict>()?;
        let from: usize = item(input, "component")?.extract()?;
        let stream: String = item(input, "stream")?.extract()?;
        let grouping = item(input, "grouping")?;
        let grouping = grouping.cast::<PyDict>()?;
        let fields = || -> PyResult<Box<[u16]>> { Ok(item(grouping, "fields")?.extract::<Vec<u16>>()?.into()) };
        let grouping = match item(grouping, "kind")?.extract::<String>()?.as_str() {
            "shuffle" => Grouping::Shuffle,
            "fields" => Grouping::Fields(fields()?),
            "partial_key" => Grouping::PartialKey(fields()?),
            "all" => Grouping::All,
            "global" => Grouping::Global,
            "none" => Grouping::None,
            "local_or_shuffle" => Grouping::LocalOrShuffle,
            "direct" => Grouping::Direct,
            "custom" => {
                customs.push((from, stream.clone(), at, item(grouping, "custom")?.unbind()));
                Grouping::Custom
            }
            other => return Err(errors::internal(format!("the plan has an unknown grouping {other:?}"))),
        };
        inputs.push(InputSpec { component: from, stream, grouping });
    }
    Ok(ComponentSpec {
        name,
        is_spout: item(component, "kind")?.extract::<String>()? == "spout",
        parallelism: item(component, "parallelism")?.extract()?,
        tasks: item(component, "tasks")?.extract()?,
        streams,
        inputs,
    })
}

fn new_task(plan: &Plan, configs: &[ComponentSettings], turns: &Arc<Turns>, run_key: u64, task: TaskId) -> TaskShared {
    let config = &configs[plan.task_component[task.index()].index()];
    let seat = turns.seat(plan.task_executor[task.index()].index());
    TaskShared {
        queue: Queue::new(config.queue_capacity, config.queue_bytes, seat),
        ledger: std::sync::Mutex::default(),
        pending: AtomicUsize::new(0),
        is_told: AtomicBool::new(true),
        waits_for_acks: AtomicBool::new(false),
        roots: std::sync::Mutex::new(service::new_roots(run_key, plan, task)),
        positions: std::sync::Mutex::new(Positions::default()),
        held: std::sync::Mutex::new(Held::default()),
        stats: TaskStats::default(),
        sent_inside: AtomicU64::new(0),
        resent_inside: AtomicU64::new(0),
        done_inside: AtomicU64::new(0),
        is_idle_member: AtomicBool::new(false),
        is_flushed: AtomicBool::new(false),
        in_user_since_ns: AtomicU64::new(0),
        calls: AtomicU64::new(0),
        has_in_hand: AtomicBool::new(false),
        in_call: std::sync::Mutex::default(),
        is_batch: AtomicBool::new(false),
        background: AtomicIsize::new(0),
        has_replays: AtomicBool::new(false),
        wants_cut: AtomicBool::new(false),
        timed_out: std::sync::Mutex::default(),
        wants_restart: std::sync::Mutex::default(),
        cell: std::sync::Mutex::default(),
    }
}

fn has_gil(py: Python<'_>) -> PyResult<bool> {
    match py.import("sys")?.getattr_opt("_is_gil_enabled")? {
        Some(enabled) => enabled.call0()?.extract(),
        None => Ok(true),
    }
}

/// 64 random bits from the operating system, by way of the hasher that std seeds with them.
fn random_key() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Nobody can watch the run any more; the executors hold the rest alive until they are over.
        if !self.shared.is_forked() {
            self.shared.advance(State::Stopped);
        }
    }
}
