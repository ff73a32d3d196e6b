//! Between the devices and KVM: an interrupt line is an irqfd.

use std::sync::Arc;

use cafevm_devices::irq::IrqLine;
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::error::HostError;

/// An interrupt line of KVM's interrupt controllers.
struct Irqfd(EventFd);

impl IrqLine for Irqfd {
    fn raise(&self) {
        // It fails only where an interrupt has been pending so often that the counter is full: it still is.
        let _written = self.0.write(1);
    }
}

/// The interrupt line `irq`: a pin of the IOAPIC and, below 16, of the two PICs.
///
/// # Errors
///
/// Where KVM refuses.
pub(crate) fn line(vm: &VmFd, irq: u32) -> Result<Arc<dyn IrqLine>, HostError> {
    let event = EventFd::new(EFD_NONBLOCK).map_err(HostError::os("make an eventfd"))?;
    vm.register_irqfd(&event, irq).map_err(HostError::kvm("wire an interrupt"))?;
    Ok(Arc::new(Irqfd(event)))
}
