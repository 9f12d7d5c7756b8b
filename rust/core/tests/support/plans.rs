//! Compiled plans of random graphs: which edges may block, and who runs what.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::any;
use rainband_core::ids::{ComponentId, TaskId};
use rainband_core::plan::{ComponentSpec, Grouping, InputSpec, Plan, StreamSpec};

use super::check::{Effort, ensure, for_all};

type Edges = Vec<(u8, u8)>;

fn compile(sizes: &[(u32, u32)], edges: &Edges) -> Result<Plan, String> {
    let n = sizes.len();
    let inputs = |to: usize| {
        let from = edges.iter().filter(move |edge| usize::from(edge.1) % n == to);
        from.map(|edge| InputSpec {
            component: usize::from(edge.0) % n,
            stream: format!("s{}", edge.0 % 2),
            grouping: Grouping::Shuffle,
        })
    };
    let stream = |name: &str| StreamSpec { name: name.into(), width: 1, direct: false };
    let specs: Vec<ComponentSpec> = sizes
        .iter()
        .enumerate()
        .map(|(at, (parallelism, more))| ComponentSpec {
            name: format!("c{at}"),
            is_spout: false,
            parallelism: *parallelism,
            tasks: parallelism + more,
            streams: vec![stream("s0"), stream("s1")],
            inputs: inputs(at).collect(),
        })
        .collect();
    Plan::compile(&specs).map_err(|error| format!("{error:?}"))
}

/// Without its back edges a plan has no circle at all, and what is a cycle is found as two that reach each other.
pub fn no_blocking_circle(effort: Effort) -> Result<(), String> {
    let graph = (1_usize..9, vec(any::<(u8, u8)>(), 0..16));
    for_all(effort, 3000, &graph, |(n, edges)| {
        let plan = compile(&vec![(1, 0); n], &edges)?;
        let mut edges: BTreeSet<(usize, usize)> =
            edges.iter().map(|(from, to)| (usize::from(*from) % n, usize::from(*to) % n)).collect();
        let reaches = closure(n, &edges);
        let id = |at: usize| ComponentId(at as u32);
        for (a, from_a) in reaches.iter().enumerate() {
            let alone = from_a[a] == plan.components[a].cycle.is_some();
            ensure(alone, || format!("component {a} is in cycle {:?}", plan.components[a].cycle))?;
            for (b, from_b) in reaches.iter().enumerate() {
                let same = from_a[b] && from_b[a];
                ensure(plan.same_cycle(id(a), id(b)) == same, || format!("{a} and {b} share a cycle: {same}"))?;
            }
        }
        for (from, to) in &edges {
            let is_back = reaches[*to][*from] && to <= from;
            ensure(plan.is_back_edge(id(*from), id(*to)) == is_back, || format!("{from} → {to} is back: {is_back}"))?;
        }
        edges.retain(|(from, to)| !plan.is_back_edge(id(*from), id(*to)));
        let blocking = closure(n, &edges);
        ensure((0..n).all(|at| !blocking[at][at]), || format!("a circle of edges that block: {edges:?}"))?;
        check_neighbours(&plan, &reaches)
    })
}

/// Warshall's: what reaches what over at least one edge.
fn closure(n: usize, edges: &BTreeSet<(usize, usize)>) -> Vec<Vec<bool>> {
    let mut reaches = vec![vec![false; n]; n];
    for (from, to) in edges {
        reaches[*from][*to] = true;
    }
    for via in 0..n {
        for from in 0..n {
            for to in 0..n {
                reaches[from][to] |= reaches[from][via] && reaches[via][to];
            }
        }
    }
    reaches
}

/// Consumers and producers are two views of the same edges.
fn check_neighbours(plan: &Plan, reaches: &[Vec<bool>]) -> Result<(), String> {
    for (to, reached) in reaches.iter().enumerate() {
        let (outside, inside) = plan.producers(ComponentId(to as u32));
        for task in 0..plan.task_component.len() {
            let from = plan.task_component[task];
            let sends = plan.consumers(from).iter().any(|t| plan.task_component[t.index()].index() == to);
            let is_inside = reached[from.index()];
            let task = TaskId(task as u32);
            ensure(outside.contains(&task) == (sends && !is_inside), || format!("{task} → {to} from outside"))?;
            ensure(inside.contains(&task) == (sends && is_inside), || format!("{task} → {to} from inside"))?;
        }
    }
    Ok(())
}

/// Every task has one executor of its component, and the shares of two executors differ by one at most.
pub fn splits_evenly(effort: Effort) -> Result<(), String> {
    for_all(effort, 300, &vec((1_u32..6, 0_u32..7), 1..6), |sizes| {
        let plan = compile(&sizes, &Vec::new())?;
        let mut seen = vec![0; plan.task_component.len()];
        for (component, (parallelism, more)) in plan.components.iter().zip(&sizes) {
            let executors = &plan.executors[component.executors.start as usize..component.executors.end as usize];
            ensure(executors.len() == *parallelism as usize, || format!("{} executors", executors.len()))?;
            ensure(component.tasks.len() == (parallelism + more) as usize, || format!("tasks {:?}", component.tasks))?;
            let shares: Vec<usize> = executors.iter().map(|(_, tasks)| tasks.len()).collect();
            let spread = shares.iter().max().unwrap_or(&0) - shares.iter().min().unwrap_or(&0);
            ensure(spread <= 1, || format!("{shares:?} tasks an executor"))?;
        }
        for (at, (component, tasks)) in plan.executors.iter().enumerate() {
            for task in tasks {
                seen[task.index()] += 1;
                let is_right = plan.task_executor[task.index()].index() == at
                    && plan.task_component[task.index()] == *component
                    && plan.components[component.index()].tasks.contains(&task.0);
                ensure(is_right, || format!("task {task} is not of executor {at}"))?;
            }
        }
        ensure(seen.iter().all(|n| *n == 1), || "a task has not exactly one executor".into())
    })
}
