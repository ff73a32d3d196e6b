//! Parses a descriptor chain (virtio 1.4, 5.2.6) into an owned request. Guest memory is not read again after that.

use super::config::{
    DISCARD_RANGES_MAX, DISCARD_SECTORS_MAX, ZEROES_RANGES_MAX, ZEROES_SECTORS_MAX,
};
use crate::block::{Operation, SECTOR_SIZE};
use crate::memory::{Buffers, GuestRam, OutOfRam, Ranges};
use crate::observe::Rule;
use crate::virtio::chain::{Chain, Flaw};
use crate::virtio::rules;
use crate::virtio::spec::blk;

/// The most bytes of data in one request, so that no request occupies the device for long. Drivers use far less.
pub(super) const DATA_MAX: u64 = 128 << 20;

/// A request, and the place of its answer.
#[derive(Debug)]
pub(super) struct BlkRequest {
    /// The head of the chain.
    pub(super) head: u16,
    /// The status byte's guest-physical address, in RAM.
    pub(super) status: u64,
    /// The operation, or why it is refused.
    pub(super) kind: Result<RequestKind, Refusal>,
}

/// The operation of a request.
#[derive(Debug)]
pub(super) enum RequestKind {
    /// A read or a write of whole sectors, or a flush. Whether a write is durable is decided later.
    Disk { sector: u64, operation: Operation },
    /// Discards these ranges.
    Discard(Vec<Range>),
    /// Writes zeros to these ranges.
    WriteZeroes(Vec<Range>),
    /// Returns the disk's id.
    GetId { data: Buffers },
}

/// A range of a discard or a write-zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) sector: u64,
    pub(super) sectors: u32,
    /// Whether the host may free the space.
    pub(super) unmap: bool,
}

impl Range {
    pub(super) const fn bytes(&self) -> u64 {
        self.sectors as u64 * SECTOR_SIZE
    }

    /// The first sector of the first range, and the bytes of all ranges.
    pub(super) fn sum(ranges: &[Self]) -> (u64, u64) {
        (ranges.first().map_or(0, |r| r.sector), ranges.iter().map(Self::bytes).sum())
    }
}

/// Why a request is refused with an error status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The chain has a flaw.
    #[error(transparent)]
    Flaw(#[from] Flaw),
    /// The chain is too short for the header.
    #[error(
        "its part that the device reads has {len} bytes; the header alone has 16 (type, reserved, sector)"
    )]
    NoHeader { len: u64 },
    /// The data of a read is not writable by the device.
    #[error(
        "a read of sector {sector} has {len} bytes of data without the WRITE flag, which the device may not fill"
    )]
    ReadIntoReadable { sector: u64, len: u64 },
    /// The data of a write is not readable by the device.
    #[error(
        "a write of sector {sector} has {len} bytes of data with the WRITE flag, which the device may not read{}",
        length_hint(*len, len + 1)
    )]
    WriteFromWritable { sector: u64, len: u64 },
    /// The data is not a whole number of sectors.
    #[error("the length {len} of the data is not a multiple of 512{}", length_hint(*len, *with_status))]
    Ragged { len: u64, with_status: u64 },
    /// The data exceeds the limit of one request.
    #[error("{len} bytes of data are more than the {DATA_MAX} of one request")]
    TooLarge { len: u64 },
    /// The data of a discard or a write-zeroes is not a list of ranges.
    #[error("{len} bytes of data are not 1 to {most} ranges of 16 (sector, sectors, flags)")]
    Ranges { len: u64, most: u32 },
    /// A range is too long.
    #[error(
        "a range of {sectors} sectors is longer than the {max} that the configuration space allows"
    )]
    RangeTooLong { sectors: u32, max: u32 },
    /// A range has flags that mean nothing there.
    #[error("a range has flags {flags:#x}, which are unknown or not allowed there")]
    RangeFlags { flags: u32 },
    /// Not a request that this device knows.
    #[error("type {kind} is no request that the device offers")]
    Unknown { kind: u32 },
}

impl Refusal {
    /// The rule that was broken.
    pub(super) const fn rule(&self) -> Rule {
        match self {
            Self::Flaw(Flaw::OutOfOrder) => rules::FRAMING,
            Self::Flaw(Flaw::NotInRam(_)) => rules::CHAIN,
            Self::NoHeader { .. }
            | Self::ReadIntoReadable { .. }
            | Self::WriteFromWritable { .. } => rules::BLK_LAYOUT,
            Self::Ragged { .. } => rules::BLK_DATA,
            Self::TooLarge { .. } => rules::BLK_SIZE,
            Self::Ranges { .. } | Self::RangeTooLong { .. } | Self::RangeFlags { .. } => {
                rules::BLK_RANGES
            }
            Self::Unknown { .. } => rules::BLK_TYPE,
        }
    }

    /// The status byte for the driver.
    pub(super) const fn status(&self) -> u8 {
        match self {
            Self::Unknown { .. } | Self::RangeFlags { .. } => blk::S_UNSUPP,
            Self::Flaw(_)
            | Self::NoHeader { .. }
            | Self::ReadIntoReadable { .. }
            | Self::WriteFromWritable { .. }
            | Self::Ragged { .. }
            | Self::TooLarge { .. }
            | Self::Ranges { .. }
            | Self::RangeTooLong { .. } => blk::S_IOERR,
        }
    }
}

/// The likely mistake in the length of data, as the rest of a sentence; empty if it shows none. `with_status` is the
/// length that the data has if the status byte is part of its buffer.
const fn length_hint(len: u64, with_status: u64) -> &'static str {
    /// More sectors than this in one request are rare in a first driver.
    const FEW_SECTORS: u64 = 64;
    if len != with_status && with_status.is_multiple_of(SECTOR_SIZE) {
        " (is NEXT missing on the data's descriptor? Its last byte is then the status byte)"
    } else if len <= FEW_SECTORS {
        " (is the length given in sectors? It is in bytes)"
    } else {
        ""
    }
}

/// Why a chain cannot be answered at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoStatus {
    /// There is nothing the device may write.
    #[error("the chain has no byte that the device may write")]
    NoRoom,
    /// The last byte is not in RAM.
    #[error("the status byte is not in RAM: {0}")]
    NotInRam(#[from] OutOfRam),
}

impl BlkRequest {
    /// What `chain` asks for. Header and status may be split over descriptors, or share them with data
    /// (2.7.4.1: the device assumes nothing of the layout).
    ///
    /// # Errors
    ///
    /// If there is no place for an answer.
    pub(super) fn parse(chain: &mut Chain, ram: &GuestRam) -> Result<Self, NoStatus> {
        let status = chain.last_writable.ok_or(NoStatus::NoRoom)?;
        ram.check(status, 1)?;
        Ok(Self { head: chain.head, status, kind: parse_kind(chain, ram) })
    }
}

fn parse_kind(chain: &mut Chain, ram: &GuestRam) -> Result<RequestKind, Refusal> {
    let Chain { readable, writable, flaw, .. } = chain;
    if let Some(flaw) = *flaw {
        return Err(flaw.into());
    }
    let Some([first, sector]) = readable.take_words(ram) else {
        return Err(Refusal::NoHeader { len: readable.len() });
    };
    // The upper half is reserved.
    #[expect(clippy::cast_possible_truncation, reason = "the type is the lower half")]
    let kind = first as u32;
    // The last byte is the status's.
    writable.truncate(writable.len().saturating_sub(1));
    let (outgoing, incoming) = (readable, writable);
    match kind {
        blk::T_IN if !outgoing.is_empty() => {
            Err(Refusal::ReadIntoReadable { sector, len: outgoing.len() })
        }
        blk::T_IN => {
            check_sectors(incoming, 1)?;
            Ok(RequestKind::Disk { sector, operation: Operation::Read(incoming.take_buffers(ram)) })
        }
        blk::T_OUT if !incoming.is_empty() => {
            Err(Refusal::WriteFromWritable { sector, len: incoming.len() })
        }
        blk::T_OUT => {
            check_sectors(outgoing, 0)?;
            let operation = Operation::Write { data: outgoing.take_buffers(ram), durable: false };
            Ok(RequestKind::Disk { sector, operation })
        }
        blk::T_DISCARD => {
            let limits = (DISCARD_RANGES_MAX, DISCARD_SECTORS_MAX);
            Ok(RequestKind::Discard(ranges(&outgoing.take_buffers(ram), limits, 0)?))
        }
        blk::T_WRITE_ZEROES => {
            let limits = (ZEROES_RANGES_MAX, ZEROES_SECTORS_MAX);
            Ok(RequestKind::WriteZeroes(ranges(
                &outgoing.take_buffers(ram),
                limits,
                blk::RANGE_UNMAP,
            )?))
        }
        blk::T_FLUSH => Ok(RequestKind::Disk { sector: 0, operation: Operation::Flush }),
        blk::T_GET_ID => Ok(RequestKind::GetId { data: incoming.take_buffers(ram) }),
        kind => Err(Refusal::Unknown { kind }),
    }
}

/// Checks that the data of a read or a write is whole sectors, and not too many. `status` bytes follow it in its
/// direction.
const fn check_sectors(data: &Ranges, status: u64) -> Result<(), Refusal> {
    let len = data.len();
    if !len.is_multiple_of(SECTOR_SIZE) {
        return Err(Refusal::Ragged { len, with_status: len + status });
    }
    if len > DATA_MAX { Err(Refusal::TooLarge { len }) } else { Ok(()) }
}

/// The ranges of a discard or a write-zeroes: at most `most` of them, of at most `max` sectors each, and with no flags
/// but `allowed`.
fn ranges(data: &Buffers, (most, max): (u32, u32), allowed: u32) -> Result<Vec<Range>, Refusal> {
    let len = data.len();
    let count = len / blk::RANGE_SIZE as u64;
    if !len.is_multiple_of(blk::RANGE_SIZE as u64) || !(1..=u64::from(most)).contains(&count) {
        return Err(Refusal::Ranges { len, most });
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
    data.copy_to(&mut bytes);
    let (raw, _) = bytes.as_chunks::<{ blk::RANGE_SIZE }>();
    let mut ranges = Vec::with_capacity(raw.len());
    for &[a0, a1, a2, a3, a4, a5, a6, a7, n0, n1, n2, n3, f0, f1, f2, f3] in raw {
        let sector = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
        let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
        let flags = u32::from_le_bytes([f0, f1, f2, f3]);
        if flags & !allowed != 0 {
            return Err(Refusal::RangeFlags { flags });
        }
        if sectors > max {
            return Err(Refusal::RangeTooLong { sectors, max });
        }
        ranges.push(Range { sector, sectors, unmap: flags & blk::RANGE_UNMAP != 0 });
    }
    Ok(ranges)
}
