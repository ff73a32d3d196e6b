//! Shares one value between threads, none of which waits: a thread that arrives while another one uses the value leaves
//! a mark, and continues.
//!
//! The worker of a queue is such a value. A vCPU rings the doorbell, takes the turn and services the queue. Another
//! vCPU that rings the doorbell of the same queue must not wait for the first one's I/O, and its request must not be
//! forgotten: the first vCPU finds the mark when it returns the turn, and ensures that the queue is checked again.

use std::sync::PoisonError;
use std::time::Duration;

#[cfg(all(loom, test))]
use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(all(loom, test)))]
use std::sync::{Condvar, Mutex, MutexGuard};

/// Passes a value between threads. The value is lost if `work` panics.
#[derive(Debug)]
pub(crate) struct Turn<T> {
    state: Mutex<State<T>>,
    given_back: Condvar,
}

#[derive(Debug)]
struct State<T> {
    /// None while a thread has the turn.
    value: Option<T>,
    /// Whether another thread arrived in the meantime.
    note: bool,
    /// The number of threads in `take_within`. A notification is a system call, so it is made only if a thread waits.
    waiting: usize,
}

impl<T> Turn<T> {
    pub(crate) fn new(value: T) -> Self {
        let state = State { value: Some(value), note: false, waiting: 0 };
        Self { state: Mutex::new(state), given_back: Condvar::new() }
    }

    /// Takes the turn and calls `work` with the value. Returns the result, and whether another thread arrived in the
    /// meantime, whose change `work` may not have seen. None if another thread has the turn; the mark tells that
    /// thread.
    pub(crate) fn take<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<(R, bool)> {
        let mut state = self.state();
        let Some(value) = state.value.take() else {
            state.note = true;
            return None;
        };
        // Everything marked before is visible to this thread.
        state.note = false;
        drop(state);
        Some(self.work(value, work))
    }

    /// The same, but waits for the turn. None if `limit` has passed.
    ///
    /// It may leave a mark unread: the caller ensures that the value is checked again.
    pub(crate) fn take_within<R>(
        &self,
        limit: Duration,
        work: impl FnOnce(&mut T) -> R,
    ) -> Option<R> {
        let value = self.wait_for(limit)?;
        Some(self.work(value, work).0)
    }

    fn work<R>(&self, mut value: T, work: impl FnOnce(&mut T) -> R) -> (R, bool) {
        let result = work(&mut value);
        let mut state = self.state();
        state.value = Some(value);
        let (note, waiting) = (state.note, state.waiting);
        drop(state);
        if waiting > 0 {
            // Each of them has its own limit.
            self.given_back.notify_all();
        }
        (result, note)
    }

    #[cfg(not(all(loom, test)))]
    fn wait_for(&self, limit: Duration) -> Option<T> {
        let is_taken = |state: &mut State<T>| state.value.is_none();
        let mut state = self.state();
        state.waiting += 1;
        let waited = self.given_back.wait_timeout_while(state, limit, is_taken);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.waiting -= 1;
        state.value.take()
    }

    /// In a loom model no time passes.
    #[cfg(all(loom, test))]
    fn wait_for(&self, _limit: Duration) -> Option<T> {
        let mut state = self.state();
        state.waiting += 1;
        while state.value.is_none() {
            state = self.given_back.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        state.value.take()
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "turn_tests.rs"]
mod tests;
