//! The kernel's calls that move bytes between a file and memory, without the C library's wrappers.
//!
//! The wrappers are cancellation points: in a process with several threads each call begins and ends with an atomic
//! operation, which was 4 to 6 % of the time of a batch of reads of 4 KiB. No thread here is ever cancelled.
//!
//! Also, a function that returns directly after a call of the kernel is slow: the processor does not know where it
//! returns to, because the kernel's own calls have replaced what it remembered. That was 6 to 12 % of the time of a batch.
//! So these calls are inlined, as are their callers, up to the loop over the requests.
#![expect(unsafe_code, reason = "system calls with raw pointers")]

use std::io;

use libc::{c_int, c_void, iovec, off_t};
use syscalls::{Sysno, syscall};

/// pread(2).
///
/// # Safety
///
/// As for pread(2): the kernel may write the `len` bytes at `buffer`.
#[inline]
pub(super) unsafe fn pread(
    file: c_int,
    buffer: *mut c_void,
    len: usize,
    offset: off_t,
) -> io::Result<usize> {
    // SAFETY: the caller's.
    Ok(unsafe { syscall!(Sysno::pread64, file, buffer, len, offset) }?)
}

/// pwrite(2).
///
/// # Safety
///
/// As for pwrite(2): the kernel may read the `len` bytes at `buffer`.
#[inline]
pub(super) unsafe fn pwrite(
    file: c_int,
    buffer: *const c_void,
    len: usize,
    offset: off_t,
) -> io::Result<usize> {
    // SAFETY: the caller's.
    Ok(unsafe { syscall!(Sysno::pwrite64, file, buffer, len, offset) }?)
}

/// The upper half of an offset, which a kernel of 64 bits takes whole in the lower one.
const UPPER: off_t = 0;

/// preadv2(2).
///
/// # Safety
///
/// As for preadv2(2): there are `count` valid `iovecs`, and the kernel may write what they describe.
#[inline]
pub(super) unsafe fn preadv2(
    file: c_int,
    iovecs: *const iovec,
    count: usize,
    offset: off_t,
    flags: c_int,
) -> io::Result<usize> {
    // SAFETY: the caller's.
    Ok(unsafe { syscall!(Sysno::preadv2, file, iovecs, count, offset, UPPER, flags) }?)
}

/// pwritev2(2).
///
/// # Safety
///
/// As for pwritev2(2): there are `count` valid `iovecs`, and the kernel may read what they describe.
#[inline]
pub(super) unsafe fn pwritev2(
    file: c_int,
    iovecs: *const iovec,
    count: usize,
    offset: off_t,
    flags: c_int,
) -> io::Result<usize> {
    // SAFETY: the caller's.
    Ok(unsafe { syscall!(Sysno::pwritev2, file, iovecs, count, offset, UPPER, flags) }?)
}
