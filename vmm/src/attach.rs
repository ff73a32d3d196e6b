//! Puts the devices on their buses: the one file that knows all kinds of them.

use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

use cafevm_devices::block::{Access, Disk, Image, Opening};
use cafevm_devices::memory::GuestRam;
use cafevm_devices::serial::{self, Serial};
use cafevm_devices::svirtb;
use cafevm_devices::virtio::blk::{self, Blk};
use cafevm_devices::virtio::mmio::{self, EmptySlot, Mmio, SLOT_SIZE};
use kvm_ioctls::VmFd;
use tracing::info;

use crate::config::{DiskBus, DiskConfig, VmConfig};
use crate::dispatch::Buses;
use crate::error::{ConfigError, Error};
use crate::layout::{COM1, COM1_IRQ};
use crate::size::Human;
use crate::wiring;

/// Opens and locks the images of all disks, in their order.
///
/// # Errors
///
/// Where one cannot be used, or is attached twice.
pub(crate) fn open_images(disks: &[DiskConfig]) -> Result<Vec<Disk>, Error> {
    // Told apart from an image that another program has: the lock would say the same of both.
    for (n, disk) in disks.iter().enumerate() {
        let earlier = disks.get(..n).unwrap_or_default();
        let shared = |other: &DiskConfig| {
            disk.access == Access::ReadOnly && other.access == Access::ReadOnly
        };
        if earlier.iter().any(|other| same_file(disk, other) && !shared(other)) {
            return Err(ConfigError::SameImage(disk.path.clone()).into());
        }
    }
    disks
        .iter()
        .map(|d| Ok(Disk::from_image(Image::open(&d.path, Opening::cached(d.access))?)))
        .collect()
}

fn same_file(a: &DiskConfig, b: &DiskConfig) -> bool {
    match (std::fs::metadata(&a.path), std::fs::metadata(&b.path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Puts the disks on the memory bus, and an empty slot wherever there is no virtio disk.
///
/// # Errors
///
/// Where two devices meet, or KVM gives no interrupt.
pub(crate) fn attach_disks(
    buses: &mut Buses,
    config: &VmConfig,
    disks: Vec<Disk>,
    vm: &VmFd,
    ram: &GuestRam,
) -> Result<(), Error> {
    let bank = &config.virtio;
    let mut used = 0;
    for (wanted, disk) in config.disks.iter().zip(disks) {
        let what = describe(&disk);
        match &wanted.bus {
            DiskBus::Virtio { id } => {
                let slot = bank.slot(used);
                let name = format!("virtio{used}");
                let id = if id.is_empty() { format!("cafevm-disk{used}") } else { id.clone() };
                info!("{name} at {:#x}, interrupt {}: {what}", slot.base, slot.irq);
                let line = wiring::line(vm, slot.irq)?;
                let options = blk::Options { id, ..blk::Options::default() };
                let blk = Blk::new(&name, disk, &options, config.tracer.clone())
                    .map_err(ConfigError::Blk)?;
                let options =
                    mmio::Options { tracer: config.tracer.clone(), ..mmio::Options::default() };
                let mmio = Mmio::new(Box::new(blk), ram.clone(), line, options);
                let mmio = Arc::new(Mutex::new(mmio));
                buses.mmio.insert(slot.base, SLOT_SIZE, &name, mmio).map_err(ConfigError::Bus)?;
                used += 1;
            }
            DiskBus::Svirtb { entry_size } => {
                info!("svirtb at {:#x}: {what}", svirtb::BASE);
                let tracer = config.tracer.clone();
                let device = svirtb::Device::new(disk, ram.clone(), *entry_size, tracer);
                let device = Arc::new(Mutex::new(device));
                buses
                    .mmio
                    .insert(svirtb::BASE, svirtb::LEN, "svirtb", device)
                    .map_err(ConfigError::Bus)?;
            }
        }
    }
    for number in used..bank.slots {
        let (base, name) = (bank.slot(number).base, format!("slot{number}"));
        let empty = Arc::new(Mutex::new(EmptySlot::default()));
        buses.mmio.insert(base, SLOT_SIZE, &name, empty).map_err(ConfigError::Bus)?;
    }
    Ok(())
}

fn describe(disk: &Disk) -> String {
    let read_only = if disk.read_only() { ", read-only" } else { "" };
    format!("{}, {}{read_only}", disk.name(), Human(disk.size()))
}

/// Puts the serial port on the port bus.
///
/// # Errors
///
/// Where another device is there.
pub(crate) fn attach_serial(buses: &mut Buses, port: Arc<Mutex<Serial>>) -> Result<(), Error> {
    info!("serial port at {COM1:#x}, interrupt {COM1_IRQ}");
    buses.pio.insert(COM1, serial::PORTS, "serial", port).map_err(ConfigError::Bus)?;
    Ok(())
}
