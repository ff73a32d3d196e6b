//! What rCore's driver crate, `virtio-drivers`, needs on this machine.

use core::ptr::NonNull;

use rt::command_line::VirtioSlot;
use rt::dma::Dma;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::{DeviceType, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

use scenario::{Failure, ensure, fail};

/// Memory is mapped one to one.
pub(super) struct Identity;

// SAFETY: `dma_alloc` returns pages without another user, which `Dma` has zeroed (its memory is never given back);
// addresses are the same for the device and for us.
unsafe impl Hal for Identity {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let memory = Dma::new(pages * PAGE_SIZE, PAGE_SIZE);
        let pointer = core::ptr::with_exposed_provenance_mut(memory.address() as usize);
        (memory.address(), NonNull::new(pointer).expect("the arena is not at 0"))
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        NonNull::new(core::ptr::with_exposed_provenance_mut(address as usize))
            .expect("no device is at 0")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr().expose_provenance() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// The result of a call of the crate; a failure names the call.
///
/// # Errors
///
/// If the call failed.
pub(super) fn checked<T>(what: &str, result: virtio_drivers::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| Failure::format(format_args!("{what}: {error}")))
}

/// The device in a slot of the command line.
///
/// # Errors
///
/// If there is no device of the kind wanted.
pub(super) fn transport(
    slot: VirtioSlot,
    wanted: DeviceType,
) -> Result<MmioTransport<'static>, Failure> {
    let header = core::ptr::with_exposed_provenance_mut::<VirtIOHeader>(slot.base as usize);
    let Some(header) = NonNull::new(header) else { fail!("no device is at 0") };
    // SAFETY: the command line says that a virtio-mmio window of this size is there; no other driver uses it now.
    let transport = match unsafe { MmioTransport::new(header, slot.size as usize) } {
        Ok(transport) => transport,
        Err(error) => fail!("transport at {:#x}: {error}", slot.base),
    };
    ensure!(transport.device_type() == wanted, "it is a {:?}", transport.device_type());
    Ok(transport)
}
