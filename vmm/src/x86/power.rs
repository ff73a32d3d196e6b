//! The ports with which a guest ends the machine.
//!
//! | port | user |
//! |---|---|
//! | 0x64 | the keyboard controller's reset line: Linux's `reboot=k`, and ACPI's reset register (ACPI 6.5, 4.8.3.6) |
//! | 0x600, 0x601 | ACPI's sleep control and sleep status (4.8.3.7): how Linux powers off |
//! | 0x505 | pvpanic: Linux reports a panic, if it has the driver |
//! | 0xcf9 | the reset control register of Intel's chipsets, bit 2: Linux's `reboot=p` |
//! | 0xf4 | the debug exit: a guest's own exit status |

use std::sync::atomic::{AtomicU64, Ordering};

use crate::layout::{
    DEBUG_EXIT_PORT, PVPANIC_PORT, RESET_COMMAND, RESET_CONTROL_PORT, RESET_PORT,
    SLEEP_CONTROL_PORT, SLEEP_STATUS_PORT,
};
use crate::x86::crash::Cause;
use crate::x86::outcome::Outcome;

/// The sleep type for power-off: the value in `\_S5`, which the guest writes to the sleep control register.
pub(crate) const SOFT_OFF: u8 = 5;
/// In the sleep control register: the sleep type, and the enable bit (ACPI 6.5, table 4.16).
const SLEEP_TYPE_SHIFT: u32 = 2;
const SLEEP_TYPE_MASK: u8 = 0b111;
const SLEEP_ENABLE: u8 = 1 << 5;

/// In the reset control register (Intel ICH data sheet, RST_CNT).
const RESET_CPU: u8 = 1 << 2;

/// pvpanic's events (QEMU's documentation, `specs/pvpanic`): the guest panicked; or it panicked and starts a crash
/// kernel.
const PANICKED: u8 = 1 << 0;
const CRASH_LOADED: u8 = 1 << 1;

/// How often the start of a crash kernel is logged. A crash kernel may panic, too.
const CRASH_KERNELS_SHOWN: u64 = 3;

/// Counts how often the guest reported a panic with a crash kernel. The first times are logged; the total is logged at
/// the end of the machine if it is higher.
#[derive(Debug, Default)]
pub(crate) struct CrashKernels(AtomicU64);

impl CrashKernels {
    fn count(&self) {
        let earlier = self.0.fetch_add(1, Ordering::Relaxed);
        if earlier < CRASH_KERNELS_SHOWN {
            let last = if earlier + 1 == CRASH_KERNELS_SHOWN {
                " (further times are only counted)"
            } else {
                ""
            };
            tracing::warn!("the guest panicked and starts its crash kernel{last}");
        }
    }
}

impl Drop for CrashKernels {
    fn drop(&mut self) {
        let times = *self.0.get_mut();
        if times > CRASH_KERNELS_SHOWN {
            tracing::warn!(
                "the guest reported {times} times (port {PVPANIC_PORT:#x}) that it panicked and starts its crash kernel"
            );
        }
    }
}

/// The outcome of a write to a port; none if the port belongs to a device.
pub(crate) fn write(port: u16, data: &[u8], crash_kernels: &CrashKernels) -> Option<Outcome> {
    let outcome = match (port, data) {
        (RESET_PORT, [RESET_COMMAND, ..]) => Outcome::Reset,
        (RESET_CONTROL_PORT, &[value]) if value & RESET_CPU != 0 => Outcome::Reset,
        (SLEEP_CONTROL_PORT, &[value, ..]) => sleep(value),
        (SLEEP_STATUS_PORT, _) => Outcome::Continue,
        (PVPANIC_PORT, &[events, ..]) => panicked(events, crash_kernels),
        (DEBUG_EXIT_PORT, &[a]) => Outcome::DebugExit(u32::from(a)),
        (DEBUG_EXIT_PORT, &[a, b]) => Outcome::DebugExit(u32::from(u16::from_le_bytes([a, b]))),
        (DEBUG_EXIT_PORT, &[a, b, c, d]) => Outcome::DebugExit(u32::from_le_bytes([a, b, c, d])),
        _ => return None,
    };
    Some(outcome)
}

/// The value of a byte read from a port; none if the port belongs to a device.
pub(crate) const fn read(port: u16) -> Option<u8> {
    match port {
        // The keyboard controller's status: no data, ready for a command. The sleep status: awake.
        RESET_PORT | SLEEP_CONTROL_PORT | SLEEP_STATUS_PORT => Some(0),
        // The events that are supported.
        PVPANIC_PORT => Some(PANICKED | CRASH_LOADED),
        _ => None,
    }
}

/// Power-off is the only sleep state.
fn sleep(value: u8) -> Outcome {
    let kind = value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK;
    if value & SLEEP_ENABLE != 0 && kind == SOFT_OFF {
        Outcome::PowerOff
    } else {
        Outcome::Continue
    }
}

fn panicked(events: u8, crash_kernels: &CrashKernels) -> Outcome {
    if events & PANICKED != 0 {
        return Outcome::Crash(Cause::Panic);
    }
    if events & CRASH_LOADED != 0 {
        crash_kernels.count();
    }
    Outcome::Continue
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(port: u16, data: &[u8]) -> Option<Outcome> {
        super::write(port, data, &CrashKernels::default())
    }

    #[test]
    fn off_is_sleep_type_5_and_now() {
        let off = SOFT_OFF << 2 | SLEEP_ENABLE;
        assert_eq!(off, 0x34);
        assert_eq!(write(SLEEP_CONTROL_PORT, &[off]), Some(Outcome::PowerOff));
        assert_eq!(write(SLEEP_CONTROL_PORT, &[SOFT_OFF << 2]), Some(Outcome::Continue));
        assert_eq!(write(SLEEP_CONTROL_PORT, &[1 << 2 | SLEEP_ENABLE]), Some(Outcome::Continue));
        assert_eq!(write(SLEEP_STATUS_PORT, &[0x80]), Some(Outcome::Continue));
    }

    #[test]
    fn a_panic_that_is_told_is_a_crash() {
        assert_eq!(read(PVPANIC_PORT), Some(3));
        assert_eq!(write(PVPANIC_PORT, &[PANICKED]), Some(Outcome::Crash(Cause::Panic)));
        assert_eq!(write(PVPANIC_PORT, &[CRASH_LOADED]), Some(Outcome::Continue));
        assert_eq!(write(PVPANIC_PORT, &[0]), Some(Outcome::Continue));
    }

    #[test]
    fn other_ports_are_the_devices() {
        assert_eq!(write(0x3f8, &[0xfe]), None);
        assert_eq!(write(RESET_PORT, &[0xd1]), None);
        assert_eq!(write(RESET_CONTROL_PORT, &[2]), None);
        assert_eq!(write(RESET_CONTROL_PORT, &[0x0e]), Some(Outcome::Reset));
        assert_eq!(read(0x3f8), None);
    }
}
