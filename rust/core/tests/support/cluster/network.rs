//! The network between the workers: what is under way, and what may happen to it. A letter is for a place; whoever sits there
//! when it comes gets it, also the successor of the one that was meant.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::rng::Rng;
use super::shared::{MICROSECOND, MILLISECOND, Shared};

/// A message under way.
pub struct Letter {
    pub from: usize,
    pub to: usize,
    pub parts: Vec<Bytes>,
}

/// Of 100 letters, how many come to harm.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub lost: usize,
    pub doubled: usize,
    pub late: usize,
    pub damaged: usize,
    /// Of 10,000 steps, how many begin a partition.
    pub partitions: usize,
}

impl Weather {
    pub fn random(rng: &mut Rng) -> Self {
        match rng.below(4) {
            0 => Self::default(),
            1 => Self { lost: 2, doubled: 2, late: 2, damaged: 1, partitions: 2 },
            _ => Self {
                lost: rng.below(25),
                doubled: rng.below(25),
                late: rng.below(25),
                damaged: rng.below(10),
                partitions: rng.below(20),
            },
        }
    }
}

pub struct Network {
    pub weather: Weather,
    /// By the time of arrival.
    under_way: BTreeMap<(u64, u64), Letter>,
    numbers: u64,
    /// When the last one in order arrives, per pair.
    last: Vec<u64>,
    /// Until when nothing passes, per pair.
    cut_until: Vec<u64>,
    workers: usize,
}

impl Network {
    pub fn new(workers: usize, weather: Weather) -> Self {
        let pairs = workers * workers;
        Self {
            weather,
            under_way: BTreeMap::new(),
            numbers: 0,
            last: vec![0; pairs],
            cut_until: vec![0; pairs],
            workers,
        }
    }

    /// From now on nothing happens to letters.
    pub fn heal(&mut self) {
        self.weather = Weather::default();
        self.cut_until.fill(0);
    }

    pub fn storm(&mut self, cx: &mut Shared) {
        if cx.rng.below(10_000) >= self.weather.partitions {
            return;
        }
        let (a, b) = (cx.rng.below(self.workers), cx.rng.below(self.workers));
        let until = cx.now + cx.delay(5 * MILLISECOND, 400 * MILLISECOND);
        self.cut_until[a * self.workers + b] = until;
        if cx.rng.chance(50) {
            self.cut_until[b * self.workers + a] = until;
        }
        cx.note(&("partition", a, b, until));
    }

    pub fn send(&mut self, cx: &mut Shared, letter: Letter) {
        let pair = letter.from * self.workers + letter.to;
        let Weather { lost, doubled, late, damaged, .. } = self.weather;
        if self.cut_until[pair] > cx.now || cx.rng.chance(lost) {
            cx.note(&("lost", letter.from, letter.to));
            return;
        }
        if doubled > 0 && cx.rng.chance(doubled) {
            let copy = Letter { parts: letter.parts.clone(), ..letter };
            let at = cx.now + cx.delay(10 * MICROSECOND, 50 * MILLISECOND);
            self.put(at, copy);
        }
        let letter = if damaged > 0 && cx.rng.chance(damaged) { damage(cx, &letter) } else { letter };
        if late > 0 && cx.rng.chance(late) {
            let at = cx.now + cx.delay(10 * MICROSECOND, 50 * MILLISECOND);
            self.put(at, letter);
            return;
        }
        let at = (cx.now + cx.delay(10 * MICROSECOND, 300 * MICROSECOND)).max(self.last[pair]);
        self.last[pair] = at;
        self.put(at, letter);
    }

    fn put(&mut self, at: u64, letter: Letter) {
        self.numbers += 1;
        self.under_way.insert((at, self.numbers), letter);
    }

    pub fn next_due(&self) -> Option<u64> {
        self.under_way.first_key_value().map(|((at, _), _)| *at)
    }

    /// What arrives now.
    pub fn take(&mut self, now: u64) -> Option<Letter> {
        let first = self.under_way.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    /// The process at `worker` died: what it had sent may or may not arrive.
    pub fn sender_died(&mut self, rng: &mut Rng, worker: usize) {
        if rng.chance(50) {
            self.under_way.retain(|_, letter| letter.from != worker || rng.chance(50));
        }
    }
}

fn damage(cx: &mut Shared, letter: &Letter) -> Letter {
    let mut bytes = letter.parts[0].to_vec();
    if cx.rng.chance(50) {
        bytes.truncate(cx.rng.below(bytes.len()));
    } else {
        let at = cx.rng.below(bytes.len());
        bytes[at] ^= 1 << cx.rng.below(8);
    }
    let parts = vec![bytes.into()];
    Letter { parts, ..*letter }
}
