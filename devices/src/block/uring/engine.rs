//! The engine of a lane with a ring.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use super::ring::{Io, Ring};
use crate::block::sync::PIECE;
use crate::block::{BlockError, Completion, Engine, Image, ImageStorage, Operation, Request, Stop};
use crate::memory::Buffers;

/// How often a piece is submitted again that the kernel did not begin: it was interrupted, or the thread that submitted
/// it has ended.
const RETRIES: u8 = 16;

/// A request in the ring.
#[derive(Debug)]
pub(super) struct Job {
    request: Request,
    /// The bytes moved so far.
    done: u64,
    retries: u8,
}

impl Job {
    /// A request of which the first `done` bytes are moved.
    pub(super) const fn at(request: Request, done: u64) -> Self {
        Self { request, done, retries: 0 }
    }
}

/// Moves the bytes of one lane by a ring.
#[derive(Debug)]
pub(super) struct RingEngine {
    ring: Ring<Job>,
    image: ImageStorage,
    /// For what the ring does not do.
    inner: Box<dyn Engine>,
    stop: Stop,
    done: Vec<Completion>,
}

impl RingEngine {
    pub(super) fn new(
        image: ImageStorage,
        inner: Box<dyn Engine>,
        ring: Ring<Job>,
        stop: Stop,
    ) -> Self {
        Self { ring, image, inner, stop, done: Vec::new() }
    }

    /// Submits a request of which the first `done` bytes are moved.
    pub(super) fn resume(&mut self, request: Request, done: u64) {
        if done == 0 { self.push(request) } else { self.advance(Job::at(request, done)) }
    }

    /// The number of requests that the ring has.
    #[cfg(test)]
    pub(super) fn in_ring(&self) -> usize {
        self.ring.in_flight()
    }

    /// Submits a request to the synchronous engine.
    pub(super) fn push_to_inner(&mut self, request: Request) {
        self.inner.push(request);
    }

    /// Starts what the synchronous engine may have queued.
    pub(super) fn commit_inner(&mut self) {
        self.inner.commit();
    }

    /// Adds the next piece of a job to the ring. Its first piece is never refused.
    fn advance(&mut self, job: Job) {
        if job.done > 0 && self.stop.is_stopped() {
            return self.complete(job, Err(BlockError::Stopped));
        }
        let image = self.image.image();
        let (at, done) = (job.request.offset.saturating_add(job.done), job.done);
        let io = match &job.request.operation {
            Operation::Read(data) => Io::Read {
                file: file_for(image, at, data),
                offset: at,
                data: data.lend(done, PIECE),
            },
            Operation::Write { data, durable } => Io::Write {
                file: file_for(image, at, data),
                offset: at,
                data: data.lend(done, PIECE),
                durable: *durable && image.syncs(),
            },
            Operation::Flush => Io::Sync { file: image.file().as_raw_fd() },
            Operation::Discard { .. } | Operation::WriteZeroes { .. } => {
                return self.inner.push(job.request);
            }
        };
        self.ring.push(io, job);
    }

    /// Handles the end of a piece.
    pub(super) fn arrive(&mut self, mut job: Job, result: io::Result<u64>) {
        let len = job.request.operation.len();
        match result {
            Ok(_) if matches!(job.request.operation, Operation::Flush) => {
                self.complete(job, Ok(()));
            }
            Ok(0) => {
                let why = "the image ends here: it was cut off while in use";
                self.fail(job, io::Error::new(io::ErrorKind::UnexpectedEof, why));
            }
            Ok(n) => {
                job.done = job.done.saturating_add(n).min(len);
                job.retries = 0;
                if job.done == len {
                    self.complete(job, Ok(()));
                } else {
                    self.advance(job);
                }
            }
            // A flush makes safe what was done before the stop.
            Err(error)
                if is_passing(&error)
                    && self.stop.is_stopped()
                    && !matches!(job.request.operation, Operation::Flush) =>
            {
                self.complete(job, Err(BlockError::Stopped));
            }
            Err(error) if is_passing(&error) && job.retries < RETRIES => {
                job.retries += 1;
                self.advance(job);
            }
            Err(error) => self.fail(job, error),
        }
    }

    fn fail(&mut self, job: Job, source: io::Error) {
        let offset = job.request.offset.saturating_add(job.done);
        let image = self.image.image();
        let error = match &job.request.operation {
            Operation::Flush => BlockError::Sync(source),
            // As in the synchronous engine: if the host takes the bytes without the sync, it was the sync that failed,
            // and other data may be lost.
            Operation::Write { data, durable: true }
                if image.syncs()
                    && data.write_to(image.file(), offset, job.done, PIECE, false).is_ok() =>
            {
                BlockError::Sync(source)
            }
            _ => BlockError::Host { offset, source },
        };
        self.complete(job, Err(error));
    }

    fn complete(&mut self, job: Job, result: Result<(), BlockError>) {
        let Job { request, done: transferred, .. } = job;
        self.done.push(Completion { request, transferred, result });
    }

    /// Handles all completions that are there, and starts what follows from them. With `submit` also what was pushed:
    /// otherwise that waits for the commit, so that a batch enters the kernel in one call.
    fn collect(&mut self, mut submit: bool) {
        loop {
            while let Some((job, result)) = self.ring.finished() {
                self.arrive(job, result);
                submit = true;
            }
            if !std::mem::take(&mut submit) || !self.ring.submit() {
                break;
            }
        }
        self.inner.reap(&mut self.done);
    }
}

impl Engine for RingEngine {
    fn push(&mut self, request: Request) {
        let image = self.image.image();
        let by_ring = match &request.operation {
            Operation::Read(data) | Operation::Write { data, .. } => !data.is_empty(),
            Operation::Flush => !image.read_only() && image.syncs(),
            Operation::Discard { .. } | Operation::WriteZeroes { .. } => false,
        };
        if by_ring {
            self.advance(Job::at(request, 0));
        } else {
            self.inner.push(request);
        }
    }

    fn commit(&mut self) {
        self.inner.commit();
        self.collect(true);
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        self.collect(self.ring.is_behind());
        done.append(&mut self.done);
    }

    fn wait(&mut self, limit: Duration) {
        let begin = Instant::now();
        loop {
            self.collect(true);
            let left = limit.saturating_sub(begin.elapsed());
            if !self.done.is_empty() || self.ring.in_flight() == 0 || left.is_zero() {
                return;
            }
            self.ring.wait(left);
        }
    }

    fn wake(&self) -> Option<Arc<EventFd>> {
        Some(self.ring.wake().clone())
    }

    fn wake_by(&mut self, wake: &Arc<EventFd>) {
        if let Err(error) = self.ring.wake_by(wake) {
            // The caller finds that `wake` did not change.
            tracing::warn!("io_uring does not take another descriptor for completions: {error}");
        }
    }
}

/// The file to use.
fn file_for(image: &Image, offset: u64, data: &Buffers) -> RawFd {
    match image.direct() {
        Some((file, _)) if is_direct(image, offset, data) => file.as_raw_fd(),
        _ => image.file().as_raw_fd(),
    }
}

/// Whether to bypass the page cache: only if this place and these buffers allow it.
pub(super) fn is_direct(image: &Image, offset: u64, data: &Buffers) -> bool {
    image.direct().is_some_and(|(_, align)| offset.is_multiple_of(align) && data.is_aligned(align))
}

/// Whether the kernel did not begin: the next attempt may succeed.
fn is_passing(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    matches!(code, Some(libc::EINTR | libc::EAGAIN | libc::ECANCELED))
}
