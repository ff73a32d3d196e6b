//! A device's registers by name, and the story of a handshake.

use rt::mmio::Mmio;

/// A 32-bit register of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Bytes from the start of the device's window.
    pub offset: u64,
    /// Its name in the device's specification.
    pub name: &'static str,
}

impl Register {
    /// The register `name` at `offset`.
    pub const fn new(offset: u64, name: &'static str) -> Register {
        Register { offset, name }
    }

    /// Reads it in `window`.
    #[inline]
    pub fn read(self, window: Mmio) -> u32 {
        window.read32(self.offset)
    }

    /// Writes it in `window`.
    #[inline]
    pub fn write(self, window: Mmio, value: u32) {
        window.write32(self.offset, value);
    }
}

/// One register access of a handshake.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Which register.
    pub register: Register,
    /// Whether it was written; read otherwise.
    pub written: bool,
    /// What was written, or was read.
    pub value: u32,
    /// What for.
    pub reason: &'static str,
}

/// Receives each access.
pub trait Story {
    /// `access` has been made.
    fn tell(&mut self, access: &Access);
}

/// Ignores them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Story for Quiet {
    fn tell(&mut self, _: &Access) {}
}

/// A device's registers, and a receiver of each access.
pub struct Talk<'a> {
    window: Mmio,
    story: &'a mut dyn Story,
}

impl<'a> Talk<'a> {
    /// Talks to the device behind `window`.
    pub fn new(window: Mmio, story: &'a mut dyn Story) -> Talk<'a> {
        Talk { window, story }
    }

    /// Reads `register`, for `reason`.
    pub fn read(&mut self, register: Register, reason: &'static str) -> u32 {
        let value = register.read(self.window);
        self.story.tell(&Access { register, written: false, value, reason });
        value
    }

    /// Writes `register`, for `reason`.
    pub fn write(&mut self, register: Register, value: u32, reason: &'static str) {
        register.write(self.window, value);
        self.story.tell(&Access { register, written: true, value, reason });
    }

    /// Writes a 64-bit `value` to a pair of registers, low half first.
    pub fn write_pair(&mut self, low: Register, high: Register, value: u64, reason: &'static str) {
        self.write(low, low_half(value), reason);
        self.write(high, low_half(value >> 32), "its high half");
    }
}

/// Bits 31..0.
pub(crate) const fn low_half(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}
