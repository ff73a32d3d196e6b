//! Puts the devices on their buses: the one file that knows all kinds of them.

use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

use cafevm_devices::block::{Access, Cache, Disk, Image, ImageStorage, Storage};
use cafevm_devices::memory::GuestRam;
use cafevm_devices::serial::{self, Serial};
use cafevm_devices::svirtb;
use cafevm_devices::virtio::blk::{self, Blk};
use cafevm_devices::virtio::mmio::{self, EmptySlot, Mmio, SLOT_SIZE, Window};
use kvm_ioctls::VmFd;
use tracing::info;

use crate::config::ids;
use crate::config::{DiskBus, DiskConfig, OnFull, VmConfig};
use crate::error::{ConfigError, Error, HostError};
use crate::layout::{COM1, COM1_IRQ};
use crate::machine::disks::{Disks, VirtioDisk};
use crate::machine::irq;
use crate::machine::register_pages::RegisterPages;
use crate::size::Human;
use crate::threads::gate::Gate;
use crate::threads::wake::WakeFd;
use crate::vcpu::dispatch::Buses;

/// Opens and locks the images of all disks, in their order.
///
/// # Errors
///
/// Where one cannot be used, is too small for its bus, or is attached twice.
pub(crate) fn open_images(disks: &[DiskConfig]) -> Result<Vec<Image>, Error> {
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
    disks.iter().map(open_image).collect()
}

fn open_image(disk: &DiskConfig) -> Result<Image, Error> {
    let image = Image::open(&disk.path, disk.cache.opening(disk.access))?;
    if let DiskBus::Virtio(options) = &disk.bus {
        options.capacity(&image.name(), image.size()).map_err(ConfigError::Blk)?;
    }
    Ok(image)
}

fn same_file(a: &DiskConfig, b: &DiskConfig) -> bool {
    match (std::fs::metadata(&a.path), std::fs::metadata(&b.path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// What the devices need of the machine around them.
pub(crate) struct Surroundings<'a> {
    pub(crate) vm: &'a Arc<VmFd>,
    pub(crate) ram: &'a GuestRam,
    /// Woken when a doorbell has left work undone.
    pub(crate) leftover: &'a Arc<WakeFd>,
    /// Woken when a driver has taken over a disk.
    pub(crate) taken_over: &'a Arc<WakeFd>,
    pub(crate) gate: &'a Arc<Gate>,
}

/// What is kept of the devices beside the buses.
#[derive(Default)]
pub(crate) struct Attached {
    pub(crate) disks: Disks,
    /// Where the virtio disks' registers are read.
    pub(crate) pages: RegisterPages,
}

/// Puts the disks on the memory bus, and an empty slot wherever there is no virtio disk.
///
/// # Errors
///
/// Where two devices meet, or KVM gives no interrupt.
pub(crate) fn attach_disks(
    buses: &mut Buses,
    config: &VmConfig,
    images: Vec<Image>,
    around: &Surroundings<'_>,
) -> Result<Attached, Error> {
    let bank = &config.virtio;
    let pages = RegisterPages::new(around.vm, config);
    let mut attached = Attached { pages, ..Attached::default() };
    let mut used = 0;
    for (wanted, image) in config.disks.iter().zip(images) {
        let disk = disk(wanted, image, around.gate);
        attached.disks.all.push(disk.clone());
        match &wanted.bus {
            DiskBus::Virtio(options) => {
                let base = bank.slot(used).base;
                let window = attached.pages.window(base);
                let options = (wanted.cache, options, window);
                let handle = attach_virtio(buses, config, used, &disk, options, around)?;
                attached.pages.insert(base, handle.device.clone());
                attached.disks.virtio.push(handle);
                used += 1;
            }
            DiskBus::Svirtb { entry_size } => {
                info!("svirtb at {:#x}: {}", svirtb::BASE, describe(&disk));
                let (ram, tracer) = (around.ram.clone(), config.tracer.clone());
                let device = svirtb::Device::new(&disk, ram, *entry_size, tracer)
                    .map_err(HostError::os("give the disk on svirtb an engine"))?;
                let device = Arc::new(device);
                attached.disks.svirtb = Some(device.clone());
                let place = (svirtb::BASE, svirtb::LEN);
                buses.mmio.insert(place.0, place.1, "svirtb", device).map_err(ConfigError::Bus)?;
            }
        }
    }
    for number in used..bank.slots {
        let (base, name) = (bank.slot(number).base, format!("slot{number}"));
        let window = attached.pages.window(base);
        let empty = Arc::new(EmptySlot::new(bank.version, window));
        buses.mmio.insert(base, SLOT_SIZE, &name, empty).map_err(ConfigError::Bus)?;
    }
    Ok(attached)
}

/// The disk in an image. On a full host it waits for room where that was asked for.
fn disk(wanted: &DiskConfig, image: Image, gate: &Arc<Gate>) -> Disk {
    let (name, size, read_only) = (image.name(), image.size(), image.read_only());
    let storage: Box<dyn Storage> = Box::new(ImageStorage::new(image));
    let storage = match &wanted.storage {
        Some(wrap) => wrap.wrap(storage),
        None => storage,
    };
    let disk = Disk::new(storage, name, size, read_only);
    match wanted.on_full {
        OnFull::Report => disk,
        OnFull::Stop => disk.waiting_for_room(gate.clone()),
    }
}

fn attach_virtio(
    buses: &mut Buses,
    config: &VmConfig,
    number: u32,
    disk: &Disk,
    (cache, options, window): (Cache, &blk::Options, Window),
    around: &Surroundings<'_>,
) -> Result<VirtioDisk, Error> {
    let (slot, name) = (config.virtio.slot(number), ids::name(number));
    info!("{name} at {:#x}, interrupt {}: {}", slot.base, slot.irq, describe(disk));
    let id = ids::id(number, options);
    let writeback = cache != Cache::WriteThrough;
    let options = blk::Options { id: id.clone(), writeback, ..options.clone() };
    let blk = Blk::new(&name, disk, &options, config.tracer.clone()).map_err(ConfigError::Blk)?;
    let blk = Arc::new(blk);
    let options = mmio::Options {
        version: config.virtio.version,
        policy: config.virtio.policy,
        leftover: Some(around.leftover.clone()),
        taken_over: Some(around.taken_over.clone()),
        window,
        tracer: config.tracer.clone(),
    };
    let line = irq::level(around.vm.clone(), slot.irq);
    let device = Arc::new(Mmio::new(blk.clone(), around.ram.clone(), line, options));
    let inserted = buses.mmio.insert(slot.base, SLOT_SIZE, &name, device.clone());
    inserted.map_err(ConfigError::Bus)?;
    Ok(VirtioDisk { name, id, device, blk })
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
