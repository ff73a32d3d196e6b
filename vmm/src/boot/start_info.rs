//! PVH: `hvm_start_info` version 1, as in Xen's public header `arch-x86/hvm/start_info.h`.
//!
//! The structure, the list of modules and the memory map are in one page.

use cafevm_devices::memory::{GuestRam, OutOfRam};

use super::{BootInfo, memory_map};
use crate::layout::{ACPI, COMMAND_LINE, START_INFO};

const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;

/// The addresses of the list of modules and of the memory map, in the page.
const MODULES: u64 = START_INFO.start + 0x40;
const MEMORY_MAP: u64 = START_INFO.start + 0x80;

/// Writes the boot information of a PVH kernel. Returns its address, for ebx.
pub(super) fn write(ram: &GuestRam, info: &BootInfo<'_>) -> Result<u64, OutOfRam> {
    let areas = memory_map::areas(info.memory);
    let has_initrd = !info.initrd.is_empty();

    let mut page = Vec::with_capacity(56);
    page.extend(MAGIC.to_le_bytes());
    page.extend(VERSION.to_le_bytes());
    page.extend(0u32.to_le_bytes()); // flags
    page.extend(u32::from(has_initrd).to_le_bytes()); // nr_modules
    page.extend(if has_initrd { MODULES } else { 0 }.to_le_bytes()); // modlist_paddr
    page.extend(COMMAND_LINE.start.to_le_bytes()); // cmdline_paddr
    page.extend(ACPI.start.to_le_bytes()); // rsdp_paddr
    page.extend(MEMORY_MAP.to_le_bytes()); // memmap_paddr
    page.extend(u32::try_from(areas.len()).unwrap_or(0).to_le_bytes()); // memmap_entries
    page.extend(0u32.to_le_bytes()); // reserved
    ram.write(START_INFO.start, &page)?;

    if has_initrd {
        let mut module = Vec::with_capacity(32);
        module.extend(info.initrd.start.to_le_bytes()); // paddr
        module.extend((info.initrd.end - info.initrd.start).to_le_bytes()); // size
        module.extend([0; 16]); // cmdline_paddr, reserved
        ram.write(MODULES, &module)?;
    }

    let mut map = Vec::new();
    for area in &areas {
        map.extend(area.place.start.to_le_bytes()); // addr
        map.extend(area.len().to_le_bytes()); // size
        map.extend(area.kind.to_le_bytes()); // type
        map.extend(0u32.to_le_bytes()); // reserved
    }
    ram.write(MEMORY_MAP, &map)?;
    Ok(START_INFO.start)
}
