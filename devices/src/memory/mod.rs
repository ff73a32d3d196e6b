//! Guest memory: the only access of a device to the guest's bytes.
//!
//! A device never holds a pointer into guest RAM. It holds a [`GuestRam`], a cheap handle, and uses it in three ways:
//!
//! - it reads small values at an address (descriptors, headers; always once, into an owned value);
//! - it opens a [`Window`] on a ring, whose place is checked once, when the queue starts;
//! - it collects the guest's buffers in [`Buffers`], which checks each range when it is added. An engine then moves
//!   bytes between a file and the buffers without a copy: the kernel gets iovecs that point into guest RAM.
//!
//! Guest RAM is volatile: the guest may change any byte at any time, so there is no `&[u8]` over it. It never moves as
//! long as a handle exists.
//!
//! | question | file |
//! |---|---|
//! | Where in the host's memory is a guest-physical address? | `regions.rs` |
//! | How is a ring accessed? | `window.rs` |
//! | What is checked when a buffer is added, and how are buffers cut? | `ranges.rs` |
//! | How are many ranges read at any offset? | `scattered.rs` |
//! | What do engines need beyond preadv and pwritev? | `lend.rs` |
//! | How do a socket and the guest's buffers meet? | `parts.rs` |
//! | How do files and the guest's buffers meet? | `buffers.rs`, `calls.rs` |

mod buffers;
mod calls;
mod lend;
mod parts;
mod ranges;
mod regions;
mod scattered;
mod window;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, VolatileSlice,
};

use crate::address;
use regions::Regions;

pub use buffers::Buffers;
pub(crate) use lend::Lent;
pub(crate) use parts::{Gather, Scatter};
pub use ranges::Ranges;
pub use scattered::Scattered;
pub use window::Window;

/// A range of guest-physical addresses that is not completely in guest RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len:#x} bytes at {addr:#x} are not in guest RAM{}", address::hint(*addr))]
pub struct OutOfRam {
    /// The first guest-physical address.
    pub addr: u64,
    /// The length in bytes.
    pub len: u64,
}

/// A handle on guest RAM. Clones are cheap; RAM exists as long as any handle.
#[derive(Debug, Clone)]
pub struct GuestRam(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    memory: GuestMemoryMmap,
    /// The same memory, for a fast search.
    regions: Regions,
}

impl GuestRam {
    /// A handle on memory that the VMM has mapped.
    pub fn new(memory: GuestMemoryMmap) -> Self {
        let regions = Regions::of(&memory);
        Self(Arc::new(Shared { memory, regions }))
    }

    /// Anonymous RAM at the given ranges of (guest-physical address, bytes).
    ///
    /// # Errors
    ///
    /// If the ranges overlap, or the host cannot provide the memory.
    pub fn anonymous(ranges: &[(u64, usize)]) -> Result<Self, vm_memory::mmap::FromRangesError> {
        let ranges: Vec<_> = ranges.iter().map(|&(addr, len)| (GuestAddress(addr), len)).collect();
        Ok(Self::new(GuestMemoryMmap::from_ranges(&ranges)?))
    }

    /// The same RAM, through a handle with a reference count of its own. Each request in flight counts a handle: with a
    /// shared count, threads that service different queues would contend for its cache line.
    #[must_use]
    pub fn own_handle(&self) -> Self {
        Self::new(self.0.memory.clone())
    }

    /// The memory itself, for a VMM that maps it into a machine.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.0.memory
    }

    /// The ranges of RAM, lowest first: (guest-physical address, bytes).
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        self.0.memory.iter().map(|r| (r.start_addr().0, r.len())).collect()
    }

    /// Checks that the `len` bytes at `addr` are completely in RAM. An empty range is valid at every address.
    #[inline]
    pub fn check(&self, addr: u64, len: u64) -> Result<(), OutOfRam> {
        let is_in_ram = self.0.regions.contain(addr, len) || self.is_across(addr, len);
        if is_in_ram { Ok(()) } else { Err(OutOfRam { addr, len }) }
    }

    /// [`GuestRam::check`] for bytes that no region contains alone.
    #[cold]
    fn is_across(&self, addr: u64, len: u64) -> bool {
        let Some(last) = len.checked_sub(1) else { return true };
        let bytes = addr.checked_add(last).and_then(|_| usize::try_from(len).ok());
        bytes.is_some_and(|bytes| self.0.memory.check_range(GuestAddress(addr), bytes))
    }

    /// The host's view of `len` bytes at `addr` if one region of RAM contains them all: ranges across two regions are
    /// rare.
    fn slice(&self, addr: u64, len: usize) -> Option<VolatileSlice<'_>> {
        self.0.regions.slice(addr, len)
    }

    /// Reads `N` bytes at `addr` once, into an owned value.
    ///
    /// # Errors
    ///
    /// If they are not completely in RAM.
    pub fn read<const N: usize>(&self, addr: u64) -> Result<[u8; N], OutOfRam> {
        let mut bytes = [0; N];
        self.read_into(addr, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads two little-endian words of 8 bytes at `addr`, each once: a descriptor, or the header of a request.
    ///
    /// # Errors
    ///
    /// If they are not completely in RAM.
    #[inline]
    pub fn read_words(&self, addr: u64) -> Result<[u64; 2], OutOfRam> {
        match self.0.regions.read_words(addr) {
            Some(words) => Ok(words),
            None => self.read::<16>(addr).map(words),
        }
    }

    /// Reads `N` little-endian u32 at `addr`, each once: an entry of svirtb.
    ///
    /// # Errors
    ///
    /// If they are not completely in RAM.
    #[inline]
    pub fn read_u32s<const N: usize>(&self, addr: u64) -> Result<[u32; N], OutOfRam> {
        if let Some(values) = self.0.regions.read_u32s(addr) {
            return Ok(values);
        }
        let mut values = [0; N];
        self.check(addr, size_of_val(&values) as u64)?;
        for (at, value) in (addr..).step_by(size_of::<u32>()).zip(&mut values) {
            *value = u32::from_le_bytes(self.read(at)?);
        }
        Ok(values)
    }

    /// Writes one byte at `addr`.
    ///
    /// # Errors
    ///
    /// If it is not in RAM.
    #[inline]
    pub fn write_byte(&self, addr: u64, byte: u8) -> Result<(), OutOfRam> {
        if self.0.regions.write_byte(addr, byte) { Ok(()) } else { Err(OutOfRam { addr, len: 1 }) }
    }

    /// Fills `bytes` from `addr`.
    ///
    /// # Errors
    ///
    /// If they are not completely in RAM; `bytes` may be filled in part.
    pub fn read_into(&self, addr: u64, bytes: &mut [u8]) -> Result<(), OutOfRam> {
        let len = bytes.len() as u64;
        if let Some(slice) = self.slice(addr, bytes.len()) {
            slice.copy_to(bytes);
            return Ok(());
        }
        self.0.memory.read_slice(bytes, GuestAddress(addr)).map_err(|_| OutOfRam { addr, len })
    }

    /// Writes `bytes` at `addr`.
    ///
    /// # Errors
    ///
    /// If they are not completely in RAM; nothing is written then.
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), OutOfRam> {
        if let Some(slice) = self.slice(addr, bytes.len()) {
            slice.copy_from(bytes);
            return Ok(());
        }
        self.check(addr, bytes.len() as u64)?;
        self.0
            .memory
            .write_slice(bytes, GuestAddress(addr))
            .map_err(|_| OutOfRam { addr, len: bytes.len() as u64 })
    }

    /// Loads a little-endian u16 that the guest may write at the same time (a ring index). Everything that the guest
    /// wrote before it is visible to all later reads.
    ///
    /// # Errors
    ///
    /// If it is not in RAM, or not aligned to 2 bytes.
    pub fn load_u16(&self, addr: u64) -> Result<u16, OutOfRam> {
        self.slice(addr, 2)
            .and_then(|slice| slice.load::<u16>(0, Ordering::Acquire).ok())
            .map(u16::from_le)
            .ok_or(OutOfRam { addr, len: 2 })
    }

    /// Stores a little-endian u16 that the guest may read at the same time. A guest that reads it sees all earlier
    /// writes.
    ///
    /// # Errors
    ///
    /// If it is not in RAM, or not aligned to 2 bytes.
    pub fn store_u16(&self, addr: u64, value: u16) -> Result<(), OutOfRam> {
        self.slice(addr, 2)
            .and_then(|slice| slice.store(value.to_le(), 0, Ordering::Release).ok())
            .ok_or(OutOfRam { addr, len: 2 })
    }
}

/// Two little-endian words.
fn words(bytes: [u8; 16]) -> [u64; 2] {
    let (words, _) = bytes.as_chunks();
    let word = |n: usize| words.get(n).map_or(0, |word| u64::from_le_bytes(*word));
    [word(0), word(1)]
}

#[cfg(test)]
mod tests;
