//! The error of a device that does not become idle in time.

use std::fmt;
use std::time::Duration;

/// A queue did not become idle within the limit: the host has not finished a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: the host has not finished {requests} within {}", Seconds(*.limit))]
pub struct Stuck {
    /// The name in messages of what the host works on: for a disk, its image.
    pub name: String,
    /// The requests, such as "3 requests of queue 0".
    pub requests: String,
    /// How long the device waited.
    pub limit: Duration,
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}
