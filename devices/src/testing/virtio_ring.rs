//! A split virtqueue from the driver's side (virtio 1.4, 2.7).
#![expect(clippy::expect_used, reason = "for tests: their rings lie in RAM")]

use crate::memory::GuestRam;
use crate::virtio::spec::ring::{DESC_NEXT, DESC_WRITE};

const IN_RAM: &str = "a test's address lies in RAM";

/// A virtqueue, and how far its driver has come with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ring {
    /// Entries.
    pub size: u16,
    /// Guest-physical address of the descriptor table.
    pub desc: u64,
    /// Guest-physical address of the available ring.
    pub avail: u64,
    /// Guest-physical address of the used ring.
    pub used: u64,
    avail_idx: u16,
    used_idx: u16,
}

impl Ring {
    /// A queue with its parts at these places.
    pub const fn new(size: u16, desc: u64, avail: u64, used: u64) -> Self {
        Self { size, desc, avail, used, avail_idx: 0, used_idx: 0 }
    }

    /// A queue from `at` on as a legacy driver lays it out (2.7.2): the available ring right behind the
    /// descriptors, the used ring at the next multiple of `align` bytes.
    pub const fn contiguous(size: u16, at: u64, align: u64) -> Self {
        let avail = at + 16 * size as u64;
        let used = (avail + 6 + 2 * size as u64).next_multiple_of(align);
        Self::new(size, at, avail, used)
    }

    /// The first address behind the used ring.
    pub const fn end(&self) -> u64 {
        self.used + 6 + 8 * self.size as u64
    }

    /// Fills all three parts with zeros, as a driver does before it hands the queue over, and begins anew.
    pub fn clear(&mut self, ram: &GuestRam) {
        let entries = usize::from(self.size);
        for (at, len) in
            [(self.desc, 16 * entries), (self.avail, 6 + 2 * entries), (self.used, 6 + 8 * entries)]
        {
            ram.write(at, &vec![0; len]).expect(IN_RAM);
        }
        (self.avail_idx, self.used_idx) = (0, 0);
    }

    /// Writes descriptor `index`.
    pub fn desc(&self, ram: &GuestRam, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        let at = self.desc + 16 * u64::from(index);
        ram.write(at, &desc_bytes(addr, len, flags, next)).expect(IN_RAM);
    }

    /// Makes descriptors from `first` on into a chain of (address, bytes, whether the device writes).
    pub fn chain(&self, ram: &GuestRam, first: u16, parts: &[(u64, u32, bool)]) {
        write_chain(ram, self.desc, first, parts);
    }

    /// Puts a chain into the available ring.
    pub fn offer(&mut self, ram: &GuestRam, head: u16) {
        let slot = u64::from(self.avail_idx % self.size);
        ram.write(self.avail + 4 + 2 * slot, &head.to_le_bytes()).expect(IN_RAM);
        self.avail_idx = self.avail_idx.wrapping_add(1);
        ram.store_u16(self.avail + 2, self.avail_idx).expect(IN_RAM);
    }

    /// The next chain that the device gave back, with its length.
    pub fn pop(&mut self, ram: &GuestRam) -> Option<(u32, u32)> {
        if ram.load_u16(self.used + 2).expect(IN_RAM) == self.used_idx {
            return None;
        }
        let slot = u64::from(self.used_idx % self.size);
        self.used_idx = self.used_idx.wrapping_add(1);
        let [i0, i1, i2, i3, l0, l1, l2, l3] = ram.read(self.used + 4 + 8 * slot).expect(IN_RAM);
        Some((u32::from_le_bytes([i0, i1, i2, i3]), u32::from_le_bytes([l0, l1, l2, l3])))
    }

    /// How many chains were put into the available ring, modulo 2^16.
    pub const fn offered(&self) -> u16 {
        self.avail_idx
    }

    /// With EVENT_IDX: asks for an interrupt when the device has given back the chain number `index`, counted
    /// from 0 (2.7.7).
    pub fn set_used_event(&self, ram: &GuestRam, index: u16) {
        ram.store_u16(self.avail + 4 + 2 * u64::from(self.size), index).expect(IN_RAM);
    }

    /// With EVENT_IDX: the number of the chain for which the device wants a doorbell (2.7.10).
    pub fn avail_event(&self, ram: &GuestRam) -> u16 {
        ram.load_u16(self.used + 4 + 8 * u64::from(self.size)).expect(IN_RAM)
    }

    /// Without EVENT_IDX: the used ring's flags (2.7.10).
    pub fn used_flags(&self, ram: &GuestRam) -> u16 {
        ram.load_u16(self.used).expect(IN_RAM)
    }

    /// Without EVENT_IDX: sets the available ring's flags (2.7.6).
    pub fn set_flags(&self, ram: &GuestRam, flags: u16) {
        ram.store_u16(self.avail, flags).expect(IN_RAM);
    }
}

/// The bytes of a descriptor (2.7.5).
pub fn desc_bytes(addr: u64, len: u32, flags: u16, next: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    let fields = addr.to_le_bytes().into_iter().chain(len.to_le_bytes());
    let fields = fields.chain(flags.to_le_bytes()).chain(next.to_le_bytes());
    for (to, byte) in bytes.iter_mut().zip(fields) {
        *to = byte;
    }
    bytes
}

/// Makes the descriptors of the table at `table`, the queue's or an indirect one, from `first` on into a chain of
/// (address, bytes, whether the device writes).
///
/// # Panics
///
/// If the table does not lie in RAM.
pub fn write_chain(ram: &GuestRam, table: u64, first: u16, parts: &[(u64, u32, bool)]) {
    for (index, &(addr, len, write)) in (first..).zip(parts) {
        let last = usize::from(index - first) + 1 == parts.len();
        let flags = if last { 0 } else { DESC_NEXT } | if write { DESC_WRITE } else { 0 };
        let bytes = desc_bytes(addr, len, flags, if last { 0 } else { index + 1 });
        ram.write(table + 16 * u64::from(index), &bytes).expect(IN_RAM);
    }
}
