//! How a guest starts again, which here ends it: what it finds where a PC's firmware begins, and how a Linux that
//! restarts in order is told from one that panicked.
//!
//! Linux resets the machine both ways with the same instructions. But before a restart in order it takes leave of
//! KVM: it switches off, on every processor, the clock that KVM keeps for it. After a panic (or SysRq-B) it trusts
//! itself with nothing, and resets the machine as it stands. So the clock of the vCPU that resets the machine tells
//! the two apart. A kernel built without CONFIG_KVM_GUEST has no such clock, and its panic looks like a restart;
//! unless it has a driver for pvpanic (`power.rs`), by which any kernel says it by itself, and sooner.
//!
//! A triple fault is a crash, also of a Linux, unless it was told to restart in this way (`reboot=t`).

use cafevm_devices::memory::{GuestRam, OutOfRam};
use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;
use tracing::debug;

use crate::layout::{RESET_COMMAND, RESET_PORT, RESTART};
use crate::x86::crash::Cause;
use crate::x86::outcome::Outcome;

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

// Where a Linux with KVM's clock has told KVM to keep the time since boot (bit 0: whether), and where to put the
// time of day, for which it asks once at boot (Linux's documentation, `virt/kvm/x86/msr.rst`).
const SYSTEM_TIME: u32 = 0x4b56_4d01;
const WALL_CLOCK: u32 = 0x4b56_4d00;
const ENABLED: u64 = 1 << 0;

/// What a guest made of KVM's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// It never asked for it: it did not get far, or has no driver.
    Unknown,
    /// It uses it.
    InUse,
    /// It used it, and took leave.
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

/// Judges how a guest ended the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judge {
    linux: bool,
    /// Whether the guest was told to restart by a triple fault. KVM resets the vCPU's clock with it on some
    /// processors, so that here a panic cannot be told from a restart.
    by_triple_fault: bool,
}

impl Judge {
    /// A judge for a guest that is known to be Linux, or is not.
    pub(crate) fn new(linux: bool, command_line: &str) -> Self {
        let mut words = command_line.split_ascii_whitespace();
        let is_fault = |how: &str| how.split(',').any(|part| part.starts_with('t'));
        let by_triple_fault = words.any(|word| word.strip_prefix("reboot=").is_some_and(is_fault));
        Self { linux, by_triple_fault: linux && by_triple_fault }
    }

    /// What the guest meant by an outcome that ends the machine; what is no such outcome is left alone.
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

/// A model-specific register; 0 where this KVM has no such.
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
    // As Debian's 6.1 leaves the two registers after `reboot -f`, after a panic, and before anything was set up.
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
