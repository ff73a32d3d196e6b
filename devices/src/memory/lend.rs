//! Moves between buffers and memory of the host, for engines that do more than preadv and pwritev.
#![expect(unsafe_code, reason = "a ring keeps raw pointers to guest RAM")]

use std::fs::File;
use std::io;

use vm_memory::VolatileSlice;

use super::buffers::{IOV_MAX, iovec};
use super::{Buffers, GuestRam};

impl Buffers {
    /// Copies `source`, which others may change at the same time, into the buffers after their first `skip` bytes.
    /// Returns the number of bytes: fewer if the buffers end before it does.
    pub(crate) fn copy_from_volatile(&self, skip: u64, source: VolatileSlice<'_>) -> u64 {
        let most = source.len() as u64;
        if let Some(slice) = self.single_slice(skip, most) {
            source.copy_to_volatile_slice(slice);
            return slice.len() as u64;
        }
        let mut rest = source;
        let mut done = 0;
        for slice in self.slices(skip, most) {
            rest.copy_to_volatile_slice(slice);
            done += slice.len() as u64;
            // The slices are together no longer than the source.
            let Ok(left) = rest.offset(slice.len()) else { break };
            rest = left;
        }
        done
    }

    /// As [`Buffers::read_from`], but only what the page cache has: fails with EAGAIN instead of waiting for the
    /// storage (RWF_NOWAIT).
    ///
    /// # Errors
    ///
    /// The host's error; EOPNOTSUPP if the file system cannot tell.
    #[inline(always)]
    pub(crate) fn read_cached(
        &self,
        file: &File,
        offset: u64,
        skip: u64,
        most: u64,
    ) -> io::Result<u64> {
        self.read_with(file, offset, skip, most, libc::RWF_NOWAIT)
    }

    /// As [`Buffers::read_joined`], but only what the page cache has.
    ///
    /// # Errors
    ///
    /// As [`Buffers::read_cached`].
    pub(crate) fn read_joined_cached<'a>(
        parts: impl Iterator<Item = &'a Self> + Clone,
        file: &File,
        offset: u64,
    ) -> io::Result<u64> {
        Self::read_joined_with(parts, file, offset, libc::RWF_NOWAIT)
    }

    /// At most `most` bytes after the first `skip`, for a request of the kernel that outlives the call. There may be
    /// fewer: one call takes 1024 buffers.
    pub(crate) fn lend(&self, skip: u64, most: u64) -> Lent {
        let iovecs = self.slices(skip, most).take(IOV_MAX).map(iovec).collect();
        Lent { iovecs, _ram: self.ram().clone() }
    }
}

/// Buffers as iovecs, which stay where they are and keep guest RAM mapped as long as this value exists.
#[derive(Debug)]
pub(crate) struct Lent {
    iovecs: Box<[libc::iovec]>,
    _ram: GuestRam,
}

// SAFETY: the pointers are to guest RAM, which any thread may access as volatile memory, and which `_ram` keeps mapped.
// The iovecs themselves are never changed.
unsafe impl Send for Lent {}

impl Lent {
    /// The iovecs.
    pub(crate) const fn iovecs(&self) -> &[libc::iovec] {
        &self.iovecs
    }
}
