//! How a guest starts again, which here ends it: what it finds where a PC's firmware begins, and how a Linux that
//! restarts in order is told from one that panicked.
//!
//! Linux resets the machine both ways with the same instructions. But before a restart in order it shuts its
//! processors down, and with them their local APICs; after a panic (or SysRq-B) it does not trust itself to do
//! so, and resets the machine as it stands. So the local APIC of the vCPU that resets the machine tells the two
//! apart. A guest with a driver for pvpanic (`power.rs`) says it by itself, and sooner.

use cafevm_devices::memory::{GuestRam, OutOfRam};
use kvm_bindings::kvm_lapic_state;
use kvm_ioctls::VcpuFd;
use tracing::{debug, warn};

use crate::crash::Cause;
use crate::dispatch::Outcome;
use crate::layout::{RESET_COMMAND, RESET_PORT, RESTART};

/// What stands at the address where a processor begins after a reset: the machine's reset. Linux goes there in
/// real mode where it knows no other way, as with hardware-reduced ACPI and no EFI.
///
/// ```text
///  mov al, 0xfe
///  out 0x64, al
///  hlt            ; does not come here
///  jmp to the hlt
/// ```
const CODE: [u8; 7] = [0xb0, RESET_COMMAND, 0xe6, RESET_PORT.to_le_bytes()[0], 0xf4, 0xeb, 0xfd];

/// Writes the code.
///
/// # Errors
///
/// Where there is no RAM.
pub(crate) fn write(ram: &GuestRam) -> Result<(), OutOfRam> {
    ram.write(RESTART, &CODE)
}

// Registers of the local APIC (Intel SDM volume 3, table 11-1).
const SPURIOUS: usize = 0xf0;
const TIMER: usize = 0x320;
/// In the spurious-interrupt vector register: switched on by software.
const ENABLED: u32 = 1 << 8;
/// In an entry of the local vector table: it interrupts nobody.
const MASKED: u32 = 1 << 16;
/// The spurious-interrupt vector register after a reset.
const AFTER_RESET: u32 = 0xff;

/// What a Linux guest meant by an outcome that ends the machine; what is no such outcome is left alone.
pub(crate) fn judge(outcome: Outcome, vcpu: &VcpuFd) -> Outcome {
    // A triple fault is one of Linux's ways to reset the machine: reboot=t, or after all others failed.
    if !matches!(outcome, Outcome::Reset | Outcome::Crash(Cause::TripleFault)) {
        return outcome;
    }
    match vcpu.get_lapic() {
        Ok(apic) => {
            let (spurious, timer) = (register(&apic, SPURIOUS), register(&apic, TIMER));
            debug!(
                "reset by the guest: local APIC's spurious vector {spurious:#x}, timer {timer:#x}"
            );
            verdict(outcome, was_in_order(spurious, timer))
        }
        Err(error) => {
            warn!(
                "cannot tell a restart from a panic, as KVM does not show the local APIC: {error}"
            );
            outcome
        }
    }
}

fn register(apic: &kvm_lapic_state, at: usize) -> u32 {
    let bytes = apic.regs.get(at..at + 4).unwrap_or_default();
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(byte.to_le_bytes()[0]))
}

/// Whether the local APIC was shut down. One that was never switched on is that of a kernel that did not get far.
const fn was_in_order(spurious: u32, timer: u32) -> bool {
    let untouched = spurious == AFTER_RESET;
    let at_work = spurious & ENABLED != 0 && timer & MASKED == 0;
    !untouched && !at_work
}

fn verdict(outcome: Outcome, in_order: bool) -> Outcome {
    match (outcome, in_order) {
        (_, true) => Outcome::Reset,
        (Outcome::Reset, false) => Outcome::Crash(Cause::ResetInEmergency),
        (other, false) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_apic_tells_a_restart_from_a_panic() {
        // Values seen with Debian's 6.1: after `reboot -f`, and after a panic.
        assert!(was_in_order(0x10f, 0x1_00ec));
        assert!(!was_in_order(0x1ff, 0x400ec));
        // Before Linux had set up its interrupts.
        assert!(!was_in_order(0xff, 0x1_0000));
        // Switched off altogether.
        assert!(was_in_order(0xef, 0xec));
    }

    #[test]
    fn a_triple_fault_in_order_is_a_restart() {
        let fault = || Outcome::Crash(Cause::TripleFault);
        assert_eq!(verdict(fault(), true), Outcome::Reset);
        assert_eq!(verdict(fault(), false), fault());
        assert_eq!(verdict(Outcome::Reset, true), Outcome::Reset);
        assert_eq!(verdict(Outcome::Reset, false), Outcome::Crash(Cause::ResetInEmergency));
    }

    #[test]
    fn registers_are_little_endian() {
        let mut apic = kvm_lapic_state::default();
        apic.regs[SPURIOUS] = -1;
        apic.regs[SPURIOUS + 1] = 1;
        assert_eq!(register(&apic, SPURIOUS), 0x1ff);
        assert_eq!(register(&apic, 4096), 0);
    }
}
