//! What answers where no device is.

use super::Version;
use super::registers::{Register, Target};
use crate::bus::BusDevice;
use crate::virtio::spec::mmio::{MAGIC, VENDOR};

/// A slot of the bank with no device in it: a driver that looks finds DeviceID 0 and goes on (4.2.2.2).
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptySlot {
    /// What its Version register reads.
    pub version: Version,
}

impl BusDevice for EmptySlot {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let value = match Target::decode(offset, data.len()) {
            Target::Register(Register::MagicValue) => MAGIC,
            Target::Register(Register::Version) => self.version.value(),
            Target::Register(Register::VendorId) => VENDOR,
            _ => return,
        };
        data.copy_from_slice(&value.to_le_bytes());
    }

    fn write(&mut self, _offset: u64, _data: &[u8]) {}
}
