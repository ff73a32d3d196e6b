//! Moves between buffers and memory of the host, for engines that do more than preadv and pwritev.
#![expect(unsafe_code, reason = "preadv2 takes raw pointers to guest RAM, and a ring keeps them")]

use std::fs::File;
use std::io;
use std::iter;
use std::os::fd::AsRawFd;

use vm_memory::VolatileSlice;

use super::buffers::{IOV_MAX, iovec, with_iovecs};
use super::{Buffers, GuestRam, calls};

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
        match self.single_slice(skip, most) {
            Some(slice) => read_cached(file, 1, iter::once(slice), offset),
            None => read_cached(file, self.ranges(), self.slices(skip, most), offset),
        }
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
        let ranges = parts.clone().map(Self::ranges).sum();
        read_cached(file, ranges, parts.flat_map(|part| part.slices(0, u64::MAX)), offset)
    }

    /// At most `most` bytes after the first `skip`, for a request of the kernel that outlives the call. There may be
    /// fewer: one call takes 1024 buffers.
    pub(crate) fn lend(&self, skip: u64, most: u64) -> Lent {
        let iovecs = self.slices(skip, most).take(IOV_MAX).map(iovec).collect();
        Lent { iovecs, _ram: self.ram().clone() }
    }
}

#[inline(always)]
fn read_cached<'a>(
    file: &File,
    ranges: usize,
    slices: impl Iterator<Item = VolatileSlice<'a>>,
    offset: u64,
) -> io::Result<u64> {
    let file = file.as_raw_fd();
    with_iovecs(ranges, slices, offset, |iovecs, count, offset| {
        // SAFETY: as in `read` of buffers.rs.
        unsafe { calls::preadv2(file, iovecs, count, offset, libc::RWF_NOWAIT) }
    })
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
