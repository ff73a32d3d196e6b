//! What a disk has done so far: requests, bytes and errors, and how long requests take.
//!
//! Each [`super::Lane`] has counters of its own. Only the thread that uses the lane writes them, so a plain load and
//! store is enough, and no request pays for a locked instruction. Any thread may read them; the sum over the lanes is
//! exact when no request is under way.
//!
//! Latencies need a clock, so they are measured only if the VMM asks for it ([`super::Disk::timed`]).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::BlockError;

/// The kind of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    /// A read.
    Read,
    /// A write.
    Write,
    /// A flush.
    Flush,
    /// A discard.
    Discard,
    /// Write zeroes.
    WriteZeroes,
}

impl OperationKind {
    /// All kinds. The index of each is `kind as usize`.
    pub const ALL: [Self; 5] =
        [Self::Read, Self::Write, Self::Flush, Self::Discard, Self::WriteZeroes];

    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Discard => "discard",
            Self::WriteZeroes => "write zeroes",
        }
    }
}

/// The kind of a [`BlockError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// [`BlockError::OutOfRange`].
    OutOfRange,
    /// [`BlockError::ReadOnly`].
    ReadOnly,
    /// [`BlockError::Host`].
    Host,
    /// [`BlockError::Sync`] and [`BlockError::Lost`]: data may not be on stable storage.
    Flush,
    /// [`BlockError::Stopped`].
    Stopped,
}

impl ErrorKind {
    /// All kinds. The index of each is `kind as usize`.
    pub const ALL: [Self; 5] =
        [Self::OutOfRange, Self::ReadOnly, Self::Host, Self::Flush, Self::Stopped];

    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OutOfRange => "out of range",
            Self::ReadOnly => "read-only",
            Self::Host => "host",
            Self::Flush => "flush",
            Self::Stopped => "stopped",
        }
    }
}

impl From<&BlockError> for ErrorKind {
    fn from(error: &BlockError) -> Self {
        match error {
            BlockError::OutOfRange { .. } => Self::OutOfRange,
            BlockError::ReadOnly => Self::ReadOnly,
            BlockError::Host { .. } => Self::Host,
            BlockError::Sync(_) | BlockError::Lost(_) => Self::Flush,
            BlockError::Stopped => Self::Stopped,
        }
    }
}

/// The number of buckets of a [`Histogram`].
const BUCKETS: usize = 25;

/// Latencies by powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Histogram {
    /// Bucket n has the requests that took at most 2^n µs, and more than half of that. The last one has all that took
    /// longer than the one before it: more than 8.4 s.
    pub buckets: [u64; BUCKETS],
    /// The sum of all latencies in nanoseconds.
    pub sum: u64,
}

impl Histogram {
    /// The upper bound of a bucket in nanoseconds; none for the last bucket.
    pub const fn bound(bucket: usize) -> Option<u64> {
        if bucket < BUCKETS - 1 { Some(1000 << bucket) } else { None }
    }

    /// The number of requests.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The bucket of a latency in nanoseconds.
    const fn bucket(nanos: u64) -> usize {
        // Rounded up: a bucket includes its upper bound.
        let micros = nanos.div_ceil(1000);
        let power = micros.saturating_sub(1).checked_ilog2();
        let bucket = match power {
            None => 0,
            Some(power) => power as usize + 1,
        };
        if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
    }
}

/// What was done of one kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OperationStats {
    /// Requests that are finished, with or without an error.
    pub requests: u64,
    /// The bytes of the disk that they read, wrote, discarded or zeroed.
    pub bytes: u64,
    /// How long they took, from the moment they were taken to their answer; none unless [`super::Disk::timed`].
    pub latency: Option<Histogram>,
}

/// What a disk has done so far. The requests are those of the guest: a discard of several ranges is one, and so is each
/// entry of svirtb, also if the host moves several at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskStats {
    /// By [`OperationKind`].
    pub operations: [OperationStats; OperationKind::ALL.len()],
    /// Failed requests, by [`ErrorKind`].
    pub errors: [u64; ErrorKind::ALL.len()],
    /// Requests to the host that it has not finished.
    pub in_flight: usize,
    /// Requests that wait for the limits of the disk.
    pub delayed: usize,
}

/// A counter that one thread at a time writes.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    #[inline]
    fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    #[inline]
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one lane. All methods but [`LaneStats::add_to`] are for the thread that uses the lane.
#[derive(Debug, Default)]
pub(crate) struct LaneStats {
    /// The number of requests in the lane's engine.
    in_flight: AtomicUsize,
    /// The number of requests that wait for the limits.
    delayed: AtomicUsize,
    requests: [Counter; OperationKind::ALL.len()],
    bytes: [Counter; OperationKind::ALL.len()],
    errors: [Counter; ErrorKind::ALL.len()],
    latency: Option<Box<Latency>>,
}

/// The latencies of one lane.
#[derive(Debug)]
struct Latency {
    /// When the clock was 0.
    begin: Instant,
    operations: [LatencyCounters; OperationKind::ALL.len()],
}

#[derive(Debug, Default)]
struct LatencyCounters {
    buckets: [Counter; BUCKETS],
    sum: Counter,
}

/// A moment on the clock of a lane, in nanoseconds; without meaning if latencies are not measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Moment(u64);

impl LaneStats {
    /// Counters at 0. With `timed`, latencies are measured.
    pub(super) fn new(timed: bool) -> Self {
        let latency = || Latency { begin: Instant::now(), operations: Default::default() };
        Self { latency: timed.then(|| Box::new(latency())), ..Self::default() }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn set_in_flight(&self, requests: usize) {
        self.in_flight.store(requests, Ordering::Relaxed);
    }

    pub(super) fn delayed(&self) -> usize {
        self.delayed.load(Ordering::Relaxed)
    }

    pub(super) fn set_delayed(&self, requests: usize) {
        self.delayed.store(requests, Ordering::Relaxed);
    }

    /// The time, if latencies are measured. Read it once for a batch.
    #[inline]
    pub(crate) fn now(&self) -> Moment {
        let nanos = |latency: &Latency| latency.begin.elapsed().as_nanos();
        Moment(self.latency.as_deref().map_or(0, |latency| {
            // 584 years fit.
            u64::try_from(nanos(latency)).unwrap_or(u64::MAX)
        }))
    }

    /// Counts `requests` finished requests of one kind, which moved `bytes` together.
    #[inline]
    pub(crate) fn finished(&self, kind: OperationKind, requests: u64, bytes: u64) {
        // The index is that of a kind.
        if let (Some(all), Some(moved)) =
            (self.requests.get(kind as usize), self.bytes.get(kind as usize))
        {
            all.add(requests);
            moved.add(bytes);
        }
    }

    /// Counts the error of a finished request.
    pub(crate) fn failed(&self, error: ErrorKind) {
        if let Some(errors) = self.errors.get(error as usize) {
            errors.add(1);
        }
    }

    /// Counts the latency of finished requests of one kind, if latencies are measured.
    #[inline]
    pub(crate) fn took(&self, kind: OperationKind, requests: u64, begun: Moment, ended: Moment) {
        if let Some(latency) = &self.latency {
            latency.add(kind, requests, ended.0.saturating_sub(begun.0));
        }
    }

    /// Counts a flush of the device itself, which has just ended.
    pub(crate) fn flushed(&self, begun: Moment, result: &Result<(), BlockError>) {
        self.finished(OperationKind::Flush, 1, 0);
        self.took(OperationKind::Flush, 1, begun, self.now());
        if let Err(error) = result {
            self.failed(error.into());
        }
    }

    /// Adds everything to `sum`.
    pub(super) fn add_to(&self, sum: &mut DiskStats) {
        sum.in_flight += self.in_flight();
        sum.delayed += self.delayed();
        for (sum, errors) in sum.errors.iter_mut().zip(&self.errors) {
            *sum += errors.get();
        }
        let counters = self.requests.iter().zip(&self.bytes);
        for (sum, (requests, bytes)) in sum.operations.iter_mut().zip(counters) {
            sum.requests += requests.get();
            sum.bytes += bytes.get();
        }
        let Some(latency) = &self.latency else { return };
        for (sum, counters) in sum.operations.iter_mut().zip(&latency.operations) {
            let sum = sum.latency.get_or_insert_default();
            sum.sum += counters.sum.get();
            for (sum, bucket) in sum.buckets.iter_mut().zip(&counters.buckets) {
                *sum += bucket.get();
            }
        }
    }
}

impl Latency {
    #[cold]
    fn add(&self, kind: OperationKind, requests: u64, nanos: u64) {
        let Some(counters) = self.operations.get(kind as usize) else { return };
        counters.sum.add(nanos.saturating_mul(requests));
        if let Some(bucket) = counters.buckets.get(Histogram::bucket(nanos)) {
            bucket.add(requests);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_includes_its_upper_bound_and_the_last_one_takes_the_rest() {
        for (nanos, bucket) in [(0, 0), (1, 0), (1000, 0), (1001, 1), (2000, 1), (2001, 2)] {
            assert_eq!(Histogram::bucket(nanos), bucket, "{nanos}");
        }
        for bucket in 0..BUCKETS - 1 {
            let bound = Histogram::bound(bucket).unwrap();
            assert_eq!(Histogram::bucket(bound), bucket, "{bound}");
            assert_eq!(Histogram::bucket(bound + 1), bucket + 1, "{bound}");
        }
        assert_eq!(Histogram::bound(BUCKETS - 2), Some(8_388_608_000));
        assert_eq!(Histogram::bound(BUCKETS - 1), None);
        assert_eq!(Histogram::bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_index_of_a_kind_is_its_place_in_the_list() {
        for (n, kind) in OperationKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, n);
        }
        for (n, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, n);
        }
    }

    #[test]
    fn lanes_are_summed() {
        let (a, b) = (LaneStats::new(true), LaneStats::new(true));
        a.finished(OperationKind::Read, 1, 4096);
        a.took(OperationKind::Read, 1, Moment(5000), Moment(6500));
        b.finished(OperationKind::Read, 3, 1536);
        // A clock that stands still, or seems to.
        b.took(OperationKind::Read, 3, Moment(7), Moment(6));
        b.finished(OperationKind::Discard, 1, 0);
        b.failed(ErrorKind::Host);
        b.set_in_flight(2);
        let mut sum = DiskStats::default();
        a.add_to(&mut sum);
        b.add_to(&mut sum);
        let [read, write, _, discard, _] = sum.operations;
        assert_eq!((read.requests, read.bytes), (4, 5632));
        let latency = read.latency.unwrap();
        assert_eq!(
            (latency.sum, latency.count(), &latency.buckets[..3]),
            (1500, 4, &[3, 1, 0][..])
        );
        assert_eq!((discard.requests, write.requests), (1, 0));
        assert_eq!((sum.errors, sum.in_flight), ([0, 0, 1, 0, 0], 2));
    }

    #[test]
    fn without_a_clock_there_are_no_latencies() {
        let lane = LaneStats::new(false);
        assert_eq!(lane.now(), Moment(0));
        lane.took(OperationKind::Read, 1, Moment(0), lane.now());
        let mut sum = DiskStats::default();
        lane.add_to(&mut sum);
        assert_eq!(sum, DiskStats::default());
    }
}
