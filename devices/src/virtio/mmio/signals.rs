//! InterruptStatus and Status, which the register window stores, and the interrupt line.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::irq::IrqLine;
use crate::observe::{Event, Reporter};
use crate::register_page::Window;
use crate::virtio::notifier::{Notifier, Signals};
use crate::virtio::spec::mmio::{INTERRUPT_CONFIG, INTERRUPT_STATUS, INTERRUPT_USED, STATUS};
use crate::virtio::spec::status::{DEVICE_NEEDS_RESET, DRIVER_OK};

/// The signals of a device with registers, shared by its transport and the threads that service its queues.
pub(super) struct WindowSignals {
    /// The only copy of InterruptStatus and Status: the threads that service the queues change them at any time.
    window: Window,
    line: Arc<dyn IrqLine>,
    reporter: Reporter,
}

impl WindowSignals {
    /// The signals of a device that interrupts through `line`, with its registers in `window`.
    pub(super) fn new(line: Arc<dyn IrqLine>, window: Window, reporter: Reporter) -> Self {
        Self { window, line, reporter }
    }

    /// InterruptStatus (4.2.2).
    pub(super) fn pending(&self) -> u32 {
        u32::from_le(self.word(INTERRUPT_STATUS).load(Ordering::Acquire))
    }

    /// InterruptACK: the driver has handled these reasons. The line is deasserted when no reason is left (4.2.3.4).
    /// Takes no lock, so it never waits for a queue that is being serviced.
    pub(super) fn acknowledge(&self, bits: u32) {
        self.reporter.emit(|| Event::Acknowledged { reasons: bits });
        let before = self.word(INTERRUPT_STATUS).fetch_and(!bits.to_le(), Ordering::AcqRel);
        if u32::from_le(before) & !bits == 0 {
            self.deassert();
        }
    }

    fn deassert(&self) {
        self.line.lower();
        // A queue may have used buffers, and asserted the line, just before it was deasserted here.
        if self.pending() != 0 {
            self.line.raise();
        }
    }

    fn interrupt(&self, bits: u32) {
        self.reporter.emit(|| Event::Raised { reasons: bits });
        // The reason is stored before the line is raised: the handler reads it first.
        self.word(INTERRUPT_STATUS).fetch_or(bits.to_le(), Ordering::AcqRel);
        self.line.raise();
        // The driver may have acknowledged the reason before the line was asserted. Without this check, a
        // level-triggered pin would keep interrupting for a reason that no longer exists.
        if self.pending() == 0 {
            self.deassert();
        }
    }

    fn status_changed(&self, before: u32, now: u32) {
        if before != now {
            self.reporter.emit(|| Event::Status { before, now });
        }
    }

    fn word(&self, offset: u64) -> &AtomicU32 {
        self.window.word(offset)
    }
}

impl fmt::Debug for WindowSignals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowSignals")
            .field("status", &self.status())
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}

impl Notifier for WindowSignals {
    fn used_buffers(&self) {
        self.interrupt(INTERRUPT_USED);
    }

    fn config_changed(&self) {
        self.interrupt(INTERRUPT_CONFIG);
    }

    fn needs_reset(&self) {
        self.add_status(DEVICE_NEEDS_RESET);
        if self.status() & DRIVER_OK != 0 {
            self.interrupt(INTERRUPT_CONFIG);
        }
    }

    fn is_reset_needed(&self) -> bool {
        self.status() & DEVICE_NEEDS_RESET != 0
    }
}

impl Signals for WindowSignals {
    fn status(&self) -> u32 {
        u32::from_le(self.word(STATUS).load(Ordering::Acquire))
    }

    fn add_status(&self, bits: u32) {
        let before = self.word(STATUS).fetch_or(bits.to_le(), Ordering::AcqRel);
        self.status_changed(u32::from_le(before), u32::from_le(before) | bits);
    }

    fn reset(&self) {
        self.word(INTERRUPT_STATUS).store(0, Ordering::Release);
        self.deassert();
        // Last: a driver that reads 0 finds the device in the state after power-on.
        let before = self.word(STATUS).swap(0, Ordering::AcqRel);
        self.status_changed(u32::from_le(before), 0);
    }
}
