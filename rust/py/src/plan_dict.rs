//! Reads the plan dict of `plan.py`, once: the compiled topology, the settings, and what a worker has to know of the others.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use rainband_core::ids::{ComponentId, Incarnation, StreamId, TaskId, WorkerId};
use rainband_core::peer::Links;
use rainband_core::plan::{ComponentSpec, Grouping, InputSpec, Plan, StreamSpec};
use rainband_core::queue::Queue;
use rainband_core::wire::{End, Identity};
use rainband_link::LinkControl;
use rustc_hash::FxHashMap;

use crate::codec::Pickle;
use crate::errors;
use crate::held::Held;
use crate::remote::{IoBell, Remote};
use crate::roots::Positions;
use crate::service;
use crate::settings::{ComponentSettings, Settings};
use crate::shared::{Shared, TaskShared};
use crate::slots::Slots;
use crate::stats::TaskStats;
use crate::turn::Turns;
use crate::values::StreamNames;

fn item<'py>(dict: &Bound<'py, PyDict>, key: &str) -> PyResult<Bound<'py, PyAny>> {
    dict.get_item(key)?.ok_or_else(|| errors::internal(format!("the plan has no key {key:?}")))
}

/// The custom objects of a plan by (component, stream, subscriber), until streams have ids.
type Customs = Vec<(usize, String, usize, Py<PyAny>)>;

/// What the threads of a run share, as the plan says; `worker` is what a worker of several knows of the others.
pub fn read_plan(plan: &Bound<'_, PyDict>, runtime: Py<PyAny>, worker: Option<&Bound<'_, PyDict>>) -> PyResult<Shared> {
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
    let remote = worker.map(|worker| read_worker(worker, &compiled, &settings)).transpose()?;
    let number = remote.as_ref().map(|remote| remote.me.worker.index());
    let is_here = |tasks: &[TaskId]| remote.as_ref().is_none_or(|r| tasks.iter().any(|task| r.links.is_here(*task)));
    let here = compiled.executors.iter().filter(|(_, tasks)| is_here(tasks)).count();
    let turns = Turns::new(compiled.executors.len(), here, takes_turns, number);
    let run_key = random_key();
    let tasks = (0..compiled.task_component.len())
        .map(|t| new_task(&compiled, &configs, &turns, run_key, TaskId(t as u32), remote.as_deref()))
        .collect();
    Ok(Shared::new(compiled, settings, configs, runtime, turns, takes_turns, tasks, custom, names, run_key, remote))
}

fn read_worker(worker: &Bound<'_, PyDict>, plan: &Plan, settings: &Settings) -> PyResult<Box<Remote>> {
    let me = End {
        worker: WorkerId(item(worker, "worker")?.extract()?),
        incarnation: Incarnation(item(worker, "incarnation")?.extract()?),
    };
    let run: [u8; 16] = item(worker, "run_id")?.extract()?;
    let identity = Identity { run: u128::from_le_bytes(run), plan: item(worker, "plan_version")?.extract()? };
    let workers: usize = item(worker, "workers")?.extract()?;
    let of_executor: Vec<u32> = item(worker, "placement")?.extract()?;
    let place = |executor: usize| of_executor.get(executor).filter(|w| (**w as usize) < workers).copied();
    let placement: Option<Vec<WorkerId>> =
        plan.task_executor.iter().map(|executor| place(executor.index()).map(WorkerId)).collect();
    let placement = placement.ok_or_else(|| errors::internal("the placement does not fit the plan".to_string()))?;
    let ended: Vec<u32> = item(worker, "ended")?.extract()?;
    let control = LinkControl::new().map_err(|error| errors::internal(error.to_string()))?;
    let control = Arc::new(control);
    let tasks = placement.len();
    let bell = IoBell(Arc::clone(&control));
    let links = Links::new(me, identity, workers, placement, settings.link_bytes, bell);
    let ended = ended.into_iter().filter(|task| (*task as usize) < tasks).map(TaskId).collect();
    let rows: Vec<(u32, u64, u32)> = item(worker, "charged")?.extract()?;
    let charged = rows.into_iter().map(|(task, id, attempts)| ((TaskId(task), id), attempts)).collect();
    let slots = match worker.get_item("slots")?.filter(|path| !path.is_none()) {
        Some(path) => Some(Slots::create(Path::new(&path.extract::<String>()?), plan.executors.len(), tasks)?),
        None => None,
    };
    Ok(Box::new(Remote::new(me, links, control, tasks, ended, slots, charged)))
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
            pickle: match stream.get_item("pickle")?.map(|asked| asked.extract::<bool>()).transpose()? {
                Some(true) => Pickle::Allowed,
                _ => Pickle::Refused,
            },
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

fn new_task(
    plan: &Plan,
    configs: &[ComponentSettings],
    turns: &Arc<Turns>,
    run_key: u64,
    task: TaskId,
    remote: Option<&Remote>,
) -> TaskShared {
    let config = &configs[plan.task_component[task.index()].index()];
    let seat = turns.seat(plan.task_executor[task.index()].index());
    let is_here = |task| remote.is_none_or(|remote| remote.links.is_here(task));
    TaskShared {
        queue: Queue::new(config.queue_capacity, config.queue_bytes, seat),
        ledger: std::sync::Mutex::default(),
        pending: AtomicUsize::new(0),
        is_told: AtomicBool::new(true),
        waits_for_acks: AtomicBool::new(false),
        roots: std::sync::Mutex::new(service::new_roots(run_key, plan, task, is_here)),
        positions: std::sync::Mutex::new(Positions::default()),
        held: std::sync::Mutex::new(Held::default()),
        stats: TaskStats::default(),
        sent_inside: AtomicU64::new(0),
        resent_inside: AtomicU64::new(0),
        done_inside: AtomicU64::new(0),
        is_idle_member: AtomicBool::new(false),
        is_flushed: AtomicBool::new(false),
        in_user_since_ns: AtomicU64::new(0),
        waits_for_room: AtomicBool::new(false),
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
