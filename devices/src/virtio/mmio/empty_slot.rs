//! The registers of an empty slot.

use super::Version;
use super::options::version_value;
use super::reads::registers;
use super::registers::{Register, Target};
use crate::bus::BusDevice;
use crate::observe::Reporter;
use crate::register_page::Window;
use crate::virtio::rules;
use crate::virtio::spec::mmio::{MAGIC, VENDOR};

/// A slot of the bank without a device: a driver reads DeviceID 0 and continues with the next slot (4.2.2.2).
#[derive(Debug)]
pub struct EmptySlot {
    window: Window,
    reporter: Reporter,
    number: u32,
}

impl EmptySlot {
    /// Slot `number`, with registers in the layout of `version`, stored in `window`. Empty slots may share a reporter:
    /// it bounds their log.
    pub fn new(number: u32, version: Version, window: Window, reporter: Reporter) -> Self {
        for (offset, register) in registers() {
            let value = match register {
                Register::MagicValue => MAGIC,
                Register::Version => version_value(version),
                Register::VendorId => VENDOR,
                _ => 0,
            };
            window.set(offset, value);
        }
        Self { window, reporter, number }
    }
}

impl BusDevice for EmptySlot {
    fn read(&self, offset: u64, data: &mut [u8]) {
        match Target::decode(offset, data.len()) {
            Target::Register(_) => self.window.read(offset, data),
            _ => data.fill(0),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let register = match Target::decode(offset, data.len()) {
            Target::Register(register) => register.name(),
            _ => "an address",
        };
        self.reporter.broken(
            rules::EMPTY_SLOT,
            format_args!(
                "{register} of slot {} was written (offset {offset:#x}), but the slot is empty: its DeviceID is 0; ignored",
                self.number
            ),
        );
    }
}
