//! Rate limits: how many requests and bytes a second a disk serves.
//!
//! A limited disk has a token bucket for requests and one for bytes, which its lanes share. A request that comes too
//! early is held in its lane ([`Held`]), in its order, and started when its time has come. No thread waits, except the vCPU
//! that rings svirtb's doorbell, because svirtb finishes its entries before that write returns.
//!
//! | request | costs |
//! |---|---|
//! | read, write, write zeroes | one request and its bytes |
//! | discard, flush | one request |
//! | flush of the device itself (svirtb's batches, a switch to write-through) | one request, and it does not wait |
//!
//! A pause, a resize and the end of the machine do not wait for tokens: what is held is started, and the buckets go into
//! debt. A reset drops what is held.
//!
//! | question | file |
//! |---|---|
//! | When may a request begin? | `bucket.rs` |
//! | Which requests does a lane hold? | `held.rs` |

mod bucket;
mod held;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Operation;
use bucket::Bucket;
pub use bucket::Rate;
pub(super) use held::Held;

/// The limits of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes a second.
    pub bytes: Option<Rate>,
    /// Requests a second.
    pub requests: Option<Rate>,
}

impl Limits {
    /// Whether nothing is limited.
    pub const fn is_none(&self) -> bool {
        self.bytes.is_none() && self.requests.is_none()
    }
}

/// The time, for limits. Its calls do not block, except [`Pace::sleep`].
pub trait Pace: Send + Sync {
    /// Now.
    fn now(&self) -> Instant;
    /// Service the disk's queues at this time. Of several calls, at least the earliest counts: a queue that is serviced too
    /// early calls again.
    fn wake_at(&self, at: Instant);
    /// Waits.
    fn sleep(&self, time: Duration);
    /// Whether nothing may wait for tokens now, because the machine is being paused.
    fn is_hurried(&self) -> bool;
}

/// The limits of a disk, in use.
pub(super) struct Limiter {
    pace: Option<Arc<dyn Pace>>,
    is_on: AtomicBool,
    /// Increases with each change of the limits.
    generation: AtomicU64,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    bytes: Option<Bucket>,
    requests: Option<Bucket>,
}

impl Limiter {
    /// Without limits. Without a pace there never are any.
    pub(super) fn new(pace: Option<Arc<dyn Pace>>) -> Self {
        let (is_on, generation) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { pace, is_on, generation, buckets: Mutex::default() }
    }

    /// Whether there are limits: the only cost of a request where there are none.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    pub(super) fn limits(&self) -> Limits {
        let buckets = self.buckets();
        let rate = |bucket: &Option<Bucket>| bucket.as_ref().map(Bucket::rate);
        Limits { bytes: rate(&buckets.bytes), requests: rate(&buckets.requests) }
    }

    /// Changes the limits; the buckets are full. Has no effect without a pace.
    pub(super) fn set(&self, limits: Limits) {
        let Some(pace) = &self.pace else { return };
        let now = pace.now();
        let bucket = |rate: Option<Rate>| rate.map(|rate| Bucket::new(rate, now));
        let mut buckets = self.buckets();
        *buckets = Buckets { bytes: bucket(limits.bytes), requests: bucket(limits.requests) };
        self.generation.fetch_add(1, Ordering::Release);
        self.is_on.store(!limits.is_none(), Ordering::Release);
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Takes the tokens of a request. Returns when it may begin.
    fn take(&self, operation: &Operation, now: Instant) -> Instant {
        let Buckets { bytes, requests } = &mut *self.buckets();
        let bytes = bytes.as_mut().map(|bucket| bucket.take(now, cost(operation)));
        let requests = requests.as_mut().map(|bucket| bucket.take(now, 1));
        bytes.max(requests).unwrap_or(now)
    }

    /// Gives back the tokens of a request that is dropped.
    fn give_back(&self, operation: &Operation) {
        let Buckets { bytes, requests } = &mut *self.buckets();
        if let Some(bucket) = bytes {
            bucket.give_back(cost(operation));
        }
        if let Some(bucket) = requests {
            bucket.give_back(1);
        }
    }

    /// The time; none if there never are limits.
    pub(super) fn pace(&self) -> Option<&dyn Pace> {
        self.pace.as_deref()
    }

    /// Takes the tokens of a request that does not wait.
    #[cold]
    pub(super) fn charge(&self, operation: &Operation) {
        if let Some(pace) = &self.pace {
            self.take(operation, pace.now());
        }
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("limits", &self.limits()).finish_non_exhaustive()
    }
}

/// The bytes that count. The host may have to write the zeros; a discard moves none.
const fn cost(operation: &Operation) -> u64 {
    match operation {
        Operation::Discard { .. } | Operation::Flush => 0,
        Operation::Read(_) | Operation::Write { .. } | Operation::WriteZeroes { .. } => {
            operation.len()
        }
    }
}

#[cfg(test)]
mod tests;
