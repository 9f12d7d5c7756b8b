//! The counters as a dict for Python: reports and the live display read it while the topology runs.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
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
        let tasks = &shared.tasks[component.tasks.start as usize..component.tasks.end as usize];
        let sum = |get: &dyn Fn(&TaskShared) -> u64| tasks.iter().map(get).sum::<u64>();
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
        // Pending is read first: a root that resolves meanwhile is counted once too often rather than not at all.
        let pending: usize = tasks.iter().map(|t| lock(&t.ledger).pending()).sum();
        let (acked, dead, dropped) = (
            sum(&|t| read(&t.stats.roots_acked)),
            sum(&|t| read(&t.stats.roots_dead)),
            sum(&|t| read(&t.stats.roots_dropped)),
        );
        roots.set_item("emitted", sum(&|t| read(&t.stats.roots)))?;
        roots.set_item("acked", acked)?;
        roots.set_item("dead", dead)?;
        roots.set_item("dropped", dropped)?;
        roots.set_item("pending", pending)?;
        roots.set_item("replays", sum(&|t| read(&t.stats.replays)))?;
        roots.set_item("untracked_failed", sum(&|t| read(&t.stats.untracked_failed)))?;
        row.set_item("roots", roots)?;
        components.append(row)?;
        late += tasks.iter().map(|t| lock(&t.ledger).dropped()).map(|d| d.acks + d.fails).sum::<u64>();
    }
    result.set_item("components", components)?;
    let (count, [p50, p90, p99], max) = shared.latency.summary([0.5, 0.9, 0.99]);
    let latency = PyDict::new(py);
    for (name, value) in [("count", count), ("p50", p50), ("p90", p90), ("p99", p99), ("max", max)] {
        latency.set_item(name, value)?;
    }
    result.set_item("latency_ns", latency)?;
    let counters = PyDict::new(py);
    let stats = &shared.run_stats;
    for (name, value) in [
        ("double_ack", read(&stats.double_ack)),
        ("late_ack", late),
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
