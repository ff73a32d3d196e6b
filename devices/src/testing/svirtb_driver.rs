//! A driver for svirtb, small enough to learn the protocol from.
//!
//! ```text
//!  1. status reads MAGIC            a device is here
//!  2. status := DRIVER_OK           reads back DRIVER_OK
//!  3. queue_addr_hi, _lo, queue_size := the ring
//!  4. status := READY               reads back READY: live
//!  5. put entries into the ring; queue_head := the index after the last one
//!  6. queue_tail reads the same index: done. status reads READY: and well done.
//! ```

use crate::bus::BusDevice;
use crate::memory::{GuestRam, OutOfRam};
use crate::svirtb::{Register, Status};

/// A ring as the driver lays it out in guest RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SvirtbRing {
    /// Its guest-physical address.
    pub base: u64,
    /// The number of entries; one fewer can be queued at a time.
    pub size: u32,
    /// From one entry to the next in bytes: 32 as a C struct, 28 without padding.
    pub stride: u64,
}

/// What the driver asks for with one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SvirtbEntry {
    /// The buffer's guest-physical address.
    pub addr: u64,
    /// The buffer's length in bytes.
    pub size: u64,
    /// The first sector, of 512 bytes.
    pub sector: u64,
    /// [`SvirtbEntry::READ`], [`SvirtbEntry::WRITE`], or something that is wrong.
    pub cmd: u32,
}

impl SvirtbEntry {
    /// The command that fills the buffer from the disk.
    pub const READ: u32 = 0;
    /// The command that stores the buffer on the disk.
    pub const WRITE: u32 = 1;

    /// A read of `size` bytes from `sector` on into the buffer at `addr`.
    pub const fn read(sector: u64, addr: u64, size: u64) -> Self {
        Self { addr, size, sector, cmd: Self::READ }
    }

    /// A write of the `size` bytes at `addr` to the disk from `sector` on.
    pub const fn write(sector: u64, addr: u64, size: u64) -> Self {
        Self { addr, size, sector, cmd: Self::WRITE }
    }

    /// The entry's bytes: four little-endian fields, one right behind the other.
    pub fn to_bytes(self) -> Vec<u8> {
        let Self { addr, size, sector, cmd } = self;
        let wide = [addr, size, sector].into_iter().flat_map(u64::to_le_bytes);
        wide.chain(cmd.to_le_bytes()).collect()
    }
}

/// The device gave a wrong answer in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("status must read {expected:?}, but reads {found:#x}")]
pub struct SvirtbRefused {
    /// The expected status.
    pub expected: Status,
    /// The actual value.
    pub found: u32,
}

/// The guest's side of a svirtb device.
#[derive(Debug)]
pub struct SvirtbDriver<D> {
    device: D,
    ram: GuestRam,
    ring: SvirtbRing,
    /// The index of the next entry.
    head: u32,
}

impl<D: BusDevice> SvirtbDriver<D> {
    /// A driver for `device`, with its `ring` in `ram`. Nothing is accessed yet.
    pub const fn new(device: D, ram: GuestRam, ring: SvirtbRing) -> Self {
        Self { device, ram, ring, head: 0 }
    }

    /// The device.
    pub const fn device(&mut self) -> &mut D {
        &mut self.device
    }

    /// Guest RAM.
    pub const fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// Reads a register.
    pub fn get(&mut self, register: Register) -> u32 {
        let mut bytes = [0; Register::WIDTH];
        self.device.read(register.offset(), &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Writes a register.
    pub fn set(&mut self, register: Register, value: u32) {
        self.device.write(register.offset(), &value.to_le_bytes());
    }

    /// Reads the status register.
    pub fn status(&mut self) -> u32 {
        self.get(Register::Status)
    }

    /// Reads the index after the last entry the device has finished.
    pub fn tail(&mut self) -> u32 {
        self.get(Register::QueueTail)
    }

    /// Goes through the whole handshake (section 3).
    ///
    /// # Errors
    ///
    /// The first status that is not as it should be.
    pub fn handshake(&mut self) -> Result<(), SvirtbRefused> {
        self.expect(Status::Magic)?;
        self.set(Register::Status, Status::DriverOk.value());
        self.expect(Status::DriverOk)?;
        self.describe_ring();
        self.set(Register::Status, Status::Ready.value());
        self.head = 0;
        self.expect(Status::Ready)
    }

    /// Tells the device where the ring is.
    pub fn describe_ring(&mut self) {
        let SvirtbRing { base, size, .. } = self.ring;
        let [b0, b1, b2, b3, b4, b5, b6, b7] = base.to_le_bytes();
        self.set(Register::QueueAddrHi, u32::from_le_bytes([b4, b5, b6, b7]));
        self.set(Register::QueueAddrLo, u32::from_le_bytes([b0, b1, b2, b3]));
        self.set(Register::QueueSize, size);
    }

    /// Writes RESET and repeats the handshake, from any state, with `ring` from now on.
    ///
    /// # Errors
    ///
    /// As [`SvirtbDriver::handshake`].
    pub fn restart(&mut self, ring: SvirtbRing) -> Result<(), SvirtbRefused> {
        self.ring = ring;
        self.set(Register::Status, Status::Reset.value());
        self.handshake()
    }

    /// Adds an entry to the ring. Returns its index. The device does not see it before the doorbell.
    ///
    /// # Errors
    ///
    /// If the ring does not lie in RAM.
    pub fn queue(&mut self, entry: SvirtbEntry) -> Result<u32, OutOfRam> {
        let SvirtbRing { base, size, stride } = self.ring;
        let index = self.head;
        self.ram.write(base + u64::from(index) * stride, &entry.to_bytes())?;
        self.head = (index + 1) % size.max(1);
        Ok(index)
    }

    /// Rings the doorbell for all entries added so far. When this returns, the device has finished them.
    pub fn ring(&mut self) {
        self.set(Register::QueueHead, self.head);
    }

    /// Adds one entry, rings, and checks the result as a driver without interrupts does. Returns whether the entry was
    /// served.
    ///
    /// # Errors
    ///
    /// If the ring does not lie in RAM.
    pub fn serve(&mut self, entry: SvirtbEntry) -> Result<bool, OutOfRam> {
        self.queue(entry)?;
        self.ring();
        Ok(self.tail() == self.head && self.status() == Status::Ready.value())
    }

    fn expect(&mut self, expected: Status) -> Result<(), SvirtbRefused> {
        match self.status() {
            found if found == expected.value() => Ok(()),
            found => Err(SvirtbRefused { expected, found }),
        }
    }
}
