//! How a machine's threads agree on its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cafevm_devices::irq::Wake;
use event_manager::{EventOps, Events};

use crate::error::HostError;
use crate::exit::Verdict;
use crate::runtime::event_loop::{Concern, watch};
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

/// Wakes a loop at the end; the loop itself looks why.
pub(crate) struct AtTheEnd(pub(crate) Arc<Ending>);

impl Concern for AtTheEnd {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        watch(ops, &self.0.wake)
    }

    fn serve(&mut self, _: Events, _: &mut EventOps<'_>) -> Result<(), HostError> {
        Ok(())
    }
}
