//! Moves between buffers and memory of the host, for engines that do more than preadv and pwritev.
#![expect(unsafe_code, reason = "a ring keeps raw pointers to guest RAM")]

use vm_memory::VolatileSlice;

use super::{Buffers, GuestRam, IOV_MAX};

impl Buffers {
    /// Copies `source`, which others may change at the same time, into the buffers after their first `skip` bytes.
    /// Returns the number of bytes: fewer if the buffers end before it does.
    pub(crate) fn copy_from_volatile(&self, skip: u64, source: VolatileSlice<'_>) -> u64 {
        let mut rest = source;
        let mut done = 0;
        for slice in self.slices(skip, source.len() as u64) {
            rest.copy_to_volatile_slice(slice);
            done += slice.len() as u64;
            // The slices are together no longer than the source.
            let Ok(left) = rest.offset(slice.len()) else { break };
            rest = left;
        }
        done
    }

    /// At most `most` bytes after the first `skip`, for a request of the kernel that outlives the call. There may be
    /// fewer: one call takes 1024 buffers.
    pub(crate) fn lend(&self, skip: u64, most: u64) -> Lent {
        let iovec = |slice: VolatileSlice<'_>| libc::iovec {
            iov_base: slice.ptr_guard_mut().as_ptr().cast(),
            iov_len: slice.len(),
        };
        let iovecs = self.slices(skip, most).take(IOV_MAX).map(iovec).collect();
        Lent { iovecs, _ram: self.ram.clone() }
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
