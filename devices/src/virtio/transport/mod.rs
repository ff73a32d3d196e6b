//! What every transport does, whatever its registers are: status, features, queue set-up, doorbells, reset.
//!
//! | question | file |
//! |---|---|
//! | What does a write of the status do? When does the device go live? | `status.rs` |
//! | Which features does the device offer, and which does the driver accept? | `features.rs` |
//! | How does a queue start, stop and get served? | `queues.rs` |
//! | What happens when a driver breaks a rule? | `breach.rs` |
//! | What has the driver set up since the last reset? | `setup.rs` |
//! | What does the device wait for? | `waiting.rs` |
//! | Which options does every transport have? | `options.rs` |
//!
//! A lenient device logs a driver's mistake with the rule that it breaks, and continues as far as possible; meaningless
//! accesses have no effect. A [`Policy::Strict`] device refuses features, and after any mistake all requests until a
//! reset.
//!
//! The transport keeps its own registers in [`Setup::registers`]: they share the lock of the set-up, and a reset clears
//! them together with it. That lock is never held while the device waits for I/O.

mod breach;
mod features;
mod options;
mod queues;
mod setup;
mod status;
mod waiting;

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::device::VirtioDevice;
use super::notifier::Signals;
use crate::memory::GuestRam;
use crate::observe::Reporter;
use breach::Stopped;
pub(super) use features::feature_names;
pub(super) use options::CoreOptions;
pub use options::{Policy, Version};
pub(super) use queues::{Doorbell, QueueRefused};
pub(super) use setup::{QueueSetup, Setup};

/// A device and its set-up, behind the registers `R` of a transport.
pub(super) struct Core<R> {
    device: Arc<dyn VirtioDevice>,
    ram: GuestRam,
    signals: Arc<dyn Signals>,
    reporter: Reporter,
    options: CoreOptions,
    setup: Mutex<Setup<R>>,
    /// Whether a driver ever set DRIVER_OK, whatever was reset since.
    used: AtomicBool,
    /// The queues that a doorbell did not finish: a bit each.
    unfinished: AtomicU64,
    stopped: Stopped,
}

impl<R: Default> Core<R> {
    /// The core of a transport that signals the driver of `device` by `signals`. The device reaches guest memory through
    /// `ram`.
    pub(super) fn new(
        device: Arc<dyn VirtioDevice>,
        ram: GuestRam,
        signals: Arc<dyn Signals>,
        options: CoreOptions,
    ) -> Self {
        Self {
            setup: Mutex::new(Setup::new(&*device)),
            reporter: device.reporter().clone(),
            device,
            ram,
            signals,
            options,
            used: AtomicBool::new(false),
            unfinished: AtomicU64::new(0),
            stopped: Stopped::default(),
        }
    }

    /// The device.
    pub(super) fn device(&self) -> &dyn VirtioDevice {
        &*self.device
    }

    /// Reports events and broken rules of the device and its transport.
    pub(super) const fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// The interface between driver and device.
    pub(super) const fn version(&self) -> Version {
        self.options.version
    }

    /// Locks the set-up.
    pub(super) fn setup(&self) -> MutexGuard<'_, Setup<R>> {
        self.setup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device status field (2.1).
    pub(super) fn status(&self) -> u32 {
        self.signals.status()
    }

    /// Whether one of these bits of the device status field is set.
    pub(super) fn has(&self, bits: u32) -> bool {
        self.status() & bits != 0
    }
}

#[cfg(test)]
mod tests;
