//! A bounded queue of bytes between threads that must not wait and a file that may block.
//!
//! The log and the guest's console each have one. Any thread pushes its bytes and goes on; one thread
//! ([`Backlog::write_out`]) writes them to the file and is the only one that waits for the file's reader.
//!
//! What does not fit is dropped and counted. After a drop, all is dropped until a good part of the queue is free, so
//! that the reader sees one gap and not many.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How many bytes are written at once: what Linux writes to a pipe whole or not at all (PIPE_BUF, pipe(7)), so
/// that it is known how many bytes a reader got.
pub(crate) const CHUNK: usize = 4096;
/// How long [`Backlog::flush`] waits for a reader that reads nothing, and for one that reads slowly.
const STANDSTILL: Duration = Duration::from_secs(1);
const IN_ALL: Duration = Duration::from_secs(3);
/// How often [`Backlog::try_push`] tries to get the lock, which is held for less than a microsecond at a time.
const TRIES: usize = 1000;

/// The queue.
pub(crate) struct Backlog {
    capacity: usize,
    /// With less room than this the queue becomes full,
    margin: usize,
    /// and with this much room it no longer is.
    ease: usize,
    /// In which unit dropped bytes are counted.
    count: fn(&[u8]) -> u64,
    state: Mutex<State>,
    /// There are bytes to write, or the queue was closed.
    filled: Condvar,
    /// Bytes were written.
    moved: Condvar,
}

struct State {
    /// Not yet written, which includes those that are being written.
    bytes: VecDeque<u8>,
    /// How many were written since the start.
    written: u64,
    /// How many units were dropped and not yet taken by [`Backlog::take_dropped`].
    dropped: u64,
    /// Set when the room falls below `margin`, cleared when it reaches `ease`.
    full: bool,
    /// Something was dropped since `full` was set.
    dropping: bool,
    /// The writing thread waits for `filled`.
    sleeping: bool,
    /// Somebody waits for `moved`.
    flushing: bool,
    /// No more bytes are to come.
    closed: bool,
    /// The writing thread has ended: bytes are accepted and discarded.
    ended: bool,
}

impl Backlog {
    /// An empty queue of `capacity` bytes. It becomes full with less than `margin` bytes of room, or when something
    /// does not fit, and stays so until there is room for `ease` bytes. `count` says how many units some bytes are.
    pub(crate) const fn new(
        capacity: usize,
        margin: usize,
        ease: usize,
        count: fn(&[u8]) -> u64,
    ) -> Self {
        let state = State {
            bytes: VecDeque::new(),
            written: 0,
            dropped: 0,
            full: false,
            dropping: false,
            sleeping: false,
            flushing: false,
            closed: false,
            ended: false,
        };
        let (filled, moved) = (Condvar::new(), Condvar::new());
        Self { capacity, margin, ease, count, state: Mutex::new(state), filled, moved }
    }

    /// Takes all of these bytes, or drops and counts all of them. Never waits for the writing thread.
    pub(crate) fn push(&self, bytes: &[u8]) {
        self.add(self.lock(), bytes);
    }

    /// As [`Backlog::push`], but gives up where the lock is not to be had: for the panic hook, which may run on a
    /// thread that holds it. False where it gave up.
    pub(crate) fn try_push(&self, bytes: &[u8]) -> bool {
        for _ in 0..TRIES {
            if let Ok(state) = self.state.try_lock() {
                self.add(state, bytes);
                return true;
            }
            thread::yield_now();
        }
        false
    }

    fn add(&self, mut state: MutexGuard<'_, State>, bytes: &[u8]) {
        if state.ended {
            return;
        }
        let room = self.capacity.saturating_sub(state.bytes.len());
        if state.dropping || bytes.len() > room {
            (state.full, state.dropping) = (true, true);
            state.dropped = state.dropped.saturating_add((self.count)(bytes));
            return;
        }
        state.bytes.extend(bytes);
        state.full |= room - bytes.len() < self.margin;
        // A system call: only where the thread needs it.
        if std::mem::take(&mut state.sleeping) {
            self.filled.notify_one();
        }
    }

    /// Whether the queue is not full: then `margin` bytes fit.
    pub(crate) fn has_room(&self) -> bool {
        !self.lock().full
    }

    /// How many units were dropped since the last call.
    pub(crate) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped)
    }

    /// Says that no more bytes come: [`Backlog::write_out`] returns when all are written.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.sleeping = false;
        self.filled.notify_one();
    }

    /// The writing thread's work: gives the bytes to `write`, which may block and returns how many it wrote, until
    /// the queue is closed and empty, or ended. `eased` is called, without a lock held, when a full queue has room
    /// again.
    ///
    /// # Errors
    ///
    /// The first error of `write`. [`Backlog::end`] is to be called after that.
    pub(crate) fn write_out(
        &self,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
        mut eased: impl FnMut(),
    ) -> io::Result<()> {
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut state = self.lock();
        loop {
            if state.bytes.is_empty() {
                if state.closed {
                    return Ok(());
                }
                state.sleeping = true;
                state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            chunk.clear();
            chunk.extend(state.bytes.as_slices().0.iter().take(CHUNK));
            drop(state);
            let written = match write(&chunk) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written.min(chunk.len()),
                Err(error) => return Err(error),
            };
            state = self.lock();
            if state.ended {
                return Ok(());
            }
            state.bytes.drain(..written);
            state.written = state.written.wrapping_add(written as u64);
            if state.flushing {
                self.moved.notify_all();
            }
            if state.full && self.capacity.saturating_sub(state.bytes.len()) >= self.ease {
                (state.full, state.dropping) = (false, false);
                drop(state);
                eased();
                state = self.lock();
            }
        }
    }

    /// No byte is written from here on: what is still in the queue, and what comes, is discarded and not counted.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        (state.full, state.dropping) = (false, false);
        state.bytes = VecDeque::new();
        self.moved.notify_all();
    }

    /// Waits until all is written, and where the queue is closed until the writing thread has ended; but no longer
    /// than 1 s without a byte written, nor 3 s in all. How many bytes are left.
    pub(crate) fn flush(&self) -> usize {
        let give_up = Instant::now() + IN_ALL;
        let mut state = self.lock();
        let (mut seen, mut standstill) = (state.written, Instant::now() + STANDSTILL);
        while !state.ended && (state.closed || !state.bytes.is_empty()) {
            let left = standstill.min(give_up).saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state.flushing = true;
            let waited = self.moved.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.written != seen {
                (seen, standstill) = (state.written, Instant::now() + STANDSTILL);
            }
        }
        state.bytes.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "backlog_tests.rs"]
mod tests;
