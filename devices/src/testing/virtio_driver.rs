//! A driver at the level of registers and rings, for correct and wrong sequences.

use std::any::Any;
use std::sync::Arc;

use super::CountingLine;
use super::virtio_ring::{Ring, desc_bytes, write_chain};
use crate::block::GrowError;
use crate::bus::BusDevice;
use crate::memory::GuestRam;
use crate::observe::RuleLog;
use crate::virtio::blk::Blk;
use crate::virtio::device::VirtioDevice;
use crate::virtio::mmio::{Mmio, MmioOptions};
use crate::virtio::spec::ring::DESC_INDIRECT;
use crate::virtio::spec::{blk, feature, mmio, status};

/// Offsets of the registers (virtio 1.4, 4.2.2), for tests that write them out.
pub mod reg {
    #![expect(missing_docs, reason = "the names are the specification's")]
    pub const MAGIC_VALUE: u64 = 0x00;
    pub const VERSION: u64 = 0x04;
    pub const DEVICE_ID: u64 = 0x08;
    pub const VENDOR_ID: u64 = 0x0c;
    pub const DEVICE_FEATURES: u64 = 0x10;
    pub const DEVICE_FEATURES_SEL: u64 = 0x14;
    pub const DRIVER_FEATURES: u64 = 0x20;
    pub const DRIVER_FEATURES_SEL: u64 = 0x24;
    pub const GUEST_PAGE_SIZE: u64 = 0x28;
    pub const QUEUE_SEL: u64 = 0x30;
    pub const QUEUE_NUM_MAX: u64 = 0x34;
    pub const QUEUE_NUM: u64 = 0x38;
    pub const QUEUE_ALIGN: u64 = 0x3c;
    pub const QUEUE_PFN: u64 = 0x40;
    pub const QUEUE_READY: u64 = 0x44;
    pub const QUEUE_NOTIFY: u64 = 0x50;
    pub const INTERRUPT_STATUS: u64 = 0x60;
    pub const INTERRUPT_ACK: u64 = 0x64;
    pub const STATUS: u64 = 0x70;
    pub const QUEUE_DESC: u64 = 0x80;
    pub const QUEUE_DRIVER: u64 = 0x90;
    pub const QUEUE_DEVICE: u64 = 0xa0;
    pub const QUEUE_RESET: u64 = 0xc0;
    pub const CONFIG_GENERATION: u64 = 0xfc;
    pub const CONFIG: u64 = 0x100;
}

/// Where the driver keeps its descriptor table, in a queue of up to 256 entries.
pub const DESC: u64 = 0x1000;
/// Where the driver keeps its available ring.
pub const AVAIL: u64 = 0x3000;
/// Where the driver keeps its used ring.
pub const USED: u64 = 0x5000;
/// From where on the driver keeps a larger queue.
pub const LARGE: u64 = 0x8_0000;
/// Where the driver keeps the header of a request made by [`VirtioDriver::request`].
pub const HEADER: u64 = 0x8000;
/// Where the driver keeps its status byte, with nothing but zeros around it.
pub const STATUS_BYTE: u64 = 0x9000;
/// Where the driver keeps data.
pub const DATA: u64 = 0x1_0000;
/// The bytes of RAM: from 0, with nothing behind.
pub const RAM_SIZE: usize = 1 << 20;

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// The head of the returned chain.
    pub head: u32,
    /// The used length.
    pub len: u32,
    /// The status byte, which was 0xff before.
    pub status: u8,
}

/// A driver and its RAM, in front of one device.
pub struct VirtioDriver {
    /// The device's registers.
    pub mmio: Mmio,
    /// The device, where it is a disk.
    pub blk: Option<Arc<Blk>>,
    /// Guest RAM.
    pub ram: GuestRam,
    /// The device's interrupt line.
    pub line: CountingLine,
    /// The log of the driver's mistakes.
    pub complaints: RuleLog,
    /// Queue 0. Tests create other queues.
    pub ring: Ring,
}

impl VirtioDriver {
    /// A driver that has done nothing yet.
    ///
    /// # Panics
    ///
    /// If the host has no memory.
    pub fn new(device: impl VirtioDevice + 'static) -> Self {
        Self::with(device, MmioOptions::default())
    }

    /// The same, through a transport of another kind.
    ///
    /// # Panics
    ///
    /// If the host has no memory.
    pub fn with(device: impl VirtioDevice + 'static, options: MmioOptions) -> Self {
        Self::of(Arc::new(device), options)
    }

    /// The same, for a device that the test uses, too.
    ///
    /// # Panics
    ///
    /// If the host has no memory.
    #[expect(clippy::expect_used, reason = "for tests")]
    pub fn of(device: Arc<impl VirtioDevice + 'static>, options: MmioOptions) -> Self {
        let ram = GuestRam::anonymous(&[(0, RAM_SIZE)]).expect("RAM for a test");
        let (line, complaints) = (CountingLine::default(), device.reporter().log().clone());
        let blk = (device.clone() as Arc<dyn Any + Send + Sync>).downcast().ok();
        let mmio = Mmio::new(device, ram.clone(), Arc::new(line.clone()), options);
        Self { mmio, blk, ram, line, complaints, ring: Ring::new(1, DESC, AVAIL, USED) }
    }

    /// Enlarges the disk to `bytes`, like its owner.
    ///
    /// # Errors
    ///
    /// If the disk cannot grow.
    ///
    /// # Panics
    ///
    /// If the device is no disk.
    #[expect(clippy::expect_used, reason = "for tests")]
    pub fn resize(&self, bytes: u64) -> Result<(), GrowError> {
        let blk = self.blk.as_ref().expect("a disk");
        self.mmio.reconfigure(|| blk.resize(bytes))
    }

    /// Reads a register.
    pub fn get(&mut self, offset: u64) -> u32 {
        let mut data = [0xee; 4];
        self.mmio.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// Writes a register.
    pub fn set(&mut self, offset: u64, value: u32) {
        self.mmio.write(offset, &value.to_le_bytes());
    }

    /// Writes a pair of registers.
    pub fn set_pair(&mut self, offset: u64, value: u64) {
        self.set(offset, (value & 0xffff_ffff) as u32);
        self.set(offset + 4, (value >> 32) as u32);
    }

    /// All features offered.
    pub fn offered(&mut self) -> u64 {
        self.set(reg::DEVICE_FEATURES_SEL, 1);
        let high = u64::from(self.get(reg::DEVICE_FEATURES));
        self.set(reg::DEVICE_FEATURES_SEL, 0);
        high << 32 | u64::from(self.get(reg::DEVICE_FEATURES))
    }

    /// The initialization of 3.1.1 up to FEATURES_OK; whether that bit stayed.
    pub fn negotiate(&mut self, features: u64) -> bool {
        self.set(reg::STATUS, 0);
        self.set(reg::STATUS, status::ACKNOWLEDGE);
        self.set(reg::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        self.set(reg::DRIVER_FEATURES_SEL, 0);
        self.set(reg::DRIVER_FEATURES, (features & 0xffff_ffff) as u32);
        self.set(reg::DRIVER_FEATURES_SEL, 1);
        self.set(reg::DRIVER_FEATURES, (features >> 32) as u32);
        let asked = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        self.set(reg::STATUS, asked);
        self.get(reg::STATUS) == asked
    }

    /// Sets queue 0 up with `size` entries, at the usual place; whether the device took it.
    pub fn set_up_queue(&mut self, size: u32) -> bool {
        let entries = u16::try_from(size).ok().filter(|n| (1..=1024).contains(n)).unwrap_or(1);
        self.ring = match entries {
            ..=256 => Ring::new(entries, DESC, AVAIL, USED),
            _ => Ring::contiguous(entries, LARGE, 4),
        };
        let mut ring = self.ring;
        self.describe_queue(0, &mut ring, size)
    }

    /// Sets a queue up as `ring` says; whether the device took it.
    pub fn set_up_ring(&mut self, index: u32, ring: &mut Ring) -> bool {
        self.describe_queue(index, ring, ring.size.into())
    }

    fn describe_queue(&mut self, index: u32, ring: &mut Ring, size: u32) -> bool {
        ring.clear(&self.ram);
        self.set(reg::QUEUE_SEL, index);
        self.set(reg::QUEUE_NUM, size);
        self.set_pair(reg::QUEUE_DESC, ring.desc);
        self.set_pair(reg::QUEUE_DRIVER, ring.avail);
        self.set_pair(reg::QUEUE_DEVICE, ring.used);
        self.set(reg::QUEUE_READY, 1);
        self.get(reg::QUEUE_READY) == 1
    }

    /// Legacy (4.2.4): a reset and the handshake up to the queues, with pages of `page_size` bytes.
    pub fn negotiate_legacy(&mut self, features: u32, page_size: u32) {
        self.set(reg::STATUS, 0);
        self.set(reg::STATUS, status::ACKNOWLEDGE);
        self.set(reg::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        self.set(reg::DRIVER_FEATURES_SEL, 0);
        self.set(reg::DRIVER_FEATURES, features);
        self.set(reg::GUEST_PAGE_SIZE, page_size);
    }

    /// Legacy: sets queue `index` up at page `pfn`; whether the device took it.
    pub fn set_up_legacy(&mut self, index: u32, ring: &mut Ring, align: u32, pfn: u32) -> bool {
        ring.clear(&self.ram);
        self.set(reg::QUEUE_SEL, index);
        self.set(reg::QUEUE_NUM, ring.size.into());
        self.set(reg::QUEUE_ALIGN, align);
        self.set(reg::QUEUE_PFN, pfn);
        self.get(reg::QUEUE_PFN) == pfn
    }

    /// Sets DRIVER_OK on top of what is set.
    pub fn go_live(&mut self) {
        let now = self.get(reg::STATUS);
        self.set(reg::STATUS, now | status::DRIVER_OK);
    }

    /// The whole initialization, with VERSION_1 and `features`, and a queue of `size` entries.
    ///
    /// # Panics
    ///
    /// If the device refuses any of it.
    #[must_use]
    pub fn live(mut self, features: u64, size: u32) -> Self {
        self.restart(features, size);
        self
    }

    /// A reset, and the whole initialization again.
    ///
    /// # Panics
    ///
    /// If the device refuses any of it.
    pub fn restart(&mut self, features: u64, size: u32) {
        assert!(self.negotiate(features | feature::VERSION_1), "the features were refused");
        assert!(self.set_up_queue(size), "the queue was refused");
        self.go_live();
    }

    /// Writes guest RAM.
    ///
    /// # Panics
    ///
    /// If it is not RAM.
    #[expect(clippy::expect_used, reason = "for tests")]
    pub fn write(&self, addr: u64, bytes: &[u8]) {
        self.ram.write(addr, bytes).expect("a test's address lies in RAM");
    }

    /// Reads guest RAM.
    ///
    /// # Panics
    ///
    /// If it is not RAM.
    #[expect(clippy::expect_used, reason = "for tests")]
    pub fn bytes(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read_into(addr, &mut bytes).expect("a test's address lies in RAM");
        bytes
    }

    /// Writes the descriptor at guest-physical address `at`.
    pub fn write_desc(&self, at: u64, addr: u64, len: u32, flags: u16, next: u16) {
        self.write(at, &desc_bytes(addr, len, flags, next));
    }

    /// Writes descriptor `index` of the queue.
    pub fn desc(&self, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        self.ring.desc(&self.ram, index, addr, len, flags, next);
    }

    /// Makes descriptors from `first` on into a chain of (address, bytes, whether the device writes).
    pub fn chain(&self, first: u16, parts: &[(u64, u32, bool)]) {
        self.ring.chain(&self.ram, first, parts);
    }

    /// Makes a table of descriptors at `table` with a chain of `parts`, and descriptor `index` of the queue point
    /// to it (2.7.5.3).
    pub fn indirect(&self, index: u16, table: u64, parts: &[(u64, u32, bool)]) {
        write_chain(&self.ram, table, 0, parts);
        let len = u32::try_from(16 * parts.len()).unwrap_or(u32::MAX);
        self.desc(index, table, len, DESC_INDIRECT, 0);
    }

    /// Writes the header of a request.
    pub fn header(&self, addr: u64, kind: u32, sector: u64) {
        self.write(addr, &kind.to_le_bytes());
        self.write(addr + 4, &[0; 4]);
        self.write(addr + 8, &sector.to_le_bytes());
    }

    /// Puts a chain into the available ring.
    pub fn offer(&mut self, head: u16) {
        self.ring.offer(&self.ram, head);
    }

    /// Rings the doorbell.
    pub fn kick(&mut self) {
        self.kick_queue(0);
    }

    /// Rings the doorbell of a queue.
    pub fn kick_queue(&mut self, queue: u32) {
        self.set(reg::QUEUE_NOTIFY, queue);
    }

    /// The next chain that the device gave back, with its length.
    pub fn pop(&mut self) -> Option<(u32, u32)> {
        self.ring.pop(&self.ram)
    }

    /// Takes the reasons of the interrupts since the last call: reads InterruptStatus and acknowledges.
    pub fn take_interrupts(&mut self) -> u32 {
        let reasons = self.get(reg::INTERRUPT_STATUS);
        self.set(reg::INTERRUPT_ACK, reasons & (mmio::INTERRUPT_USED | mmio::INTERRUPT_CONFIG));
        reasons
    }

    /// Whether DEVICE_NEEDS_RESET is set.
    pub fn needs_reset(&mut self) -> bool {
        self.get(reg::STATUS) & status::DEVICE_NEEDS_RESET != 0
    }

    /// The status byte of a request made by [`VirtioDriver::submit`].
    pub fn status_byte(&self) -> u8 {
        self.bytes(STATUS_BYTE, 1).first().copied().unwrap_or(0xff)
    }

    /// Adds the chain of `parts`, rings the doorbell and returns the answer, if there is one. The status byte is at
    /// [`STATUS_BYTE`].
    pub fn submit(&mut self, parts: &[(u64, u32, bool)]) -> Option<Used> {
        self.write(STATUS_BYTE, &[0xff]);
        self.chain(0, parts);
        self.offer(0);
        self.kick();
        let (head, len) = self.pop()?;
        Some(Used { head, len, status: self.status_byte() })
    }

    /// One request in the usual three descriptors (two where `len` is 0): header, data at [`DATA`], status.
    pub fn request(&mut self, kind: u32, sector: u64, len: u32) -> Option<Used> {
        self.header(HEADER, kind, sector);
        let data = (DATA, len, kind != blk::T_OUT);
        let (header, status) = ((HEADER, 16, false), (STATUS_BYTE, 1, true));
        if len == 0 { self.submit(&[header, status]) } else { self.submit(&[header, data, status]) }
    }
}
