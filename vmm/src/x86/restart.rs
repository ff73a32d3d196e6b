//! A guest's restart, which ends the machine: the code at the reset vector, and how to distinguish a restart of Linux
//! from the end of its panic.
//!
//! Linux resets the machine with the same instructions in both cases. But before an orderly restart it switches off, on
//! every processor, the clock that KVM keeps for it. After a panic (or SysRq-B) it skips that step. So the clock of the
//! vCPU that resets the machine distinguishes the two. A kernel built without CONFIG_KVM_GUEST has no such clock, and
//! its panic looks like a restart, unless it has a driver for pvpanic (`power.rs`).
//!
//! A triple fault is a crash, also of Linux, unless its command line asks for a restart in this way (`reboot=t`).

use cafevm_devices::memory::{GuestRam, OutOfRam};
use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;
use tracing::debug;

use crate::layout::{RESET_COMMAND, RESET_PORT, RESTART};
use crate::x86::crash::Cause;
use crate::x86::outcome::Outcome;

/// The code at the reset vector: it resets the machine. Linux jumps there in real mode if it knows no other way, as
/// with hardware-reduced ACPI and no EFI.
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
/// If there is no RAM.
pub(crate) fn write(ram: &GuestRam) -> Result<(), OutOfRam> {
    ram.write(RESTART, &CODE)
}

// The registers with which Linux sets up KVM's clock: the time since boot (bit 0: enabled), and the time of day, which
// it requests once at boot (Linux's documentation, `virt/kvm/x86/msr.rst`).
const SYSTEM_TIME: u32 = 0x4b56_4d01;
const WALL_CLOCK: u32 = 0x4b56_4d00;
const ENABLED: u64 = 1 << 0;

/// The state of KVM's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// Never enabled: the guest did not get so far, or has no driver.
    Unknown,
    /// In use.
    InUse,
    /// Switched off after use.
    SwitchedOff,
}

impl Clock {
    const fn new(system_time: u64, wall_clock: u64) -> Self {
        match (system_time & ENABLED != 0, wall_clock) {
            (true, _) => Self::InUse,
            (false, 0) => Self::Unknown,
            (false, _) => Self::SwitchedOff,
        }
    }
}

/// Interprets how a guest ended the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judge {
    linux: bool,
    /// Whether the command line asks for a restart by triple fault. Some processors reset the vCPU's clock with it, so
    /// a panic cannot be distinguished from a restart then.
    by_triple_fault: bool,
}

impl Judge {
    /// For a guest that is known to be Linux, or is not.
    pub(crate) fn new(linux: bool, command_line: &str) -> Self {
        let mut words = command_line.split_ascii_whitespace();
        let is_fault = |how: &str| how.split(',').any(|part| part.starts_with('t'));
        let by_triple_fault = words.any(|word| word.strip_prefix("reboot=").is_some_and(is_fault));
        Self { linux, by_triple_fault: linux && by_triple_fault }
    }

    /// Interprets an outcome that ends the machine; other outcomes do not change.
    pub(crate) fn judge(self, outcome: Outcome, vcpu: &VcpuFd) -> Outcome {
        if !self.linux || !matches!(outcome, Outcome::Reset | Outcome::Crash(Cause::TripleFault)) {
            return outcome;
        }
        let (system_time, wall_clock) = (read(vcpu, SYSTEM_TIME), read(vcpu, WALL_CLOCK));
        debug!("{outcome:?} by Linux; KVM's clock: {system_time:#x}, {wall_clock:#x}");
        self.verdict(outcome, Clock::new(system_time, wall_clock))
    }

    fn verdict(self, outcome: Outcome, clock: Clock) -> Outcome {
        match (outcome, clock) {
            (Outcome::Reset, Clock::InUse) => Outcome::Crash(Cause::ResetInEmergency),
            (Outcome::Crash(Cause::TripleFault), Clock::SwitchedOff) if self.by_triple_fault => {
                Outcome::Reset
            }
            (other, _) => other,
        }
    }
}

/// The value of a model-specific register; 0 if KVM has no such register.
fn read(vcpu: &VcpuFd, index: u32) -> u64 {
    let Ok(mut msrs) = Msrs::from_entries(&[kvm_msr_entry { index, ..Default::default() }]) else {
        return 0;
    };
    match vcpu.get_msrs(&mut msrs) {
        Ok(1) => msrs.as_slice().first().map_or(0, |msr| msr.data),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAULT: Outcome = Outcome::Crash(Cause::TripleFault);
    // The values that Debian's 6.1 leaves after `reboot -f`, after a panic, and before any set-up.
    const RESTARTED: Clock = Clock::new(0, 0xde0_0000);
    const PANICKED: Clock = Clock::new(0xdc0_1001, 0xdc0_0000);
    const EARLY: Clock = Clock::new(0, 0);

    #[test]
    fn a_restart_in_order_is_told_from_a_panic() {
        let judge = Judge::new(true, "quiet");
        assert_eq!(judge.verdict(Outcome::Reset, RESTARTED), Outcome::Reset);
        let panicked = judge.verdict(Outcome::Reset, PANICKED);
        assert_eq!(panicked, Outcome::Crash(Cause::ResetInEmergency));
        assert_eq!(judge.verdict(Outcome::Reset, EARLY), Outcome::Reset);
    }

    #[test]
    fn a_triple_fault_is_a_restart_only_where_it_was_asked_for() {
        assert_eq!(Judge::new(true, "quiet").verdict(FAULT, RESTARTED), FAULT);
        for text in ["reboot=t", "quiet reboot=w,t -- x", "reboot=triple"] {
            let judge = Judge::new(true, text);
            assert_eq!(judge.verdict(FAULT, RESTARTED), Outcome::Reset, "{text}");
            assert_eq!(judge.verdict(FAULT, PANICKED), FAULT, "{text}");
            assert_eq!(judge.verdict(FAULT, EARLY), FAULT, "{text}");
        }
        assert_eq!(Judge::new(true, "reboot=k,e t").verdict(FAULT, RESTARTED), FAULT);
        assert_eq!(Judge::new(false, "reboot=t").verdict(FAULT, RESTARTED), FAULT);
    }
}
