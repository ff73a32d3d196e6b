//! Guest RAM and pages of registers, and their memory slots in KVM.
#![expect(unsafe_code, reason = "a memory slot hands the address of a mapping to KVM")]

use cafevm_devices::memory::GuestRam;
use cafevm_devices::virtio::mmio::{PAGE_SIZE, RegisterPage};
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use crate::error::HostError;
use crate::layout;

/// Guest RAM of `bytes`, laid out as [`layout::ram`] says. It takes memory of the host only as it is used.
///
/// # Errors
///
/// Where the host has no address space for it.
pub(crate) fn allocate(bytes: u64) -> Result<GuestRam, HostError> {
    let too_large = |why: String| HostError::MemoryRefused { bytes, why };
    let ranges = layout::ram(bytes)
        .into_iter()
        .map(|r| usize::try_from(r.end - r.start).map(|len| (r.start, len)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| too_large(e.to_string()))?;
    GuestRam::anonymous(&ranges).map_err(|e| too_large(e.to_string()))
}

/// Gives `vm` a memory slot for each range of `ram`.
///
/// # Errors
///
/// Where KVM takes no such slot.
pub(crate) fn map(vm: &VmFd, ram: &GuestRam) -> Result<(), HostError> {
    let bytes = ram.ranges().iter().map(|&(_, len)| len).sum();
    for (slot, region) in (0u32..).zip(ram.memory().iter()) {
        let slot = kvm_userspace_memory_region {
            slot,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
            flags: 0,
        };
        // SAFETY: the address and size are those of one mapping of `ram`. A guest reaches it only through a
        // `vcpu::Vcpu`, and each of those holds a handle on `ram`, so it is mapped as long as a guest can run.
        // Guest RAM is only ever accessed as volatile memory, so the guest may write to it at any time.
        unsafe { vm.set_user_memory_region(slot) }
            .map_err(|error| HostError::MemoryRefused { bytes, why: format!("KVM: {error}") })?;
    }
    Ok(())
}

/// Shows the guest a page of registers at `addr`, which it can read and not write, in memory slot `slot`.
///
/// # Errors
///
/// Where KVM does not take it.
pub(crate) fn show_registers(
    vm: &VmFd,
    slot: u32,
    addr: u64,
    page: &RegisterPage,
) -> Result<(), kvm_ioctls::Error> {
    let slot = kvm_userspace_memory_region {
        slot,
        guest_phys_addr: addr,
        memory_size: PAGE_SIZE,
        userspace_addr: page.as_ptr() as u64,
        flags: KVM_MEM_READONLY,
    };
    // SAFETY: the page is a whole one of the host's, with nothing else in it, and made of atomics; the guest only reads
    // it. A guest runs only in `vcpu::Vcpu::run`, which borrows the buses, on which are the devices that own the page.
    unsafe { vm.set_user_memory_region(slot) }
}

/// Takes such a page away again: when this returns, no vCPU reads there any more.
///
/// # Errors
///
/// Where KVM does not do it.
pub(crate) fn hide_registers(vm: &VmFd, slot: u32, addr: u64) -> Result<(), kvm_ioctls::Error> {
    let slot = kvm_userspace_memory_region {
        slot,
        guest_phys_addr: addr,
        memory_size: 0,
        userspace_addr: 0,
        flags: 0,
    };
    // SAFETY: no memory is given to the guest, only taken.
    unsafe { vm.set_user_memory_region(slot) }
}
