//! Puts the devices on their buses: the one file that knows all kinds of them.

use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

use cafevm_devices::block::{Access, Cache, Disk, Gate, Image, PatientEngine, SyncEngine};
use cafevm_devices::irq::IrqLine;
use cafevm_devices::memory::GuestRam;
use cafevm_devices::serial::{self, Serial};
use cafevm_devices::svirtb;
use cafevm_devices::virtio::blk::{self, Blk};
use cafevm_devices::virtio::mmio::{self, EmptySlot, Mmio, SLOT_SIZE, Window};
use kvm_ioctls::VmFd;
use tracing::info;

use crate::config::{DiskBus, DiskConfig, OnFull, VmConfig};
use crate::control::Handle;
use crate::dispatch::Buses;
use crate::error::{ConfigError, Error};
use crate::event::Event;
use crate::layout::{COM1, COM1_IRQ};
use crate::pause::Pause;
use crate::register_pages::RegisterPages;
use crate::size::Human;
use crate::wiring;

/// Opens and locks the images of all disks, in their order.
///
/// # Errors
///
/// Where one cannot be used, or is attached twice.
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
    disks.iter().map(|d| Ok(Image::open(&d.path, d.cache.opening(d.access))?)).collect()
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
    /// Told when a device has left work undone, or was taken over.
    pub(crate) helper: &'a Arc<Event>,
    pub(crate) pause: &'a Arc<Pause>,
}

/// What is kept of the devices beside the buses.
#[derive(Default)]
pub(crate) struct Attached {
    /// The virtio disks, for the control socket.
    pub(crate) disks: Vec<Handle>,
    /// Where the virtio disks' registers are read.
    pub(crate) pages: RegisterPages,
    /// Ends a long doorbell of svirtb's.
    pub(crate) stops: Vec<svirtb::Stop>,
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
        let disk = disk(wanted, image, around.pause);
        match &wanted.bus {
            DiskBus::Virtio(options) => {
                let base = bank.slot(used).base;
                let window = attached.pages.window(base);
                let options = (wanted.cache, options, window);
                let handle = attach_virtio(buses, config, used, disk, options, around)?;
                attached.pages.insert(base, handle.device.clone());
                attached.disks.push(handle);
                used += 1;
            }
            DiskBus::Svirtb { entry_size } => {
                info!("svirtb at {:#x}: {}", svirtb::BASE, describe(&disk));
                let (ram, tracer) = (around.ram.clone(), config.tracer.clone());
                let device = svirtb::Device::new(disk, ram, *entry_size, tracer);
                attached.stops.push(device.stop_handle());
                let device = Arc::new(Mutex::new(device));
                let place = (svirtb::BASE, svirtb::LEN);
                buses.mmio.insert(place.0, place.1, "svirtb", device).map_err(ConfigError::Bus)?;
            }
        }
    }
    for number in used..bank.slots {
        let (base, name) = (bank.slot(number).base, format!("slot{number}"));
        let window = attached.pages.window(base);
        let empty = Arc::new(Mutex::new(EmptySlot::new(bank.version, window)));
        buses.mmio.insert(base, SLOT_SIZE, &name, empty).map_err(ConfigError::Bus)?;
    }
    Ok(attached)
}

/// The disk in an image, with patience for a full host where that was asked for.
fn disk(wanted: &DiskConfig, image: Image, pause: &Arc<Pause>) -> Disk {
    if wanted.on_full == OnFull::Report {
        return Disk::from_image(image);
    }
    let (name, size, read_only) = (image.name(), image.size(), image.read_only());
    let gate: Arc<dyn Gate> = pause.clone();
    let engine = PatientEngine::new(Box::new(SyncEngine::new(image)), name.clone(), gate);
    Disk::new(Box::new(engine), name, size, read_only)
}

fn attach_virtio(
    buses: &mut Buses,
    config: &VmConfig,
    number: u32,
    disk: Disk,
    (cache, options, window): (Cache, &blk::Options, Window),
    around: &Surroundings<'_>,
) -> Result<Handle, Error> {
    let (slot, name) = (config.virtio.slot(number), format!("virtio{number}"));
    info!("{name} at {:#x}, interrupt {}: {}", slot.base, slot.irq, describe(&disk));
    let usual = format!("cafevm-disk{number}");
    let id = if options.id.is_empty() { usual } else { options.id.clone() };
    let writeback = cache != Cache::WriteThrough;
    let options = blk::Options { id: id.clone(), writeback, ..options.clone() };
    let blk = Blk::new(&name, &disk, &options, config.tracer.clone()).map_err(ConfigError::Blk)?;
    let helper: Arc<dyn IrqLine> = around.helper.clone();
    let options = mmio::Options {
        version: config.virtio.version,
        policy: config.virtio.policy,
        helper: Some(helper.clone()),
        taken_over: Some(helper),
        window,
        tracer: config.tracer.clone(),
    };
    let line = wiring::line(around.vm, slot.irq)?;
    let device = Mmio::new(Box::new(blk), around.ram.clone(), line, options);
    let device = Arc::new(Mutex::new(device));
    let inserted = buses.mmio.insert(slot.base, SLOT_SIZE, &name, device.clone());
    inserted.map_err(ConfigError::Bus)?;
    Ok(Handle { name, id, device })
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
