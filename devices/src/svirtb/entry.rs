//! A ring entry: its request, and all possible mistakes in it.

use super::rules;
use crate::address::hint;
use crate::block::{BlockError, ErrorKind, SECTOR_SIZE, sector_hint};
use crate::memory::{GuestRam, OutOfRam};
use crate::observe::{Event, Rule};

/// The bytes of an entry without padding; a C compiler adds 4 more (section 2.2.1).
pub(super) const ENTRY_BYTES: usize = 28;

/// An entry as the driver wrote it, read once (section 2.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// The buffer's guest-physical address.
    pub(super) addr: u64,
    /// The buffer's length in bytes; 0 is a no-op that succeeds.
    pub(super) size: u64,
    /// The first sector, of 512 bytes.
    pub(super) sector: u64,
    /// 0 reads, 1 writes.
    pub(super) cmd: u32,
}

/// A known command. Of 8 bytes: the compiler copies the padding of a smaller value in a way that stalls the processor, which
/// took a third of an entry's time in the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Command {
    /// From the disk to the buffer.
    Read,
    /// From the buffer to the disk.
    Write,
}

/// The transfer of a valid entry: all of it is in RAM and on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) command: Command,
    /// The first byte on the disk.
    pub(super) offset: u64,
    /// The bytes to transfer: the entry's size, or less if the disk ends within the entry.
    pub(super) bytes: u64,
}

impl Entry {
    /// Decodes the fields: three of 64 bits, the lower half first, and cmd.
    #[inline]
    pub(super) const fn decode(fields: [u32; ENTRY_BYTES / 4]) -> Self {
        const fn wide(low: u32, high: u32) -> u64 {
            (high as u64) << 32 | low as u64
        }
        let [a0, a1, n0, n1, s0, s1, cmd] = fields;
        Self { addr: wide(a0, a1), size: wide(n0, n1), sector: wide(s0, s1), cmd }
    }

    /// The command; none for an unknown value.
    pub(super) const fn command(&self) -> Option<Command> {
        match self.cmd {
            0 => Some(Command::Read),
            1 => Some(Command::Write),
            _ => None,
        }
    }

    /// The name of the command for events and messages.
    pub(super) const fn operation(&self) -> &'static str {
        match self.command() {
            Some(Command::Read) => "read",
            Some(Command::Write) => "write",
            None => "unknown command",
        }
    }

    /// The event that reports entry `index`, which the device read at `at`.
    pub(super) const fn read_event(&self, index: u32, at: u64) -> Event<'static> {
        let Self { addr, size, sector, cmd } = *self;
        Event::Entry { index, at, addr, size, sector, cmd }
    }

    /// Checks the entry against `ram` and a disk of `disk_size` bytes. Transfers nothing.
    ///
    /// # Errors
    ///
    /// The first mistake, in the order of the checks below.
    pub(super) fn plan(
        &self,
        ram: &GuestRam,
        disk_size: u64,
        read_only: bool,
    ) -> Result<Plan, EntryError> {
        let Self { addr, size, sector, cmd } = *self;
        let command = self.command().ok_or(EntryError::UnknownCommand { cmd })?;
        if size == 0 {
            return Ok(Plan { command, offset: 0, bytes: 0 });
        }
        ram.check(addr, size).map_err(EntryError::Buffer)?;
        let offset =
            sector.checked_mul(SECTOR_SIZE).ok_or(EntryError::SectorOverflow { sector })?;
        let on_disk = disk_size.saturating_sub(offset);
        match command {
            Command::Read => {}
            Command::Write if read_only => return Err(EntryError::ReadOnly),
            Command::Write if on_disk == 0 => {
                return Err(EntryError::PastEnd { disk_size, sector });
            }
            Command::Write => {}
        }
        Ok(Plan { command, offset, bytes: size.min(on_disk) })
    }
}

/// Why the device stops at an entry.
#[derive(Debug, thiserror::Error)]
pub(super) enum EntryError {
    /// The entry cannot be read.
    #[error("the entry itself is not in guest RAM: {0}")]
    Unreadable(OutOfRam),
    /// A command other than 0 and 1.
    #[error("cmd is {cmd:#x}; 0 is read and 1 is write")]
    UnknownCommand { cmd: u32 },
    /// A byte of the buffer is outside RAM, or its address overflows.
    #[error("the buffer {:#x} + {:#x} is not in guest RAM{}", .0.addr, .0.len, hint(.0.addr))]
    Buffer(OutOfRam),
    /// The byte offset of the sector exceeds 64 bits.
    #[error("sector {sector:#x} times 512 bytes does not fit in 64 bits")]
    SectorOverflow { sector: u64 },
    /// A write to a read-only disk.
    #[error("the disk is read-only (readonly=on)")]
    ReadOnly,
    /// A write that begins past the end of the disk.
    #[error("the write begins past the end of the disk, which has {disk_size} bytes{}", sector_hint(*sector, *disk_size))]
    PastEnd { disk_size: u64, sector: u64 },
    /// The host failed.
    #[error("{0}")]
    Host(BlockError),
    /// The host could not write the data of a batch to stable storage.
    #[error("the writes from this entry on may not be on stable storage: {0}")]
    Flush(BlockError),
    /// The machine is being stopped.
    #[error("not served, because the machine is being stopped")]
    Stopped,
}

impl EntryError {
    /// The error of an entry for an error of the disk.
    pub(super) fn of_host(error: BlockError) -> Self {
        match error {
            BlockError::Stopped => Self::Stopped,
            error => Self::Host(error),
        }
    }

    /// The kind of error of the disk; none for a mistake that never reaches the disk.
    pub(super) fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Unreadable(_) | Self::UnknownCommand { .. } | Self::Buffer(_) => None,
            Self::SectorOverflow { .. } | Self::PastEnd { .. } => Some(ErrorKind::OutOfRange),
            Self::ReadOnly => Some(ErrorKind::ReadOnly),
            Self::Host(error) | Self::Flush(error) => Some(error.into()),
            Self::Stopped => Some(ErrorKind::Stopped),
        }
    }

    /// The rule under which the error is counted.
    pub(super) const fn rule(&self) -> Rule {
        match self {
            Self::Unreadable(_) => rules::ENTRY_IN_RAM,
            Self::UnknownCommand { .. } => rules::COMMAND,
            Self::Buffer(_) => rules::BUFFER,
            Self::SectorOverflow { .. } => rules::SECTOR,
            Self::ReadOnly => rules::READ_ONLY,
            Self::PastEnd { .. } => rules::PAST_END,
            Self::Host(_) | Self::Flush(_) => rules::HOST,
            Self::Stopped => rules::STOPPED,
        }
    }
}
