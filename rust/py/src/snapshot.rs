//! The counters as a dict for Python: reports and the live display read it while the topology runs.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use rainband_core::ids::TaskId;
use rainband_core::ledger::Reason;

use crate::shared::{Shared, TaskShared, lock};
use crate::stats::read;

/// The counts of a task, by name: of tuples, then, from [`OF_ROOTS`] on, of the roots that it began. Failures by reason follow.
pub const COUNTS: [&str; 12] = [
    "executed",
    "emitted",
    "delivered",
    "acked",
    "process_ns",
    "emitted",
    "acked",
    "dead",
    "dropped",
    "pending",
    "replays",
    "untracked_failed",
];
pub const OF_ROOTS: usize = 5;
/// How many counts a task has.
pub const COUNT_WORDS: usize = COUNTS.len() + Reason::ALL.len();

/// The counts of `task` at this moment.
pub fn counts_of(task: &TaskShared) -> [u64; COUNT_WORDS] {
    let stats = &task.stats;
    // Read in one go, so that the account balances at every moment.
    let account = lock(&task.ledger).account();
    let letters = read(&stats.letters_acked).min(account.acked);
    let by_verdict = read(&stats.roots_dropped).min(account.buried);
    let mut counts = [0; COUNT_WORDS];
    counts[..COUNTS.len()].copy_from_slice(&[
        read(&stats.executed),
        read(&stats.emitted),
        read(&stats.delivered),
        read(&stats.acked),
        read(&stats.process_ns),
        account.begun,
        account.acked - letters,
        account.buried - by_verdict + letters,
        by_verdict,
        account.pending,
        read(&stats.replays),
        read(&stats.untracked_failed),
    ]);
    for (count, failed) in counts[COUNTS.len()..].iter_mut().zip(&stats.failed) {
        *count = read(failed);
    }
    counts
}

/// The numbers of this moment.
pub fn snapshot<'py>(py: Python<'py>, shared: &Shared) -> PyResult<Bound<'py, PyDict>> {
    let result = PyDict::new(py);
    result.set_item("state", shared.state().as_str())?;
    result.set_item("uptime_s", shared.uptime().as_secs_f64())?;
    let components = PyList::empty(py);
    let mut late = 0;
    for (component, settings) in shared.plan.components.iter().zip(&shared.components) {
        let own = component.tasks.clone().map(TaskId).filter(|task| shared.is_here(*task));
        let tasks: Vec<&TaskShared> = own.map(|task| shared.task(task)).collect();
        let row = PyDict::new(py);
        row.set_item("name", &component.name)?;
        row.set_item("kind", if component.is_spout { "spout" } else { "bolt" })?;
        row.set_item("tasks", tasks.len())?;
        let mut counts = [0; COUNT_WORDS];
        for task in &tasks {
            let dropped = lock(&task.ledger).dropped();
            late += dropped.acks + dropped.fails;
            counts.iter_mut().zip(counts_of(task)).for_each(|(sum, count)| *sum += count);
        }
        for (name, count) in COUNTS.iter().zip(counts).take(OF_ROOTS) {
            row.set_item(name, count)?;
        }
        let failed = PyDict::new(py);
        for (reason, count) in Reason::ALL.iter().zip(&counts[COUNTS.len()..]) {
            if *count > 0 {
                failed.set_item(reason.as_str(), count)?;
            }
        }
        row.set_item("failed", failed)?;
        row.set_item("queue", tasks.iter().map(|t| t.queue.len()).sum::<usize>())?;
        row.set_item("queue_capacity", settings.queue_capacity * tasks.len())?;
        row.set_item("held", tasks.iter().map(|t| lock(&t.held).len()).sum::<usize>())?;
        let roots = PyDict::new(py);
        for (name, count) in COUNTS.iter().zip(counts).skip(OF_ROOTS) {
            roots.set_item(name, count)?;
        }
        row.set_item("roots", roots)?;
        components.append(row)?;
    }
    result.set_item("components", components)?;
    let (count, [p50, p90, p99], max) = shared.latency.summary([0.5, 0.9, 0.99]);
    let latency = PyDict::new(py);
    for (name, value) in [("count", count), ("p50", p50), ("p90", p90), ("p99", p99), ("max", max)] {
        latency.set_item(name, value)?;
    }
    latency.set_item("buckets", shared.latency.filled())?;
    result.set_item("latency_ns", latency)?;
    let counters = PyDict::new(py);
    let stats = &shared.run_stats;
    for (name, value) in [
        ("double_ack", read(&stats.double_ack)),
        ("late_ack", late + read(&stats.late_acks)),
        ("lost", read(&stats.lost)),
        ("loop_dropped", read(&stats.loop_dropped)),
        ("no_target", read(&stats.no_target)),
        ("discarded_at_stop", read(&stats.discarded_at_stop)),
    ] {
        counters.set_item(name, value)?;
    }
    result.set_item("counters", counters)?;
    Ok(result)
}
