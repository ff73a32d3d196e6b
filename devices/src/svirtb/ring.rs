//! The ring: its place, the place of an entry, and the distance of entries.
//!
//! The specification defines entries "without padding", 28 bytes apart; a C compiler puts them 32 bytes apart. Both
//! kinds of drivers exist, and both work. Entry 0 is at the same place for both, so the device must decide at the next
//! entry.

use std::fmt;
use std::num::NonZeroU32;

use super::entry::{ENTRY_BYTES, Entry};
use crate::memory::{GuestRam, OutOfRam};
use crate::observe::{Event, Words};

/// The distance of entries, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EntrySize {
    /// Detected at the first entry with an index of 1 or more, again after every READY.
    #[default]
    Auto,
    /// 32 bytes: the entry as a C struct.
    Padded,
    /// 28 bytes: the entry exactly as specified (section 1.2).
    Packed,
}

/// The distance of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stride {
    /// 28 bytes.
    Packed,
    /// 32 bytes.
    Padded,
}

impl Stride {
    /// The distance in bytes.
    pub(super) const fn bytes(self) -> u64 {
        match self {
            Self::Packed => ENTRY_BYTES as u64,
            Self::Padded => 32,
        }
    }
}

/// Why a ring is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RingError {
    /// It has no entries.
    NoEntries,
    /// A byte of it is outside guest RAM.
    OutOfRam {
        /// Its guest-physical address.
        base: u64,
        /// Its number of entries.
        size: u32,
        /// The least bytes of each entry.
        stride: u64,
    },
}

/// A valid ring: it is completely in guest RAM.
#[derive(Debug)]
pub(super) struct Ring {
    base: u64,
    size: NonZeroU32,
    /// None until `Auto` has decided.
    stride: Option<Stride>,
}

/// The decision of `Auto`, made once after every READY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) stride: Stride,
    index: u32,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    OnlyOneFits,
    BothFit,
    NeitherFits,
    NoRoomForPadded,
}

impl Ring {
    /// Checks the ring of `size` entries at `base`.
    ///
    /// # Errors
    ///
    /// If it has no entries, or is not completely in `ram`.
    pub(super) fn new(
        ram: &GuestRam,
        entry_size: EntrySize,
        base: u64,
        size: u32,
    ) -> Result<Self, RingError> {
        let size = NonZeroU32::new(size).ok_or(RingError::NoEntries)?;
        let (at_least, stride) = match entry_size {
            EntrySize::Auto => (Stride::Packed, None),
            EntrySize::Padded => (Stride::Padded, Some(Stride::Padded)),
            EntrySize::Packed => (Stride::Packed, Some(Stride::Packed)),
        };
        let ring = Self { base, size, stride };
        if ring.fits(ram, at_least) {
            Ok(ring)
        } else {
            Err(RingError::OutOfRam { base, size: size.get(), stride: at_least.bytes() })
        }
    }

    /// The number of entries.
    pub(super) const fn size(&self) -> u32 {
        self.size.get()
    }

    /// The index that follows `index`.
    pub(super) const fn after(&self, index: u32) -> u32 {
        match index.checked_add(1) {
            Some(next) if next < self.size.get() => next,
            _ => 0,
        }
    }

    /// The distance of entries; none while it is unknown.
    pub(super) const fn stride(&self) -> Option<Stride> {
        self.stride
    }

    /// Decides the stride if entry `index` is the first one that shows it, and reads the entry, once.
    ///
    /// Entries are consumed in order from 0 on, so entry 1 decides. In a ring of one entry, the driver never queues one
    /// (its head can only be 0, which is its tail).
    ///
    /// # Errors
    ///
    /// If the entry is not in `ram`.
    pub(super) fn fetch(
        &mut self,
        ram: &GuestRam,
        index: u32,
    ) -> (Option<Settled>, Result<Entry, OutOfRam>) {
        match self.stride {
            Some(stride) => (None, self.read(ram, index, stride)),
            None if index == 0 => (None, self.read(ram, index, Stride::Padded)),
            None => {
                let (settled, entry) = self.settle(ram, index);
                self.stride = Some(settled.stride);
                (Some(settled), entry)
            }
        }
    }

    /// Reads entry `index` in both ways and keeps the valid one; 32 bytes if both or none are valid.
    ///
    /// If RAM has no room for the ring with 32-byte entries, the entries are packed: a ring with 32-byte entries would
    /// have been refused.
    fn settle(&self, ram: &GuestRam, index: u32) -> (Settled, Result<Entry, OutOfRam>) {
        let packed = self.read(ram, index, Stride::Packed);
        if !self.fits(ram, Stride::Padded) {
            let why = Why::NoRoomForPadded;
            return (Settled { stride: Stride::Packed, index, why }, packed);
        }
        let padded = self.read(ram, index, Stride::Padded);
        let fits = |entry: &Result<Entry, OutOfRam>| entry.is_ok_and(|e| makes_sense(&e, ram));
        let (stride, why, entry) = match (fits(&packed), fits(&padded)) {
            (true, false) => (Stride::Packed, Why::OnlyOneFits, packed),
            (false, true) => (Stride::Padded, Why::OnlyOneFits, padded),
            (true, true) => (Stride::Padded, Why::BothFit, padded),
            (false, false) => (Stride::Padded, Why::NeitherFits, padded),
        };
        (Settled { stride, index, why }, entry)
    }

    #[inline]
    fn read(&self, ram: &GuestRam, index: u32, stride: Stride) -> Result<Entry, OutOfRam> {
        let addr = self
            .entry_address(index, stride)
            .ok_or(OutOfRam { addr: self.base, len: ENTRY_BYTES as u64 })?;
        ram.read_u32s(addr).map(Entry::decode)
    }

    /// Reads an entry whose turn has not come. None while the distance of entries is unknown.
    pub(super) fn peek(&self, ram: &GuestRam, index: u32) -> Option<Entry> {
        self.read(ram, index, self.stride?).ok()
    }

    /// Whether the `len` bytes at `addr`, which are in RAM, overlap the ring.
    pub(super) fn overlaps(&self, addr: u64, len: u64) -> bool {
        // With the larger distance: a few bytes too many do no harm.
        let bytes = u64::from(self.size.get()).saturating_mul(Stride::Padded.bytes());
        addr < self.base.saturating_add(bytes) && self.base < addr.saturating_add(len)
    }

    fn entry_address(&self, index: u32, stride: Stride) -> Option<u64> {
        u64::from(index)
            .checked_mul(stride.bytes())
            .and_then(|offset| self.base.checked_add(offset))
    }

    /// The guest-physical address of an entry that was read.
    pub(super) fn address(&self, index: u32) -> u64 {
        // Only entry 0 is read before the stride is known, and it is at the same place for both.
        self.entry_address(index, self.stride.unwrap_or(Stride::Padded)).unwrap_or(self.base)
    }

    /// The address of the entry at `index`, and whether it looks like one that a driver filled in.
    pub(super) fn next_entry(&self, ram: &GuestRam, index: u32) -> (u64, bool) {
        let entry = self.read(ram, index, self.stride.unwrap_or(Stride::Padded));
        let filled = |entry: Entry| entry.addr != 0 && entry.size != 0 && makes_sense(&entry, ram);
        (self.address(index), entry.is_ok_and(filled))
    }

    fn fits(&self, ram: &GuestRam, stride: Stride) -> bool {
        u64::from(self.size.get())
            .checked_mul(stride.bytes())
            .is_some_and(|bytes| ram.check(self.base, bytes).is_ok())
    }
}

/// Whether an entry looks valid: its cmd is known and its buffer is in RAM.
///
/// Unlike a served entry, an empty buffer needs an address in RAM here, too: the packed entry {addr, 512, sector 0,
/// read}, read 4 bytes too late, is a command of size 0 at address 512 << 32.
fn makes_sense(entry: &Entry, ram: &GuestRam) -> bool {
    entry.command().is_some() && ram.check(entry.addr, entry.size.max(1)).is_ok()
}

impl Settled {
    /// The event that reports the decision.
    pub(super) fn event(&self) -> Event<'_> {
        let certain = matches!(self.why, Why::OnlyOneFits);
        Event::EntrySpacing { bytes: self.stride.bytes(), why: Words(self), certain }
    }
}

impl fmt::Display for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stride, index, why } = self;
        let stride = stride.bytes();
        write!(f, "the ring's entries are {stride} bytes apart: ")?;
        match why {
            Why::OnlyOneFits => write!(f, "entry {index} makes sense only so"),
            Why::BothFit => {
                write!(
                    f,
                    "entry {index} would make sense with 28 too; if it is 28, give entry-size=28"
                )
            }
            Why::NeitherFits => {
                write!(f, "entry {index} makes no sense with 28 either, and 32 is usual")
            }
            Why::NoRoomForPadded => {
                write!(f, "RAM ends before a ring of entries of 32 bytes would")
            }
        }
    }
}
