//! The registers of an empty slot.

use super::Version;
use super::options::version_value;
use super::page::Window;
use super::reads::registers;
use super::registers::{Register, Target};
use crate::bus::BusDevice;
use crate::virtio::spec::mmio::{MAGIC, VENDOR};

/// A slot of the bank without a device: a driver reads DeviceID 0 and continues with the next slot (4.2.2.2).
#[derive(Debug)]
pub struct EmptySlot(Window);

impl EmptySlot {
    /// A slot with registers in the layout of `version`, stored in `window`.
    pub fn new(version: Version, window: Window) -> Self {
        for (offset, register) in registers() {
            let value = match register {
                Register::MagicValue => MAGIC,
                Register::Version => version_value(version),
                Register::VendorId => VENDOR,
                _ => 0,
            };
            window.set(offset, value);
        }
        Self(window)
    }
}

impl BusDevice for EmptySlot {
    fn read(&self, offset: u64, data: &mut [u8]) {
        match Target::decode(offset, data.len()) {
            Target::Register(_) => self.0.read(offset, data),
            _ => data.fill(0),
        }
    }

    fn write(&self, _offset: u64, _data: &[u8]) {}
}
