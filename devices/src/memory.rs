//! Guest memory: the only access of a device to the guest's bytes.
//!
//! A device never holds a pointer into guest RAM. It holds a [`GuestRam`], a cheap handle. It either reads small values
//! at an address (ring entries, descriptors, headers; always once, into an owned value), or collects the guest's
//! buffers in [`Buffers`], which checks each range when it is added. An engine then moves bytes between a file and the
//! buffers without a copy: the kernel gets iovecs that point into guest RAM.
//!
//! Guest RAM is volatile: the guest may change any byte at any time, so there is no `&[u8]` over it.
#![expect(unsafe_code, reason = "preadv and pwritev take raw pointers to guest RAM")]

mod lend;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, VolatileSlice,
};

use crate::address;

pub(crate) use lend::Lent;

/// The most buffers in one call of the kernel (UIO_MAXIOV).
const IOV_MAX: usize = 1024;
/// The most buffers of usual requests: for these no list of iovecs is allocated.
const IOV_FEW: usize = 8;
/// The most buffers of usual requests in each direction.
const RANGES_INLINE: usize = 3;

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
pub struct GuestRam(Arc<GuestMemoryMmap>);

impl GuestRam {
    /// A handle on memory that the VMM has mapped.
    pub fn new(memory: GuestMemoryMmap) -> Self {
        Self(Arc::new(memory))
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
        Self::new((*self.0).clone())
    }

    /// The memory itself, for a VMM that maps it into a machine.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.0
    }

    /// The ranges of RAM, lowest first: (guest-physical address, bytes).
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        self.0.iter().map(|r| (r.start_addr().0, r.len())).collect()
    }

    /// Checks that the `len` bytes at `addr` are completely in RAM. An empty range is valid at every address.
    pub fn check(&self, addr: u64, len: u64) -> Result<(), OutOfRam> {
        let error = OutOfRam { addr, len };
        if len == 0 {
            return Ok(());
        }
        addr.checked_add(len - 1).ok_or(error)?;
        let bytes = usize::try_from(len).map_err(|_| error)?;
        let whole = || self.0.check_range(GuestAddress(addr), bytes);
        if self.slice(addr, bytes).is_some() || whole() { Ok(()) } else { Err(error) }
    }

    /// The host's view of `len` bytes at `addr` if one region of RAM contains them all: this check is fast, and ranges
    /// across two regions are rare.
    fn slice(&self, addr: u64, len: usize) -> Option<VolatileSlice<'_>> {
        let region = self.0.find_region(GuestAddress(addr))?;
        let at = region.to_region_addr(GuestAddress(addr))?;
        region.get_slice(at, len).ok()
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
        self.0.read_slice(bytes, GuestAddress(addr)).map_err(|_| OutOfRam { addr, len })
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

/// A checked range of guest RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GuestRange {
    addr: u64,
    len: u64,
}

/// The guest's buffers of one request, in order: ranges of guest RAM, each checked when it was added.
///
/// It keeps RAM alive, so a request in flight stays valid after the machine has ended.
#[derive(Debug, Clone)]
pub struct Buffers {
    ram: GuestRam,
    /// Usual requests have few, and need no allocation.
    ranges: SmallVec<[GuestRange; RANGES_INLINE]>,
    len: u64,
}

impl Buffers {
    /// Without buffers.
    pub fn new(ram: GuestRam) -> Self {
        Self { ram, ranges: SmallVec::new(), len: 0 }
    }

    /// One buffer of `len` bytes at `addr`.
    ///
    /// # Errors
    ///
    /// If it is not completely in RAM.
    pub fn single(ram: GuestRam, addr: u64, len: u64) -> Result<Self, OutOfRam> {
        let mut buffers = Self::new(ram);
        buffers.push(addr, len)?;
        Ok(buffers)
    }

    /// Adds the `len` bytes at `addr`.
    ///
    /// # Errors
    ///
    /// If they are not completely in RAM, or the sum of all lengths exceeds 64 bits.
    pub fn push(&mut self, addr: u64, len: u64) -> Result<(), OutOfRam> {
        self.ram.check(addr, len)?;
        let total = self.len.checked_add(len).ok_or(OutOfRam { addr, len })?;
        if len > 0 {
            self.ranges.push(GuestRange { addr, len });
            self.len = total;
        }
        Ok(())
    }

    /// The sum of the lengths.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the buffers have no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether each range begins and ends at a multiple of `align` bytes, in guest-physical addresses. For `align` up
    /// to a page, this holds for the host's addresses, too.
    pub fn is_aligned(&self, align: u64) -> bool {
        self.ranges.iter().all(|s| (s.addr | s.len).is_multiple_of(align))
    }

    /// The number of ranges.
    pub fn ranges(&self) -> usize {
        self.ranges.len()
    }

    /// Truncates the buffers to their first `len` bytes. Shorter buffers do not change.
    pub fn truncate(&mut self, len: u64) {
        while self.len > len
            && let Some(last) = self.ranges.last_mut()
        {
            let cut = last.len.min(self.len - len);
            last.len -= cut;
            self.len -= cut;
            if last.len == 0 {
                self.ranges.pop();
            }
        }
    }

    /// The `len` bytes after the first `skip`; fewer if there are no more.
    #[must_use]
    pub fn part(&self, skip: u64, len: u64) -> Self {
        let mut part = Self::new(self.ram.clone());
        let (mut skip, mut left) = (skip, len);
        for &GuestRange { addr, len } in &self.ranges {
            let past = len.min(skip);
            let here = (len - past).min(left);
            (skip, left) = (skip - past, left - here);
            if here > 0 {
                part.ranges.push(GuestRange { addr: addr + past, len: here });
                part.len += here;
            }
            if left == 0 {
                break;
            }
        }
        part
    }

    /// Splits off all bytes from `at` on.
    pub fn split_off(&mut self, at: u64) -> Self {
        let mut left = at;
        let mut whole = 0;
        while let Some(rest) = self.ranges.get(whole).and_then(|s| left.checked_sub(s.len)) {
            (whole, left) = (whole + 1, rest);
        }
        let mut tail = Self::new(self.ram.clone());
        tail.ranges.extend(self.ranges.drain(whole..));
        if let Some(first) = tail.ranges.first_mut().filter(|_| left > 0) {
            self.ranges.push(GuestRange { addr: first.addr, len: left });
            *first = GuestRange { addr: first.addr + left, len: first.len - left };
        }
        tail.len = self.len.saturating_sub(at);
        self.len -= tail.len;
        tail
    }

    /// Copies the first bytes of the buffers into `bytes`. Returns the number of bytes.
    pub fn copy_to(&self, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        for slice in self.slices(0, u64::MAX) {
            let rest = bytes.get_mut(done..).unwrap_or_default();
            done += slice.copy_to(rest);
        }
        done
    }

    /// Copies `bytes` into the first bytes of the buffers. Returns the number of bytes.
    pub fn copy_from(&self, bytes: &[u8]) -> usize {
        let mut done = 0;
        for slice in self.slices(0, u64::MAX) {
            let rest = bytes.get(done..).unwrap_or_default();
            let here = rest.len().min(slice.len());
            slice.copy_from(rest);
            done += here;
        }
        done
    }

    /// Reads at most `most` bytes from `file` at `offset` (bytes) into the buffers after their first `skip` bytes, with
    /// one call of the kernel. Returns the number of bytes, which may be lower.
    ///
    /// # Errors
    ///
    /// The host's error.
    pub fn read_from(&self, file: &File, offset: u64, skip: u64, most: u64) -> io::Result<u64> {
        let file = file.as_raw_fd();
        self.with_iovecs(offset, (skip, most), |iovecs, count, offset| {
            // SAFETY: each iovec covers bytes of guest RAM that `self.ram` keeps mapped during the call, and guest
            // RAM is only ever accessed as volatile memory, so the kernel may write there while the guest or
            // another device reads or writes. The count is that of the iovecs.
            unsafe { libc::preadv(file, iovecs, count, offset) }
        })
    }

    /// Writes at most `most` bytes of the buffers, after their first `skip` bytes, to `file` at `offset` (bytes), with
    /// one call of the kernel. Returns the number of bytes, which may be lower.
    ///
    /// With `durable`, the bytes written and the metadata to find them are on stable storage when the call returns
    /// (RWF_DSYNC).
    ///
    /// # Errors
    ///
    /// The host's error.
    pub fn write_to(
        &self,
        file: &File,
        offset: u64,
        skip: u64,
        most: u64,
        durable: bool,
    ) -> io::Result<u64> {
        let flags = if durable { libc::RWF_DSYNC } else { 0 };
        let file = file.as_raw_fd();
        self.with_iovecs(offset, (skip, most), |iovecs, count, offset| {
            // SAFETY: as in `read_from`; the kernel only reads the bytes.
            unsafe { libc::pwritev2(file, iovecs, count, offset, flags) }
        })
    }

    /// The host's view of at most `most` bytes after the first `skip`: valid as long as `self`.
    fn slices(&self, skip: u64, most: u64) -> impl Iterator<Item = VolatileSlice<'_>> {
        let (mut skip, mut most) = (skip, most);
        self.ranges
            .iter()
            .filter_map(move |&GuestRange { addr, len }| {
                let past = len.min(skip);
                skip -= past;
                let here = (len - past).min(most);
                most -= here;
                // The lengths were checked against RAM, and its sizes are `usize` on the host.
                usize::try_from(here).ok().filter(|&n| n > 0).map(|n| (addr + past, n))
            })
            .flat_map(|(addr, len)| {
                let whole = self.ram.slice(addr, len);
                let parts = || self.ram.0.get_slices(GuestAddress(addr), len);
                let parts = whole.is_none().then(parts).into_iter().flatten();
                whole.into_iter().chain(parts.filter_map(Result::ok))
            })
    }

    /// Calls preadv or pwritev2 with the iovecs that fit into one call, their count, and the offset. Returns the bytes
    /// moved.
    fn with_iovecs(
        &self,
        offset: u64,
        (skip, most): (u64, u64),
        call: impl FnOnce(*const libc::iovec, libc::c_int, libc::off_t) -> isize,
    ) -> io::Result<u64> {
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let iovec = |slice: VolatileSlice<'_>| libc::iovec {
            iov_base: slice.ptr_guard_mut().as_ptr().cast(),
            iov_len: slice.len(),
        };
        let slices = self.slices(skip, most).map(iovec);
        let mut few = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; IOV_FEW];
        let mut many = Vec::new();
        // A range across two regions of RAM counts twice: if these exceed the list, fewer bytes are moved.
        let iovecs = if self.ranges.len() <= IOV_FEW {
            let used = few.iter_mut().zip(slices).map(|(place, iovec)| *place = iovec).count();
            few.get(..used).unwrap_or_default()
        } else {
            many.extend(slices.take(IOV_MAX));
            &many
        };
        let count = libc::c_int::try_from(iovecs.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        u64::try_from(call(iovecs.as_ptr(), count, offset)).map_err(|_| io::Error::last_os_error())
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
