//! Waiting, always with a limit.

use crate::{apic, interrupts};

/// How long a guest waits for a device, in milliseconds, before it reports that there was no answer.
pub const DEVICE_LIMIT: u32 = 10_000;

/// How a guest waits for something that comes with an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Halted, until an interrupt wakes the processor.
    Interrupt,
    /// Looking again and again.
    Poll,
}

/// Timer ticks a millisecond, see [`apic::start_timer`].
const TICKS_PER_MS: u32 = 1_000_000 / 128;
/// Looks between two looks at the clock, which may cost more than they do.
const LOOKS: u32 = 64;

impl Wait {
    /// Waits until `done` is true, at most `limit` milliseconds (up to 500,000). True where `done` was.
    ///
    /// [`crate::interrupts::init`] has been called on this processor. Waiting by interrupt leaves interrupts on.
    pub fn until(self, limit: u32, mut done: impl FnMut() -> bool) -> bool {
        if done() {
            return true;
        }
        apic::start_timer(limit * TICKS_PER_MS, self == Wait::Interrupt);
        loop {
            // In this order, so that what comes just before the limit still counts.
            let late = apic::timer_left() == 0;
            let looks = if self == Wait::Poll { LOOKS } else { 1 };
            for _ in 0..looks {
                if done() {
                    return true;
                }
                core::hint::spin_loop();
            }
            if late {
                return false;
            }
            if self == Wait::Interrupt {
                // The clock, too, is asked with interrupts off: the timer interrupts but once.
                interrupts::sleep_unless(|| done() || apic::timer_left() == 0);
            }
        }
    }
}

/// Lets `milliseconds` pass.
pub fn pause(milliseconds: u32) {
    Wait::Poll.until(milliseconds, || false);
}
