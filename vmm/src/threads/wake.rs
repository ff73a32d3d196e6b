//! Wakes a loop from another thread.

use std::os::fd::{AsRawFd, RawFd};

use cafevm_devices::irq::Wake;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::error::HostError;

/// An eventfd that one loop watches and any thread may write.
#[derive(Debug)]
pub(crate) struct WakeFd(EventFd);

impl WakeFd {
    /// Without a wake-up.
    ///
    /// # Errors
    ///
    /// If the host cannot create an eventfd.
    pub(crate) fn new() -> Result<Self, HostError> {
        EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map(Self).map_err(HostError::os("make an eventfd"))
    }

    /// Clears all wake-ups. Returns whether there were any. The descriptor is readable until then.
    pub(crate) fn clear(&self) -> bool {
        self.0.read().is_ok()
    }
}

impl Wake for WakeFd {
    fn wake(&self) {
        // The one possible error is a full counter; the descriptor is readable then, too.
        let _written = self.0.write(1);
    }
}

impl AsRawFd for WakeFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
