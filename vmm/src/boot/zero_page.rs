//! The zero page of Linux's 64-bit boot protocol (`boot_params`): offsets as in the kernel's documentation,
//! `arch/x86/zero-page.rst` and `arch/x86/boot.rst`.

use cafevm_devices::memory::{GuestRam, OutOfRam};

use super::{BootInfo, memory_map};
use crate::layout::{ACPI, COMMAND_LINE, ZERO_PAGE};

const ACPI_RSDP_ADDR: u64 = 0x070;
const EXT_RAMDISK_IMAGE: u64 = 0x0c0;
const EXT_RAMDISK_SIZE: u64 = 0x0c4;
const E820_ENTRIES: u64 = 0x1e8;
const SETUP_HEADER: u64 = 0x1f1;
const BOOT_FLAG: u64 = 0x1fe;
const HEADER: u64 = 0x202;
const VERSION: u64 = 0x206;
const TYPE_OF_LOADER: u64 = 0x210;
const LOAD_FLAGS: u64 = 0x211;
const RAMDISK_IMAGE: u64 = 0x218;
const RAMDISK_SIZE: u64 = 0x21c;
const CMD_LINE_PTR: u64 = 0x228;
const CMDLINE_SIZE: u64 = 0x238;
const E820_TABLE: u64 = 0x2d0;

/// "A loader without a number of its own".
const LOADER_UNKNOWN: u8 = 0xff;
/// The kernel was loaded at 1 MiB or higher.
const LOADED_HIGH: u8 = 1;
/// The newest protocol version, in the format of a kernel's header.
const PROTOCOL_2_15: u16 = 0x020f;

/// Writes the boot information of a kernel that is entered in 64-bit mode. Returns its address, for rsi.
pub(super) fn write(ram: &GuestRam, info: &BootInfo<'_>) -> Result<u64, OutOfRam> {
    let put = |offset: u64, bytes: &[u8]| ram.write(ZERO_PAGE.start + offset, bytes);
    let low = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or(0).to_le_bytes();
    if info.setup_header.is_empty() {
        put(BOOT_FLAG, &0xaa55u16.to_le_bytes())?;
        put(HEADER, b"HdrS")?;
        put(VERSION, &PROTOCOL_2_15.to_le_bytes())?;
        put(LOAD_FLAGS, &[LOADED_HIGH])?;
        put(CMDLINE_SIZE, &low(info.command_line_len as u64))?;
    } else {
        put(SETUP_HEADER, info.setup_header)?;
    }
    put(TYPE_OF_LOADER, &[LOADER_UNKNOWN])?;
    put(ACPI_RSDP_ADDR, &ACPI.start.to_le_bytes())?;

    put(CMD_LINE_PTR, &low(COMMAND_LINE.start))?;
    if !info.initrd.is_empty() {
        let (start, len) = (info.initrd.start, info.initrd.end - info.initrd.start);
        put(RAMDISK_IMAGE, &low(start))?;
        put(RAMDISK_SIZE, &low(len))?;
        put(EXT_RAMDISK_IMAGE, &low(start >> 32))?;
        put(EXT_RAMDISK_SIZE, &low(len >> 32))?;
    }

    let areas = memory_map::areas(info.memory);
    put(E820_ENTRIES, &[u8::try_from(areas.len()).unwrap_or(0)])?;
    let mut table = Vec::new();
    for area in &areas {
        table.extend(area.place.start.to_le_bytes());
        table.extend(area.len().to_le_bytes());
        table.extend(area.kind.to_le_bytes());
    }
    put(E820_TABLE, &table)?;
    Ok(ZERO_PAGE.start)
}
