//! How a live device speaks to the driver outside its queues: interrupts, and DEVICE_NEEDS_RESET.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::spec::mmio::{INTERRUPT_CONFIG, INTERRUPT_USED};
use crate::irq::IrqLine;

/// A device's voice, shared between its transport, which answers the registers, and whoever serves its
/// queues.
#[derive(Clone)]
pub struct Notifier(Arc<Shared>);

struct Shared {
    /// InterruptStatus (4.2.2).
    pending: AtomicU32,
    /// DEVICE_NEEDS_RESET (2.1.2).
    needs_reset: AtomicBool,
    line: Arc<dyn IrqLine>,
}

impl Notifier {
    /// The voice of a device that interrupts by `line`.
    pub fn new(line: Arc<dyn IrqLine>) -> Self {
        Self(Arc::new(Shared {
            pending: AtomicU32::new(0),
            needs_reset: AtomicBool::new(false),
            line,
        }))
    }

    /// Says that a queue has used buffers.
    pub fn used_buffers(&self) {
        self.interrupt(INTERRUPT_USED);
    }

    /// Says that the configuration space has changed.
    pub fn config_changed(&self) {
        self.interrupt(INTERRUPT_CONFIG);
    }

    /// Says that only a reset helps (2.1.2): the bit in the device status field, and, where the device is live,
    /// the interrupt.
    pub fn needs_reset(&self, live: bool) {
        self.0.needs_reset.store(true, Ordering::Release);
        if live {
            self.interrupt(INTERRUPT_CONFIG);
        }
    }

    /// InterruptStatus.
    pub fn pending(&self) -> u32 {
        self.0.pending.load(Ordering::Acquire)
    }

    /// Whether [`Notifier::needs_reset`] was said since the last reset.
    pub fn is_reset_needed(&self) -> bool {
        self.0.needs_reset.load(Ordering::Acquire)
    }

    /// InterruptACK: these reasons were dealt with.
    pub fn acknowledge(&self, bits: u32) {
        self.0.pending.fetch_and(!bits, Ordering::AcqRel);
    }

    /// As after power-on.
    pub fn reset(&self) {
        self.0.pending.store(0, Ordering::Release);
        self.0.needs_reset.store(false, Ordering::Release);
    }

    fn interrupt(&self, bits: u32) {
        // The reason is there before the line is raised: the handler reads it first thing.
        self.0.pending.fetch_or(bits, Ordering::AcqRel);
        self.0.line.raise();
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier")
            .field("pending", &self.pending())
            .field("needs_reset", &self.is_reset_needed())
            .finish()
    }
}
