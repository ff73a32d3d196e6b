//! Loads a kernel: parses its file, checks that it fits into memory, and writes it and its boot information into guest
//! RAM.
//!
//! ```text
//!  bytes ──▶ elf::parse or bzimage::parse ──▶ Boot::plan (does all fit?) ──▶ Boot::load (into guest RAM) ──▶ Start ──▶ cpu_state
//! ```
//!
//! Nothing is written before everything is checked. To support another format of kernels, add a file beside `elf.rs`
//! and `bzimage.rs` that returns a [`Kernel`].

mod bzimage;
mod elf;
mod linux;
mod looks;
mod memory_map;
mod reach;
mod source;
mod start_info;
pub(crate) mod tables;
mod zero_page;

use std::ops::Range;

use cafevm_devices::memory::{GuestRam, OutOfRam};

use crate::layout::{self, BOOT_AREA, COMMAND_LINE, FIRMWARE, MIB, PAGE};
use crate::size::Human;

pub use bzimage::BzImageError;
pub use elf::ElfError;
pub use linux::Linux;
pub use reach::Reach;
pub use source::{Bytes, KernelSource, ReadError};
pub(crate) use source::{is_url, read_initrd};

/// How a kernel is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// At this physical address in 32-bit protected mode, as the kernel's PVH note states.
    Pvh(u64),
    /// At this physical address in 64-bit mode, as in Linux's 64-bit boot protocol.
    Long(u64),
}

/// A part of a kernel to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadSegment {
    /// Its guest-physical addresses, including the zeros after the bytes of the file.
    pub place: Range<u64>,
    /// The place of its bytes in the file.
    pub file: Range<usize>,
}

/// A parsed kernel.
#[derive(Debug)]
pub struct Kernel {
    /// The name for messages.
    pub name: String,
    /// The bytes of the file.
    pub bytes: Bytes,
    /// The parts to load; never empty.
    pub segments: Vec<LoadSegment>,
    /// The entry.
    pub entry: Entry,
    /// The kind of the kernel, in a few words.
    pub kind: &'static str,
    /// What is known if the kernel is Linux.
    pub linux: Option<Linux>,
    /// The most memory that it was built for, if that is known.
    pub reach: Option<Reach>,
}

impl Kernel {
    /// The command line for it: that of the user, for Linux with the missing words added.
    pub(crate) fn command_line(&self, given: String) -> String {
        if self.linux.is_some() { linux::complete(&given) } else { given }
    }
}

/// Why a kernel cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The kernel or the initrd cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file is not a kernel.
    #[error("--kernel {name}: {source}")]
    NotAKernel {
        /// The kernel.
        name: String,
        /// What is wrong with it.
        source: ElfError,
    },
    /// The file is a bzImage that cannot be booted.
    #[error("--kernel {name}: {source}")]
    BadBzImage {
        /// The kernel.
        name: String,
        /// What is wrong with it.
        source: BzImageError,
    },
    /// The memory is smaller than every kernel needs.
    #[error("--memory {}: too small; a machine needs at least {}", Human(*memory), Human(*least))]
    MemoryTooSmall {
        /// The bytes of RAM.
        memory: u64,
        /// The least bytes.
        least: u64,
    },
    /// The memory is not a whole number of pages.
    #[error("--memory {}: not a multiple of 4 KiB; give whole pages", Human(*memory))]
    MemoryNotPages {
        /// The bytes of RAM.
        memory: u64,
    },
    /// A part of the kernel is outside RAM.
    #[error("--kernel {name}: does not fit in memory: it needs {:#x} to {:#x}, and RAM ends at {ram_end:#x} (--memory {}); {remedy}", place.start, place.end, Human(*memory))]
    DoesNotFit {
        /// The kernel.
        name: String,
        /// The segment.
        place: Range<u64>,
        /// The end of the RAM below 4 GiB.
        ram_end: u64,
        /// The bytes of RAM.
        memory: u64,
        /// What to do.
        remedy: String,
    },
    /// A part of the kernel overlaps the boot information.
    #[error("--kernel {name}: its segment {:#x} to {:#x} overlaps the boot area {:#x} to {:#x}, where a kernel finds its command line and tables; link it at 1 MiB (0x100000) or higher", place.start, place.end, BOOT_AREA.start, BOOT_AREA.end)]
    OverlapsBootArea {
        /// The kernel.
        name: String,
        /// The segment.
        place: Range<u64>,
    },
    /// A part of the kernel overlaps the firmware's tables.
    #[error("--kernel {name}: its segment {:#x} to {:#x} overlaps the firmware's area {:#x} to {:#x}, where a kernel finds ACPI tables; link it at 1 MiB (0x100000) or higher", place.start, place.end, FIRMWARE.start, FIRMWARE.end)]
    OverlapsFirmware {
        /// The kernel.
        name: String,
        /// The segment.
        place: Range<u64>,
    },
    /// The initrd does not fit below the limit of the kernel.
    #[error("--initrd {name}: {} do not fit beside the kernel, which ends at {kernel_end:#x}, below {limit:#x}, the last address that this kernel accepts; give a smaller initrd", Human(*len))]
    InitrdTooHigh {
        /// The initrd.
        name: String,
        /// Its bytes.
        len: u64,
        /// The end of the kernel.
        kernel_end: u64,
        /// The end of what the kernel's header allows.
        limit: u64,
    },
    /// The initrd does not fit into RAM.
    #[error("--initrd {name}: {} do not fit beside the kernel, which ends at {kernel_end:#x}, below {ram_end:#x} (--memory {}); give more memory", Human(*len), Human(*memory))]
    InitrdDoesNotFit {
        /// The initrd.
        name: String,
        /// Its bytes.
        len: u64,
        /// The end of the kernel.
        kernel_end: u64,
        /// The end of the RAM below 4 GiB.
        ram_end: u64,
        /// The bytes of RAM.
        memory: u64,
    },
    /// The command line is too long.
    #[error(
        "--cmdline: too long: {given} bytes with the words for the virtio devices, and the limit is {most}; give a shorter one"
    )]
    CommandLineTooLong {
        /// Its bytes.
        given: usize,
        /// The most bytes.
        most: usize,
    },
    /// A command line ends at the first zero byte.
    #[error("--cmdline: has a zero byte, where a guest would see its end; leave it out")]
    CommandLineZero,
    /// A write outside RAM after all checks: a bug of cafevm.
    #[error("cannot load the kernel: {0}")]
    Load(#[from] OutOfRam),
}

/// The content for guest RAM, checked to fit.
#[derive(Debug)]
pub struct Boot {
    kernel: Kernel,
    initrd: Option<Initrd>,
    command_line: String,
    memory: u64,
}

#[derive(Debug)]
struct Initrd {
    addr: u64,
    bytes: Bytes,
}

/// Where and how the first vCPU starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The kernel's entry.
    pub entry: Entry,
    /// The value of ebx (PVH) or rsi (64-bit): the address of the boot information.
    pub info: u64,
}

impl Boot {
    /// Checks that everything fits into `memory` bytes of RAM.
    ///
    /// # Errors
    ///
    /// What does not fit, and by how much.
    pub fn plan(
        kernel: Kernel,
        initrd: Option<(String, Bytes)>,
        command_line: String,
        memory: u64,
    ) -> Result<Self, BootError> {
        if memory < MIB {
            return Err(BootError::MemoryTooSmall { memory, least: MIB });
        }
        if !memory.is_multiple_of(PAGE) {
            return Err(BootError::MemoryNotPages { memory });
        }
        let places = || kernel.segments.iter().map(|segment| &segment.place);
        // The end of the kernel, without parts that no memory size makes fit: they are wrong in another way.
        let end = places().map(|place| place.end).filter(|end| *end <= layout::LOW_RAM_END).max();
        for place in places() {
            check_segment(&kernel.name, place, end.unwrap_or(place.end), memory)?;
        }
        check_command_line(&command_line, kernel.linux.as_ref())?;
        let initrd =
            initrd.map(|(name, bytes)| place_initrd(name, bytes, &kernel, memory)).transpose()?;
        Ok(Self { kernel, initrd, command_line, memory })
    }

    /// The kernel.
    pub const fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The whole command line.
    pub fn command_line(&self) -> &str {
        &self.command_line
    }

    /// Writes everything into `ram`, which must be all zeros. Returns where the first vCPU starts.
    ///
    /// # Errors
    ///
    /// If `ram` is not the RAM that was planned for.
    pub fn load(&self, ram: &GuestRam) -> Result<Start, BootError> {
        let file = self.kernel.bytes.as_slice();
        for segment in &self.kernel.segments {
            ram.write(segment.place.start, file.get(segment.file.clone()).unwrap_or_default())?;
        }
        let initrd = match &self.initrd {
            Some(Initrd { addr, bytes }) => {
                ram.write(*addr, bytes.as_slice())?;
                *addr..addr.saturating_add(bytes.as_slice().len() as u64)
            }
            None => 0..0,
        };
        ram.write(COMMAND_LINE.start, self.command_line.as_bytes())?;
        let header = self.kernel.linux.as_ref().and_then(|linux| linux.setup_header.clone());
        let boot_info = BootInfo {
            memory: self.memory,
            initrd,
            command_line_len: self.command_line.len(),
            setup_header: header.and_then(|header| file.get(header)).unwrap_or_default(),
        };
        let info = match self.kernel.entry {
            Entry::Pvh(_) => start_info::write(ram, &boot_info)?,
            Entry::Long(_) => {
                tables::write_page_tables(ram)?;
                zero_page::write(ram, &boot_info)?
            }
        };
        tables::write_gdt(ram, self.kernel.entry)?;
        Ok(Start { entry: self.kernel.entry, info })
    }
}

/// The boot information for a kernel, independent of the protocol.
#[derive(Debug, Clone)]
struct BootInfo<'a> {
    memory: u64,
    /// Empty without an initrd.
    initrd: Range<u64>,
    command_line_len: usize,
    /// Empty if the kernel has none.
    setup_header: &'a [u8],
}

fn low_ram_end(memory: u64) -> u64 {
    layout::ram(memory).first().map_or(0, |low| low.end)
}

/// `end` is the end of the last part of the kernel that fits into the RAM below 4 GiB.
fn check_segment(name: &str, place: &Range<u64>, end: u64, memory: u64) -> Result<(), BootError> {
    let name = name.to_owned();
    if !layout::disjoint(place, &BOOT_AREA) {
        return Err(BootError::OverlapsBootArea { name, place: place.clone() });
    }
    if !layout::disjoint(place, &FIRMWARE) {
        return Err(BootError::OverlapsFirmware { name, place: place.clone() });
    }
    let in_ram = |ram: &Range<u64>| ram.start <= place.start && place.end <= ram.end;
    if layout::ram(memory).iter().any(in_ram) {
        return Ok(());
    }
    let remedy = if place.end <= layout::LOW_RAM_END {
        format!("give at least --memory {}M", end.max(place.end).div_ceil(MIB))
    } else {
        "link it at a lower physical address (the load address, LMA)".to_owned()
    };
    let ram_end = low_ram_end(memory);
    Err(BootError::DoesNotFit { name, place: place.clone(), ram_end, memory, remedy })
}

fn check_command_line(text: &str, linux: Option<&Linux>) -> Result<(), BootError> {
    let room = usize::try_from(COMMAND_LINE.end - COMMAND_LINE.start).unwrap_or(0);
    let most = room.saturating_sub(1); // the closing zero
    // Linux would truncate it without a message.
    let most = linux.and_then(|linux| linux.command_line_max).map_or(most, |max| max.min(most));
    if text.len() > most {
        return Err(BootError::CommandLineTooLong { given: text.len(), most });
    }
    if text.contains('\0') {
        return Err(BootError::CommandLineZero);
    }
    Ok(())
}

/// Places the initrd at the top of the RAM below 4 GiB, or below the kernel's own limit, page-aligned.
fn place_initrd(
    name: String,
    bytes: Bytes,
    kernel: &Kernel,
    memory: u64,
) -> Result<Initrd, BootError> {
    let len = bytes.as_slice().len() as u64;
    let ram_end = low_ram_end(memory);
    let kernel_end = kernel
        .segments
        .iter()
        .map(|s| s.place.end)
        .filter(|&end| end <= ram_end)
        .max()
        .unwrap_or(0);
    let limit = kernel.linux.as_ref().map_or(u64::MAX, |linux| linux.initrd_max.saturating_add(1));
    let addr = ram_end.min(limit).checked_sub(len).map(|addr| addr / PAGE * PAGE);
    match addr {
        Some(addr) if addr >= kernel_end.max(MIB) => Ok(Initrd { addr, bytes }),
        _ if limit < ram_end => Err(BootError::InitrdTooHigh { name, len, kernel_end, limit }),
        _ => Err(BootError::InitrdDoesNotFit { name, len, kernel_end, ram_end, memory }),
    }
}

#[cfg(test)]
#[path = "boot_tests.rs"]
mod tests;
