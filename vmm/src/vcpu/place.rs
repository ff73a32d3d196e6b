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

/// A vCPU, as its own thread sees it during an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of the vCPU.
    pub(crate) cpu: u32,
    /// The instruction pointer; none if KVM does not provide it. At a write KVM may have advanced it.
    pub(crate) rip: Option<u64>,
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

/// The place of the guest, if the current thread is that of a vCPU.
pub(crate) fn current() -> Option<Place> {
    let (cpu, fd) = CURRENT.get()?;
    let mut regs = kvm_regs::default();
    // SAFETY: the descriptor is that of a vCPU that exists (`OnVcpu`), and KVM_GET_REGS writes one `kvm_regs`.
    let result = unsafe { ioctl_with_mut_ref(&fd, KVM_GET_REGS(), &mut regs) };
    Some(Place { cpu, rip: (result == 0).then_some(regs.rip) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_without_a_vcpu_has_no_place() {
        assert_eq!(current(), None);
    }
}
