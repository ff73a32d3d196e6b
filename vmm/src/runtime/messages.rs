//! What the threads and the clients of the control socket send each other.

use serde_json::Value;

use crate::threads::gate::Full;

/// The answer to a message of a client: its result, or why there is none.
pub(crate) type Answer = Result<Value, String>;

/// Names a message of a client's, so that its answer finds the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// A job for the I/O thread.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Make a virtio disk larger.
    Resize {
        ticket: Ticket,
        /// Its number among the virtio disks.
        disk: usize,
        /// What the client calls it.
        id: String,
        bytes: u64,
    },
    /// Take no new requests, and wait until nothing is in flight. No vCPU runs.
    Quiesce,
    /// Try again what waits for room, then take new requests. No vCPU runs.
    Release,
}

/// What came of a job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Resized {
        ticket: Ticket,
        answer: Answer,
    },
    /// Nothing is in flight; or why something is. In that case this is sent again when nothing is.
    Quiesced(Result<(), String>),
    /// Requests are served; or a disk is still full.
    Released(Result<(), Full>),
}
