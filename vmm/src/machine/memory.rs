//! Guest RAM, pages of registers, and their memory slots in KVM.
#![expect(unsafe_code, reason = "a memory slot hands the address of a mapping to KVM")]

use cafevm_devices::memory::GuestRam;
use cafevm_devices::register_page::{PAGE_SIZE, RegisterPage};
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use crate::error::HostError;
use crate::layout;

/// Creates guest RAM of `bytes`, with the ranges of [`layout::ram`]. The host provides memory when the guest uses it.
///
/// # Errors
///
/// If the host has no address space for it.
pub(crate) fn allocate(bytes: u64) -> Result<GuestRam, HostError> {
    let too_large = |why: String| HostError::MemoryRefused { bytes, why };
    let ranges = layout::ram(bytes)
        .into_iter()
        .map(|r| usize::try_from(r.end - r.start).map(|len| (r.start, len)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| too_large(e.to_string()))?;
    GuestRam::anonymous(&ranges).map_err(|e| too_large(e.to_string()))
}

/// Creates a memory slot in `vm` for each range of `ram`.
///
/// # Errors
///
/// If KVM refuses a slot.
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

/// Maps a page of registers at `addr` into the guest, read-only, in memory slot `slot`.
///
/// # Errors
///
/// If KVM refuses.
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
    // SAFETY: the page is a whole host page with no other content, and made of atomics; the guest only reads it. A
    // guest runs only in `vcpu::Vcpu::run`, which borrows the buses; these hold the devices that own the page.
    unsafe { vm.set_user_memory_region(slot) }
}

/// Removes such a page: when this returns, no vCPU reads it directly any more.
///
/// # Errors
///
/// If KVM refuses.
pub(crate) fn hide_registers(vm: &VmFd, slot: u32, addr: u64) -> Result<(), kvm_ioctls::Error> {
    let slot = kvm_userspace_memory_region {
        slot,
        guest_phys_addr: addr,
        memory_size: 0,
        userspace_addr: 0,
        flags: 0,
    };
    // SAFETY: this call gives no memory to the guest.
    unsafe { vm.set_user_memory_region(slot) }
}
