//! Likely mistakes in an address that is not in guest RAM.

use std::fmt;

/// The start of the upper half of x86-64's virtual addresses.
const UPPER_HALF: u64 = 0xffff_8000_0000_0000;
/// Where kernels map themselves: the top 2 GiB.
const KERNEL: u64 = 0xffff_ffff_8000_0000;
/// Where Linux maps all memory.
const LINUX: u64 = 0xffff_8880_0000_0000;

/// The likely mistake, as the rest of a sentence; empty if the address shows none.
pub(crate) fn hint(addr: u64) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let base = [KERNEL, LINUX, UPPER_HALF].into_iter().find(|base| addr >= *base);
        if let Some(base) = base {
            let physical = addr - base;
            write!(f, " (a virtual address? Give the physical one, which may be {physical:#x})")
        } else if addr != 0 && addr.trailing_zeros() >= 32 {
            write!(f, " (are the two halves of the address exchanged?)")
        } else {
            Ok(())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_how_it_was_made() {
        for (addr, expected) in [
            (0x1000, ""),
            (0, ""),
            (0xc000_0000, ""),
            (
                0xffff_ffff_8010_0000,
                " (a virtual address? Give the physical one, which may be 0x100000)",
            ),
            (
                0xffff_8880_0020_0000,
                " (a virtual address? Give the physical one, which may be 0x200000)",
            ),
            (
                0xffff_8000_0020_0000,
                " (a virtual address? Give the physical one, which may be 0x200000)",
            ),
            (0x0020_0000_0000_0000, " (are the two halves of the address exchanged?)"),
        ] {
            assert_eq!(hint(addr).to_string(), expected, "{addr:#x}");
        }
    }
}
