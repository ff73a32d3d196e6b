//! The messages between threads, and to clients of the control socket.

use std::num::NonZeroU64;

use cafevm_devices::block::{Limits, Rate};
use serde_json::{Map, Value};

use crate::threads::gate::Full;

/// The answer to a client's message: its result, or the reason for its failure.
pub(crate) type Answer = Result<Value, String>;

/// Identifies a client's message, so that a late answer finds its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// A job for the I/O thread.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Grow a virtio disk.
    Resize {
        ticket: Ticket,
        /// Its index among the virtio disks.
        disk: usize,
        /// Its name in the client's message.
        id: String,
        bytes: u64,
    },
    /// Change the limits of a disk.
    Limit {
        ticket: Ticket,
        /// Its index among the virtio disks; none for the disk on svirtb.
        disk: Option<usize>,
        /// Its name in the client's message.
        id: String,
        limits: Limits,
    },
    /// Hold new requests, and wait until nothing is in flight. No vCPU runs.
    Quiesce,
    /// Retry requests that wait for room, then take new ones. No vCPU runs.
    Release,
}

/// The result of a job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// A client's job is done, or has failed.
    Answered { ticket: Ticket, answer: Answer },
    /// Nothing is in flight; or the reason why something is. In that case this is sent again when nothing is.
    Quiesced(Result<(), String>),
    /// The disks take requests; or the disk that is still full.
    Released(Result<(), Full>),
}

/// Limits, as clients see them: only those that there are.
pub(crate) fn limits(limits: Limits) -> Map<String, Value> {
    let rates = [("bps", limits.bytes), ("iops", limits.requests)];
    let rates = rates.into_iter().filter_map(|(name, rate)| Some((name, rate?)));
    let keys = rates.flat_map(|(name, Rate { per_second, burst })| {
        let value = |number: NonZeroU64| Value::from(number.get());
        [(name.to_owned(), value(per_second)), (format!("{name}-burst"), value(burst))]
    });
    keys.collect()
}
