//! Doorbells that KVM passes to a thread of the host: an ioeventfd in place of an exit to the VMM.
//!
//! A doorbell is connected when its driver has set DRIVER_OK. Until then each doorbell is an exit that reaches the device,
//! which reports wrong ones. Strict devices and observed devices need every access, so theirs are never connected.

use std::sync::Arc;

use cafevm_devices::virtio::mmio::{Mmio, Policy, QUEUE_NOTIFY};
use kvm_ioctls::{IoEventAddress, VmFd};
use tracing::{debug, info, warn};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::config::{Server, VmConfig};
use crate::error::HostError;

/// A disk whose doorbells a thread of the host serves.
#[derive(Clone)]
pub(crate) struct RungDisk {
    /// Its name in the log.
    pub(crate) name: String,
    pub(crate) device: Arc<Mmio>,
    /// The thread; not the vCPU.
    pub(crate) by: Server,
    /// Readable when the doorbell of the queue with this index was rung.
    pub(crate) queues: Vec<Arc<EventFd>>,
    /// The guest-physical address of QueueNotify.
    notify: u64,
}

/// Connects an eventfd to the writes of a value to a guest-physical address.
type Connect = Box<dyn Fn(&EventFd, u64, u32) -> Result<(), kvm_ioctls::Error> + Send>;

/// The doorbells that threads of the host serve.
#[derive(Default)]
pub(crate) struct Doorbells {
    connect: Option<Connect>,
    /// The disks whose doorbells are not connected yet.
    pub(crate) disks: Vec<RungDisk>,
}

impl Doorbells {
    /// The doorbells of a machine, without disks yet.
    pub(crate) fn new(vm: &Arc<VmFd>, config: &VmConfig) -> Self {
        let unseen = config.virtio.policy == Policy::Lenient && !config.tap.is_on();
        let vm = vm.clone();
        let connect: Connect = Box::new(move |event, address, value| {
            vm.register_ioevent(event, &IoEventAddress::Mmio(address), value)
        });
        Self { connect: unseen.then_some(connect), ..Self::default() }
    }

    /// Adds a disk whose registers begin at `base`.
    ///
    /// # Errors
    ///
    /// If the host cannot create an eventfd.
    pub(crate) fn insert(
        &mut self,
        name: &str,
        device: &Arc<Mmio>,
        base: u64,
        by: Server,
    ) -> Result<(), HostError> {
        if by == Server::Vcpu {
            return Ok(());
        }
        if self.connect.is_none() {
            info!("{name}: doorbell=vcpu, because every access is checked or observed");
            return Ok(());
        }
        let event = |_| EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map(Arc::new);
        let queues = (0..device.queues()).map(event).collect::<Result<_, _>>();
        self.disks.push(RungDisk {
            name: name.to_owned(),
            device: device.clone(),
            by,
            queues: queues.map_err(HostError::os("make an eventfd"))?,
            notify: base + QUEUE_NOTIFY,
        });
        Ok(())
    }

    /// Connects the doorbells of the disks whose drivers have set DRIVER_OK.
    pub(crate) fn look(&mut self) {
        let Some(connect) = &self.connect else { return };
        for disk in self.disks.extract_if(.., |disk| disk.device.was_used()) {
            let connected = (0..).zip(&disk.queues);
            let failed = connected.map(|(queue, event)| connect(event, disk.notify, queue));
            match failed.collect::<Result<(), _>>() {
                Ok(()) => debug!("{}: its doorbells cause no exit now", disk.name),
                Err(error) => warn!(
                    "{}: KVM does not pass its doorbells to a thread: {error}; the vCPU serves those that cause an exit, as \
                     with doorbell=vcpu",
                    disk.name
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use cafevm_devices::irq::IrqLine;
    use cafevm_devices::memory::GuestRam;
    use cafevm_devices::observe::Tap;
    use cafevm_devices::virtio::mmio::MmioOptions;
    use cafevm_devices::virtio::rng::Rng;

    use super::*;

    struct NoLine;

    impl IrqLine for NoLine {
        fn raise(&self) {}
    }

    fn device() -> Arc<Mmio> {
        let ram = GuestRam::anonymous(&[(0, 0x1000)]).unwrap();
        let rng = Arc::new(Rng::new("rng", Tap::default()));
        Arc::new(Mmio::new(rng, ram, Arc::new(NoLine), MmioOptions::default()))
    }

    #[test]
    fn doorbells_are_connected_once_and_only_after_driver_ok() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let connect: Connect = {
            let log = log.clone();
            Box::new(move |_, address, value| {
                log.lock().unwrap().push((address, value));
                Ok(())
            })
        };
        let mut doorbells = Doorbells { connect: Some(connect), ..Doorbells::default() };
        let (used, unused) = (device(), device());
        doorbells.insert("virtio0", &used, 0xfeb0_0000, Server::OwnThread { spins: true }).unwrap();
        doorbells.insert("virtio1", &unused, 0xfeb0_0200, Server::IoThread).unwrap();
        doorbells.insert("virtio2", &unused, 0xfeb0_0400, Server::Vcpu).unwrap();
        assert_eq!(doorbells.disks.len(), 2);
        doorbells.look();
        assert!(log.lock().unwrap().is_empty());
        let set = |offset, value: u32| {
            cafevm_devices::bus::BusDevice::write(&*used, offset, &value.to_le_bytes());
        };
        // The status: ACKNOWLEDGE, DRIVER, VERSION_1, FEATURES_OK, DRIVER_OK.
        set(0x70, 1);
        set(0x70, 3);
        set(0x24, 1);
        set(0x20, 1);
        set(0x70, 11);
        set(0x70, 15);
        doorbells.look();
        doorbells.look();
        assert_eq!(*log.lock().unwrap(), [(0xfeb0_0050, 0)]);
    }

    #[test]
    fn an_observed_machine_sees_each_doorbell() {
        let mut doorbells = Doorbells::default();
        doorbells
            .insert("virtio0", &device(), 0xfeb0_0000, Server::OwnThread { spins: true })
            .unwrap();
        assert!(doorbells.disks.is_empty());
    }
}
