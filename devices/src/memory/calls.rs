//! The kernel's calls that move bytes between a file and memory, without the C library's wrappers.
//!
//! The wrappers are cancellation points: in a process with several threads each call begins and ends with an atomic
//! operation, and of a batch of reads of 4 KiB that was 4 to 6 % of the time. No thread here is ever cancelled.
#![expect(unsafe_code, reason = "system calls with raw pointers")]

use libc::{c_int, c_void, iovec, off_t, size_t, syscall};

/// pread(2).
///
/// # Safety
///
/// As for pread(2): the kernel may write the `len` bytes at `buffer`.
pub(super) unsafe fn pread(file: c_int, buffer: *mut c_void, len: size_t, offset: off_t) -> i64 {
    // SAFETY: the caller's.
    unsafe { syscall(libc::SYS_pread64, file, buffer, len, offset) }
}

/// pwrite(2).
///
/// # Safety
///
/// As for pwrite(2): the kernel may read the `len` bytes at `buffer`.
pub(super) unsafe fn pwrite(file: c_int, buffer: *const c_void, len: size_t, offset: off_t) -> i64 {
    // SAFETY: the caller's.
    unsafe { syscall(libc::SYS_pwrite64, file, buffer, len, offset) }
}

/// The upper half of an offset, which a kernel of 64 bits takes whole in the lower one.
const UPPER: off_t = 0;

/// preadv2(2).
///
/// # Safety
///
/// As for preadv2(2): there are `count` valid `iovecs`, and the kernel may write what they describe.
pub(super) unsafe fn preadv2(
    file: c_int,
    iovecs: *const iovec,
    count: c_int,
    offset: off_t,
    flags: c_int,
) -> i64 {
    // SAFETY: the caller's.
    unsafe { syscall(libc::SYS_preadv2, file, iovecs, count, offset, UPPER, flags) }
}

/// pwritev2(2).
///
/// # Safety
///
/// As for pwritev2(2): there are `count` valid `iovecs`, and the kernel may read what they describe.
pub(super) unsafe fn pwritev2(
    file: c_int,
    iovecs: *const iovec,
    count: c_int,
    offset: off_t,
    flags: c_int,
) -> i64 {
    // SAFETY: the caller's.
    unsafe { syscall(libc::SYS_pwritev2, file, iovecs, count, offset, UPPER, flags) }
}
