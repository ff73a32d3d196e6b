//! From an access to its register, and reports of accesses that no driver may make.

use super::registers::{self, Register, Target};
use super::{Mmio, options};
use crate::bus::BusDevice;
use crate::virtio::rules;
use crate::virtio::spec::mmio::CONFIG;

impl Mmio {
    /// Decodes an access of `width` bytes at `offset`. Reports a register that this version does not have, and returns
    /// none for it.
    pub(super) fn decode(&self, offset: u64, width: usize, verb: &str) -> Target {
        let target = Target::decode(offset, width);
        match target {
            Target::Register(register) if !register.is_in(self.core.version()) => {
                let version = options::version_value(self.core.version());
                self.core.breach(
                    rules::LEGACY,
                    format_args!(
                        "{} was {verb}, but is not in the layout of version {version}, which this device has \
                         (Version reads {version})",
                        register.name()
                    ),
                    "ignored",
                );
                Target::Nothing
            }
            Target::Nothing => {
                self.core.breach(
                    rules::NO_REGISTER,
                    format_args!("{offset:#x} was {verb}; no register is there"),
                    "",
                );
                target
            }
            Target::Misaccess => {
                let of = Register::decode(offset & !3).map_or("no register", Register::name);
                self.core.breach(
                    rules::WIDTH,
                    format_args!(
                        "{width} bytes were {verb} at {offset:#x} ({of}); below {CONFIG:#x} the registers take 4, aligned, \
                         and from there on 1, 2 or 4, aligned"
                    ),
                    "",
                );
                target
            }
            Target::Register(_) | Target::Config(_) => target,
        }
    }

    /// Takes a write of 8 bytes to two registers as two writes, as QEMU does. Returns whether it is one.
    pub(super) fn write_pair(&self, offset: u64, data: &[u8]) -> bool {
        let Some((low, high)) = registers::pair(offset, data.len()) else { return false };
        let (low, high) = (low.name(), high.name());
        self.core.breach(
            rules::WIDTH,
            format_args!(
                "8 bytes were written at {offset:#x}, to {low} and {high}, which take 4 each"
            ),
            "taken as two writes",
        );
        if !self.core.is_strict() {
            for (at, half) in [offset, offset + 4].into_iter().zip(data.chunks(4)) {
                self.write(at, half);
            }
        }
        true
    }
}
