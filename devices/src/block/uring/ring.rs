//! One io_uring: what is in it stays alive until the kernel has finished it.
#![expect(
    unsafe_code,
    reason = "the kernel uses the iovecs of a request after the call that submits it"
)]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode, squeue};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmm_sys_util::eventfd::EventFd;

use crate::block::slots::Slots;
use crate::memory::Lent;

/// The most requests in the kernel at a time; the completion queue holds twice as many, so it cannot overflow.
pub(super) const ENTRIES: u32 = 256;
/// How long a ring that is dropped waits for the host.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// A request to the kernel. The descriptor `file` must be open until it is submitted.
#[derive(Debug)]
pub(super) enum Io {
    Read {
        file: RawFd,
        offset: u64,
        data: Lent,
    },
    Write {
        file: RawFd,
        offset: u64,
        data: Lent,
        durable: bool,
    },
    /// fdatasync.
    Sync {
        file: RawFd,
    },
}

impl Io {
    /// The entry for it. It points into the iovecs of `self`, which must stay alive until the completion.
    fn entry(&self) -> squeue::Entry {
        // At most 1024 iovecs.
        let count = |data: &Lent| u32::try_from(data.iovecs().len()).unwrap_or(0);
        match self {
            Self::Read { file, offset, data } => {
                let list = data.iovecs().as_ptr();
                opcode::Readv::new(Fd(*file), list, count(data)).offset(*offset).build()
            }
            Self::Write { file, offset, data, durable } => {
                let flags = if *durable { libc::RWF_DSYNC } else { 0 };
                let list = data.iovecs().as_ptr();
                let write = opcode::Writev::new(Fd(*file), list, count(data));
                write.offset(*offset).rw_flags(flags).build()
            }
            Self::Sync { file } => {
                opcode::Fsync::new(Fd(*file)).flags(FsyncFlags::DATASYNC).build()
            }
        }
    }
}

/// A ring with requests, each with a value of the caller.
///
/// It may be used by one thread after the other, so it is not bound to the one that created it.
pub(super) struct Ring<T> {
    ring: IoUring,
    /// What the kernel uses, and what waits for a place.
    slots: Slots<(Io, T)>,
    /// Numbers of requests that are not in the ring yet.
    waiting: VecDeque<usize>,
    /// The requests in the ring.
    in_ring: u32,
    /// Whether the kernel did not take all entries.
    is_behind: bool,
    wake: Arc<EventFd>,
    patience: Duration,
}

impl<T> Ring<T> {
    /// An empty ring.
    ///
    /// Its files are not registered: the kernel frees a ring some time after the end of a process, and an image would
    /// stay locked as long.
    ///
    /// # Errors
    ///
    /// The host's error; ENOSYS or EPERM if it has no io_uring for this process.
    pub(super) fn new(wake: Arc<EventFd>) -> io::Result<Self> {
        let ring = IoUring::new(ENTRIES)?;
        ring.submitter().register_eventfd(wake.as_raw_fd())?;
        let (slots, waiting) = (Slots::default(), VecDeque::new());
        Ok(Self { ring, slots, waiting, in_ring: 0, is_behind: false, wake, patience: PATIENCE })
    }

    /// Signals `wake` from now on. Nothing may be in flight.
    ///
    /// # Errors
    ///
    /// The host's error.
    pub(super) fn wake_by(&mut self, wake: &Arc<EventFd>) -> io::Result<()> {
        self.ring.submitter().unregister_eventfd()?;
        self.ring.submitter().register_eventfd(wake.as_raw_fd())?;
        self.wake = wake.clone();
        Ok(())
    }

    /// The descriptor that it signals.
    pub(super) const fn wake(&self) -> &Arc<EventFd> {
        &self.wake
    }

    /// The number of requests that are not finished.
    pub(super) fn in_flight(&self) -> usize {
        self.in_ring as usize + self.waiting.len()
    }

    /// Adds a request; [`Ring::submit`] starts it.
    pub(super) fn push(&mut self, io: Io, value: T) {
        let number = self.slots.insert((io, value));
        self.waiting.push_back(number);
    }

    /// Starts what was added, as far as the kernel takes it; false if nothing was added. Completions that are there when
    /// this returns do not signal the wake descriptor: take them with [`Ring::finished`].
    pub(super) fn submit(&mut self) -> bool {
        while self.in_ring < ENTRIES
            && let Some(number) = self.waiting.pop_front()
        {
            let Some((io, _)) = self.slots.get_mut(number) else { continue };
            let entry = io.entry().user_data(number as u64);
            // SAFETY: the entry points to iovecs on the heap, which point to guest RAM. Both belong to the `Io` in
            // `slots`, which is removed only after the completion (`finished`), and is leaked if the ring is dropped
            // before.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                // What an earlier call could not submit still has the place.
                self.waiting.push_front(number);
                break;
            }
            self.in_ring += 1;
        }
        if self.ring.submission().is_empty() {
            return false;
        }
        // Many requests finish inside the call, and the caller looks at once.
        self.ring.completion().disable_eventfd();
        let submitted = self.enter();
        self.ring.completion().enable_eventfd();
        // A completion is either visible to `finished`, or signalled: the kernel, too, has a full barrier between
        // publishing it and looking at the flag.
        fence(Ordering::SeqCst);
        self.is_behind = !submitted;
        if self.is_behind {
            // The host is short of memory.
            self.signal();
        }
        submitted
    }

    /// Whether [`Ring::submit`] must be called again, as the wake descriptor says.
    pub(super) const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Hands the entries to the kernel; whether it took all of them.
    fn enter(&mut self) -> bool {
        while !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn signal(&self) {
        // The one possible error is a full counter; the descriptor is readable then, too.
        let _written = self.wake.write(1);
    }

    /// The next finished request: its value, and the bytes moved or the error. Never waits.
    pub(super) fn finished(&mut self) -> Option<(T, io::Result<u64>)> {
        loop {
            let entry = self.ring.completion().next()?;
            self.in_ring = self.in_ring.saturating_sub(1);
            let number = usize::try_from(entry.user_data()).ok();
            let Some((_, value)) = number.and_then(|number| self.slots.remove(number)) else {
                debug_assert!(false, "a completion of no request");
                continue;
            };
            let result = entry.result();
            let result = u64::try_from(result)
                .map_err(|_| io::Error::from_raw_os_error(result.saturating_neg()));
            return Some((value, result));
        }
    }

    /// Waits until there is a completion, or `limit` has passed.
    pub(super) fn wait(&mut self, limit: Duration) {
        let begin = Instant::now();
        loop {
            let left = limit.saturating_sub(begin.elapsed());
            if !self.ring.completion().is_empty() || left.is_zero() {
                return;
            }
            let left = Timespec::try_from(left).ok();
            let mut fds = [PollFd::new(&self.ring, PollFlags::IN)];
            match poll(&mut fds, left.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                _ => return,
            }
        }
    }
}

impl<T> Drop for Ring<T> {
    /// Waits for the kernel, which writes to the buffers until then.
    fn drop(&mut self) {
        let begin = Instant::now();
        loop {
            while self.finished().is_some() {}
            let not_submitted = self.ring.submission().len();
            if self.in_ring as usize <= not_submitted {
                return;
            }
            if begin.elapsed() > self.patience {
                let left = self.in_ring as usize - not_submitted;
                tracing::error!(
                    "a host that does not answer still has {left} requests of a disk that is gone: the memory of the \
                     guest stays allocated for them"
                );
                // Their buffers and guest RAM live as long as the process.
                mem::forget(mem::take(&mut self.slots));
                return;
            }
            self.wait(LOOK);
        }
    }
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
