//! How many requests are submitted together.

/// The most requests in a batch. The driver sees their results together: a driver on another processor waits for at most
/// as many.
const MOST_REQUESTS: u16 = 32;
/// The most bytes in a batch; the request that reaches the limit is included.
const MOST_BYTES: u64 = 256 << 10;

/// The requests that were taken from a queue and not started yet: the host gets them together, so that neighbours on the
/// disk are one call, and the driver gets their answers together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    requests: u16,
    bytes: u64,
}

impl Batch {
    /// Adds a request that moves `bytes`. Returns whether the batch is full; it is empty then.
    pub(super) fn add(&mut self, bytes: u64) -> bool {
        self.requests += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        let is_full = self.requests >= MOST_REQUESTS || self.bytes >= MOST_BYTES;
        if is_full {
            *self = Self::default();
        }
        is_full
    }

    /// Empties the batch. Returns whether it had a request.
    pub(super) fn take(&mut self) -> bool {
        std::mem::take(self).requests > 0
    }
}
