//! The debug registers: breakpoints, watchpoints and single steps of a vCPU.
//!
//! All of them are of the processor, none is written into the guest's code: the guest's memory stays as it is, and a
//! breakpoint may be set where no code is loaded yet. A processor has four.

use kvm_bindings::{
    KVM_GUESTDBG_BLOCKIRQ, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP,
    kvm_guest_debug,
};
use kvm_ioctls::{Error, VcpuFd};

/// The most breakpoints and watchpoints.
pub(crate) const BREAKPOINTS_MAX: usize = 4;
/// DR7: the bits that are always 1, and exact breakpoints.
const DR7_FIXED: u64 = 0x400 | 0x300;
/// DR6.B0 to B3: the breakpoint that was hit.
const DR6_HIT: u64 = 0xf;

/// An exit because of a breakpoint or the end of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebugExit {
    /// DR6 of the exception.
    pub dr6: u64,
    /// The linear address of the next instruction.
    pub pc: u64,
}

/// What the processor watches for at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    /// An instruction there; whether the debugger asked for a hardware breakpoint.
    Execution { is_hardware: bool },
    /// A write to 1, 2, 4 or 8 bytes.
    Write,
    /// A read of them. A processor reports a write, too.
    Read,
    /// A read or a write.
    Access,
}

/// A breakpoint or a watchpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Breakpoint {
    pub(crate) watched: Watched,
    /// A linear address.
    pub(crate) addr: u64,
    /// Bytes; 1 for an instruction.
    pub(crate) len: u64,
}

impl Breakpoint {
    /// Whether a processor can watch this: a range that is a naturally aligned power of two.
    pub(crate) const fn is_possible(&self) -> bool {
        matches!(self.len, 1 | 2 | 4 | 8) && self.addr.is_multiple_of(self.len)
    }

    /// The bits R/W and LEN of DR7.
    const fn kind(&self) -> u64 {
        let access = match self.watched {
            Watched::Execution { .. } => return 0,
            Watched::Write => 0b01,
            Watched::Read | Watched::Access => 0b11,
        };
        let len = match self.len {
            1 => 0b00,
            2 => 0b01,
            8 => 0b10,
            _ => 0b11,
        };
        access | len << 2
    }
}

/// Sets the breakpoints of a vCPU, and whether it stops after one instruction. Without both, the guest's own debug
/// registers work again.
///
/// # Errors
///
/// If KVM refuses.
pub(crate) fn set(vcpu: &VcpuFd, breakpoints: &[Breakpoint], steps: bool) -> Result<(), Error> {
    let mut debug = control(breakpoints, steps);
    let result = vcpu.set_guest_debug(&debug);
    if !steps || result.is_ok() {
        return result;
    }
    // An older KVM cannot hold interrupts back: a step may then lead into a handler.
    debug.control &= !KVM_GUESTDBG_BLOCKIRQ;
    vcpu.set_guest_debug(&debug)
}

fn control(breakpoints: &[Breakpoint], steps: bool) -> kvm_guest_debug {
    let mut debug = kvm_guest_debug::default();
    if steps {
        debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ;
    }
    if !breakpoints.is_empty() {
        debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
        let [dr0, dr1, dr2, dr3, _, _, _, dr7] = &mut debug.arch.debugreg;
        *dr7 = DR7_FIXED;
        for (n, (dr, breakpoint)) in [dr0, dr1, dr2, dr3].into_iter().zip(breakpoints).enumerate() {
            *dr = breakpoint.addr;
            *dr7 |= 0b11 << (2 * n) | breakpoint.kind() << (16 + 4 * n);
        }
    }
    debug
}

/// The breakpoint that an exit reports; none if it is the end of a step.
pub(crate) fn hit(exit: DebugExit, breakpoints: &[Breakpoint]) -> Option<Breakpoint> {
    let reported = (exit.dr6 & DR6_HIT).trailing_zeros() as usize;
    let is_there =
        |b: &&Breakpoint| matches!(b.watched, Watched::Execution { .. }) && b.addr == exit.pc;
    breakpoints.get(reported).or_else(|| breakpoints.iter().find(is_there)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: Breakpoint =
        Breakpoint { watched: Watched::Execution { is_hardware: false }, addr: 0x1001, len: 1 };
    const WRITE: Breakpoint = Breakpoint { watched: Watched::Write, addr: 0x2008, len: 8 };

    #[test]
    fn the_debug_registers_have_each_breakpoint() {
        let access = Breakpoint { watched: Watched::Access, addr: 0x3004, len: 4 };
        let debug = control(&[CODE, WRITE, access], false);
        assert_eq!(debug.control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP);
        assert_eq!(debug.arch.debugreg[..4], [0x1001, 0x2008, 0x3004, 0]);
        // Enabled: 0 to 2. R/W and LEN: 0000, 1001 (8 bytes, write), 1111 (4 bytes, any access).
        assert_eq!(debug.arch.debugreg[7], 0x0f90_0000 | 0x700 | 0b11_1111);
        assert_eq!(control(&[], false), kvm_guest_debug::default());
        assert_ne!(control(&[], true).control & KVM_GUESTDBG_SINGLESTEP, 0);
    }

    #[test]
    fn a_range_is_aligned_to_its_length() {
        assert!(CODE.is_possible() && WRITE.is_possible());
        assert!(!Breakpoint { addr: 0x2004, ..WRITE }.is_possible());
        assert!(!Breakpoint { len: 3, addr: 0, ..WRITE }.is_possible());
        assert!(!Breakpoint { len: 0, ..WRITE }.is_possible());
    }

    #[test]
    fn an_exit_names_its_breakpoint() {
        let exit = |dr6, pc| DebugExit { dr6, pc };
        assert_eq!(hit(exit(0b10, 0x9000), &[CODE, WRITE]), Some(WRITE));
        // DR6 may be empty; the place is enough for code.
        assert_eq!(hit(exit(0, 0x1001), &[WRITE, CODE]), Some(CODE));
        assert_eq!(hit(exit(1 << 14, 0x1002), &[WRITE, CODE]), None);
        assert_eq!(hit(exit(0b1000, 0x1002), &[]), None);
    }
}
