//! Something that one thread can tell another, who polls for it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cafevm_devices::irq::IrqLine;
use rustix::event::{EventfdFlags, eventfd};

use crate::error::HostError;

/// An eventfd.
#[derive(Debug)]
pub(crate) struct Event(OwnedFd);

impl Event {
    /// An event that has not happened.
    ///
    /// # Errors
    ///
    /// Where the host gives no eventfd.
    pub(crate) fn new() -> Result<Self, HostError> {
        eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map(Self)
            .map_err(HostError::os("make an eventfd"))
    }

    /// It happens: whoever polls for it sees it.
    pub(crate) fn tell(&self) {
        // Fails only where it was told 2^64 times and seen never; then it still is to be seen.
        let _written = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Whether it happened since the last call.
    pub(crate) fn take(&self) -> bool {
        rustix::io::read(&self.0, &mut [0u8; 8]).is_ok()
    }
}

/// Also a device can tell.
impl IrqLine for Event {
    fn raise(&self) {
        self.tell();
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
