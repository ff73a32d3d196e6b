//! Writes to a file that may have a slow reader, and may be non-blocking.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::epoll;
use rustix::io::Errno;

/// Writes some of `bytes`, and waits for room if there is none. Returns the number of bytes written.
///
/// # Errors
///
/// The host's error.
pub(crate) fn write_patiently(file: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match rustix::io::write(file, bytes) {
            Err(Errno::INTR) => {}
            // The file is non-blocking, by its opening or by another process.
            Err(Errno::AGAIN) => wait_for_room(file)?,
            done => return Ok(done?),
        }
    }
}

/// Writes all of `bytes`, as [`write_patiently`] does.
///
/// # Errors
///
/// The host's error.
pub(crate) fn write_all_patiently(file: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = write_patiently(file, bytes)?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(count..).unwrap_or_default();
    }
    Ok(())
}

/// Waits until the file accepts bytes.
fn wait_for_room(file: BorrowedFd<'_>) -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, file, epoll::EventData::new_u64(0), epoll::EventFlags::OUT)?;
    let (flags, data) = (epoll::EventFlags::empty(), epoll::EventData::new_u64(0));
    let mut events = [epoll::Event { flags, data }];
    match epoll::wait(&epoll, &mut events, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
