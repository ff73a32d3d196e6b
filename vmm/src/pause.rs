//! How a machine is paused and goes on.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cafevm_devices::block::Gate;
use tracing::warn;

use crate::error::HostError;
use crate::event::Event;
use crate::vcpu::Ending;

/// How often whoever waits looks whether the machine has ended meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// Whether a machine is paused: while it is, no vCPU runs.
pub(crate) struct Pause {
    ending: Arc<Ending>,
    /// Looked at before each entry into the guest, so without a lock.
    paused: AtomicBool,
    changes: Mutex<()>,
    changed: Condvar,
    /// The vCPUs that wait here.
    parked: AtomicUsize,
    /// Told when vCPUs are to come here.
    pub(crate) asked: Event,
}

impl Pause {
    /// A machine that runs.
    ///
    /// # Errors
    ///
    /// Where the host gives no eventfd.
    pub(crate) fn new(ending: Arc<Ending>) -> Result<Self, HostError> {
        Ok(Self {
            ending,
            paused: AtomicBool::new(false),
            changes: Mutex::new(()),
            changed: Condvar::new(),
            parked: AtomicUsize::new(0),
            asked: Event::new()?,
        })
    }

    pub(crate) fn pause(&self) {
        self.paused.store(true, Ordering::Release);
        self.asked.tell();
    }

    pub(crate) fn resume(&self) {
        let _changing = self.changes();
        self.paused.store(false, Ordering::Release);
        self.changed.notify_all();
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// How many vCPUs wait.
    pub(crate) fn parked(&self) -> usize {
        self.parked.load(Ordering::Acquire)
    }

    /// Waits here while the machine is paused and has not ended.
    pub(crate) fn park(&self) {
        if !self.is_paused() {
            return;
        }
        self.parked.fetch_add(1, Ordering::AcqRel);
        let mut changing = self.changes();
        while self.is_paused() && !self.ending.requested() {
            let waited = self.changed.wait_timeout(changing, LOOK);
            changing = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(changing);
        self.parked.fetch_sub(1, Ordering::AcqRel);
    }

    fn changes(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A full disk pauses the machine; it is tried again when the machine goes on.
impl Gate for Pause {
    fn wait_for_room(&self, disk: &str, error: &io::Error) -> bool {
        warn!(
            "{disk}: {error}; the machine is paused (werror=stop): make room, then send {{\"resume\":{{}}}} to the \
             control socket"
        );
        self.pause();
        self.park();
        !self.ending.requested()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_is_parked_goes_on_when_the_machine_does() {
        let ending = Arc::new(Ending::new().unwrap());
        let pause = Arc::new(Pause::new(ending).unwrap());
        pause.park(); // Not paused: at once.
        pause.pause();
        assert!(pause.asked.take());
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let pause = pause.clone();
                thread::spawn(move || pause.wait_for_room("d", &io::ErrorKind::StorageFull.into()))
            })
            .collect();
        while pause.parked() < 3 {
            thread::yield_now();
        }
        pause.resume();
        for thread in waiting {
            assert!(thread.join().unwrap());
        }
        assert_eq!((pause.parked(), pause.is_paused()), (0, false));
    }

    #[test]
    fn nobody_waits_beyond_the_machines_end() {
        let ending = Arc::new(Ending::new().unwrap());
        let pause = Arc::new(Pause::new(ending.clone()).unwrap());
        let waiting = {
            let pause = pause.clone();
            thread::spawn(move || pause.wait_for_room("d", &io::ErrorKind::StorageFull.into()))
        };
        ending.stop();
        assert!(!waiting.join().unwrap());
    }
}
