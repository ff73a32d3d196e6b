//! I/O ports.
#![allow(unsafe_code)]

use core::arch::asm;

/// Reads a byte from `port`.
pub fn read8(port: u16) -> u8 {
    let value;
    // SAFETY: reading a port touches no memory; no device here gives memory away by a port read.
    unsafe {
        asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags));
    }
    value
}

/// Writes a byte to `port`.
pub fn write8(port: u16, value: u8) {
    // SAFETY: no device on this machine reaches memory by a port write; those that end the machine are meant to.
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags));
    }
}

/// Writes 32 bits to `port`.
pub fn write32(port: u16, value: u32) {
    // SAFETY: as for `write8`.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags));
    }
}
