//! Accesses of the guest that no device owns: told, as a wrong base address is a beginner's commonest mistake.
//!
//! Each address is told once for reads and once for writes, at most five lines in a machine's life; the rest
//! is counted, and the count comes at the end. What stock kernels touch on any PC without asking whether the device is
//! there is not told (`PROBED` and `PROBED_MEMORY` below).

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use cafevm_devices::bus::{Bus, first_bytes};
use tracing::warn;

use crate::layout;

/// How many accesses of one machine get a line.
const MOST_LINES: usize = 5;

/// Ports that are not told: those of a PC's chipset and of its usual cards. Linux, the BSDs and hobby kernels touch
/// them without asking first, so that a line says nothing of the driver at work.
///
/// Told on purpose, as a guest that uses them waits in vain or does not end: IDE (0x1f0, 0x170, 0x3f6, 0x376), other
/// monitors' debug consoles (0xe9, 0x402), their power ports (0x604, 0xb004, 0x4004, 0x8900) and fw_cfg (0x510).
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

/// Memory-mapped registers that stock kernels look for on any PC: HPET, TPM, the chipset's own (from 0xfed0_0000 up to
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
    /// Where `addr` counts.
    pub space: Space,
    /// The first byte's address, or the port.
    pub addr: u64,
    /// How many bytes: 1 to 8.
    pub width: usize,
    /// What a write wrote; none for a read.
    pub written: Option<u64>,
}

impl Access {
    /// A read of `width` bytes.
    pub const fn read(space: Space, addr: u64, width: usize) -> Self {
        Self { space, addr, width, written: None }
    }

    /// A write of these bytes, 8 at most.
    pub fn write(space: Space, addr: u64, data: &[u8]) -> Self {
        let value = u64::from_le_bytes(first_bytes(data));
        Self { space, addr, width: data.len(), written: Some(value) }
    }

    /// Whether stock kernels use this address of any PC.
    fn is_probe(&self) -> bool {
        match self.space {
            Space::Memory => PROBED_MEMORY.contains(&self.addr),
            Space::Port => u16::try_from(self.addr)
                .is_ok_and(|port| PROBED.iter().any(|range| range.contains(&port))),
        }
    }

    /// What is told of two accesses only once.
    const fn key(&self) -> (Space, u64, bool) {
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

/// Tells of the accesses in one machine that no device owns.
#[derive(Debug, Default)]
pub(crate) struct Unclaimed {
    /// Each access that got a line, by its key.
    told: Mutex<Vec<(Space, u64, bool)>>,
    /// All accesses but those to addresses that stock kernels probe.
    count: AtomicU64,
    /// The built-in shell looks for svirtb where no disk has it: that is no mistake.
    pub(crate) looks_for_svirtb: bool,
}

impl Unclaimed {
    /// Counts an access that no device on `bus` owns, and logs it unless enough was said. `rip` is asked for the
    /// guest's instruction pointer only where a line is written.
    pub(crate) fn tell(&self, access: &Access, bus: &Bus, rip: impl FnOnce() -> Option<u64>) {
        if self.is_new(access) {
            let line = line(access, bus, rip());
            warn!("{line}");
        }
    }

    /// Counts an access; whether it is to be told.
    fn is_new(&self, access: &Access) -> bool {
        let looks = self.looks_for_svirtb && access.written.is_none();
        if access.is_probe() || looks && layout::SVIRTB.contains(&access.addr) {
            return false;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = told.len() < MOST_LINES && !told.contains(&access.key());
        if is_new {
            told.push(access.key());
        }
        is_new
    }

    /// What to say at the end; none where each access got its line.
    fn summary(&self) -> Option<String> {
        let lines = self.told.lock().unwrap_or_else(PoisonError::into_inner).len();
        let count = self.count.load(Ordering::Relaxed);
        (u64::try_from(lines).is_ok_and(|lines| lines < count)).then(|| {
            format!("the guest made {count} accesses in all that no device owns; {lines} of them are shown above")
        })
    }
}

/// The machine's end: the last vCPU lets go of its buses.
impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(summary) = self.summary() {
            warn!("{summary}");
        }
    }
}

/// One access in words. KVM has moved rip behind some writes already, but never behind a read of memory.
fn line(access: &Access, bus: &Bus, rip: Option<u64>) -> String {
    let rip = match (rip, access.space, access.written) {
        (None, ..) => "unknown rip".to_owned(),
        (Some(rip), Space::Memory, None) => format!("rip {rip:#x}"),
        (Some(rip), ..) => format!("rip {rip:#x} or the instruction before"),
    };
    let effect = if access.written.is_some() {
        "the write has no effect"
    } else {
        "the guest gets all ones"
    };
    let advice = match access.space {
        Space::Memory if layout::SVIRTB.contains(&access.addr) => {
            "this is svirtb's address, so attach a disk with bus=svirtb"
        }
        Space::Memory => "check the driver's base address and offsets",
        Space::Port => "check the port's number",
    };
    let Some(near) = bus.nearest(access.addr) else {
        return format!("the guest {access} ({rip}), and there is no device; {effect}");
    };
    let (name, first, last) = (near.name, near.range.start(), near.range.end());
    let end = access.addr.saturating_add((access.width as u64).saturating_sub(1));
    let place = if access.addr <= *last && *first <= end {
        format!("which is only partly inside {name} at {first:#x} to {last:#x}")
    } else {
        format!("where no device is; the nearest is {name} at {first:#x} to {last:#x}")
    };
    format!("the guest {access} ({rip}), {place}; {effect}: {advice}")
}

#[cfg(test)]
#[path = "unclaimed_tests.rs"]
mod tests;
