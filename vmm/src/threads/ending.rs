//! The end of the machine, shared by its threads.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use cafevm_devices::irq::Wake;

use crate::error::HostError;
use crate::exit::Verdict;
use crate::threads::wake::WakeFd;

/// The end of the machine: the first verdict counts.
#[derive(Debug)]
pub(crate) struct Ending {
    requested: AtomicBool,
    verdict: Mutex<Option<Verdict>>,
    /// Readable after the end: nothing reads it, so it wakes every loop.
    wake: WakeFd,
}

impl Ending {
    /// A machine that has not ended.
    ///
    /// # Errors
    ///
    /// If the host cannot create an eventfd.
    pub(crate) fn new() -> Result<Self, HostError> {
        let wake = WakeFd::new()?;
        Ok(Self { requested: AtomicBool::new(false), verdict: Mutex::default(), wake })
    }

    /// Ends the machine with this verdict, unless it has ended.
    pub(crate) fn end(&self, verdict: Verdict) {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(verdict);
        self.stop();
    }

    /// Stops all threads.
    pub(crate) fn stop(&self) {
        self.requested.store(true, Ordering::Release);
        self.wake.wake();
    }

    /// Whether the threads must stop.
    pub(crate) fn requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// The verdict, if the machine has ended.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The descriptor that is readable after the end.
impl AsRawFd for Ending {
    fn as_raw_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }
}
