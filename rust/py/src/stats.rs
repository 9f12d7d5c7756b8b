//! Counters and the latency histogram: plain atomics, written once per slice where that is enough.

use std::sync::atomic::{AtomicU64, Ordering};

use rainband_core::ledger::Reason;

/// What one task did.
#[derive(Default)]
pub struct TaskStats {
    pub executed: AtomicU64,
    pub emitted: AtomicU64,
    pub delivered: AtomicU64,
    pub acked: AtomicU64,
    pub failed: [AtomicU64; Reason::ALL.len()],
    pub process_ns: AtomicU64,
    pub untracked_failed: AtomicU64,
    // Of the roots that the task emitted:
    /// Acked by the subscribers of `dead_letter`: dead, although the ledger saw them acked.
    pub letters_acked: AtomicU64,
    pub roots_dropped: AtomicU64,
    pub replays: AtomicU64,
}

/// Things that should be rare.
#[derive(Default)]
pub struct RunStats {
    pub double_ack: AtomicU64,
    pub lost: AtomicU64,
    pub loop_dropped: AtomicU64,
    pub no_target: AtomicU64,
    pub discarded_at_stop: AtomicU64,
    /// Acks and fails for an earlier process of a worker.
    pub late_acks: AtomicU64,
}

/// Adds to a counter.
#[inline]
pub fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// Reads a counter.
pub fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

const SUB_BITS: u32 = 3;
const BUCKETS: usize = 64 << SUB_BITS;

/// Durations in buckets of an eighth of a power of two: 12.5 % wide at most.
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    max: AtomicU64,
}

/// Durations on their way into a [`Histogram`]; they are there when it is dropped.
pub struct Tally<'a> {
    histogram: &'a Histogram,
    bucket: usize,
    count: u64,
    max: u64,
}

impl Tally<'_> {
    #[inline]
    pub fn record(&mut self, value: u64) {
        let bucket = Histogram::bucket_of(value);
        if bucket != self.bucket {
            self.flush();
            self.bucket = bucket;
        }
        self.count += 1;
        self.max = self.max.max(value);
    }

    fn flush(&mut self) {
        if self.count > 0 {
            add(&self.histogram.buckets[self.bucket], std::mem::take(&mut self.count));
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.flush();
        self.histogram.max.fetch_max(self.max, Ordering::Relaxed);
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), max: AtomicU64::new(0) }
    }
}

impl Histogram {
    fn bucket_of(value: u64) -> usize {
        if value < 1 << SUB_BITS {
            return value as usize;
        }
        let exponent = value.ilog2();
        let sub = (value >> (exponent - SUB_BITS)) & ((1 << SUB_BITS) - 1);
        (u64::from((exponent - SUB_BITS + 1) << SUB_BITS) + sub) as usize
    }

    fn upper_bound(bucket: usize) -> u64 {
        if bucket < 1 << SUB_BITS {
            return bucket as u64;
        }
        let exponent = (bucket >> SUB_BITS) as u32 + SUB_BITS - 1;
        let sub = (bucket & ((1 << SUB_BITS) - 1)) as u64;
        ((1 << SUB_BITS) + sub + 1) << (exponent - SUB_BITS)
    }

    /// Counts durations; roots that are acked together took about the same, so that few counters are touched.
    pub fn tally(&self) -> Tally<'_> {
        Tally { histogram: self, bucket: 0, count: 0, max: 0 }
    }

    /// (upper bound, how many) of every bucket that has any.
    pub fn filled(&self) -> Vec<(u64, u64)> {
        let all = self.buckets.iter().map(read).enumerate();
        all.filter(|(_, count)| *count > 0).map(|(bucket, count)| (Self::upper_bound(bucket), count)).collect()
    }

    /// How many were counted, the given quantiles (upper bounds of their buckets), and the largest.
    pub fn summary<const N: usize>(&self, quantiles: [f64; N]) -> (u64, [u64; N], u64) {
        let counts: Vec<u64> = self.buckets.iter().map(read).collect();
        let total: u64 = counts.iter().sum();
        let max = read(&self.max);
        let find = |q: f64| {
            let mut left = ((total as f64 * q).ceil() as u64).max(1);
            for (bucket, count) in counts.iter().enumerate() {
                if *count >= left {
                    return Self::upper_bound(bucket).min(max);
                }
                left -= count;
            }
            max
        };
        (total, quantiles.map(find), max)
    }
}
