//! Where the guest is: the vCPU of the current thread, and its instruction pointer.
#![expect(
    unsafe_code,
    reason = "an exit borrows the vCPU, so its registers are read through its descriptor"
)]

use std::cell::Cell;
use std::os::fd::{AsRawFd, RawFd};

use kvm_bindings::{KVMIO, kvm_regs};
use kvm_ioctls::VcpuFd;
use vmm_sys_util::ioctl::ioctl_with_mut_ref;
use vmm_sys_util::ioctl_ior_nr;

ioctl_ior_nr!(KVM_GET_REGS, KVMIO, 0x81, kvm_regs);

thread_local! {
    static CURRENT: Cell<Option<(u32, RawFd)>> = const { Cell::new(None) };
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

/// The number of the vCPU that the current thread runs.
pub(crate) fn cpu() -> Option<u32> {
    CURRENT.get().map(|(cpu, _)| cpu)
}

/// The instruction pointer of the guest, in an exit of the vCPU that the current thread runs. At a write KVM may have
/// advanced it. None if KVM does not provide it.
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
    fn a_thread_without_a_vcpu_has_no_place() {
        assert_eq!((cpu(), rip()), (None, None));
    }
}
