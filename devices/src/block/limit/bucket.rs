//! A token bucket, with the time as a parameter.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Tokens flow in nanoseconds.
const NANOS: u128 = 1_000_000_000;

/// The limit of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens a second.
    pub per_second: NonZeroU64,
    /// The most tokens that are saved up for later.
    pub burst: NonZeroU64,
}

impl Rate {
    /// So many tokens a second; up to a tenth of a second's are saved up.
    pub fn new(per_second: NonZeroU64) -> Self {
        let burst = NonZeroU64::new(per_second.get() / 10).unwrap_or(NonZeroU64::MIN);
        Self { per_second, burst }
    }
}

/// A token bucket that gives tokens out in advance: each taker learns when it may begin, and they begin in their order. So no
/// taker starves, and one that takes more than the bucket holds begins when it is full, and leaves it in debt.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    /// What is missing to a full bucket, in tokens times nanoseconds, so that nothing is lost by rounding. More than
    /// the bucket holds is debt.
    missing: u128,
    /// When that was so.
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) const fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, missing: 0, at: now }
    }

    pub(super) const fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes tokens. Returns when the taker may begin.
    pub(super) fn take(&mut self, now: Instant, tokens: u64) -> Instant {
        self.fill(now);
        let (holds, takes) =
            (u128::from(self.rate.burst.get()) * NANOS, u128::from(tokens) * NANOS);
        let before = self.missing;
        self.missing = before.saturating_add(takes);
        let in_debt = before.saturating_add(takes.min(holds)).saturating_sub(holds);
        if in_debt == 0 {
            return now;
        }
        let wait = in_debt.div_ceil(u128::from(self.rate.per_second.get()));
        let wait = Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX));
        // A time that the host cannot represent is centuries away.
        now.checked_add(wait).unwrap_or(now)
    }

    /// Gives tokens back that were not needed.
    pub(super) fn give_back(&mut self, tokens: u64) {
        self.missing = self.missing.saturating_sub(u128::from(tokens) * NANOS);
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        let new = passed.as_nanos().saturating_mul(self.rate.per_second.get().into());
        self.missing = self.missing.saturating_sub(new);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(per_second: u64, burst: u64) -> Rate {
        let number = |n| NonZeroU64::new(n).unwrap();
        Rate { per_second: number(per_second), burst: number(burst) }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_tenth_of_a_second_is_saved_up_unless_a_burst_is_given() {
        let of = |n| Rate::new(NonZeroU64::new(n).unwrap()).burst.get();
        assert_eq!([of(1), of(9), of(10), of(1000), of(u64::MAX)], [1, 1, 1, 100, u64::MAX / 10]);
    }

    #[test]
    fn what_is_saved_up_goes_at_once_and_the_rest_at_the_rate() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(rate(100, 3), begin);
        let due = [0; 5].map(|_| bucket.take(begin, 1) - begin);
        assert_eq!(due, [ms(0), ms(0), ms(0), ms(10), ms(20)]);
        // Later, when the debt is paid and one token is there.
        let later = begin + ms(30);
        assert_eq!(bucket.take(later, 1), later);
        assert_eq!(bucket.take(later, 1), later + ms(10));
        // No more than three are saved up.
        let much_later = begin + ms(100_000);
        let due = [0; 4].map(|_| bucket.take(much_later, 1) - much_later);
        assert_eq!(due, [ms(0), ms(0), ms(0), ms(10)]);
    }

    #[test]
    fn more_than_the_bucket_holds_begins_when_it_is_full_and_the_next_one_pays() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(rate(1000, 10), begin);
        assert_eq!(bucket.take(begin, 500), begin);
        assert_eq!(bucket.take(begin, 1), begin + ms(491));
        assert_eq!(bucket.take(begin, 500), begin + ms(501));
        // Nothing needs nothing, but does not overtake.
        assert_eq!(bucket.take(begin, 0), begin + ms(991));
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(rate(1000, 10), begin);
        bucket.take(begin, 1000);
        bucket.give_back(995);
        assert_eq!(bucket.take(begin, 5), begin);
        bucket.give_back(u64::MAX);
        assert_eq!(bucket.take(begin, 10), begin);
    }

    #[test]
    fn the_largest_numbers_overflow_nothing_and_a_clock_may_stand_still() {
        let begin = Instant::now() + ms(1000);
        for (per_second, burst) in [(1, 1), (u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX)] {
            let mut bucket = Bucket::new(rate(per_second, burst), begin);
            for _ in 0..3 {
                assert!(bucket.take(begin, u64::MAX) >= begin);
                bucket.take(begin - ms(1000), 1);
            }
        }
    }

    proptest! {
        /// In any period, at most the burst and the rate times the period begin, and one more taker at its end.
        #[test]
        fn no_period_has_more_than_its_share(
            per_second in 1_u64..10_000,
            burst in 1_u64..1000,
            takes in prop::collection::vec((0_u64..50_000_000, 0_u64..2000), 1..60),
        ) {
            let begin = Instant::now();
            let mut bucket = Bucket::new(rate(per_second, burst), begin);
            let mut now = begin;
            let mut begun: Vec<(Instant, u64)> = Vec::new();
            for (passes, tokens) in takes {
                now += Duration::from_nanos(passes);
                let due = bucket.take(now, tokens);
                prop_assert!(due >= now);
                prop_assert!(begun.last().is_none_or(|(last, _)| *last <= due), "out of order");
                begun.push((due, tokens));
            }
            for (n, (from, _)) in begun.iter().enumerate() {
                let mut tokens = 0;
                for (due, takes) in &begun[n..] {
                    let period = u128::from(per_second) * (*due - *from).as_nanos();
                    let share = u128::from(burst) * NANOS + period;
                    // What is larger than the bucket waits for a full one.
                    prop_assert!(u128::from(tokens + takes.min(&burst)) * NANOS <= share + u128::from(per_second));
                    tokens += takes;
                }
            }
        }

        /// A taker waits for no longer than its share needs.
        #[test]
        fn nothing_waits_longer_than_it_must(
            per_second in 1_u64..10_000,
            burst in 1_u64..1000,
            takes in prop::collection::vec(0_u64..2000, 1..60),
        ) {
            let begin = Instant::now();
            let mut bucket = Bucket::new(rate(per_second, burst), begin);
            let mut before = 0_u64;
            for tokens in takes {
                let waits = (bucket.take(begin, tokens) - begin).as_nanos();
                let owed = u128::from((before + tokens.min(burst)).saturating_sub(burst)) * NANOS;
                prop_assert_eq!(waits, owed.div_ceil(per_second.into()));
                before += tokens;
            }
        }
    }
}
