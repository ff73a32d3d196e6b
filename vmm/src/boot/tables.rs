//! The tables that a processor needs until the kernel has its own: flat segments, and an identity map of the low 4 GiB,
//! which include the devices.

use cafevm_devices::memory::{GuestRam, OutOfRam};

use super::Entry;
use crate::layout::{GDT, GIB, MIB, PAGE, PAGE_TABLES};

/// A segment descriptor (Intel SDM volume 3, 3.4.5).
pub(crate) type Descriptor = u64;

/// Flat code, 64-bit.
pub(crate) const CODE_64: Descriptor = 0x00af_9b00_0000_ffff;
/// Flat code, 32-bit.
pub(crate) const CODE_32: Descriptor = 0x00cf_9b00_0000_ffff;
/// Flat data.
pub(crate) const DATA: Descriptor = 0x00cf_9300_0000_ffff;
/// A busy task state segment; kernels do not use it, but the processor requires one.
pub(crate) const TASK: Descriptor = 0x0000_8b00_0000_0067;

/// The selectors of Linux's boot protocol.
pub(crate) const CODE_SELECTOR: u16 = 0x10;
pub(crate) const DATA_SELECTOR: u16 = 0x18;
pub(crate) const TASK_SELECTOR: u16 = 0x20;
/// The table's limit: the offset of its last byte. In 64-bit mode the task segment has two entries.
pub(crate) const GDT_LIMIT: u16 = 0x2f;

/// The code segment at the kernel's entry.
pub(crate) const fn code(entry: Entry) -> Descriptor {
    match entry {
        Entry::Pvh(_) => CODE_32,
        Entry::Long(_) => CODE_64,
    }
}

/// Writes the descriptor table.
pub(super) fn write_gdt(ram: &GuestRam, entry: Entry) -> Result<(), OutOfRam> {
    let places = [(CODE_SELECTOR, code(entry)), (DATA_SELECTOR, DATA), (TASK_SELECTOR, TASK)];
    for (selector, descriptor) in places {
        ram.write(GDT.start + u64::from(selector), &descriptor.to_le_bytes())?;
    }
    Ok(())
}

const PRESENT_WRITABLE: u64 = 0b11;
/// In a page directory: a page of 2 MiB.
const LARGE: u64 = 1 << 7;

/// Writes the page tables: one PML4, one PDPT, and a page directory for each of the four GiB.
pub(super) fn write_page_tables(ram: &GuestRam) -> Result<(), OutOfRam> {
    let pml4 = PAGE_TABLES.start;
    let pdpt = pml4 + PAGE;
    let directories = pdpt + PAGE;
    ram.write(pml4, &(pdpt | PRESENT_WRITABLE).to_le_bytes())?;
    for gib in 0..4 {
        let directory = directories + gib * PAGE;
        ram.write(pdpt + gib * 8, &(directory | PRESENT_WRITABLE).to_le_bytes())?;
        let pages =
            (0..GIB / (2 * MIB)).map(|n| (gib * GIB + n * 2 * MIB) | PRESENT_WRITABLE | LARGE);
        let bytes: Vec<u8> = pages.flat_map(u64::to_le_bytes).collect();
        ram.write(directory, &bytes)?;
    }
    Ok(())
}
