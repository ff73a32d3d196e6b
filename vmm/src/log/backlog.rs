//! A bounded queue of bytes between threads that must not block and a file that may block.
//!
//! The log and the guest's console have one each. Any thread adds bytes without waiting. One thread
//! ([`Backlog::write_out`]) writes them to the file; only this thread waits for the file's reader.
//!
//! Bytes that do not fit are dropped and counted. After a drop, further bytes are dropped until a large part of the
//! queue is free, so that the output has one gap instead of many.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The bytes of one write: Linux writes this many to a pipe completely or not at all (PIPE_BUF, pipe(7)), so the count
/// of written bytes is exact.
pub(crate) const CHUNK: usize = 4096;
/// The limits of [`Backlog::flush`] for a reader that reads nothing, and for a slow one.
const STANDSTILL: Duration = Duration::from_secs(1);
const IN_ALL: Duration = Duration::from_secs(3);
/// How often [`Backlog::flush`] checks them.
const LOOK: Duration = Duration::from_millis(100);
/// How often [`Backlog::try_push`] tries to get the lock, which is never held for as long as a microsecond.
const TRIES: usize = 1000;

/// The queue.
pub(crate) struct Backlog {
    capacity: usize,
    /// The queue becomes full when it has less room than this,
    margin: usize,
    /// and stops being full when it has this much.
    ease: usize,
    /// Counts dropped bytes in a unit, such as lines.
    count: fn(&[u8]) -> u64,
    state: Mutex<State>,
    /// Signals bytes to write, or that the queue was closed.
    filled: Condvar,
    /// Signals that bytes were written.
    moved: Condvar,
}

struct State {
    /// Bytes that are not written yet, including those of the current write.
    bytes: VecDeque<u8>,
    /// The bytes written since the start.
    written: u64,
    /// The units dropped since the last [`Backlog::take_dropped`].
    dropped: u64,
    /// Set when the room falls below `margin`, cleared when it reaches `ease`.
    full: bool,
    /// Whether something was dropped since `full` was set.
    dropping: bool,
    /// Whether the writing thread waits for `filled`.
    sleeping: bool,
    /// Whether the writing thread is in a write, and so waits for the reader.
    writing: bool,
    /// Whether a thread waits for `moved`.
    flushing: bool,
    /// Whether the queue was closed: no more bytes follow.
    closed: bool,
    /// Whether the writing thread has ended: further bytes are discarded.
    ended: bool,
}

impl Backlog {
    /// An empty queue of `capacity` bytes. It becomes full with less than `margin` bytes of room, or when something
    /// does not fit, and stays full until it has `ease` bytes of room. `count` counts the units in some bytes.
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
            writing: false,
            flushing: false,
            closed: false,
            ended: false,
        };
        let (filled, moved) = (Condvar::new(), Condvar::new());
        Self { capacity, margin, ease, count, state: Mutex::new(state), filled, moved }
    }

    /// Adds all bytes, or drops and counts all of them. Never waits for the writing thread.
    pub(crate) fn push(&self, bytes: &[u8]) {
        self.add(self.lock(), bytes);
    }

    /// Like [`Backlog::push`], but gives up and returns false if the lock stays held: for the panic hook, which may run
    /// on the thread that holds it.
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
        // A system call, made only if the thread waits.
        if std::mem::take(&mut state.sleeping) {
            self.filled.notify_one();
        }
    }

    /// Whether the queue is not full: it then has room for `margin` bytes.
    pub(crate) fn has_room(&self) -> bool {
        !self.lock().full
    }

    /// Returns the number of units dropped since the last call.
    pub(crate) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped)
    }

    /// Closes the queue: [`Backlog::write_out`] returns when all bytes are written.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.sleeping = false;
        self.filled.notify_one();
    }

    /// Runs on the writing thread: passes the bytes to `write`, which may block and returns the number of bytes
    /// written, until the queue is closed and empty, or ended. Calls `eased`, without a lock, when a full queue has
    /// room again.
    ///
    /// # Errors
    ///
    /// The first error of `write`. Call [`Backlog::end`] after it.
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
            state.writing = true;
            drop(state);
            let written = match write(&chunk) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written.min(chunk.len()),
                Err(error) => return Err(error),
            };
            state = self.lock();
            state.writing = false;
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

    /// Ends the queue: bytes still in it and further bytes are discarded, and not counted.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        (state.full, state.dropping) = (false, false);
        state.bytes = VecDeque::new();
        self.moved.notify_all();
    }

    /// Waits until all bytes are written and, if the queue is closed, until the writing thread has ended. Gives up
    /// after 1 s in which the reader took no byte, or 3 s in all. On a busy host the writing thread may not run for a
    /// second; that is no fault of the reader. Returns the number of bytes that are left.
    pub(crate) fn flush(&self) -> usize {
        let give_up = Instant::now() + IN_ALL;
        let mut state = self.lock();
        let (mut seen, mut standstill) = (state.written, Instant::now() + STANDSTILL);
        while !state.ended && (state.closed || !state.bytes.is_empty()) {
            let now = Instant::now();
            if now >= give_up || (now >= standstill && state.writing) {
                break;
            }
            state.flushing = true;
            let waited = self.moved.wait_timeout(state, LOOK);
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
