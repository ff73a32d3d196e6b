//! Where the guest is: the vCPU of the current thread, and its instruction pointer.
#![expect(
    unsafe_code,
    reason = "an exit borrows the vCPU, so its registers are read through its descriptor"
)]

use std::cell::Cell;
use std::os::fd::{AsRawFd, RawFd};

use kvm_bindings::{KVMIO, kvm_regs};
use kvm_ioctls::{VcpuExit, VcpuFd};
use vmm_sys_util::ioctl::ioctl_with_mut_ref;
use vmm_sys_util::ioctl_ior_nr;

ioctl_ior_nr!(KVM_GET_REGS, KVMIO, 0x81, kvm_regs);

thread_local! {
    static CURRENT: Cell<Option<(u32, RawFd)>> = const { Cell::new(None) };
    static IN_MEMORY_WRITE: Cell<bool> = const { Cell::new(false) };
}

/// Marks the current thread as that of a vCPU, until the value is dropped. The vCPU must exist until then.
pub(super) struct OnVcpu;

impl OnVcpu {
    /// The thread runs vCPU `cpu`.
    pub(super) fn new(cpu: u32, vcpu: &VcpuFd) -> Self {
        CURRENT.set(Some((cpu, vcpu.as_raw_fd())));
        Self
    }
}

impl Drop for OnVcpu {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

/// Notes what the current exit is.
pub(super) fn note_exit(exit: &VcpuExit<'_>) {
    IN_MEMORY_WRITE.set(matches!(exit, VcpuExit::MmioWrite(..)));
}

/// The number of the vCPU that the current thread runs.
pub(crate) fn cpu() -> Option<u32> {
    CURRENT.get().map(|(cpu, _)| cpu)
}

/// An address in the instruction of the current exit that is at `rip`, for a look into the symbols. At a write to
/// memory KVM has advanced `rip`: the next instruction may belong to another line or function.
pub(crate) fn instruction(rip: u64) -> u64 {
    rip.saturating_sub(IN_MEMORY_WRITE.get().into())
}

/// The instruction pointer of the guest, in an exit of the vCPU that the current thread runs. None if KVM does not
/// provide it.
pub(crate) fn rip() -> Option<u64> {
    let (_, fd) = CURRENT.get()?;
    let mut regs = kvm_regs::default();
    // SAFETY: the descriptor is that of a vCPU that exists (`OnVcpu`), and KVM_GET_REGS writes one `kvm_regs`.
    let result = unsafe { ioctl_with_mut_ref(&fd, KVM_GET_REGS(), &mut regs) };
    (result == 0).then_some(regs.rip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_before_the_instruction_pointer() {
        note_exit(&VcpuExit::MmioWrite(0, &[]));
        assert_eq!((instruction(0x1000), instruction(0)), (0xfff, 0));
        note_exit(&VcpuExit::MmioRead(0, &mut []));
        assert_eq!(instruction(0x1000), 0x1000);
    }

    #[test]
    fn a_thread_without_a_vcpu_has_no_place() {
        assert_eq!((cpu(), rip()), (None, None));
    }
}
