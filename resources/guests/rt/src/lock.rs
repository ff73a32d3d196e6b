//! What two processors share.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A value for one processor at a time. Who waits for it spins: hold it for long only where the other has nothing
/// better to do. Not for interrupt handlers.
#[derive(Debug)]
pub struct Lock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `taken` lets one processor at a time reach the value; sending it over is what T: Send allows.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// A lock around `value`.
    pub const fn new(value: T) -> Lock<T> {
        Lock { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Runs `work` with the value to itself.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        while self.taken.swap(true, Ordering::Acquire) {
            core::hint::spin_loop();
        }
        self.work_and_release(work)
    }

    /// The same, but `None` where somebody has the value, who may be the caller itself.
    pub fn try_with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        Some(self.work_and_release(work))
    }

    /// The caller has set `taken`.
    fn work_and_release<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: we have it (`taken`), and the reference ends before it is given back. A panic in `work` ends the
        // guest.
        let result = work(unsafe { &mut *self.value.get() });
        self.taken.store(false, Ordering::Release);
        result
    }
}
