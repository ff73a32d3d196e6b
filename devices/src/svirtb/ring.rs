//! The ring: where it lies, where an entry lies in it, and how far apart entries are.
//!
//! The text wants entries "without padding", 28 bytes apart; a C compiler puts them 32 bytes apart. Both kinds
//! of driver exist, so both are served. Entry 0 is at the same place for both, so the question comes up with
//! the first entry behind it.

use std::fmt;
use std::num::NonZeroU32;

use super::entry::{ENTRY_BYTES, Entry};
use crate::memory::{GuestRam, OutOfRam};

/// How far apart the entries of a driver's ring are, as the machine's owner says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EntrySize {
    /// Found out from the first entry with an index of 1 or more, anew after every READY.
    #[default]
    Auto,
    /// 32 bytes: the entry as a C struct.
    Padded,
    /// 28 bytes: the entry to the letter of the specification (section 1.2).
    Packed,
}

/// How far apart entries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stride {
    /// 28 bytes.
    Packed,
    /// 32 bytes.
    Padded,
}

impl Stride {
    /// From the start of one entry to the start of the next, in bytes.
    pub(super) const fn bytes(self) -> u64 {
        match self {
            Self::Packed => ENTRY_BYTES as u64,
            Self::Padded => 32,
        }
    }
}

/// Why a ring is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RingError {
    /// It has no entries.
    NoEntries,
    /// Some byte of it is not in guest RAM.
    OutOfRam {
        /// Its guest-physical address.
        base: u64,
        /// Its number of entries.
        size: u32,
        /// The bytes each entry takes at least.
        stride: u64,
    },
}

/// A ring that was found valid: it lies in guest RAM wholly.
#[derive(Debug)]
pub(super) struct Ring {
    base: u64,
    size: NonZeroU32,
    /// None until `Auto` has settled it.
    stride: Option<Stride>,
}

/// What `Auto` found, once for every READY.
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
    /// Where it has no entries or does not lie wholly in `ram`.
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

    /// How far apart entries are; none while that is open.
    pub(super) const fn stride(&self) -> Option<Stride> {
        self.stride
    }

    /// Settles the stride if entry `index` is the one to settle it, and reads the entry, once.
    ///
    /// Entries are consumed in order from 0 on, so the entry that settles it is entry 1; and a ring of one
    /// entry never hands one over (its head can only be 0, which is its tail).
    ///
    /// # Errors
    ///
    /// Where the entry does not lie in `ram`.
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

    /// Reads entry `index` in both ways and keeps the one that makes sense; 32 bytes where both or none do.
    ///
    /// A ring that has no room in RAM for entries of 32 bytes is packed whatever its entries say: with 32 it
    /// would not have been accepted.
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

    fn read(&self, ram: &GuestRam, index: u32, stride: Stride) -> Result<Entry, OutOfRam> {
        let addr = self
            .entry_address(index, stride)
            .ok_or(OutOfRam { addr: self.base, len: ENTRY_BYTES as u64 })?;
        ram.read(addr).map(Entry::decode)
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

    fn fits(&self, ram: &GuestRam, stride: Stride) -> bool {
        u64::from(self.size.get())
            .checked_mul(stride.bytes())
            .is_some_and(|bytes| ram.check(self.base, bytes).is_ok())
    }
}

/// Whether an entry looks like one: its cmd is known and its buffer lies in RAM.
///
/// Here, other than when it is served, an empty buffer needs an address in RAM too: the packed entry
/// {addr, 512, sector 0, read}, read 4 bytes too late, is a command of size 0 at address 512 << 32.
fn makes_sense(entry: &Entry, ram: &GuestRam) -> bool {
    entry.command().is_some() && ram.check(entry.addr, entry.size.max(1)).is_ok()
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
                    "entry {index} would make sense with 28 too; if it is 28, say entry-size=28"
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
