//! Attaches the devices to their buses. Only this file knows all kinds of devices.

use std::sync::{Arc, Mutex};

use cafevm_devices::block::{self, Access, Cache, Disk, EngineKind, StorageInfo};
use cafevm_devices::display::Screen;
use cafevm_devices::memory::GuestRam;
use cafevm_devices::observe::Reporter;
use cafevm_devices::serial::{self, Serial};
use cafevm_devices::svirtb;
use cafevm_devices::virtio::blk::{self, Blk};
use cafevm_devices::virtio::device::VirtioDevice;
use cafevm_devices::virtio::gpu::Gpu;
use cafevm_devices::virtio::input::Input;
use cafevm_devices::virtio::mmio::{self, EmptySlot, Mmio, SLOT_SIZE};
use cafevm_devices::virtio::rng::Rng;
use kvm_ioctls::VmFd;
use tracing::info;

use super::images::{self, Opened};
use crate::config::{DiskBus, DiskConfig, Display, OnFull, OtherDevice, VmConfig, ids};
use crate::error::{ConfigError, Error, HostError};
use crate::layout::{COM1, COM1_IRQ};
use crate::machine::devices::{Devices, SvirtbDisk, VirtioDisk, VirtioSlot};
use crate::machine::doorbells::Doorbells;
use crate::machine::irq;
use crate::machine::register_pages::{PagedDisk, RegisterPages};
use crate::size::Human;
use crate::threads::gate::Gate;
use crate::threads::pacer::Pacer;
use crate::threads::wake::WakeFd;
use crate::vcpu::dispatch::Buses;

/// The parts of the machine that devices use.
pub(crate) struct Surroundings<'a> {
    pub(crate) vm: &'a Arc<VmFd>,
    pub(crate) ram: &'a GuestRam,
    /// Woken when a doorbell leaves work for the I/O thread.
    pub(crate) leftover: &'a Arc<WakeFd>,
    /// Woken when a driver completes its handshake.
    pub(crate) handshake: &'a Arc<WakeFd>,
    pub(crate) gate: &'a Arc<Gate>,
    /// The time for the limits of disks.
    pub(crate) pacer: &'a Arc<Pacer>,
}

/// The devices, by kind.
#[derive(Default)]
pub(crate) struct Attached {
    pub(crate) devices: Devices,
    /// The pages of virtio registers.
    pub(crate) pages: RegisterPages,
    /// The doorbells that threads of the host serve.
    pub(crate) doorbells: Doorbells,
}

/// Attaches the disks and the other virtio devices to the memory bus, and an empty slot at every other slot.
///
/// # Errors
///
/// If two devices overlap, or KVM provides no interrupt.
pub(crate) fn attach_devices(
    buses: &mut Buses,
    config: &VmConfig,
    images: Vec<Opened>,
    around: &Surroundings<'_>,
) -> Result<Attached, Error> {
    let pages = RegisterPages::new(around.vm, config);
    let doorbells = Doorbells::new(around.vm, config);
    let attached = Attached { pages, doorbells, ..Attached::default() };
    let mut attaching = Attaching { buses, config, around, attached, used: 0 };
    for (wanted, image) in config.disks.iter().zip(images) {
        attaching.disk(wanted, image)?;
    }
    for other in &config.others {
        attaching.other(other)?;
    }
    attaching.empty_slots()?;
    if let Some(user) = &config.user {
        user.begin(attaching.attached.devices.peripherals.clone());
    }
    Ok(attaching.attached)
}

struct Attaching<'a> {
    buses: &'a mut Buses,
    config: &'a VmConfig,
    around: &'a Surroundings<'a>,
    attached: Attached,
    /// The number of slots in use.
    used: u32,
}

impl Attaching<'_> {
    fn disk(&mut self, wanted: &DiskConfig, opened: Opened) -> Result<(), Error> {
        let offers = match &opened {
            Opened::File(_) => String::new(),
            Opened::Nbd(storage) => {
                self.attached.devices.links.push(storage.link());
                format!(" ({})", storage.describe())
            }
        };
        let disk = disk(wanted, opened, self.around.gate)?.paced_by(self.around.pacer.clone());
        disk.set_limits(wanted.limits);
        let disk = if self.config.metrics.is_some() { disk.timed() } else { disk };
        self.attached.devices.images.push(disk.clone());
        let what = describe(&disk, wanted) + &offers;
        match &wanted.bus {
            DiskBus::Virtio(options) => self.virtio_disk(&disk, &what, wanted, options),
            DiskBus::Svirtb { entry_size } => self.svirtb_disk(&disk, &what, *entry_size),
        }
    }

    fn svirtb_disk(
        &mut self,
        disk: &Disk,
        what: &str,
        entry_size: svirtb::EntrySize,
    ) -> Result<(), Error> {
        info!("svirtb at {:#x}: {what}", svirtb::BASE);
        let (ram, tap) = (self.around.ram.clone(), self.config.tap.clone());
        let device = svirtb::Device::new(disk, ram, entry_size, tap)
            .map_err(HostError::os("give the disk on svirtb an engine"))?;
        let window = self.attached.pages.svirtb_window();
        let device = Arc::new(device.with_window(window, self.around.handshake.clone()));
        self.attached.pages.insert(svirtb::BASE, PagedDisk::Svirtb(device.clone()));
        self.attached.devices.svirtb =
            Some(SvirtbDisk { device: device.clone(), disk: disk.clone() });
        let inserted = self.buses.mmio.insert(svirtb::BASE, svirtb::LEN, "svirtb", device);
        Ok(inserted.map_err(ConfigError::Bus)?)
    }

    fn virtio_disk(
        &mut self,
        disk: &Disk,
        what: &str,
        wanted: &DiskConfig,
        options: &blk::BlkOptions,
    ) -> Result<(), Error> {
        let name = ids::name(self.used);
        let writeback = wanted.cache != Cache::WriteThrough;
        let options =
            blk::BlkOptions { id: ids::id(self.used, options), writeback, ..options.clone() };
        let tap = self.config.tap.clone();
        let blk = Arc::new(Blk::new(&name, disk, &options, tap).map_err(ConfigError::Blk)?);
        let base = self.config.virtio.slot(self.used).base;
        let device = self.virtio(&name, what, blk.clone())?;
        self.attached.pages.insert(base, PagedDisk::Virtio(device.clone()));
        let waits = wanted.engine == EngineKind::Auto && !block::has_io_uring();
        let server = wanted.doorbell.server(waits);
        self.attached.doorbells.insert(&name, &device, base, server)?;
        self.attached.devices.disks.push(VirtioDisk { device, blk });
        Ok(())
    }

    /// Attaches a device that is not a disk. It is not added to the register pages of disks: the page of a disk is mapped
    /// whether or not the guest has a driver for this device.
    fn other(&mut self, wanted: &OtherDevice) -> Result<(), Error> {
        let (number, tap) = (self.used, self.config.tap.clone());
        match wanted {
            OtherDevice::Rng => {
                let rng = Arc::new(Rng::new("rng", tap));
                self.virtio("rng", "random bytes of the host", rng)?;
            }
            OtherDevice::Input(kind) => {
                let (name, serial) = (format!("{kind}{number}"), format!("cafevm-{kind}{number}"));
                let input = Arc::new(Input::new(&name, *kind, &serial, tap));
                self.virtio(&name, kind.product_name(), input.clone())?;
                self.attached.devices.peripherals.inputs.push(input);
            }
            OtherDevice::Gpu(options) => {
                let gpu = Arc::new(Gpu::new("gpu", options, Screen::default(), tap));
                let (width, height) = gpu.display_size();
                let what = format!(
                    "a display of {width}x{height}, at most {} for pictures",
                    Human(options.max_host_memory)
                );
                let device = self.virtio("gpu", &what, gpu.clone())?;
                self.attached.devices.peripherals.display = Some(Display::new(device, gpu));
            }
        }
        Ok(())
    }

    /// Attaches a virtio device to the next slot.
    fn virtio(
        &mut self,
        name: &str,
        what: &str,
        device: Arc<dyn VirtioDevice>,
    ) -> Result<Arc<Mmio>, Error> {
        let (config, around) = (self.config, self.around);
        let slot = config.virtio.slot(self.used);
        self.used += 1;
        info!("{name} at {:#x}, interrupt {}: {what}", slot.base, slot.irq);
        let options = mmio::MmioOptions {
            version: config.virtio.version,
            policy: config.virtio.policy,
            leftover: Some(around.leftover.clone()),
            driver_ok: Some(around.handshake.clone()),
            window: self.attached.pages.window(slot.base),
        };
        let line = irq::level(around.vm.clone(), slot.irq);
        let device = Arc::new(Mmio::new(device, around.ram.clone(), line, options));
        let inserted = self.buses.mmio.insert(slot.base, SLOT_SIZE, name, device.clone());
        inserted.map_err(ConfigError::Bus)?;
        let (name, mmio) = (name.to_owned(), device.clone());
        self.attached.devices.virtio.push(VirtioSlot { name, irq: slot.irq, mmio });
        Ok(device)
    }

    fn empty_slots(&mut self) -> Result<(), Error> {
        let bank = &self.config.virtio;
        let reporter = Reporter::new("empty slots", self.config.tap.clone());
        for number in self.used..bank.slots {
            let (base, name) = (bank.slot(number).base, format!("slot{number}"));
            let window = self.attached.pages.window(base);
            let empty = Arc::new(EmptySlot::new(number, bank.version, window, reporter.clone()));
            self.buses.mmio.insert(base, SLOT_SIZE, &name, empty).map_err(ConfigError::Bus)?;
        }
        Ok(())
    }
}

/// The disk of an image. With werror=stop it waits for room when the host's disk is full.
fn disk(wanted: &DiskConfig, opened: Opened, gate: &Arc<Gate>) -> Result<Disk, Error> {
    let name = match &wanted.layers.overlay {
        Some(overlay) => overlay.display().to_string(),
        None => opened.name(),
    };
    let (storage, size) = images::storage(wanted, opened)?;
    let storage = match &wanted.storage {
        Some(wrap) => wrap.wrap(storage),
        None => storage,
    };
    let disk = Disk::new(storage, name, size, wanted.access == Access::ReadOnly);
    Ok(match wanted.on_full {
        OnFull::Report => disk,
        OnFull::Stop => disk.waiting_for_room(gate.clone()),
    })
}

fn describe(disk: &Disk, wanted: &DiskConfig) -> String {
    let how = match (disk.read_only(), wanted.snapshot) {
        (true, _) => ", read-only",
        (false, true) => ", snapshot: the image does not change",
        (false, false) => "",
    };
    let engine = match wanted.engine {
        EngineKind::Sync => String::new(),
        other => format!(", engine={other}"),
    };
    let StorageInfo { format, backing, .. } = disk.info();
    let format = if format == "raw" { String::new() } else { format!(", {format}") };
    let below: Vec<_> = backing.iter().map(|file| format!(" over {file}")).collect();
    format!("{}, {}{how}{engine}{format}{}", disk.name(), Human(disk.size()), below.concat())
}

/// Attaches the serial port to the port bus.
///
/// # Errors
///
/// If another device has its ports.
pub(crate) fn attach_serial(buses: &mut Buses, port: Arc<Mutex<Serial>>) -> Result<(), Error> {
    info!("serial port at {COM1:#x}, interrupt {COM1_IRQ}");
    buses.pio.insert(COM1, serial::PORTS, "serial", port).map_err(ConfigError::Bus)?;
    Ok(())
}
