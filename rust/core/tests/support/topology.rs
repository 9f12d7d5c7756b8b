//! Random topologies for the model engine: graphs of up to six components, and how each of them behaves.

use rainband_core::plan::{ComponentSpec, Grouping, InputSpec, Plan, StreamSpec};

use super::rng::Rng;

/// When a bolt lets go of a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// When `process` ends.
    Auto,
    /// When it has partners for it, or in `flush`.
    Join,
    /// Some time later, whatever `flush` says.
    Async,
}

/// How the tasks of one component behave.
#[derive(Clone, Copy, Debug)]
pub struct Character {
    pub habit: Habit,
    /// Most tuples that it emits for one.
    pub fan_out: usize,
    /// Of 100 tuples, how many it fails.
    pub fails: usize,
    /// Of 100 emissions, how many are untracked.
    pub untracked: usize,
    /// Roots that a spout task emits before it ends.
    pub roots: usize,
    /// Roots that a bolt task emits from `tick`.
    pub ticks: usize,
    /// Roots that a bolt task emits from `finish`.
    pub last_words: usize,
    /// Whether a spout's roots have positions.
    pub has_positions: bool,
}

/// A plan, its characters and its configuration.
#[derive(Debug)]
pub struct Topology {
    pub plan: Plan,
    pub characters: Vec<Character>,
    pub queue_capacity: usize,
    pub queue_bytes: u64,
    pub loop_bytes: u64,
    pub max_pending: usize,
    pub max_attempts: u32,
    /// Of 100 steps, after how many what was emitted is handed over at once.
    pub flushes: usize,
}

/// Draws a topology.
pub fn random(rng: &mut Rng) -> Topology {
    let n = rng.between(2, 6);
    let spouts = rng.between(1, 2.min(n - 1));
    let mut specs: Vec<ComponentSpec> = (0..n).map(|at| component(at, at < spouts, rng)).collect();
    // Three kinds of graphs: pipelines with shortcuts, diamonds, and anything with cycles and self-loops.
    let later = [0, 40, 70][rng.below(3)];
    for to in spouts..n {
        for extra in 0..rng.between(1, 3) {
            let from = if extra > 0 && rng.chance(later) { rng.between(spouts, n - 1) } else { rng.below(to) };
            let stream = rng.below(specs[from].streams.len());
            let is_direct = specs[from].streams[stream].direct;
            let grouping = if is_direct { Grouping::Direct } else { grouping(rng) };
            specs[to].inputs.push(InputSpec { component: from, stream: format!("s{stream}"), grouping });
        }
    }
    Topology {
        plan: Plan::compile(&specs).expect("inputs were drawn from what is there"),
        characters: (0..n).map(|at| character(at < spouts, rng)).collect(),
        queue_capacity: rng.between(1, 3),
        queue_bytes: [1 << 40, 4, 7][rng.below(3)],
        loop_bytes: [1 << 26, 1 << 26, 9][rng.below(3)],
        max_pending: rng.between(1, 4),
        max_attempts: rng.between(1, 4) as u32,
        flushes: [100, 50, 10][rng.below(3)],
    }
}

fn component(at: usize, is_spout: bool, rng: &mut Rng) -> ComponentSpec {
    let tasks = rng.between(1, 3) as u32;
    let streams = 0..rng.between(1, 2);
    ComponentSpec {
        name: format!("c{at}"),
        is_spout,
        parallelism: rng.between(1, tasks as usize) as u32,
        tasks,
        streams: streams
            .map(|stream| StreamSpec { name: format!("s{stream}"), width: 1, direct: rng.chance(10) })
            .collect(),
        inputs: Vec::new(),
    }
}

fn grouping(rng: &mut Rng) -> Grouping {
    let key = || Box::from([0]);
    match rng.below(10) {
        0 => Grouping::Fields(key()),
        1 => Grouping::PartialKey(key()),
        2 => Grouping::All,
        3 => Grouping::Global,
        4 => Grouping::None,
        5 => Grouping::LocalOrShuffle,
        6 => Grouping::Custom,
        _ => Grouping::Shuffle,
    }
}

fn character(is_spout: bool, rng: &mut Rng) -> Character {
    Character {
        habit: [Habit::Auto, Habit::Auto, Habit::Join, Habit::Async][rng.below(4)],
        fan_out: rng.between(0, 3),
        fails: [0, 0, 5, 20][rng.below(4)],
        untracked: [0, 0, 20][rng.below(3)],
        roots: if is_spout { rng.between(0, 20) } else { 0 },
        ticks: if is_spout || rng.chance(60) { 0 } else { rng.between(1, 3) },
        last_words: if is_spout || rng.chance(50) { 0 } else { rng.between(1, 2) },
        has_positions: rng.chance(70),
    }
}
