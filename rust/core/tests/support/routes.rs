//! Routing: how many deliveries each grouping makes and to whom, against the published rules written down a second time.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use rainband_core::ids::{ComponentId, StreamId, TaskId};
use rainband_core::plan::{ComponentSpec, Grouping, InputSpec, Plan, StreamSpec};
use rainband_core::route::{Chooser, Router, Way};

use super::check::{Effort, ensure, for_all};

/// Answers the router from tables. The payload is the hash of its key.
#[derive(Debug, Default)]
pub struct Tables {
    /// Tasks whose queues are full.
    pub full: HashSet<TaskId>,
    /// What the custom grouping chooses.
    pub custom: Vec<TaskId>,
}

impl Chooser<u64> for Tables {
    type Error = String;

    fn key_hash(&mut self, payload: &u64, fields: &[u16]) -> Result<u64, String> {
        ensure(fields == [0], || format!("asked for the key in {fields:?}"))?;
        Ok(*payload)
    }

    fn is_full(&mut self, task: TaskId) -> bool {
        self.full.contains(&task)
    }

    fn custom(&mut self, _: &u64, _: StreamId, _: ComponentId, targets: &mut Vec<TaskId>) -> Result<(), String> {
        targets.extend(&self.custom);
        Ok(())
    }
}

/// A spout of one task and a bolt per grouping, with that many tasks.
pub fn plan_of(bolts: &[(Grouping, u32)]) -> Plan {
    let mut specs = vec![ComponentSpec {
        name: "spout".into(),
        is_spout: true,
        parallelism: 1,
        tasks: 1,
        streams: vec![StreamSpec { name: "default".into(), width: 1, direct: false }],
        inputs: Vec::new(),
    }];
    specs.extend(bolts.iter().enumerate().map(|(at, (grouping, tasks))| ComponentSpec {
        name: format!("bolt{at}"),
        is_spout: false,
        parallelism: *tasks,
        tasks: *tasks,
        streams: Vec::new(),
        inputs: vec![InputSpec { component: 0, stream: "default".into(), grouping: grouping.clone() }],
    }));
    Plan::compile(&specs).expect("a spout and bolts fit together")
}

/// Where `payload` goes.
pub fn route(router: &mut Router, payload: u64, tables: &mut Tables) -> Result<Vec<TaskId>, String> {
    let mut targets = Vec::new();
    router.route(StreamId(0), &payload, tables, &mut targets)?;
    Ok(targets)
}

/// The place of a hash among `n` tasks, by counting which share of the 4096 groups holds it.
pub fn fields_formula(hash: u64, n: u64) -> usize {
    let group = hash & 0xfff;
    (1..n).filter(|at| group * n >= at * 4096).count()
}

fn grouping() -> impl Strategy<Value = Grouping> {
    let fields: Box<[u16]> = Box::new([0]);
    prop_oneof![
        Just(Grouping::Shuffle),
        Just(Grouping::Fields(fields.clone())),
        Just(Grouping::PartialKey(fields)),
        Just(Grouping::All),
        Just(Grouping::Global),
        Just(Grouping::None),
        Just(Grouping::LocalOrShuffle),
        Just(Grouping::Direct),
        Just(Grouping::Custom),
    ]
}

/// Each subscription gets what its grouping says, whatever the others do.
pub fn conserves(effort: Effort) -> Result<(), String> {
    let bolts = vec((grouping(), 1_u32..6), 1..4);
    let tuples = vec((any::<u64>(), any::<u8>()), 1..60);
    for_all(effort, 300, &(bolts, tuples, any::<u64>()), |(bolts, tuples, seed)| {
        let plan = plan_of(&bolts);
        let mut router = Router::new(&plan, ComponentId(0), seed);
        for (hash, pick) in tuples {
            let all: Vec<TaskId> = (1..plan.task_component.len() as u32).map(TaskId).collect();
            let full = all.iter().filter(|task| pick >> (task.0 % 8) & 1 == 1).copied().collect();
            let custom = plan.components.iter().skip(1).map(|bolt| TaskId(bolt.tasks.start)).collect();
            let mut tables = Tables { full, custom };
            let targets = route(&mut router, hash, &mut tables)?;
            check_targets(&plan, &bolts, &tables, hash, &targets)?;
            let short = match router.way(StreamId(0)) {
                Some(Way::Task { task, .. }) => Some(task),
                Some(Way::FirstField) => Some(router.task_of_key(StreamId(0), hash)),
                None => None,
            };
            ensure(short.is_none_or(|task| targets == [task]), || format!("{short:?} by the short way, {targets:?}"))?;
            let has_choice = bolts.len() > 1 || matches!(bolts[0], (Grouping::Custom | Grouping::Direct, _));
            ensure(short.is_none() || !has_choice, || "a short way where there is a choice".into())?;
            check_direct(&plan, &bolts, &router, TaskId(1 + u32::from(pick) % all.len() as u32))?;
        }
        Ok(())
    })
}

fn check_targets(
    plan: &Plan,
    bolts: &[(Grouping, u32)],
    tables: &Tables,
    hash: u64,
    targets: &[TaskId],
) -> Result<(), String> {
    let mut rest = targets;
    for (at, (grouping, _)) in bolts.iter().enumerate() {
        let tasks: Vec<TaskId> = plan.components[at + 1].tasks.clone().map(TaskId).collect();
        let n = match grouping {
            Grouping::All => tasks.len(),
            Grouping::Direct => 0,
            Grouping::Custom => tables.custom.len(),
            _ => 1,
        };
        ensure(rest.len() >= n, || format!("{grouping:?} made too few deliveries: {targets:?}"))?;
        let (own, behind) = rest.split_at(n);
        rest = behind;
        match grouping {
            Grouping::All => ensure(own == tasks, || format!("all went to {own:?}"))?,
            Grouping::Global => ensure(own == &tasks[..1], || format!("global went to {own:?}"))?,
            Grouping::Custom => ensure(own == tables.custom, || format!("custom went to {own:?}"))?,
            Grouping::Fields(_) => {
                let expected = tasks[fields_formula(hash, tasks.len() as u64)];
                ensure(own == [expected], || format!("fields went to {own:?}, expected {expected}"))?;
            }
            Grouping::Shuffle | Grouping::None | Grouping::LocalOrShuffle => {
                let is_free = |task: &TaskId| !tables.full.contains(task);
                let is_right = own.iter().all(is_free) || !tasks.iter().any(is_free);
                ensure(is_right, || format!("a full queue was not passed over: {own:?}"))?;
            }
            _ => {}
        }
        let is_inside = grouping == &Grouping::Custom || own.iter().all(|task| tasks.contains(task));
        ensure(is_inside, || format!("{grouping:?} went to {own:?}, which are not the subscriber's"))?;
    }
    ensure(rest.is_empty(), || format!("deliveries that nobody asked for: {rest:?}"))
}

fn check_direct(plan: &Plan, bolts: &[(Grouping, u32)], router: &Router, task: TaskId) -> Result<(), String> {
    let mut targets = Vec::new();
    let went = router.route_direct(StreamId(0), task, &mut targets);
    let is_direct = bolts[plan.task_component[task.index()].index() - 1].0 == Grouping::Direct;
    ensure(went == is_direct, || format!("direct to {task} went: {went}"))?;
    ensure(targets == vec![task; usize::from(is_direct)], || format!("direct to {task} went to {targets:?}"))
}

/// Fields is stable over routers and equal to the formula, for every number of tasks.
pub fn fields_follow_the_formula(effort: Effort) -> Result<(), String> {
    for_all(effort, 200, &(1_u32..40, vec(any::<u64>(), 1..50), any::<u64>()), |(n, hashes, seed)| {
        let plan = plan_of(&[(Grouping::Fields(Box::new([0])), n)]);
        let mut router = Router::new(&plan, ComponentId(0), seed);
        for hash in hashes {
            let expected = vec![TaskId(1 + fields_formula(hash, u64::from(n)) as u32)];
            let got = route(&mut router, hash, &mut Tables::default())?;
            ensure(got == expected, || format!("hash {hash:#x} of {n} tasks: {got:?}, expected {expected:?}"))?;
        }
        Ok(())
    })
}
