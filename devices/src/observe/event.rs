//! What a curious person can watch: each register access by name, each request decoded.
//!
//! A device holds a [`Tracer`]. With no [`Observer`] behind it, which is the usual case, nothing is built and
//! nothing is called.

use std::fmt;
use std::sync::Arc;

/// The direction of a register access, as the guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The guest reads.
    Read,
    /// The guest writes.
    Write,
}

/// Something a device saw or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The guest accessed a register.
    Register {
        /// The device's name, as in the log.
        device: Arc<str>,
        /// The register's name in its specification.
        register: &'static str,
        /// Read or write.
        direction: Direction,
        /// The value read or written.
        value: u32,
        /// What the value means to the protocol, and what became of it. May be empty.
        meaning: String,
    },
    /// The device finished a request.
    Request {
        /// The device's name, as in the log.
        device: Arc<str>,
        /// svirtb: the index of the ring entry. virtio: the head of the descriptor chain.
        index: u32,
        /// "read", "write", "flush", ...
        operation: &'static str,
        /// The first sector, of 512 bytes.
        sector: u64,
        /// The bytes of the request's buffers.
        bytes: u64,
        /// What the guest was told: "ok", or the error in the protocol's own words.
        outcome: String,
    },
}

/// Whoever watches. Called on the thread that serves the device, in the order in which things happen.
pub trait Observer: Send + Sync {
    /// Sees one event. Must not block for long: the guest waits.
    fn event(&self, event: &Event);
}

/// A device's connection to an observer, if there is one.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<dyn Observer>>);

impl Tracer {
    /// A tracer that nobody watches.
    pub const fn none() -> Self {
        Self(None)
    }

    /// A tracer that hands every event to `observer`.
    pub fn to(observer: Arc<dyn Observer>) -> Self {
        Self(Some(observer))
    }

    /// Whether anybody watches.
    pub const fn is_watching(&self) -> bool {
        self.0.is_some()
    }

    /// Hands over the event that `make` builds; where nobody watches, `make` is not called.
    pub fn emit(&self, make: impl FnOnce() -> Event) {
        if let Some(observer) = &self.0 {
            observer.event(&make());
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Tracer(watched)" } else { "Tracer(none)" })
    }
}
