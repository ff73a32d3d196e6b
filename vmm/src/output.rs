//! How bytes leave the process: what blocks is done by threads that nothing else depends on.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::epoll;
use rustix::io::Errno;

/// Writes some of `bytes` and waits for the reader where there must be one; how many were written.
///
/// # Errors
///
/// The host's.
pub(crate) fn write_patiently(file: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match rustix::io::write(file, bytes) {
            Err(Errno::INTR) => {}
            // Another process made it so that it does not block.
            Err(Errno::AGAIN) => wait_for_room(file)?,
            done => return Ok(done?),
        }
    }
}

/// Waits until something can be written.
fn wait_for_room(file: BorrowedFd<'_>) -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, file, epoll::EventData::new_u64(0), epoll::EventFlags::OUT)?;
    let mut events =
        [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
    match epoll::wait(&epoll, events.as_mut_slice(), None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
