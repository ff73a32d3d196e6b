//! What the loader handed over: the PVH start information, read once and kept.
//! Xen's public header `arch-x86/hvm/start_info.h`; all fields little-endian, addresses guest-physical.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

const MAGIC: u32 = 0x336e_c578;
/// The first version with a memory map.
const WITH_MEMORY_MAP: u32 = 1;
const COMMAND_LINE_MAX: usize = 4096;
const MODULES_MAX: usize = 4;
const REGIONS_MAX: usize = 32;
/// What boot.s maps.
const MAPPED: u64 = 1 << 32;

/// A module, such as the initial RAM disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Module {
    /// Guest-physical address.
    pub address: u64,
    /// Length in bytes.
    pub size: u64,
}

impl Module {
    /// The module's bytes; `None` where they do not lie in the low 4 GiB, which is all that is mapped.
    pub fn bytes(&self) -> Option<&'static [u8]> {
        let end = self.address.checked_add(self.size)?;
        if self.address == 0 || end > MAPPED {
            return None;
        }
        let start = core::ptr::with_exposed_provenance(self.address as usize);
        // SAFETY: mapped, not null, and the loader keeps modules away from the image and everything else in use.
        Some(unsafe { core::slice::from_raw_parts(start, self.size as usize) })
    }
}

/// A range of the memory map.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Region {
    /// Guest-physical address.
    pub address: u64,
    /// Length in bytes.
    pub size: u64,
    /// As in an e820 map: 1 is RAM, 2 is reserved.
    pub kind: u32,
    reserved: u32,
}

/// What the loader handed over.
#[derive(Debug)]
pub struct BootInfo {
    /// Version of the start information, 0 or 1.
    pub version: u32,
    command_line: [u8; COMMAND_LINE_MAX],
    command_line_len: usize,
    modules: [Module; MODULES_MAX],
    module_count: usize,
    regions: [Region; REGIONS_MAX],
    region_count: usize,
}

impl BootInfo {
    /// The command line: at most 4096 bytes, and only up to the first that is not UTF-8.
    pub fn command_line(&self) -> &str {
        let bytes = &self.command_line[..self.command_line_len];
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        }
    }

    /// The modules, at most four.
    pub fn modules(&self) -> &[Module] {
        &self.modules[..self.module_count]
    }

    /// The memory map, at most 32 ranges; empty where the loader gave none.
    pub fn memory_map(&self) -> &[Region] {
        &self.regions[..self.region_count]
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ModuleEntry {
    address: u64,
    size: u64,
    command_line: u64,
    reserved: u64,
}

struct Cell(UnsafeCell<BootInfo>);

// SAFETY: written by `read` before any other code of the guest runs, and only read from then on.
unsafe impl Sync for Cell {}

static INFO: Cell = Cell(UnsafeCell::new(BootInfo {
    version: 0,
    command_line: [0; COMMAND_LINE_MAX],
    command_line_len: 0,
    modules: [Module { address: 0, size: 0 }; MODULES_MAX],
    module_count: 0,
    regions: [Region { address: 0, size: 0, kind: 0, reserved: 0 }; REGIONS_MAX],
    region_count: 0,
}));
static READ: AtomicBool = AtomicBool::new(false);

/// What the loader handed over.
pub fn get() -> &'static BootInfo {
    assert!(READ.load(Ordering::Acquire), "the boot information is read before main");
    // SAFETY: READ is set after the only writer has finished.
    unsafe { &*INFO.0.get() }
}

/// Copies everything of interest, so that the loader's memory is free from then on.
///
/// # Safety
///
/// `address` is what a PVH loader put into ebx, and what it points to has not been changed. Called once, first.
pub(crate) unsafe fn read(address: u64) {
    // SAFETY: the caller's promise; the structure lies in low memory, which is mapped. The same for every pointer in
    // it, read below.
    let start = unsafe { pointer::<StartInfo>(address).read_unaligned() };
    assert!(
        start.magic == MAGIC,
        "no PVH start information at {address:#x}: magic {:#x}",
        start.magic
    );
    // SAFETY: READ is false: there is no other reference.
    let info = unsafe { &mut *INFO.0.get() };
    info.version = start.version;
    if start.command_line != 0 {
        let text = pointer::<u8>(start.command_line);
        while info.command_line_len < COMMAND_LINE_MAX {
            // SAFETY: up to its terminating zero the text is the loader's.
            let byte = unsafe { text.add(info.command_line_len).read() };
            if byte == 0 {
                break;
            }
            info.command_line[info.command_line_len] = byte;
            info.command_line_len += 1;
        }
    }
    info.module_count = MODULES_MAX.min(start.modules as usize);
    for (index, module) in info.modules[..info.module_count].iter_mut().enumerate() {
        // SAFETY: within the list's stated length.
        let entry =
            unsafe { pointer::<ModuleEntry>(start.module_list).add(index).read_unaligned() };
        *module = Module { address: entry.address, size: entry.size };
    }
    if start.version >= WITH_MEMORY_MAP && start.memory_map != 0 {
        info.region_count = REGIONS_MAX.min(start.memory_map_entries as usize);
        for (index, region) in info.regions[..info.region_count].iter_mut().enumerate() {
            // SAFETY: within the map's stated length.
            *region = unsafe { pointer::<Region>(start.memory_map).add(index).read_unaligned() };
        }
    }
    READ.store(true, Ordering::Release);
}

fn pointer<T>(address: u64) -> *const T {
    core::ptr::with_exposed_provenance(address as usize)
}
