//! How a machine's threads agree on its end.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use cafevm_devices::irq::Wake;

use crate::error::HostError;
use crate::exit::Verdict;
use crate::threads::wake::WakeFd;

/// The machine's end: the first verdict counts.
#[derive(Debug)]
pub(crate) struct Ending {
    requested: AtomicBool,
    verdict: Mutex<Option<Verdict>>,
    /// Readable from the end on: nothing clears it, so that it wakes every loop.
    wake: WakeFd,
}

impl Ending {
    /// An end that was not asked for.
    ///
    /// # Errors
    ///
    /// Where the host gives no eventfd.
    pub(crate) fn new() -> Result<Self, HostError> {
        let wake = WakeFd::new()?;
        Ok(Self { requested: AtomicBool::new(false), verdict: Mutex::default(), wake })
    }

    /// Ends the machine with this verdict, unless it has one.
    pub(crate) fn end(&self, verdict: Verdict) {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(verdict);
        self.stop();
    }

    /// Asks all threads to stop.
    pub(crate) fn stop(&self) {
        self.requested.store(true, Ordering::Release);
        self.wake.wake();
    }

    /// Whether the end was asked for.
    pub(crate) fn requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// How it ended, if it has.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Readable from the end on.
impl AsRawFd for Ending {
    fn as_raw_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }
}
