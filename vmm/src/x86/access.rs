//! An access of the guest that causes an exit, and the addresses of a PC that stock kernels probe.

use std::fmt;
use std::ops::{Range, RangeInclusive};

use cafevm_devices::bus::first_bytes;

use crate::layout;

/// Ports that are not reported: those of a PC's chipset and usual cards. Linux, the BSDs and hobby kernels access them
/// without a check, so a line would not help a driver's author.
///
/// Reported on purpose, because a guest that uses them waits in vain or does not end: IDE (0x1f0, 0x170, 0x3f6, 0x376),
/// debug consoles of other monitors (0xe9, 0x402), their power ports (0x604, 0xb004, 0x4004, 0x8900) and fw_cfg
/// (0x510).
const PROBED: &[RangeInclusive<u16>] = &[
    0x00..=0x1f,     // DMA controller
    0x20..=0x23,     // interrupt controller; its mode register, Cyrix's configuration
    0x2e..=0x2f,     // Super I/O
    0x40..=0x43,     // timer
    0x4e..=0x4f,     // Super I/O, its other place
    0x60..=0x64,     // keyboard controller; 0x61, the speaker and the timer's gate
    0x70..=0x77,     // CMOS, with the clock
    0x80..=0x9f,     // DMA pages and the delay port; 0x92, the A20 gate
    0xa0..=0xa1,     // second interrupt controller
    0xb2..=0xb3,     // power management's commands
    0xc0..=0xdf,     // second DMA controller
    0xed..=0xed,     // the other delay port
    0xf0..=0xf1,     // the coprocessor's error
    0x278..=0x27f,   // LPT2; 0x279, ISA plug and play
    0x2e8..=0x2ef,   // COM4
    0x2f8..=0x2ff,   // COM2
    0x370..=0x375,   // second floppy controller; Super I/O
    0x377..=0x377,   // its last register; between them stands IDE's
    0x378..=0x37f,   // LPT1
    0x3b0..=0x3df,   // VGA; 0x3bc, LPT3
    0x3e8..=0x3ef,   // COM3
    0x3f0..=0x3f5,   // floppy controller; Super I/O
    0x3f7..=0x3f7,   // its last register; between them stands IDE's
    0x4d0..=0x4d1,   // which interrupts are level-triggered
    0x678..=0x67a,   // LPT2's extension
    0x778..=0x77a,   // LPT1's extension
    0xa79..=0xa79,   // ISA plug and play
    0xcf8..=0xcff,   // PCI; 0xcf9, the reset control
    0xc000..=0xcfff, // PCI, by its second mechanism
];

/// Memory-mapped registers that stock kernels probe on every PC: HPET, TPM, the chipset's own (from 0xfed0_0000 up to
/// the local APIC).
const PROBED_MEMORY: Range<u64> = 0xfed0_0000..layout::LOCAL_APIC.start;

/// An address space of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Guest-physical memory.
    Memory,
    /// Ports.
    Port,
}

/// An access of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The address space.
    pub space: Space,
    /// The first address, or the port.
    pub addr: u64,
    /// The number of bytes: 1 to 8.
    pub width: usize,
    /// The bytes of a write; none for a read.
    pub written: Option<u64>,
}

impl Access {
    /// A read of `width` bytes.
    pub const fn read(space: Space, addr: u64, width: usize) -> Self {
        Self { space, addr, width, written: None }
    }

    /// A write of these bytes, at most 8.
    pub fn write(space: Space, addr: u64, data: &[u8]) -> Self {
        let value = u64::from_le_bytes(first_bytes(data));
        Self { space, addr, width: data.len(), written: Some(value) }
    }

    /// Whether stock kernels access this address on every PC.
    pub(crate) fn is_probe(&self) -> bool {
        match self.space {
            Space::Memory => PROBED_MEMORY.contains(&self.addr),
            Space::Port => u16::try_from(self.addr)
                .is_ok_and(|port| PROBED.iter().any(|range| range.contains(&port))),
        }
    }

    /// The key under which an access is logged once: the address and the direction.
    pub(crate) const fn key(&self) -> (Space, u64, bool) {
        (self.space, self.addr, self.written.is_some())
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { space, addr, width, written } = self;
        let bytes = if *width == 1 { "byte" } else { "bytes" };
        match written {
            None => write!(f, "reads {width} {bytes} at ")?,
            Some(value) => write!(f, "writes {value:#x} ({width} {bytes}) at ")?,
        }
        match space {
            Space::Memory => write!(f, "{addr:#x}"),
            Space::Port => write!(f, "port {addr:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_at_most_8_bytes() {
        let write = |data: &[u8]| Access::write(Space::Memory, 0, data).written;
        assert_eq!(write(&[1, 2]), Some(0x201));
        assert_eq!(write(&[0xff; 8]), Some(u64::MAX));
        assert_eq!(write(&[0xff; 9]), Some(u64::MAX));
        assert_eq!(write(&[]), Some(0));
    }

    #[test]
    fn the_ports_are_ranges_in_order() {
        assert!(PROBED.iter().all(|range| range.start() <= range.end()));
        assert!(PROBED.is_sorted_by(|a, b| a.end() < b.start()));
    }
}
