//! Connects the interrupt lines of devices to KVM.

use std::sync::{Arc, Mutex, PoisonError};

use cafevm_devices::irq::IrqLine;
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::error::HostError;

/// An interrupt line for edges: each call is a pulse.
struct Irqfd(EventFd);

impl IrqLine for Irqfd {
    fn raise(&self) {
        // The one possible error means that the counter is full: an interrupt is pending then, too.
        let _written = self.0.write(1);
    }
}

/// Interrupt line `irq` for pulses: a pin of the IOAPIC and, below 16, of the two PICs.
///
/// # Errors
///
/// If KVM refuses.
pub(crate) fn pulses(vm: &VmFd, irq: u32) -> Result<Arc<dyn IrqLine>, HostError> {
    let event =
        EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(HostError::os("make an eventfd"))?;
    vm.register_irqfd(&event, irq).map_err(HostError::kvm("wire an interrupt"))?;
    Ok(Arc::new(Irqfd(event)))
}

/// Interrupt line `irq` with a level: it stays asserted until the device lowers it. The guest may program its pin as
/// level-triggered, as virtio-mmio specifies (virtio 1.4, 4.2.3.4: until InterruptStatus is 0), or as edge-triggered.
pub(crate) fn level(vm: Arc<VmFd>, irq: u32) -> Arc<dyn IrqLine> {
    Arc::new(Level::new(move |asserted| {
        // The possible errors are a missing interrupt controller or pin; both exist.
        let _set = vm.set_irq_line(irq, asserted);
    }))
}

/// The level of a line, set by `set`.
struct Level<F> {
    set: F,
    /// Whether the line is asserted. The lock makes the change of the line and of this value atomic. It is held for
    /// about a microsecond.
    asserted: Mutex<bool>,
}

impl<F: Fn(bool)> Level<F> {
    const fn new(set: F) -> Self {
        Self { set, asserted: Mutex::new(false) }
    }
}

impl<F: Fn(bool) + Send + Sync> IrqLine for Level<F> {
    fn raise(&self) {
        let mut asserted = self.asserted.lock().unwrap_or_else(PoisonError::into_inner);
        if *asserted {
            // An edge-triggered pin receives a new edge.
            (self.set)(false);
        }
        *asserted = true;
        (self.set)(true);
    }

    fn lower(&self) {
        let mut asserted = self.asserted.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *asserted) {
            (self.set)(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_stays_asserted_and_each_raise_is_an_edge() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let line = {
            let seen = seen.clone();
            Level::new(move |asserted| seen.lock().unwrap().push(asserted))
        };
        let seen = || std::mem::take(&mut *seen.lock().unwrap());
        line.lower();
        assert!(seen().is_empty());
        line.raise();
        assert_eq!(seen(), [true]);
        line.raise();
        assert_eq!(seen(), [false, true]);
        line.lower();
        line.lower();
        assert_eq!(seen(), [false]);
        line.raise();
        assert_eq!(seen(), [true]);
    }
}
