//! The shares of the tasks over many tuples: even for shuffle, by computation for fields and partial key under Zipf skew.

use rainband_core::emit::mix;
use rainband_core::ids::{ComponentId, TaskId};
use rainband_core::key::KeyBytes;
use rainband_core::plan::Grouping;
use rainband_core::route::{Router, candidates};

use super::check::{Effort, ensure};
use super::rng::Rng;
use super::routes::{Tables, fields_formula, plan_of, route};

const TUPLES: usize = 100_000;
const WORDS: usize = 5000;

/// Within 1 % of even over 10^5 tuples while no queue is full.
pub fn shuffle_is_even(_: Effort) -> Result<(), String> {
    for grouping in [Grouping::Shuffle, Grouping::None, Grouping::LocalOrShuffle] {
        for n in 2..=7 {
            let counts = count(&grouping, n, &mut Tables::default(), |_| 0)?;
            let even = TUPLES as f64 / f64::from(n);
            let is_even = counts.iter().all(|count| (*count as f64 - even).abs() <= even / 100.0);
            ensure(is_even, || format!("{grouping:?} over {n} tasks: {counts:?}"))?;
        }
    }
    Ok(())
}

/// Full queues get nothing, the others all of it; if all are full it goes round as if none were.
pub fn shuffle_passes_over_full(_: Effort) -> Result<(), String> {
    let mut tables = Tables { full: [TaskId(2), TaskId(4)].into(), ..Tables::default() };
    let counts = count(&Grouping::Shuffle, 4, &mut tables, |_| 0)?;
    let is_right = counts[1] == 0 && counts[3] == 0 && counts[0] > TUPLES / 4 && counts[2] > TUPLES / 4;
    ensure(is_right, || format!("tasks 2 and 4 were full: {counts:?}"))?;
    tables.full = (1..=4).map(TaskId).collect();
    let counts = count(&Grouping::Shuffle, 4, &mut tables, |_| 0)?;
    ensure(counts == [TUPLES / 4; 4], || format!("all were full: {counts:?}"))
}

/// The share of each task is the sum of its words' probabilities, within five standard deviations of the draw.
pub fn fields_under_zipf(_: Effort) -> Result<(), String> {
    let words = Zipf::new();
    for n in [2_u32, 3, 4, 7] {
        let mut rng = Rng::new(u64::from(n));
        let grouping = Grouping::Fields(Box::new([0]));
        let counts = count(&grouping, n, &mut Tables::default(), |_| words.hashes[words.draw(&mut rng)])?;
        let mut shares = vec![0.0; n as usize];
        for (hash, probability) in words.hashes.iter().zip(&words.probabilities) {
            shares[fields_formula(*hash, u64::from(n))] += probability;
        }
        for (count, share) in counts.iter().zip(&shares) {
            let expected = share * TUPLES as f64;
            let deviation = (expected * (1.0 - share)).sqrt();
            ensure((*count as f64 - expected).abs() <= 5.0 * deviation, || {
                format!("fields over {n} tasks: {counts:?}, expected shares {shares:?}")
            })?;
        }
    }
    Ok(())
}

/// Each tuple goes to the less used of the key's two candidates, and the fullest task has hardly more than can be helped: an
/// even share, or half of the commonest word.
pub fn partial_key_under_zipf(_: Effort) -> Result<(), String> {
    let words = Zipf::new();
    for n in [2_u32, 3, 4, 7] {
        let mut rng = Rng::new(u64::from(n));
        let plan = plan_of(&[(Grouping::PartialKey(Box::new([0])), n)]);
        let mut router = Router::new(&plan, ComponentId(0), 1);
        let mut used = vec![0_usize; n as usize];
        for _ in 0..TUPLES {
            let hash = words.hashes[words.draw(&mut rng)];
            let (a, b) = two_choices(hash, n as usize);
            ensure((a, b) == candidates(hash, n as usize), || format!("candidates of {hash:#x} are not {a} and {b}"))?;
            let expected = if used[b] < used[a] { b } else { a };
            used[expected] += 1;
            let got = route(&mut router, hash, &mut Tables::default())?;
            ensure(got == [TaskId(1 + expected as u32)], || format!("{got:?}, but {expected} is less used: {used:?}"))?;
        }
        let fullest = used.iter().copied().max().unwrap_or(0) as f64 / TUPLES as f64;
        let bound = (1.0 / f64::from(n)).max(words.probabilities[0] / 2.0);
        ensure(fullest <= bound + 0.01, || format!("the fullest of {n} tasks has {fullest}, possible is {bound}"))?;
    }
    Ok(())
}

/// The first candidate is that of fields, the second one of the others, chosen by the mixed hash.
fn two_choices(hash: u64, n: usize) -> (usize, usize) {
    let first = fields_formula(hash, n as u64);
    let others: Vec<usize> = (1..n).map(|step| (first + step) % n).collect();
    (first, others[(mix(hash) % others.len() as u64) as usize])
}

fn count(
    grouping: &Grouping,
    n: u32,
    tables: &mut Tables,
    mut payload: impl FnMut(usize) -> u64,
) -> Result<Vec<usize>, String> {
    let plan = plan_of(&[(grouping.clone(), n)]);
    let mut router = Router::new(&plan, ComponentId(0), 7);
    let mut counts = vec![0; n as usize];
    for at in 0..TUPLES {
        for task in route(&mut router, payload(at), tables)? {
            counts[task.index() - 1] += 1;
        }
    }
    Ok(counts)
}

/// Words `w0`, `w1`, … with probabilities 1, 1/2, 1/3, … of the sum.
struct Zipf {
    hashes: Vec<u64>,
    probabilities: Vec<f64>,
    cumulated: Vec<f64>,
}

impl Zipf {
    fn new() -> Self {
        let sum: f64 = (1..=WORDS).map(|rank| 1.0 / rank as f64).sum();
        let probabilities: Vec<f64> = (1..=WORDS).map(|rank| 1.0 / rank as f64 / sum).collect();
        let cumulate = |total: &mut f64, p: &f64| {
            *total += p;
            Some(*total)
        };
        let hash = |word: usize| {
            let mut key = KeyBytes::default();
            key.str(format!("w{word}").as_bytes());
            key.hash()
        };
        Self {
            cumulated: probabilities.iter().scan(0.0, cumulate).collect(),
            hashes: (0..WORDS).map(hash).collect(),
            probabilities,
        }
    }

    fn draw(&self, rng: &mut Rng) -> usize {
        let at = rng.unit();
        self.cumulated.partition_point(|total| *total <= at).min(WORDS - 1)
    }
}
