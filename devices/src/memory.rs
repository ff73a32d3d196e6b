//! Guest memory: the only door between a device and the guest's bytes.
//!
//! A device never holds a pointer into guest RAM. It holds [`GuestRam`], a cheap handle, and either reads small
//! things at an address (ring entries, descriptors, headers; always once, into an owned value) or collects the
//! guest's buffers into [`Buffers`], whose ranges were checked when they were added. An engine then moves bytes
//! between a file and the buffers with no copy in between: the kernel is given iovecs that point into guest RAM.
//!
//! Guest RAM is volatile: the guest may change any byte at any time, so no `&[u8]` over it exists.
#![expect(unsafe_code, reason = "preadv and pwritev take raw pointers to guest RAM")]

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

/// The most buffers the kernel takes in one call (UIO_MAXIOV).
const IOV_MAX: usize = 1024;
/// As many buffers as most requests have at most: for these no list of iovecs is allocated.
const IOV_FEW: usize = 8;
/// As many buffers as most requests have on either side.
const RANGES_INLINE: usize = 3;

/// A range of guest-physical addresses that does not lie wholly in guest RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len:#x} bytes at {addr:#x} do not lie in guest RAM")]
pub struct OutOfRam {
    /// The first guest-physical address.
    pub addr: u64,
    /// The length in bytes.
    pub len: u64,
}

/// A handle on guest RAM. Cloning is cheap; RAM lives as long as any handle does.
#[derive(Debug, Clone)]
pub struct GuestRam(Arc<GuestMemoryMmap>);

impl GuestRam {
    /// The handle on memory that the machine's owner has mapped.
    pub fn new(memory: GuestMemoryMmap) -> Self {
        Self(Arc::new(memory))
    }

    /// Anonymous RAM at the given ranges of (guest-physical address, bytes).
    ///
    /// # Errors
    ///
    /// Where the ranges overlap or the host has no memory for them.
    pub fn anonymous(ranges: &[(u64, usize)]) -> Result<Self, vm_memory::mmap::FromRangesError> {
        let ranges: Vec<_> = ranges.iter().map(|&(addr, len)| (GuestAddress(addr), len)).collect();
        Ok(Self::new(GuestMemoryMmap::from_ranges(&ranges)?))
    }

    /// The same RAM by a handle whose count no other handle shares. Each request in flight counts a handle: threads that
    /// serve queues side by side would pass one count from processor to processor otherwise.
    #[must_use]
    pub fn own_handle(&self) -> Self {
        Self::new((*self.0).clone())
    }

    /// The memory itself, for whoever maps it into a machine.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.0
    }

    /// The ranges of RAM, lowest first: (guest-physical address, bytes).
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        self.0.iter().map(|r| (r.start_addr().0, r.len())).collect()
    }

    /// Whether the `len` bytes at `addr` lie wholly in RAM. No bytes lie there wherever `addr` is.
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

    /// The host's view of `len` bytes at `addr`, where one region of RAM has them all: that is quickly known, and what
    /// lies across two regions is rare.
    fn slice(&self, addr: u64, len: usize) -> Option<VolatileSlice<'_>> {
        let region = self.0.find_region(GuestAddress(addr))?;
        let at = region.to_region_addr(GuestAddress(addr))?;
        region.get_slice(at, len).ok()
    }

    /// Reads `N` bytes at `addr` once, into an owned value.
    ///
    /// # Errors
    ///
    /// Where they do not lie wholly in RAM.
    pub fn read<const N: usize>(&self, addr: u64) -> Result<[u8; N], OutOfRam> {
        let mut bytes = [0; N];
        self.read_into(addr, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `bytes` from `addr`.
    ///
    /// # Errors
    ///
    /// Where they do not lie wholly in RAM; `bytes` may be filled in part.
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
    /// Where they do not lie wholly in RAM; nothing is written then.
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

    /// Loads a little-endian u16 that the guest may be writing at this moment (a ring index); what the guest
    /// wrote before it is seen by all reads after this one.
    ///
    /// # Errors
    ///
    /// Where it is not in RAM or not aligned to 2 bytes.
    pub fn load_u16(&self, addr: u64) -> Result<u16, OutOfRam> {
        self.slice(addr, 2)
            .and_then(|slice| slice.load::<u16>(0, Ordering::Acquire).ok())
            .map(u16::from_le)
            .ok_or(OutOfRam { addr, len: 2 })
    }

    /// Stores a little-endian u16 that the guest may be reading at this moment; whoever sees it sees all that
    /// was written before.
    ///
    /// # Errors
    ///
    /// Where it is not in RAM or not aligned to 2 bytes.
    pub fn store_u16(&self, addr: u64, value: u16) -> Result<(), OutOfRam> {
        self.slice(addr, 2)
            .and_then(|slice| slice.store(value.to_le(), 0, Ordering::Release).ok())
            .ok_or(OutOfRam { addr, len: 2 })
    }
}

/// A range of guest RAM, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GuestRange {
    addr: u64,
    len: u64,
}

/// The guest's buffers of one request, in order: ranges of guest RAM, checked when they were added.
///
/// It keeps RAM alive, so a request in flight stays valid whatever becomes of the machine.
#[derive(Debug, Clone)]
pub struct Buffers {
    ram: GuestRam,
    /// Most requests have few: for these no list is allocated.
    ranges: SmallVec<[GuestRange; RANGES_INLINE]>,
    len: u64,
}

impl Buffers {
    /// No buffers yet.
    pub fn new(ram: GuestRam) -> Self {
        Self { ram, ranges: SmallVec::new(), len: 0 }
    }

    /// The one buffer of `len` bytes at `addr`.
    ///
    /// # Errors
    ///
    /// Where it does not lie wholly in RAM.
    pub fn single(ram: GuestRam, addr: u64, len: u64) -> Result<Self, OutOfRam> {
        let mut buffers = Self::new(ram);
        buffers.push(addr, len)?;
        Ok(buffers)
    }

    /// Adds the `len` bytes at `addr`.
    ///
    /// # Errors
    ///
    /// Where they do not lie wholly in RAM, or the sum of all lengths leaves 64 bits.
    pub fn push(&mut self, addr: u64, len: u64) -> Result<(), OutOfRam> {
        self.ram.check(addr, len)?;
        let total = self.len.checked_add(len).ok_or(OutOfRam { addr, len })?;
        if len > 0 {
            self.ranges.push(GuestRange { addr, len });
            self.len = total;
        }
        Ok(())
    }

    /// All bytes together.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether each range begins and ends at a multiple of `align` bytes: in guest-physical addresses, and with
    /// that on the host, for `align` up to a page.
    pub fn is_aligned(&self, align: u64) -> bool {
        self.ranges.iter().all(|s| (s.addr | s.len).is_multiple_of(align))
    }

    /// How many ranges there are.
    pub fn ranges(&self) -> usize {
        self.ranges.len()
    }

    /// Cuts the buffers down to their first `len` bytes; without effect where they are no longer than that.
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

    /// The `len` bytes behind the first `skip`; fewer where there are no more.
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

    /// Takes off all bytes from `at` on.
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

    /// Copies the first bytes of the buffers into `bytes`; how many that were.
    pub fn copy_to(&self, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        for slice in self.slices(0, u64::MAX) {
            let rest = bytes.get_mut(done..).unwrap_or_default();
            done += slice.copy_to(rest);
        }
        done
    }

    /// Copies `bytes` into the first bytes of the buffers; how many that were.
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

    /// Reads from `file` at `offset` (bytes) into the buffers behind their first `skip` bytes, `most` bytes at the most,
    /// in one call to the kernel; the bytes read, which may be fewer.
    ///
    /// # Errors
    ///
    /// The host's error, as it came.
    pub fn read_from(&self, file: &File, offset: u64, skip: u64, most: u64) -> io::Result<u64> {
        let file = file.as_raw_fd();
        self.with_iovecs(offset, (skip, most), |iovecs, count, offset| {
            // SAFETY: each iovec covers bytes of guest RAM that `self.ram` keeps mapped during the call, and guest
            // RAM is only ever accessed as volatile memory, so the kernel may write there while the guest or
            // another device reads or writes. The count is that of the iovecs.
            unsafe { libc::preadv(file, iovecs, count, offset) }
        })
    }

    /// Writes the buffers behind their first `skip` bytes, `most` bytes at the most, to `file` at `offset` (bytes), in
    /// one call to the kernel; the bytes written, which may be fewer.
    ///
    /// With `durable` the bytes written, and what is needed to find them again, are on stable storage when
    /// the call returns (RWF_DSYNC).
    ///
    /// # Errors
    ///
    /// The host's error, as it came.
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

    /// The host's view of the bytes behind the first `skip`, `most` at the most: valid while `self` is.
    fn slices(&self, skip: u64, most: u64) -> impl Iterator<Item = VolatileSlice<'_>> {
        let (mut skip, mut most) = (skip, most);
        self.ranges
            .iter()
            .filter_map(move |&GuestRange { addr, len }| {
                let past = len.min(skip);
                skip -= past;
                let here = (len - past).min(most);
                most -= here;
                // The lengths were checked against RAM, whose sizes are the host's `usize`.
                usize::try_from(here).ok().filter(|&n| n > 0).map(|n| (addr + past, n))
            })
            .flat_map(|(addr, len)| {
                let whole = self.ram.slice(addr, len);
                let parts = || self.ram.0.get_slices(GuestAddress(addr), len);
                let parts = whole.is_none().then(parts).into_iter().flatten();
                whole.into_iter().chain(parts.filter_map(Result::ok))
            })
    }

    /// Calls preadv or pwritev2 with iovecs, as many as one call takes, their count, and the offset; the bytes moved.
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
        // A range across two regions of RAM is two: where these are too many for the few, less is moved.
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
