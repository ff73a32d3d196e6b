//! A Linux bzImage, entered in 64-bit mode.
//!
//! The file consists of a real-mode part, which cafevm does not use, and the compressed kernel with the code that
//! unpacks it. The setup header lies between them and specifies how to load the kernel (Linux's documentation,
//! `arch/x86/boot.rst`, "The Real-Mode Kernel Header"). Every number of the header is checked before use.

use std::ops::Range;

use super::linux::Linux;
use super::{Entry, LoadSegment, Reach};
use crate::layout::MIB;

/// The magic value of a setup header, and its offset ("header").
const MAGIC: &[u8] = b"HdrS";
const MAGIC_AT: usize = 0x202;

// Fields of the header.
const SETUP_SECTS: usize = 0x1f1;
const SYSSIZE: usize = 0x1f4;
const JUMP: usize = 0x201;
const VERSION: usize = 0x206;
const LOADFLAGS: usize = 0x211;
const INITRD_ADDR_MAX: usize = 0x22c;
const XLOADFLAGS: usize = 0x236;
const CMDLINE_SIZE: usize = 0x238;
const PREF_ADDRESS: usize = 0x258;
const INIT_SIZE: usize = 0x260;

const SECTOR: usize = 512;
/// The meaning of a setup_sects of 0.
const DEFAULT_SETUP_SECTS: usize = 4;
/// syssize counts paragraphs.
const PARAGRAPH: usize = 16;
/// loadflags: the kernel is loaded at 1 MiB or higher.
const LOADED_HIGH: u8 = 1 << 0;
/// xloadflags: there is a 64-bit entry.
const KERNEL_64: u16 = 1 << 0;
/// xloadflags: the kernel was built with 5-level page tables, and uses them if the processor has them.
const FIVE_LEVELS: u16 = 1 << 6;
/// The first version with xloadflags.
const FIRST_WITH_64_BIT_ENTRY: u16 = 0x020c;
/// The offset of the 64-bit entry from the load address ("64-bit Boot Protocol").
const ENTRY_64: u64 = 0x200;

/// The parts of a bzImage that the loader needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BzImage {
    pub(super) segment: LoadSegment,
    pub(super) entry: Entry,
    pub(super) linux: Linux,
    pub(super) reach: Option<Reach>,
}

/// Why a bzImage cannot be booted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BzImageError {
    /// The protocol of its header is older than the 64-bit entry.
    #[error(
        "a bzImage whose boot protocol is {}.{:02}, and a 64-bit entry needs 2.12 (Linux 3.8) or later; use a newer kernel",
        .0 >> 8, .0 & 0xff
    )]
    TooOld(u16),
    /// It loads below 1 MiB.
    #[error("a zImage, which is loaded below 1 MiB; build a bzImage (make bzImage)")]
    LoadedLow,
    /// It has only 32-bit entries.
    #[error(
        "a bzImage without a 64-bit entry: a kernel for 32-bit processors; build it for x86-64 (CONFIG_64BIT=y)"
    )]
    Only32Bit,
    /// The file is shorter than its header states.
    #[error("a bzImage that is cut off: {has} bytes, and its header states {needs}; copy it again")]
    CutOff {
        /// The file's bytes.
        has: usize,
        /// The size that the header states.
        needs: usize,
    },
    /// Its load address is out of range.
    #[error(
        "a bzImage with the load address {0:#x}, where no kernel can be loaded; build it again"
    )]
    Place(u64),
}

/// Whether the file is a bzImage, valid or not.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    bytes.get(MAGIC_AT..).is_some_and(|rest| rest.starts_with(MAGIC))
}

/// Parses a bzImage.
pub(super) fn parse(bytes: &[u8]) -> Result<BzImage, BzImageError> {
    let version = u16::from_le_bytes(field(bytes, VERSION)?);
    if version < FIRST_WITH_64_BIT_ENTRY {
        return Err(BzImageError::TooOld(version));
    }
    let [loadflags] = field(bytes, LOADFLAGS)?;
    if loadflags & LOADED_HIGH == 0 {
        return Err(BzImageError::LoadedLow);
    }
    let xloadflags = u16::from_le_bytes(field(bytes, XLOADFLAGS)?);
    if xloadflags & KERNEL_64 == 0 {
        return Err(BzImageError::Only32Bit);
    }
    let file = kernel_in_file(bytes)?;

    let load = u64::from_le_bytes(field(bytes, PREF_ADDRESS)?);
    // The kernel needs this much memory at its load address to unpack itself.
    let needs = u32::from_le_bytes(field(bytes, INIT_SIZE)?);
    let needs = u64::from(needs).max((file.end - file.start) as u64);
    let end = load.checked_add(needs).filter(|&end| load >= MIB && u32::try_from(end).is_ok());
    let Some(end) = end else { return Err(BzImageError::Place(load)) };

    let [jump] = field(bytes, JUMP)?;
    let linux = Linux {
        // The header ends at the target of its first instruction, a short jump.
        setup_header: Some(SETUP_SECTS..JUMP + 1 + usize::from(jump)),
        initrd_max: u32::from_le_bytes(field(bytes, INITRD_ADDR_MAX)?).into(),
        command_line_max: usize::try_from(u32::from_le_bytes(field(bytes, CMDLINE_SIZE)?)).ok(),
    };
    Ok(BzImage {
        segment: LoadSegment { place: load..end, file },
        entry: Entry::Long(load + ENTRY_64),
        linux,
        reach: (xloadflags & FIVE_LEVELS == 0).then_some(Reach::FourLevels),
    })
}

/// The protected-mode part of the file.
fn kernel_in_file(bytes: &[u8]) -> Result<Range<usize>, BzImageError> {
    let sectors = match field(bytes, SETUP_SECTS)? {
        [0] => DEFAULT_SETUP_SECTS,
        [sectors] => usize::from(sectors),
    };
    let start = (sectors + 1) * SECTOR;
    let size = usize::try_from(u32::from_le_bytes(field(bytes, SYSSIZE)?)).unwrap_or(usize::MAX);
    let end = start.saturating_add(size.saturating_mul(PARAGRAPH));
    // The last paragraph may be short.
    if size == 0 || bytes.len() + PARAGRAPH <= end {
        return Err(BzImageError::CutOff { has: bytes.len(), needs: end });
    }
    Ok(start..end.min(bytes.len()))
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], BzImageError> {
    let found = bytes.get(at..at + N).and_then(|found| found.try_into().ok());
    found.ok_or(BzImageError::CutOff { has: bytes.len(), needs: at + N })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bzImage with one sector of set-up and 64 bytes of kernel, loaded at 16 MiB.
    fn image() -> Vec<u8> {
        let mut bytes = vec![0; 2 * SECTOR + 64];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(SETUP_SECTS, &[1]);
        put(SYSSIZE, &4u32.to_le_bytes());
        put(JUMP, &[0x6a]);
        put(MAGIC_AT, MAGIC);
        put(VERSION, &0x020fu16.to_le_bytes());
        put(LOADFLAGS, &[LOADED_HIGH]);
        put(INITRD_ADDR_MAX, &0x7fff_ffffu32.to_le_bytes());
        put(XLOADFLAGS, &0x3fu16.to_le_bytes());
        put(CMDLINE_SIZE, &2047u32.to_le_bytes());
        put(PREF_ADDRESS, &(16 * MIB).to_le_bytes());
        put(INIT_SIZE, &0x30_0000u32.to_le_bytes());
        bytes
    }

    fn with(at: usize, value: &[u8]) -> Result<BzImage, BzImageError> {
        let mut bytes = image();
        bytes[at..at + value.len()].copy_from_slice(value);
        assert!(is_one(&bytes));
        parse(&bytes)
    }

    #[test]
    fn a_kernel_is_loaded_where_it_wants_with_room_to_unpack() {
        let parsed = parse(&image()).unwrap();
        assert_eq!(parsed.segment, LoadSegment { place: 0x100_0000..0x130_0000, file: 1024..1088 });
        assert_eq!(parsed.entry, Entry::Long(0x100_0200));
        assert_eq!(parsed.linux.setup_header, Some(0x1f1..0x26c));
        assert_eq!(parsed.linux.initrd_max, 0x7fff_ffff);
        assert_eq!(parsed.linux.command_line_max, Some(2047));
        assert_eq!(parsed.reach, Some(Reach::FourLevels));
        assert_eq!(with(XLOADFLAGS, &[0x7f, 0]).unwrap().reach, None);
    }

    #[test]
    fn no_setup_sectors_means_four() {
        let mut bytes = image();
        bytes[SETUP_SECTS] = 0;
        bytes.resize(5 * SECTOR + 64, 0);
        assert_eq!(parse(&bytes).unwrap().segment.file, 2560..2624);
    }

    #[test]
    fn what_cannot_be_entered_in_64_bit_mode_is_told_apart() {
        assert_eq!(with(VERSION, &[0x09, 2]), Err(BzImageError::TooOld(0x0209)));
        assert!(BzImageError::TooOld(0x0209).to_string().contains("is 2.09,"));
        assert_eq!(with(LOADFLAGS, &[0]), Err(BzImageError::LoadedLow));
        assert_eq!(with(XLOADFLAGS, &[0x3e, 0]), Err(BzImageError::Only32Bit));
    }

    #[test]
    fn wrong_numbers_are_no_panic() {
        let whole = image();
        for len in 0..whole.len() - PARAGRAPH {
            assert!(
                matches!(parse(&whole[..len]), Err(BzImageError::CutOff { .. })),
                "{len} bytes"
            );
        }
        assert!(matches!(with(SYSSIZE, &[0xff; 4]), Err(BzImageError::CutOff { .. })));
        assert!(matches!(with(SYSSIZE, &[0; 4]), Err(BzImageError::CutOff { .. })));
        for place in [0, MIB - 1, 1 << 32, u64::MAX] {
            assert_eq!(with(PREF_ADDRESS, &place.to_le_bytes()), Err(BzImageError::Place(place)));
        }
        assert!(with(INIT_SIZE, &[0xff; 4]).is_err());
        // A kernel that states a need of 0 bytes still occupies its own bytes.
        assert_eq!(with(INIT_SIZE, &[0; 4]).unwrap().segment.place.end, 0x100_0040);
    }

    #[test]
    fn an_elf_file_is_none() {
        assert!(!is_one(b"\x7fELF"));
        assert!(!is_one(b""));
    }
}
