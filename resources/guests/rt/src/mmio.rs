//! Registers of devices, mapped into the address space.
#![allow(unsafe_code)]

use core::arch::asm;

use crate::boot_info;

/// Where RAM ends at the latest and devices begin: 3 GiB. See the guest-physical map of cafevm.
const HOLE_START: u64 = 0xc000_0000;
/// The end of what is mapped: 4 GiB.
const HOLE_END: u64 = 1 << 32;

/// A window of device registers, `len` bytes from a guest-physical address below 4 GiB where no RAM is.
///
/// Each access is one `mov` of the width it names, at any alignment, in program order. Offsets count bytes from the
/// start of the window; an access that does not lie wholly in it panics.
#[derive(Clone, Copy, Debug)]
pub struct Mmio {
    base: u64,
    len: u64,
}

/// The pair of accessors for one width.
macro_rules! access {
    ($bits:literal, $type:ty, $class:ident, $operand:literal, $read:ident, $write:ident) => {
        #[doc = concat!("Reads ", $bits, " bits at `offset`, in one access.")]
        #[inline]
        pub fn $read(self, offset: u64) -> $type {
            let value: $type;
            // SAFETY: `at` gives an address below 4 GiB and outside RAM: mapped, and no memory of the guest.
            unsafe {
                asm!(concat!("mov ", $operand, ", [{1}]"), out($class) value, in(reg) self.at(offset, $bits / 8),
                     options(nostack, preserves_flags));
            }
            value
        }

        #[doc = concat!("Writes ", $bits, " bits at `offset`, in one access.")]
        #[inline]
        pub fn $write(self, offset: u64, value: $type) {
            // SAFETY: as for reading. What a device then does to memory, it does only to shared memory.
            unsafe {
                asm!(concat!("mov [{1}], ", $operand), in($class) value, in(reg) self.at(offset, $bits / 8),
                     options(nostack, preserves_flags));
            }
        }
    };
}

impl Mmio {
    /// The window of `len` bytes at `base`; `None` where it is not wholly between 3 and 4 GiB, where no RAM is.
    pub const fn new(base: u64, len: u64) -> Option<Mmio> {
        match base.checked_add(len) {
            Some(end) if base >= HOLE_START && end <= HOLE_END => Some(Mmio { base, len }),
            _ => None,
        }
    }

    /// The window of `len` bytes at `base`, which may also lie above a small machine's RAM; `None` where the memory
    /// map has RAM there, or the loader gave none.
    pub fn outside_ram(base: u64, len: u64) -> Option<Mmio> {
        const RAM: u32 = 1;
        let hole = Mmio::new(base, len);
        if hole.is_some() {
            return hole;
        }
        let end = base.checked_add(len).filter(|end| *end <= HOLE_END)?;
        let map = boot_info::get().memory_map();
        let mut ram = map.iter().filter(|region| region.kind == RAM);
        let meets = ram.any(|r| r.address < end && base < r.address.saturating_add(r.size));
        (!map.is_empty() && !meets).then_some(Mmio { base, len })
    }

    /// The guest-physical address of the window's start.
    pub const fn base(self) -> u64 {
        self.base
    }

    access!(8, u8, reg_byte, "{0}", read8, write8);
    access!(16, u16, reg, "{0:x}", read16, write16);
    access!(32, u32, reg, "{0:e}", read32, write32);
    access!(64, u64, reg, "{0}", read64, write64);

    #[inline]
    fn at(self, offset: u64, width: u64) -> u64 {
        assert!(
            offset < self.len && self.len - offset >= width,
            "register access outside its window"
        );
        self.base + offset
    }
}
