//! The lock that prevents two machines from writing to one image.
//!
//! An "open file description" lock: it belongs to the open file, not to the process, so it also separates two disks of
//! one machine. It is released when the file is closed, also by SIGKILL. QEMU's image locks are of the same kind.
#![expect(unsafe_code, reason = "no crate at hand offers F_OFD_SETLK")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

/// How long to wait for a lock. When a process with an io_uring is killed, its requests keep the image open, and so
/// locked, until the kernel has finished them.
const GRACE: Duration = Duration::from_millis(300);
/// How often it is tried.
const PAUSE: Duration = Duration::from_millis(5);

/// As [`try_lock`], but gives a process that was just killed some time to release its lock.
///
/// # Errors
///
/// The host's error if the file cannot be locked at all.
pub(super) fn lock_soon(file: &File, shared: bool) -> io::Result<bool> {
    let begin = Instant::now();
    loop {
        if try_lock(file, shared)? {
            return Ok(true);
        }
        if begin.elapsed() >= GRACE {
            return Ok(false);
        }
        thread::sleep(PAUSE);
    }
}

/// Locks the whole `file`: shared with other readers, or exclusive. Never waits.
///
/// Returns false if another holder prevents it.
///
/// # Errors
///
/// The host's error if the file cannot be locked at all.
fn try_lock(file: &File, shared: bool) -> io::Result<bool> {
    set(file, if shared { libc::F_RDLCK } else { libc::F_WRLCK }, 0)
}

/// Makes the lock of `reader`, which is shared, exclusive for `writer`, the same file opened for writing. No other
/// program gets an exclusive lock in between: `reader` keeps its lock of the first byte. Never waits.
///
/// Returns false if there are other readers. [`lock_again`] undoes it.
///
/// # Errors
///
/// The host's error.
pub(super) fn lock_for_writing(reader: &File, writer: &File) -> io::Result<bool> {
    set(reader, libc::F_UNLCK, 1)?;
    let locked = set(writer, libc::F_WRLCK, 1);
    if !matches!(locked, Ok(true)) {
        lock_again(reader, writer)?;
    }
    locked
}

/// Makes the lock shared again.
///
/// # Errors
///
/// The host's error.
pub(super) fn lock_again(reader: &File, writer: &File) -> io::Result<()> {
    set(writer, libc::F_UNLCK, 1)?;
    set(reader, libc::F_RDLCK, 1).map(drop)
}

/// Sets the lock of `file` from the byte `from` on. Returns false if another holder prevents it.
fn set(file: &File, kind: i32, from: libc::off_t) -> io::Result<bool> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "libc's constants are wider than the field they are for"
    )]
    let kind = kind as libc::c_short;
    let lock = libc::flock {
        l_type: kind,
        l_whence: 0, // SEEK_SET
        l_start: from,
        l_len: 0, // to the end, wherever it is
        l_pid: 0, // must be 0 for this kind of lock
    };
    // SAFETY: the descriptor is open as long as `file`, and F_OFD_SETLK only reads the struct, which outlives the call.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}
