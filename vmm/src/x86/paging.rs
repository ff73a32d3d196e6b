//! From a linear address to a guest-physical one: a walk of the guest's page tables, as a processor does it.
//!
//! It reads guest memory only, so any thread can do it while the vCPU stands. It checks no permissions: a debugger may
//! read and write every page.

use cafevm_devices::memory::GuestRam;
use kvm_bindings::kvm_sregs;

/// CR0.PG: paging is on.
const PAGING: u64 = 1 << 31;
/// CR4.PSE: large pages in 32-bit paging.
const LARGE_IN_32: u64 = 1 << 4;
/// CR4.PAE: entries of 8 bytes.
const WIDE: u64 = 1 << 5;
/// CR4.LA57: five levels.
const FIVE_LEVELS: u64 = 1 << 12;
/// EFER.LMA: long mode.
const LONG_MODE: u64 = 1 << 10;

/// An entry is present.
const PRESENT: u64 = 1;
/// An entry of an upper level is a large page.
const LARGE: u64 = 1 << 7;
/// The address in a wide entry: bits 12 to 51.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The registers that decide about a walk.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Paging {
    cr0: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
}

impl Paging {
    /// Those of a vCPU.
    pub(crate) const fn of(sregs: &kvm_sregs) -> Self {
        let kvm_sregs { cr0, cr3, cr4, efer, .. } = *sregs;
        Self { cr0, cr3, cr4, efer }
    }

    /// The guest-physical address of `linear`. None if no page is there, or a page table is not in RAM.
    pub(crate) fn translate(self, ram: &GuestRam, linear: u64) -> Option<u64> {
        if self.cr0 & PAGING == 0 {
            return Some(linear);
        }
        // In legacy modes an address has 32 bits.
        let low = linear & u64::from(u32::MAX);
        if self.efer & LONG_MODE != 0 {
            let levels = if self.cr4 & FIVE_LEVELS == 0 { 4 } else { 5 };
            walk_wide(ram, self.cr3 & ADDRESS, linear, levels)
        } else if self.cr4 & WIDE != 0 {
            // The table of the third level has 4 entries and is aligned to 32 bytes.
            let top = (self.cr3 & 0xffff_ffe0).checked_add((low >> 30) * 8)?;
            let top = entry(ram, top)?;
            walk_wide(ram, top & ADDRESS, low, 2)
        } else {
            self.walk_narrow(ram, low)
        }
    }

    /// 32-bit paging: two levels of 1024 entries of 4 bytes.
    fn walk_narrow(self, ram: &GuestRam, linear: u64) -> Option<u64> {
        let narrow = |table: u64, index: u64| {
            let entry = u64::from(u32::from_le_bytes(ram.read(table + 4 * index).ok()?));
            (entry & PRESENT != 0).then_some(entry)
        };
        let upper = narrow(self.cr3 & 0xffff_f000, linear >> 22)?;
        if upper & LARGE != 0 && self.cr4 & LARGE_IN_32 != 0 {
            // Bits 13 to 20 are bits 32 to 39 of the address (PSE-36).
            let page = (upper & 0xffc0_0000) | ((upper >> 13) & 0xff) << 32;
            return Some(page | linear & 0x3f_ffff);
        }
        let lower = narrow(upper & 0xffff_f000, (linear >> 12) & 0x3ff)?;
        Some((lower & 0xffff_f000) | linear & 0xfff)
    }
}

/// Walks `levels` levels of tables with 512 entries of 8 bytes.
fn walk_wide(ram: &GuestRam, mut table: u64, linear: u64, levels: u32) -> Option<u64> {
    for level in (0..levels).rev() {
        let shift = 12 + 9 * level;
        let found = entry(ram, table + 8 * ((linear >> shift) & 0x1ff))?;
        // Level 0 has no large pages: there the bit has another meaning.
        if level == 0 || found & LARGE != 0 && level <= 2 {
            let within = (1 << shift) - 1;
            return Some((found & ADDRESS & !within) | linear & within);
        }
        table = found & ADDRESS;
    }
    None
}

fn entry(ram: &GuestRam, at: u64) -> Option<u64> {
    let entry = u64::from_le_bytes(ram.read(at).ok()?);
    (entry & PRESENT != 0).then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 0x10_0000;

    fn ram(entries: &[(u64, u64)]) -> GuestRam {
        let ram = GuestRam::anonymous(&[(0, SIZE)]).unwrap();
        for (at, entry) in entries {
            ram.write(*at, &entry.to_le_bytes()).unwrap();
        }
        ram
    }

    #[test]
    fn without_paging_an_address_is_physical() {
        assert_eq!(Paging::default().translate(&ram(&[]), 0x1234), Some(0x1234));
    }

    #[test]
    fn four_levels_lead_to_small_and_large_pages() {
        let linear = 0xffff_8000_0020_3456_u64;
        let ram = ram(&[
            (0x1000 + 8 * 0x100, 0x2003),
            (0x2000, 0x3003),
            (0x3000 + 8, 0x4003),
            (0x4000 + 8 * 3, 0x8000_0000_0009_9003),
            // The next 2 MiB are one page; the gigabyte after the first, too.
            (0x3000 + 16, 0x4060_0083),
            (0x2000 + 8, 0x4000_0083),
        ]);
        let paging = Paging { cr0: PAGING, cr3: 0x1018, cr4: WIDE, efer: LONG_MODE };
        assert_eq!(paging.translate(&ram, linear), Some(0x9_9456));
        assert_eq!(paging.translate(&ram, 0xffff_8000_0051_2345), Some(0x4071_2345));
        assert_eq!(paging.translate(&ram, 0xffff_8000_7212_3456), Some(0x7212_3456));
        // The next page is not present, and neither is the lower half.
        assert_eq!(paging.translate(&ram, linear + 0x1000), None);
        assert_eq!(paging.translate(&ram, 0x20_3456), None);
        // With five levels the same table is one level higher.
        let five = Paging { cr4: WIDE | FIVE_LEVELS, ..paging };
        assert_eq!(five.translate(&ram, linear), None);
    }

    #[test]
    fn a_table_outside_ram_is_no_address() {
        let paging = Paging { cr0: PAGING, cr3: 0x00ff_0000_0000_0000, cr4: WIDE, efer: LONG_MODE };
        assert_eq!(paging.translate(&ram(&[]), 0), None);
        let paging = Paging { cr3: ADDRESS, ..paging };
        assert_eq!(paging.translate(&ram(&[]), u64::MAX), None);
        let narrow = Paging { cr0: PAGING, cr3: 0xffff_f000, ..Paging::default() };
        assert_eq!(narrow.translate(&ram(&[]), u64::MAX), None);
    }

    #[test]
    fn legacy_modes_have_two_and_three_levels() {
        let ram = ram(&[(0x1000 + 4, 0x2003), (0x2000 + 8, 0x7003), (0x1000 + 8, 0x40_2083)]);
        let narrow = Paging { cr0: PAGING, cr3: 0x1000, cr4: LARGE_IN_32, efer: 0 };
        assert_eq!(narrow.translate(&ram, 0x40_2abc), Some(0x7abc));
        assert_eq!(narrow.translate(&ram, 0xbf_ffff), Some(0x1_007f_ffff));
        assert_eq!(narrow.translate(&ram, 0x40_3abc), None);
        let ram = self::ram(&[(0x1020, 0x2001), (0x2000, 0x3001), (0x3008, 0x5001)]);
        let wide = Paging { cr0: PAGING, cr3: 0x1020, cr4: WIDE, efer: 0 };
        assert_eq!(wide.translate(&ram, 0x1fff), Some(0x5fff));
    }
}
