//! The guest's buffers of one request, and how files and they exchange bytes.
#![expect(unsafe_code, reason = "the kernel takes raw pointers to guest RAM")]

use std::fs::File;
use std::io;
use std::iter;
use std::os::fd::AsRawFd;
use std::ptr;

use vm_memory::{GuestAddress, GuestMemoryBackend, VolatileSlice};

use super::ranges::{GuestRange, Ranges};
use super::{GuestRam, OutOfRam, calls};

/// The most buffers in one call of the kernel (UIO_MAXIOV).
pub(super) const IOV_MAX: usize = 1024;
/// The most buffers of usual requests: for these no list of iovecs is allocated.
pub(super) const IOV_FEW: usize = 8;

/// The guest's buffers of one request, in order: ranges of guest RAM, each checked when it was added.
///
/// It keeps RAM alive, so a request in flight stays valid after the machine has ended.
#[derive(Debug, Clone)]
pub struct Buffers {
    ram: GuestRam,
    ranges: Ranges,
}

impl Buffers {
    /// Ranges that were checked against `ram`.
    pub(super) const fn of(ram: GuestRam, ranges: Ranges) -> Self {
        Self { ram, ranges }
    }

    /// Without buffers.
    pub fn new(ram: GuestRam) -> Self {
        Self { ram, ranges: Ranges::default() }
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
        self.ranges.push(&self.ram, addr, len)
    }

    /// The guest RAM that they are in.
    pub(super) const fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// The sum of the lengths.
    pub const fn len(&self) -> u64 {
        self.ranges.len()
    }

    /// Whether the buffers have no bytes.
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether each range begins and ends at a multiple of `align` bytes, in guest-physical addresses. For `align` up
    /// to a page, this holds for the host's addresses, too.
    pub fn is_aligned(&self, align: u64) -> bool {
        self.ranges.iter().all(|s| (s.addr | s.len).is_multiple_of(align))
    }

    /// The number of ranges.
    pub fn ranges(&self) -> usize {
        self.ranges.count()
    }

    /// Truncates the buffers to their first `len` bytes. Shorter buffers do not change.
    pub fn truncate(&mut self, len: u64) {
        self.ranges.truncate(len);
    }

    /// Splits off all bytes from `at` on.
    pub fn split_off(&mut self, at: u64) -> Self {
        self.ranges.split_off(at).in_ram(self.ram.clone())
    }

    /// The `len` bytes after the first `skip`; fewer if there are no more.
    #[must_use]
    pub fn part(&self, skip: u64, len: u64) -> Self {
        self.ranges.part(skip, len).in_ram(self.ram.clone())
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
    // Inlined, as is all that returns directly after a call of the kernel: see calls.rs.
    #[inline(always)]
    pub fn read_from(&self, file: &File, offset: u64, skip: u64, most: u64) -> io::Result<u64> {
        match self.single_slice(skip, most) {
            Some(slice) => read(file, 1, iter::once(slice), offset),
            None => read(file, self.ranges(), self.slices(skip, most), offset),
        }
    }

    /// Reads from `file` at `offset` (bytes) into all `parts`, one after the other, with one call of the kernel. Returns
    /// the number of bytes, which may be lower.
    ///
    /// # Errors
    ///
    /// The host's error.
    pub fn read_joined<'a>(
        parts: impl Iterator<Item = &'a Self> + Clone,
        file: &File,
        offset: u64,
    ) -> io::Result<u64> {
        let ranges = parts.clone().map(Self::ranges).sum();
        read(file, ranges, parts.flat_map(|part| part.slices(0, u64::MAX)), offset)
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
    #[inline(always)]
    pub fn write_to(
        &self,
        file: &File,
        offset: u64,
        skip: u64,
        most: u64,
        durable: bool,
    ) -> io::Result<u64> {
        match self.single_slice(skip, most) {
            Some(slice) => write(file, 1, iter::once(slice), offset, durable),
            None => write(file, self.ranges(), self.slices(skip, most), offset, durable),
        }
    }

    /// Writes all `parts`, one after the other, to `file` at `offset` (bytes), with one call of the kernel. Returns the
    /// number of bytes, which may be lower.
    ///
    /// # Errors
    ///
    /// The host's error.
    pub fn write_joined<'a>(
        parts: impl Iterator<Item = &'a Self> + Clone,
        file: &File,
        offset: u64,
    ) -> io::Result<u64> {
        let ranges = parts.clone().map(Self::ranges).sum();
        let slices = parts.flat_map(|part| part.slices(0, u64::MAX));
        write(file, ranges, slices, offset, false)
    }

    /// The same as [`Buffers::slices`] where that is one slice, which is usual: found faster.
    pub(super) fn single_slice(&self, skip: u64, most: u64) -> Option<VolatileSlice<'_>> {
        let GuestRange { addr, len } = self.ranges.single()?;
        let is_whole = skip == 0 && len <= most;
        is_whole.then(|| self.ram.slice(addr, usize::try_from(len).ok()?)).flatten()
    }

    /// The host's view of at most `most` bytes after the first `skip`: valid as long as `self`.
    pub(super) fn slices(&self, skip: u64, most: u64) -> impl Iterator<Item = VolatileSlice<'_>> {
        let (mut skip, mut most) = (skip, most);
        self.ranges
            .iter()
            .filter_map(move |GuestRange { addr, len }| {
                let past = len.min(skip);
                skip -= past;
                let here = (len - past).min(most);
                most -= here;
                // The lengths were checked against RAM, and its sizes are `usize` on the host.
                usize::try_from(here).ok().filter(|&n| n > 0).map(|n| (addr + past, n))
            })
            .flat_map(|(addr, len)| {
                let whole = self.ram.slice(addr, len);
                let parts = || self.ram.0.memory.get_slices(GuestAddress(addr), len);
                let parts = whole.is_none().then(parts).into_iter().flatten();
                whole.into_iter().chain(parts.filter_map(Result::ok))
            })
    }
}

#[inline(always)]
fn read<'a>(
    file: &File,
    ranges: usize,
    slices: impl Iterator<Item = VolatileSlice<'a>>,
    offset: u64,
) -> io::Result<u64> {
    let file = file.as_raw_fd();
    with_iovecs(ranges, slices, offset, |iovecs, count, offset| {
        // SAFETY: each iovec covers bytes of guest RAM that its buffers keep mapped during the call, and guest RAM is
        // only ever accessed as volatile memory, so the kernel may write there while the guest or another device reads
        // or writes. The count is that of the iovecs.
        unsafe {
            match count {
                1 => calls::pread(file, (*iovecs).iov_base, (*iovecs).iov_len, offset),
                _ => calls::preadv2(file, iovecs, count, offset, 0),
            }
        }
    })
}

#[inline(always)]
fn write<'a>(
    file: &File,
    ranges: usize,
    slices: impl Iterator<Item = VolatileSlice<'a>>,
    offset: u64,
    durable: bool,
) -> io::Result<u64> {
    let flags = if durable { libc::RWF_DSYNC } else { 0 };
    let file = file.as_raw_fd();
    with_iovecs(ranges, slices, offset, |iovecs, count, offset| {
        // SAFETY: as in `read`; the kernel only reads the bytes.
        unsafe {
            match (count, flags) {
                (1, 0) => calls::pwrite(file, (*iovecs).iov_base, (*iovecs).iov_len, offset),
                _ => calls::pwritev2(file, iovecs, count, offset, flags),
            }
        }
    })
}

/// The slice as the kernel takes it.
pub(super) fn iovec(slice: VolatileSlice<'_>) -> libc::iovec {
    libc::iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: slice.len() }
}

/// Calls preadv or pwritev2 with those of `slices` that fit into one call, their count, and the offset. `ranges` is the
/// number of ranges of RAM that the slices come from. Returns the bytes moved.
pub(super) fn with_iovecs<'a>(
    ranges: usize,
    slices: impl Iterator<Item = VolatileSlice<'a>>,
    offset: u64,
    call: impl FnOnce(*const libc::iovec, usize, libc::off_t) -> io::Result<usize>,
) -> io::Result<u64> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let slices = slices.map(iovec);
    let mut few = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; IOV_FEW];
    let mut many = Vec::new();
    // A range across two regions of RAM counts twice: if these exceed the list, fewer bytes are moved.
    let iovecs = if ranges <= IOV_FEW {
        let used = few.iter_mut().zip(slices).map(|(place, iovec)| *place = iovec).count();
        few.get(..used).unwrap_or_default()
    } else {
        many.extend(slices.take(IOV_MAX));
        &many
    };
    Ok(call(iovecs.as_ptr(), iovecs.len(), offset)? as u64)
}
