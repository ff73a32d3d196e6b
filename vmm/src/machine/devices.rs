//! The devices of a running machine, as its threads use them.

use std::fmt;
use std::sync::Arc;

use cafevm_devices::block::nbd::NbdLink;
use cafevm_devices::block::{Disk, GrowError, Limits};
use cafevm_devices::stuck::Stuck;
use cafevm_devices::svirtb;
use cafevm_devices::virtio::blk::Blk;
use cafevm_devices::virtio::mmio::Mmio;

use crate::config::Peripherals;

/// A virtio disk.
#[derive(Clone)]
pub(crate) struct VirtioDisk {
    /// Its registers.
    pub(crate) device: Arc<Mmio>,
    /// The disk.
    pub(crate) blk: Arc<Blk>,
}

impl VirtioDisk {
    /// Grows the disk to `bytes`, and interrupts its driver. Waits until the disk is idle.
    ///
    /// # Errors
    ///
    /// If the disk cannot grow.
    pub(crate) fn resize(&self, bytes: u64) -> Result<(), GrowError> {
        self.device.reconfigure(|| self.blk.resize(bytes))
    }

    /// Services all queues.
    pub(crate) fn service(&self) {
        (0..self.device.queues()).for_each(|queue| self.device.service_queue(queue));
    }
}

/// A disk on either bus.
#[derive(Clone)]
pub(crate) enum AnyDisk {
    Virtio(VirtioDisk),
    Svirtb(SvirtbDisk),
}

impl AnyDisk {
    /// The disk.
    pub(crate) fn disk(&self) -> &Disk {
        match self {
            Self::Virtio(virtio) => virtio.blk.disk(),
            Self::Svirtb(svirtb) => &svirtb.disk,
        }
    }

    /// Changes how many requests and bytes a second the disk serves.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.disk().set_limits(limits);
        match self {
            // Requests may be held that need not wait any more.
            Self::Virtio(virtio) => virtio.service(),
            // A doorbell that waits looks at the limits again.
            Self::Svirtb(_) => {}
        }
    }

    /// Calls `act` while the disk has no request in flight. Its requests wait until it returns; the guest goes on.
    ///
    /// # Errors
    ///
    /// If the host does not finish the requests in flight.
    pub(crate) fn while_idle<T>(&self, act: impl FnOnce() -> T) -> Result<T, Stuck> {
        match self {
            Self::Virtio(virtio) => {
                let done = virtio.blk.while_idle(act);
                virtio.device.service_held();
                done
            }
            Self::Svirtb(svirtb) => Ok(svirtb.device.while_idle(act)),
        }
    }
}

/// A virtio device in its slot.
#[derive(Clone)]
pub(crate) struct VirtioSlot {
    /// Its name in the log.
    pub(crate) name: String,
    /// Its interrupt.
    pub(crate) irq: u32,
    /// Its registers.
    pub(crate) mmio: Arc<Mmio>,
}

/// The disk on svirtb.
#[derive(Clone)]
pub(crate) struct SvirtbDisk {
    /// Its registers.
    pub(crate) device: Arc<svirtb::Device>,
    /// The disk.
    pub(crate) disk: Disk,
}

/// All devices with requests. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Devices {
    /// The disks on virtio.
    pub(crate) disks: Vec<VirtioDisk>,
    /// All virtio devices, the disks among them, lowest slot first.
    pub(crate) virtio: Vec<VirtioSlot>,
    pub(crate) svirtb: Option<SvirtbDisk>,
    /// Keyboards, mice, tablets and the GPU.
    pub(crate) peripherals: Peripherals,
    /// The disks of both buses.
    pub(crate) images: Vec<Disk>,
    /// The connections of those that are on NBD servers, each with a thread.
    pub(crate) links: Vec<NbdLink>,
}

impl Devices {
    /// The virtio disk with this index, or, for none, the disk on svirtb.
    pub(crate) fn any(&self, virtio: Option<usize>) -> Option<AnyDisk> {
        match virtio {
            Some(index) => self.disks.get(index).cloned().map(AnyDisk::Virtio),
            None => self.svirtb.clone().map(AnyDisk::Svirtb),
        }
    }

    /// Stops the transfers of all disks. Takes no lock that is held during I/O.
    pub(crate) fn stop(&self) {
        for disk in &self.images {
            disk.stop_handle().stop();
        }
        for link in &self.links {
            link.wake();
        }
    }

    /// Holds new requests and waits for those in flight, with the limit of a device. For a machine that has ended;
    /// [`Devices::unfinished`] lists what is left.
    pub(crate) fn settle(&self) {
        for device in &self.virtio {
            device.mmio.hold();
        }
        for device in &self.virtio {
            if device.mmio.quiesce().is_err() {
                // The other disks had the same time.
                return;
            }
        }
    }

    /// Leaks the disks with unfinished requests. The drop of an engine waits for its requests without a limit.
    pub(crate) fn leave_unfinished(&self) {
        if self.unfinished().is_some() {
            std::mem::forget(self.clone());
        }
    }

    /// Whether requests wait for the limits of a disk.
    pub(crate) fn is_delaying(&self) -> bool {
        self.images.iter().any(|disk| disk.delayed() > 0)
    }

    /// The requests that the host has not finished, if there are any. Takes no lock that is held during I/O.
    pub(crate) fn unfinished(&self) -> Option<Unfinished> {
        let busy = self.images.iter().map(|disk| (disk.name().to_owned(), disk.in_flight()));
        let busy: Vec<_> = busy.filter(|(_, requests)| *requests > 0).collect();
        (!busy.is_empty()).then_some(Unfinished(busy))
    }
}

/// Disks, and the number of unfinished requests of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfinished(Vec<(String, usize)>);

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (disk, requests)) in self.0.iter().enumerate() {
            let (between, s) =
                (if n == 0 { "" } else { ", " }, if *requests == 1 { "" } else { "s" });
            write!(f, "{between}{disk}: the host has not finished {requests} request{s}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_that_the_host_has_not_finished_is_named() {
        let unfinished = Unfinished(vec![("a.img".into(), 1), ("b.img".into(), 3)]);
        assert_eq!(
            unfinished.to_string(),
            "a.img: the host has not finished 1 request, b.img: the host has not finished 3 requests"
        );
        assert_eq!(Devices::default().unfinished(), None);
    }
}
