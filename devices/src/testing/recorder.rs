//! An observer that remembers, for assertions.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::observe::{DescriptorInfo, Direction, Event, Observer, RequestInfo, Seen};

/// What a test asserts of an event. Text is kept as it was displayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// An access to a register.
    Register {
        /// The device.
        device: String,
        /// The register's name.
        register: &'static str,
        /// Read or write.
        direction: Direction,
        /// The value read or written.
        value: u32,
        /// What it means.
        meaning: String,
    },
    /// The end of a request.
    Finished {
        /// The device.
        device: String,
        /// The request.
        request: RequestInfo,
        /// Its result.
        outcome: String,
    },
    /// A descriptor that the device read.
    Descriptor {
        /// The queue.
        queue: u16,
        /// The descriptor.
        descriptor: DescriptorInfo,
    },
    /// Any other event, as `Debug` writes it.
    Other {
        /// The device, or the bus.
        device: String,
        /// The event.
        event: String,
    },
}

impl Recorded {
    /// Any other event, as `Debug` writes it.
    pub fn other(&self) -> Option<&str> {
        match self {
            Self::Other { event, .. } => Some(event),
            Self::Register { .. } | Self::Finished { .. } | Self::Descriptor { .. } => None,
        }
    }
}

/// Remembers the events it gets.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Vec<Recorded>>);

impl Recorder {
    /// Takes the events since the last call.
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.events())
    }

    fn events(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Recorder {
    fn event(&self, seen: &Seen<'_>) {
        let device = seen.device.to_string();
        let recorded = match seen.event {
            Event::Register { register, direction, value, meaning } => {
                let meaning = meaning.to_string();
                Recorded::Register { device, register, direction, value, meaning }
            }
            Event::Finished { request, outcome } => {
                Recorded::Finished { device, request, outcome: outcome.to_string() }
            }
            Event::Descriptor { queue, descriptor } => Recorded::Descriptor { queue, descriptor },
            other => Recorded::Other { device, event: format!("{other:?}") },
        };
        self.events().push(recorded);
    }
}
