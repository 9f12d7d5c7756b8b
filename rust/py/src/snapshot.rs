//! The counters as a dict for Python: reports and the live display read it while the topology runs.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use rainband_core::ids::TaskId;
use rainband_core::ledger::Reason;

use crate::shared::{Shared, TaskShared, lock};
use crate::stats::read;

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
        let sum = |get: &dyn Fn(&TaskShared) -> u64| tasks.iter().map(|task| get(task)).sum::<u64>();
        let row = PyDict::new(py);
        row.set_item("name", &component.name)?;
        row.set_item("kind", if component.is_spout { "spout" } else { "bolt" })?;
        row.set_item("tasks", tasks.len())?;
        row.set_item("executed", sum(&|t| read(&t.stats.executed)))?;
        row.set_item("emitted", sum(&|t| read(&t.stats.emitted)))?;
        row.set_item("delivered", sum(&|t| read(&t.stats.delivered)))?;
        row.set_item("acked", sum(&|t| read(&t.stats.acked)))?;
        let failed = PyDict::new(py);
        for reason in Reason::ALL {
            let count = sum(&|t| read(&t.stats.failed[reason as usize]));
            if count > 0 {
                failed.set_item(reason.as_str(), count)?;
            }
        }
        row.set_item("failed", failed)?;
        row.set_item("queue", tasks.iter().map(|t| t.queue.len()).sum::<usize>())?;
        row.set_item("queue_capacity", settings.queue_capacity * tasks.len())?;
        row.set_item("held", tasks.iter().map(|t| lock(&t.held).len()).sum::<usize>())?;
        row.set_item("process_ns", sum(&|t| read(&t.stats.process_ns)))?;
        let roots = PyDict::new(py);
        let (mut begun, mut acked, mut dead, mut dropped, mut pending) = (0, 0, 0, 0, 0);
        for task in &tasks {
            // Read in one go, so that the account balances at every moment.
            let ledger = lock(&task.ledger);
            let account = ledger.account();
            late += ledger.dropped().acks + ledger.dropped().fails;
            drop(ledger);
            let letters = read(&task.stats.letters_acked).min(account.acked);
            let by_verdict = read(&task.stats.roots_dropped).min(account.buried);
            begun += account.begun;
            acked += account.acked - letters;
            dead += account.buried - by_verdict + letters;
            dropped += by_verdict;
            pending += account.pending;
        }
        roots.set_item("emitted", begun)?;
        roots.set_item("acked", acked)?;
        roots.set_item("dead", dead)?;
        roots.set_item("dropped", dropped)?;
        roots.set_item("pending", pending)?;
        roots.set_item("replays", sum(&|t| read(&t.stats.replays)))?;
        roots.set_item("untracked_failed", sum(&|t| read(&t.stats.untracked_failed)))?;
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
