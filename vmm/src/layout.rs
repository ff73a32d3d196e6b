//! The guest-physical map.
//!
//! ```text
//!  0x0000_0000  RAM ┬ 0x0_1000  GDT                         ┐
//!                   │ 0x0_6000  PVH start_info              │
//!                   │ 0x0_7000  zero page                   │ the boot area: what the loader
//!                   │ 0x0_8000  first stack                 │ hands over. Nothing of a kernel
//!                   │ 0x0_9000  page tables of the low 4 GiB│ may be loaded here.
//!                   │ 0x1_0000  command line                │
//!                   │ 0x2_0000                              ┘
//!                   │ 0x9_fc00  reserved, as on a PC
//!                   │ 0xe_0000  ACPI tables
//!                   │ 0xf_fff0  the restart code: where a PC's firmware would begin
//!                   │ 0x10_0000 kernel, and whatever it wants
//!                   │           initrd, at the top
//!  0xc000_0000  RAM ends here at the latest; the rest is above 4 GiB
//!  0xcafe_0000  svirtb, one page
//!  0xfeb0_0000  virtio-mmio, 32 slots of 0x200
//!  0xfec0_0000  IOAPIC          (KVM)
//!  0xfee0_0000  local APICs     (KVM)
//!  0xfffb_d000  KVM's own pages (KVM)
//!  0x1_0000_0000  RAM above 4 GiB
//! ```
//!
//! Ports: COM1 at 0x3f8 (interrupt 4); the keyboard controller's reset at 0x64, the debug exit at 0xf4, pvpanic at
//! 0x505, ACPI's sleep registers at 0x600 (`x86/power.rs`).

use std::ops::Range;

use cafevm_devices::svirtb;

/// One KiB, MiB, GiB in bytes.
pub const KIB: u64 = 1 << 10;
/// 1024 KiB.
pub const MIB: u64 = 1 << 20;
/// 1024 MiB.
pub const GIB: u64 = 1 << 30;
/// A page of memory.
pub const PAGE: u64 = 4 * KIB;

/// The global descriptor table.
pub const GDT: Range<u64> = 0x1000..0x2000;
/// PVH: `hvm_start_info`, the memory map and the list of modules.
pub const START_INFO: Range<u64> = 0x6000..0x7000;
/// The 64-bit entry: Linux's `boot_params`.
pub const ZERO_PAGE: Range<u64> = 0x7000..0x8000;
/// The stack a kernel begins with; it grows down.
pub const STACK: Range<u64> = 0x8000..0x9000;
/// The page tables of the 64-bit entry: one PML4, one PDPT, four page directories.
pub const PAGE_TABLES: Range<u64> = 0x9000..0xf000;
/// The command line with its closing zero byte.
pub const COMMAND_LINE: Range<u64> = 0x1_0000..0x2_0000;
/// The whole boot area.
pub const BOOT_AREA: Range<u64> = GDT.start..COMMAND_LINE.end;

/// The end of a PC's conventional memory, where the firmware's area begins.
pub const CONVENTIONAL_END: u64 = 0x9_fc00;
/// The start of a PC's video memory.
pub const VIDEO_START: u64 = 0xa_0000;
/// The area that kernels search for the firmware's tables.
pub const FIRMWARE: Range<u64> = 0xe_0000..0x10_0000;
/// The ACPI tables; the first is the RSDP.
pub const ACPI: Range<u64> = FIRMWARE.start..0xf_0000;
/// The address at which a processor starts after a reset, f000:fff0 or ffff:0000 in real mode.
pub const RESTART: u64 = FIRMWARE.end - 0x10;

/// The most RAM below 4 GiB.
pub const LOW_RAM_END: u64 = 3 * GIB;
/// The start of the RAM above 4 GiB.
pub const HIGH_RAM_START: u64 = 4 * GIB;

/// svirtb's registers.
pub const SVIRTB: Range<u64> = svirtb::BASE..svirtb::BASE + svirtb::LEN;
/// The default base of the virtio-mmio slots.
pub const VIRTIO: Range<u64> = 0xfeb0_0000..0xfeb0_4000;
/// KVM's IOAPIC.
pub const IOAPIC: Range<u64> = 0xfec0_0000..0xfec0_1000;
/// KVM's local APICs, all at one address.
pub const LOCAL_APIC: Range<u64> = 0xfee0_0000..0xfee0_1000;
/// Four pages that KVM needs on Intel processors: a page table at its default address, and a TSS after it.
pub const KVM_PAGES: Range<u64> = 0xfffb_c000..0xfffc_0000;
/// The TSS in [`KVM_PAGES`].
pub const KVM_TSS: usize = 0xfffb_d000;

/// The serial port's first port.
pub const COM1: u64 = 0x3f8;
/// The serial port's interrupt.
pub const COM1_IRQ: u32 = 4;
/// The keyboard controller's command port.
pub const RESET_PORT: u16 = 0x64;
/// The value that resets the machine when it is written to [`RESET_PORT`].
pub const RESET_COMMAND: u8 = 0xfe;
/// The debug exit port: it ends the machine with the guest's status.
pub const DEBUG_EXIT_PORT: u16 = 0xf4;
/// The reset control register of Intel's chipsets.
pub const RESET_CONTROL_PORT: u16 = 0xcf9;
/// The port of pvpanic, as on QEMU's PC.
pub const PVPANIC_PORT: u16 = 0x505;
/// ACPI's sleep control register.
pub const SLEEP_CONTROL_PORT: u16 = 0x600;
/// ACPI's sleep status register.
pub const SLEEP_STATUS_PORT: u16 = 0x601;

/// The ranges of `memory` bytes of RAM: (guest-physical address, bytes), lowest first.
pub fn ram(memory: u64) -> Vec<Range<u64>> {
    let low = memory.min(LOW_RAM_END);
    let high = memory - low;
    let mut ranges = Vec::with_capacity(2);
    ranges.push(0..low);
    if high > 0 {
        ranges.push(HIGH_RAM_START..HIGH_RAM_START.saturating_add(high));
    }
    ranges
}

/// Whether no address is in both ranges.
pub const fn disjoint(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.end <= b.start || b.end <= a.start
}

const fn ascending(ranges: &[Range<u64>]) -> bool {
    let mut at = 0;
    while at < ranges.len() {
        if ranges[at].start >= ranges[at].end {
            return false;
        }
        if at > 0 && ranges[at - 1].end > ranges[at].start {
            return false;
        }
        at += 1;
    }
    true
}

const _: () = assert!(
    ascending(&[
        GDT,
        START_INFO,
        ZERO_PAGE,
        STACK,
        PAGE_TABLES,
        COMMAND_LINE,
        CONVENTIONAL_END..VIDEO_START,
        FIRMWARE,
        MIB..LOW_RAM_END,
        SVIRTB,
        VIRTIO,
        IOAPIC,
        LOCAL_APIC,
        KVM_PAGES,
        HIGH_RAM_START..u64::MAX,
    ]),
    "the guest-physical map overlaps"
);
const _: () = assert!(
    FIRMWARE.start <= ACPI.start && ACPI.end <= RESTART && RESTART < FIRMWARE.end,
    "the firmware's area holds the ACPI tables and the restart code"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_leaves_the_hole_below_4_gib() {
        assert_eq!(ram(64 * MIB).as_slice(), std::slice::from_ref(&(0..64 * MIB)));
        assert_eq!(ram(3 * GIB).as_slice(), std::slice::from_ref(&(0..3 * GIB)));
        assert_eq!(ram(3 * GIB + PAGE), [0..3 * GIB, 4 * GIB..4 * GIB + PAGE]);
        assert_eq!(ram(8 * GIB), [0..3 * GIB, 4 * GIB..9 * GIB]);
    }
}
