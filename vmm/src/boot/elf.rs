//! An ELF kernel: its segments and its entry.
//!
//! The file may have any content: every number in it is checked before use.

use object::Endianness;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

use super::{Entry, LoadSegment, Reach, looks};
use crate::layout::{self, BOOT_AREA, FIRMWARE};

/// The note with which a kernel states its 32-bit entry: Xen's ELFNOTE_PHYS32_ENTRY.
const XEN: &[u8] = b"Xen";
const PHYS32_ENTRY: u32 = 18;
/// The name of Linux's own notes, such as the one with the version of the build.
const LINUX: &[u8] = b"Linux";

/// The parts of an ELF file that the loader needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Elf {
    pub(super) segments: Vec<LoadSegment>,
    pub(super) entry: Entry,
    pub(super) kind: &'static str,
    /// Whether it is Linux.
    pub(super) linux: bool,
    pub(super) reach: Option<Reach>,
}

/// Why a file is not a bootable kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// Another kind of file.
    #[error("not an ELF file: {0}")]
    NotElf(String),
    /// A file for another processor.
    #[error("an ELF file for {0}, not for x86; build it for x86-64")]
    Architecture(String),
    /// An ELF file of a type that cannot be loaded.
    #[error("{0}")]
    NotAKernel(String),
    /// A file whose numbers contradict each other.
    #[error("a damaged ELF file: {0}; build it again")]
    Damaged(String),
    /// A file without a segment to load.
    #[error("an ELF file with nothing to load (no PT_LOAD segment); check the linker script")]
    Empty,
    /// A file without an entry.
    #[error(
        "an ELF file with neither a PVH note (Xen, type 18: the 32-bit entry) nor a 64-bit entry point; add the note or build it for x86-64"
    )]
    NoEntry,
    /// The entry point is outside all loaded segments.
    #[error(
        "its entry point {0:#x} lies in no segment that is loaded; check ENTRY in the linker script, or the PVH note"
    )]
    EntryOutside(u64),
    /// The entry point is at an address that the processor cannot start at.
    #[error(
        "its entry point {0:#x} lies above 4 GiB, where no kernel can be entered; link it lower"
    )]
    EntryHigh(u64),
}

/// Parses an ELF kernel.
pub(super) fn parse(bytes: &[u8]) -> Result<Elf, ElfError> {
    if !bytes.starts_with(&elf::ELFMAG) {
        return Err(ElfError::NotElf(looks::like(bytes)));
    }
    // The class: the fifth byte of every ELF file.
    match bytes.get(4) {
        Some(&class) if class == elf::ELFCLASS64.0 => {
            parse_class::<FileHeader64<Endianness>>(bytes)
        }
        Some(&class) if class == elf::ELFCLASS32.0 => {
            parse_class::<FileHeader32<Endianness>>(bytes)
        }
        _ => Err(ElfError::Damaged("it is neither of 32 nor of 64 bits".to_owned())),
    }
}

fn damaged(error: object::read::Error) -> ElfError {
    ElfError::Damaged(error.to_string())
}

fn parse_class<F: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Result<Elf, ElfError> {
    let header = F::parse(bytes).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    check_architecture(header.e_machine(endian))?;
    let parts = header.program_headers(endian, bytes).map_err(damaged)?;
    check_type(header, endian, parts, bytes)?;

    let mut loads = Vec::new();
    let mut note = None;
    let mut linux = false;
    for part in parts {
        match part.p_type(endian) {
            elf::PT_LOAD => loads.extend(Load::read(part, endian, bytes)?),
            // A kernel often has several note segments; the PVH note may be in any of them.
            elf::PT_NOTE => {
                linux |= is_linux(part, endian, bytes);
                if note.is_none() {
                    note = pvh_note(part, endian, bytes)?;
                }
            }
            _ => {}
        }
    }
    let headers = headers_end::<F>(header, endian, parts);
    loads.retain_mut(|load| load.leave_out_headers(headers, bytes));
    if loads.is_empty() {
        return Err(ElfError::Empty);
    }
    let start = header.e_entry(endian).into();
    let is_64 = header.is_type_64() && header.e_machine(endian) == elf::EM_X86_64;
    let entry = match note {
        Some(addr) => Entry::Pvh(physical(addr, &loads)?),
        None if is_64 && start != 0 => Entry::Long(physical(start, &loads)?),
        None => return Err(ElfError::NoEntry),
    };
    let kind = match (entry, header.is_type_64()) {
        (Entry::Pvh(_), true) => "ELF of 64 bits, entered by its PVH note",
        (Entry::Pvh(_), false) => "ELF of 32 bits, entered by its PVH note",
        (Entry::Long(_), _) => "ELF of 64 bits, entered in 64-bit mode",
    };
    let segments = loads.into_iter().map(|load| load.segment).collect();
    let reach = (!header.is_type_64()).then_some(Reach::Bits32);
    Ok(Elf { segments, entry, kind, linux, reach })
}

/// The offset in the file where the header ends, or the table of segments, if it follows at once.
fn headers_end<F: FileHeader<Endian = Endianness>>(
    header: &F,
    endian: Endianness,
    parts: &[F::ProgramHeader],
) -> usize {
    let end = size_of::<F>();
    let follows = usize::try_from(header.e_phoff(endian).into()).is_ok_and(|table| table == end);
    if follows { end.saturating_add(size_of_val(parts)) } else { end }
}

fn check_architecture(machine: elf::Machine) -> Result<(), ElfError> {
    let name = match machine {
        elf::EM_X86_64 | elf::EM_386 => return Ok(()),
        elf::EM_AARCH64 => "arm64",
        elf::EM_ARM => "arm",
        elf::EM_RISCV => "RISC-V",
        elf::EM_PPC | elf::EM_PPC64 => "PowerPC",
        elf::EM_MIPS => "MIPS",
        elf::EM_S390 => "s390",
        elf::EM_LOONGARCH => "LoongArch",
        other => return Err(ElfError::Architecture(format!("machine number {}", other.0))),
    };
    Err(ElfError::Architecture(name.to_owned()))
}

fn check_type<F: FileHeader<Endian = Endianness>>(
    header: &F,
    endian: Endianness,
    parts: &[F::ProgramHeader],
    bytes: &[u8],
) -> Result<(), ElfError> {
    let kind = match header.e_type(endian) {
        elf::ET_EXEC | elf::ET_DYN => {
            let wanted = parts.iter().find_map(|p| p.interpreter(endian, bytes).transpose());
            match wanted {
                Some(Ok(loader)) => {
                    let loader = String::from_utf8_lossy(loader);
                    format!(
                        "a program for an operating system (it asks for {loader}), not a kernel"
                    )
                }
                Some(Err(error)) => return Err(damaged(error)),
                None => return Ok(()),
            }
        }
        elf::ET_REL => "an object file that is not linked yet; link it first".to_owned(),
        elf::ET_CORE => "a core dump, not a kernel".to_owned(),
        other => format!("an ELF file of the unknown type {}", other.0),
    };
    Err(ElfError::NotAKernel(kind))
}

/// A segment, with the virtual address it is linked at.
struct Load {
    segment: LoadSegment,
    virtual_addr: u64,
}

impl Load {
    /// None for a segment without bytes.
    fn read<P: ProgramHeader<Endian = Endianness>>(
        part: &P,
        endian: Endianness,
        bytes: &[u8],
    ) -> Result<Option<Self>, ElfError> {
        let (paddr, memory) = (part.p_paddr(endian).into(), part.p_memsz(endian).into());
        let (offset, stored) = part.file_range(endian);
        let wrong = |what: &str| {
            Err(ElfError::Damaged(format!("the segment at physical address {paddr:#x} {what}")))
        };
        if memory == 0 && stored == 0 {
            return Ok(None);
        }
        if stored > memory {
            return wrong("has more bytes in the file than in memory");
        }
        let Some(end) = paddr.checked_add(memory) else {
            return wrong("runs over the end of the address space");
        };
        let file = offset.checked_add(stored).and_then(|end| {
            let range = usize::try_from(offset).ok()?..usize::try_from(end).ok()?;
            (range.end <= bytes.len()).then_some(range)
        });
        let Some(file) = file else {
            return wrong("reaches past the end of the file, which is cut off");
        };
        let segment = LoadSegment { place: paddr..end, file };
        Ok(Some(Self { segment, virtual_addr: part.p_vaddr(endian).into() }))
    }

    /// Removes the file's own headers, which end at offset `headers`, if they would be loaded over an area that the
    /// loader reserves. GNU ld without -n puts the headers on the page before the first section, so a kernel for 1 MiB
    /// begins below 1 MiB. Returns false if nothing of the segment is left. Other content than headers and zeros stays,
    /// and the segment is refused later.
    fn leave_out_headers(&mut self, headers: usize, bytes: &[u8]) -> bool {
        let LoadSegment { place, file } = &mut self.segment;
        let reserved = [FIRMWARE, BOOT_AREA].into_iter().find(|r| !layout::disjoint(r, place));
        let Some(reserved) = reserved.filter(|_| file.start < headers) else { return true };
        let end = place.end.min(reserved.end);
        let Some(cut) = end.checked_sub(place.start) else { return true };
        let in_file = usize::try_from(cut).ok().and_then(|cut| file.start.checked_add(cut));
        let Some(in_file) = in_file.filter(|end| *end <= file.end) else { return true };
        // There are no bytes if the cut is within the headers.
        let padding = bytes.get(headers..in_file).unwrap_or_default();
        if padding.iter().any(|&byte| byte != 0) {
            return true;
        }
        place.start = end;
        file.start = in_file;
        self.virtual_addr = self.virtual_addr.wrapping_add(cut);
        !place.is_empty()
    }
}

/// The physical address of an entry point, which may be a virtual address, as in many kernels in the upper half.
fn physical(entry: u64, loads: &[Load]) -> Result<u64, ElfError> {
    let translated = || {
        loads.iter().find_map(|load| {
            let offset = entry.checked_sub(load.virtual_addr)?;
            let place = &load.segment.place;
            (offset < place.end - place.start).then(|| place.start + offset)
        })
    };
    let found = if loads.iter().any(|load| load.segment.place.contains(&entry)) {
        Some(entry)
    } else {
        translated()
    };
    match found {
        Some(addr) if u32::try_from(addr).is_ok() => Ok(addr),
        Some(addr) => Err(ElfError::EntryHigh(addr)),
        None => Err(ElfError::EntryOutside(entry)),
    }
}

/// Whether the notes of a segment are those of Linux's build, which have a name of their own.
fn is_linux<P: ProgramHeader<Endian = Endianness>>(
    part: &P,
    endian: Endianness,
    bytes: &[u8],
) -> bool {
    let Ok(Some(mut notes)) = part.notes(endian, bytes) else { return false };
    while let Ok(Some(note)) = notes.next() {
        if note.name() == LINUX {
            return true;
        }
    }
    false
}

/// The address in a segment's PVH note, if it has one.
fn pvh_note<P: ProgramHeader<Endian = Endianness>>(
    part: &P,
    endian: Endianness,
    bytes: &[u8],
) -> Result<Option<u64>, ElfError> {
    // A malformed note of another kind is ignored: only the PVH note must be complete.
    let Ok(Some(mut notes)) = part.notes(endian, bytes) else { return Ok(None) };
    while let Ok(Some(note)) = notes.next() {
        if note.name() != XEN || note.n_type(endian).0 != PHYS32_ENTRY {
            continue;
        }
        let desc = note.desc();
        let value = match (<[u8; 4]>::try_from(desc), <[u8; 8]>::try_from(desc)) {
            (Ok(value), _) => u64::from(u32::from_le_bytes(value)),
            (_, Ok(value)) => u64::from_le_bytes(value),
            _ => {
                let what = format!("its PVH note has {} bytes, not 4 or 8", desc.len());
                return Err(ElfError::Damaged(what));
            }
        };
        return Ok(Some(value));
    }
    Ok(None)
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
