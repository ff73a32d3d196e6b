//! How long something took, many times, in cycles of the time-stamp counter.

use rt::println;

/// Buckets for each power of two: a bucket is at most an eighth wider than its lower bound.
const STEPS: u64 = 8;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Enough for 2^40 cycles; what took longer counts in the last one.
const BUCKETS: usize = (STEPS * (41 - STEP_BITS as u64)) as usize;

/// Counts of durations in buckets of logarithmic width.
pub(crate) struct Histogram {
    counts: [u32; BUCKETS],
    samples: u32,
    longest: u64,
}

impl Histogram {
    pub(crate) fn new() -> Histogram {
        Histogram { counts: [0; BUCKETS], samples: 0, longest: 0 }
    }

    #[inline]
    pub(crate) fn add(&mut self, cycles: u64) {
        self.samples += 1;
        self.longest = self.longest.max(cycles);
        self.counts[bucket(cycles).min(BUCKETS - 1)] += 1;
    }

    /// Prints `series NAME samples N max CYCLES`, then `bucket NAME FROM COUNT` for each bucket that is not empty, FROM
    /// in cycles.
    pub(crate) fn print(&self, name: &str) {
        println!("series {name} samples {} max {}", self.samples, self.longest);
        for (index, count) in self.counts.iter().enumerate().filter(|(_, count)| **count != 0) {
            println!("bucket {name} {} {count}", lower_bound(index));
        }
    }
}

/// Below [`STEPS`] each number has its own; above, the highest bits after the first select it.
#[inline]
fn bucket(cycles: u64) -> usize {
    let Some(shift) = (cycles | 1).ilog2().checked_sub(STEP_BITS) else { return cycles as usize };
    (u64::from(shift) * STEPS + (cycles >> shift)) as usize
}

fn lower_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    (STEPS + bucket % STEPS) << (bucket / STEPS - 1)
}
