//! Wakes a loop from another thread.

use std::os::fd::{AsRawFd, RawFd};

use cafevm_devices::irq::Wake;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::error::HostError;

/// An eventfd that one loop polls and any thread may write.
#[derive(Debug)]
pub(crate) struct WakeFd(EventFd);

impl WakeFd {
    /// One that was not woken.
    ///
    /// # Errors
    ///
    /// Where the host gives no eventfd.
    pub(crate) fn new() -> Result<Self, HostError> {
        EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map(Self).map_err(HostError::os("make an eventfd"))
    }

    /// Takes all wake-ups so far; whether there were any. Until then the descriptor is readable.
    pub(crate) fn clear(&self) -> bool {
        self.0.read().is_ok()
    }
}

impl Wake for WakeFd {
    fn wake(&self) {
        // It fails only where the counter is full, and then the descriptor is readable.
        let _written = self.0.write(1);
    }
}

impl AsRawFd for WakeFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
