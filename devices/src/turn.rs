//! One value, many threads, none of which waits: a thread that comes while another one works with the value leaves a
//! note, and goes on.
//!
//! A queue's worker is such a value. A vCPU rings, takes the turn and serves the queue. Another vCPU that rings the
//! same queue meanwhile must neither wait for the first one's I/O nor be forgotten: the first one finds the note when
//! it gives the turn back, and sees to it that the queue is looked at again.

use std::sync::PoisonError;
use std::time::Duration;

#[cfg(all(loom, test))]
use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(all(loom, test)))]
use std::sync::{Condvar, Mutex, MutexGuard};

/// Hands a value from thread to thread. The value is lost where `work` panics.
#[derive(Debug)]
pub(crate) struct Turn<T> {
    state: Mutex<State<T>>,
    given_back: Condvar,
}

#[derive(Debug)]
struct State<T> {
    /// None while a thread has the turn.
    value: Option<T>,
    /// Whether another thread came meanwhile.
    note: bool,
    /// Threads in `take_within`. To wake none is a system call, too, so it is left out.
    waiting: usize,
}

impl<T> Turn<T> {
    pub(crate) fn new(value: T) -> Self {
        let state = State { value: Some(value), note: false, waiting: 0 };
        Self { state: Mutex::new(state), given_back: Condvar::new() }
    }

    /// Takes the turn and works with the value; what `work` gives, and whether another thread came meanwhile, whose
    /// work may not have been seen. None where another thread has the turn: that one learns that we came.
    pub(crate) fn take<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<(R, bool)> {
        let mut state = self.state();
        let Some(value) = state.value.take() else {
            state.note = true;
            return None;
        };
        // Whatever was noted before is there for us to see.
        state.note = false;
        drop(state);
        Some(self.work(value, work))
    }

    /// The same, but waits for the turn if another thread has it. None where `limit` has passed.
    ///
    /// It may leave a note unread: the caller sees to it that the value is looked at again.
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
            // Each of them has a limit of its own.
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

    /// In a model no time passes.
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
