//! How a live device speaks to the driver outside its queues: interrupts, and DEVICE_NEEDS_RESET.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::mmio::Window;
use super::spec::mmio::{INTERRUPT_CONFIG, INTERRUPT_STATUS, INTERRUPT_USED, STATUS};
use super::spec::status::DEVICE_NEEDS_RESET;
use crate::irq::IrqLine;

/// A device's voice, shared between its transport, which answers the registers, and whoever serves its
/// queues.
#[derive(Clone)]
pub struct Notifier(Arc<Shared>);

struct Shared {
    /// InterruptStatus and Status stand only here: whoever serves the queues changes them at any time.
    window: Window,
    line: Arc<dyn IrqLine>,
}

impl Notifier {
    /// The voice of a device that interrupts by `line`, and whose registers are read in `window`.
    pub fn new(line: Arc<dyn IrqLine>, window: Window) -> Self {
        Self(Arc::new(Shared { window, line }))
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
        self.add_status(DEVICE_NEEDS_RESET);
        if live {
            self.interrupt(INTERRUPT_CONFIG);
        }
    }

    /// InterruptStatus (4.2.2).
    pub fn pending(&self) -> u32 {
        u32::from_le(self.word(INTERRUPT_STATUS).load(Ordering::Acquire))
    }

    /// The device status field (2.1).
    pub fn status(&self) -> u32 {
        u32::from_le(self.word(STATUS).load(Ordering::Acquire))
    }

    /// Sets bits of the device status field; only [`Notifier::reset`] takes them back.
    pub fn add_status(&self, bits: u32) {
        self.word(STATUS).fetch_or(bits.to_le(), Ordering::AcqRel);
    }

    /// Whether [`Notifier::needs_reset`] was said since the last reset.
    pub fn is_reset_needed(&self) -> bool {
        self.status() & DEVICE_NEEDS_RESET != 0
    }

    /// InterruptACK: the driver has handled these reasons. The line is deasserted when none is left (4.2.3.4). Takes no
    /// lock, so it never waits for a queue that is being served.
    pub fn acknowledge(&self, bits: u32) {
        let before = self.word(INTERRUPT_STATUS).fetch_and(!bits.to_le(), Ordering::AcqRel);
        if u32::from_le(before) & !bits == 0 {
            self.deassert();
        }
    }

    /// As after power-on.
    pub fn reset(&self) {
        self.word(INTERRUPT_STATUS).store(0, Ordering::Release);
        self.word(STATUS).store(0, Ordering::Release);
        self.deassert();
    }

    fn deassert(&self) {
        self.0.line.lower();
        // A queue may have used buffers, and asserted the line, just before it was deasserted here.
        if self.pending() != 0 {
            self.0.line.raise();
        }
    }

    fn interrupt(&self, bits: u32) {
        // The reason is there before the line is raised: the handler reads it first thing.
        self.word(INTERRUPT_STATUS).fetch_or(bits.to_le(), Ordering::AcqRel);
        self.0.line.raise();
        // The driver may have acknowledged the reason before the line was asserted: a level-triggered pin would go on
        // interrupting for a reason that is not there.
        if self.pending() == 0 {
            self.deassert();
        }
    }

    fn word(&self, offset: u64) -> &AtomicU32 {
        self.0.window.word(offset)
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
