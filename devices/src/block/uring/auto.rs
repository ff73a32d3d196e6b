//! `engine=auto`: at once what needs no waiting, by io_uring what would block.
//!
//! | request | way |
//! |---|---|
//! | a read that the page cache has | preadv2 with RWF_NOWAIT, on the calling thread |
//! | the rest of a read from where it would block, or where the file system cannot tell | the ring |
//! | a write to the page cache, a discard, zeros | the synchronous engine |
//! | a flush, a durable write, O_DIRECT | the ring |
//!
//! A ring costs more than a call for what is cached, and its buffered writes go to a thread of the kernel; a call blocks
//! a vCPU for what is not. On a host without io_uring the synchronous engine does everything.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use super::engine::{RingEngine, is_direct};
use super::{MakeRing, make_ring};
use crate::block::engine::hand_over;
use crate::block::joined;
use crate::block::sync::PIECE;
use crate::block::{
    BlockError, Completion, Engine, Image, ImageStorage, Operation, Request, Stop, Storage,
    StorageInfo,
};
use crate::memory::Buffers;

/// An image whose lanes use a ring only for what would block.
#[derive(Debug)]
pub struct AutoStorage {
    image: ImageStorage,
    make: MakeRing,
    /// Whether a missing io_uring was logged.
    reported: AtomicBool,
    tells: Arc<Tells>,
}

/// Whether the file system can tell what it has cached; cleared when it turns out that it cannot.
#[derive(Debug)]
struct Tells(AtomicBool);

impl AutoStorage {
    /// Storage on `image`.
    pub fn new(image: Image) -> Self {
        Self::made_by(make_ring, image)
    }

    pub(super) fn made_by(make: MakeRing, image: Image) -> Self {
        let image = ImageStorage::new(image);
        let tells = Arc::new(Tells(AtomicBool::new(true)));
        Self { image, make, reported: AtomicBool::new(false), tells }
    }

    pub(super) fn auto_engine(&self, stop: &Stop) -> io::Result<Result<AutoEngine, io::Error>> {
        let inner = self.image.engine(stop)?;
        Ok((self.make)().map(|ring| AutoEngine {
            ring: RingEngine::new(self.image.clone(), inner, ring, stop.clone()),
            image: self.image.clone(),
            tells: self.tells.clone(),
            queued: Vec::new(),
            is_uncommitted: false,
            stop: stop.clone(),
            done: Vec::new(),
        }))
    }
}

impl Storage for AutoStorage {
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>> {
        match self.auto_engine(stop)? {
            Ok(engine) => Ok(Box::new(engine)),
            Err(error) => {
                if !self.reported.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "{}: engine=auto cannot use io_uring on this host ({error}), so it works as engine=sync: reads \
                         that are not cached, and flushes, block the thread that serves the doorbell",
                        self.image.image().name()
                    );
                }
                self.image.engine(stop)
            }
        }
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        self.image.grow(size)
    }

    fn frees_space(&self) -> bool {
        self.image.frees_space()
    }

    fn info(&self) -> StorageInfo {
        StorageInfo::raw("auto")
    }
}

/// Serves one lane at once where it can.
#[derive(Debug)]
pub(super) struct AutoEngine {
    ring: RingEngine,
    image: ImageStorage,
    tells: Arc<Tells>,
    /// Submitted, and not started. They are started together, so that nothing returns between two calls of the kernel
    /// (`memory/calls.rs`).
    queued: Vec<Request>,
    /// Whether the synchronous engine has requests that it may start at its next commit.
    is_uncommitted: bool,
    stop: Stop,
    done: Vec<Completion>,
}

impl AutoEngine {
    #[inline]
    fn begin(&mut self, request: Request) {
        let image = self.image.image();
        match &request.operation {
            Operation::Read(_) => self.read(request),
            Operation::Write { data, durable } if !waits(image, request.offset, data, *durable) => {
                self.is_uncommitted = true;
                self.ring.push_to_inner(request);
            }
            _ => {
                // Some of them go to the synchronous engine.
                self.is_uncommitted = true;
                self.ring.push(request);
            }
        }
    }

    /// Reads the first requests with one call of the host if they are neighbours and the page cache has them. Returns how
    /// many are read, and of how many: the others need a look each.
    fn read_together(&mut self, requests: &[Request]) -> (usize, usize) {
        let count = joined::neighbours(requests.iter());
        let run = requests.iter().take(count);
        let data = run.clone().filter_map(|request| match &request.operation {
            Operation::Read(data) => Some((request.offset, data)),
            _ => None,
        });
        let Some((offset, _)) = data.clone().next().filter(|_| count > 1) else {
            return (0, count.max(1));
        };
        let image = self.image.image();
        let is_direct = data.clone().any(|(offset, data)| is_direct(image, offset, data));
        if is_direct || self.stop.is_stopped() || !self.tells.0.load(Ordering::Relaxed) {
            return (0, count);
        }
        if mem::take(&mut self.is_uncommitted) {
            self.ring.commit_inner();
        }
        let parts = data.map(|(_, data)| data);
        // An error, or what is not cached, is met again by each request.
        let moved = Buffers::read_joined_cached(parts, self.image.image().file(), offset);
        (joined::complete(run, moved.unwrap_or(0)), count)
    }

    #[inline]
    fn read(&mut self, request: Request) {
        let Operation::Read(data) = &request.operation else { return self.ring.push(request) };
        // A read sees the writes of its own batch.
        if mem::take(&mut self.is_uncommitted) {
            self.ring.commit_inner();
        }
        if is_direct(self.image.image(), request.offset, data) {
            return self.ring.push(request);
        }
        let len = data.len();
        let done = self.read_cached(request.offset, data);
        let result = if done == len {
            Ok(())
        } else if done > 0 && self.stop.is_stopped() {
            Err(BlockError::Stopped)
        } else {
            return self.ring.resume(request, done);
        };
        self.done.push(Completion { request, transferred: done, result });
    }

    /// Reads what the page cache has, from the beginning on. Returns the number of bytes. The ring meets the errors
    /// again, and the end of the image.
    #[inline]
    fn read_cached(&self, offset: u64, data: &Buffers) -> u64 {
        let file = self.image.image().file();
        let mut done = 0;
        while done < data.len() && self.tells.0.load(Ordering::Relaxed) {
            if done > 0 && self.stop.is_stopped() {
                break;
            }
            match data.read_cached(file, offset.saturating_add(done), done, PIECE) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) {
                        self.tells.0.store(false, Ordering::Relaxed);
                    }
                    break;
                }
            }
        }
        done
    }
}

impl Engine for AutoEngine {
    fn push(&mut self, request: Request) {
        self.queued.push(request);
    }

    fn commit(&mut self) {
        let mut queued = mem::take(&mut self.queued);
        let mut requests = queued.drain(..);
        // The next so many requests were tried together already.
        let mut tried = 0;
        while !requests.as_slice().is_empty() {
            let (together, run) =
                if tried == 0 { self.read_together(requests.as_slice()) } else { (0, tried) };
            for request in requests.by_ref().take(together) {
                let transferred = request.operation.len();
                self.done.push(Completion { request, transferred, result: Ok(()) });
            }
            tried = run.saturating_sub(together);
            if tried > 0
                && let Some(request) = requests.next()
            {
                self.begin(request);
                tried -= 1;
            }
        }
        drop(requests);
        self.queued = queued;
        self.is_uncommitted = false;
        self.ring.commit();
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        hand_over(&mut self.done, done);
        self.ring.reap(done);
    }

    fn wait(&mut self, limit: Duration) {
        if self.done.is_empty() {
            self.ring.wait(limit);
        }
    }

    fn wake(&self) -> Option<Arc<EventFd>> {
        self.ring.wake()
    }

    fn wake_by(&mut self, wake: &Arc<EventFd>) {
        self.ring.wake_by(wake);
    }
}

/// Whether a write waits for the storage.
fn waits(image: &Image, offset: u64, data: &Buffers, durable: bool) -> bool {
    durable && image.syncs() || is_direct(image, offset, data)
}

#[cfg(test)]
#[path = "auto_tests.rs"]
mod tests;
