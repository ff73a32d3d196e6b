//! `engine=mmap`: reads are copied from one shared mapping of the image; the rest goes to the synchronous engine.
//!
//! A read of a cached page costs no system call. A page that is not cached blocks the calling thread, as with preadv.
//! Where the mapping does not help - the image's last page, an image that was cut, a page that the host cannot read -
//! the synchronous engine reads, and so reports the true error with its place.
//!
//! | question | file |
//! |---|---|
//! | When do the bytes of a mapping count? | `mapping.rs` |
//! | What happens on SIGBUS? | `sigbus.rs` |

mod mapping;
mod sigbus;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use self::mapping::{Copied, Mapping};
use super::engine::hand_over;
use super::{BlockError, Completion, Engine, Image, ImageError, ImageStorage};
use super::{Operation, Request, Stop, Storage, StorageInfo};
use crate::memory::Buffers;

/// An image whose lanes read from one mapping of it.
#[derive(Debug)]
pub struct MmapStorage {
    image: ImageStorage,
    mapped: Arc<Mapped>,
}

/// The current mapping of an image.
#[derive(Debug)]
struct Mapped {
    name: String,
    current: Mutex<Arc<Mapping>>,
    /// Changes with `current`.
    generation: AtomicU64,
    /// Whether a fault was logged.
    reported: AtomicBool,
}

impl MmapStorage {
    /// Maps `image`, which uses the page cache.
    ///
    /// # Errors
    ///
    /// If the image bypasses the page cache, or the host cannot map it.
    pub fn new(image: Image) -> Result<Self, ImageError> {
        if image.direct().is_some() {
            return Err(ImageError::MmapUncached { path: image.path().to_owned() });
        }
        let mapping = Mapping::new(image.file(), image.size()).map_err(|source| {
            let (path, size) = (image.path().to_owned(), image.size());
            ImageError::Map { path, size, source }
        })?;
        let mapped = Mapped {
            name: image.name(),
            current: Mutex::new(Arc::new(mapping)),
            generation: AtomicU64::new(0),
            reported: AtomicBool::new(false),
        };
        Ok(Self { image: ImageStorage::new(image), mapped: Arc::new(mapped) })
    }
}

impl Storage for MmapStorage {
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>> {
        let (generation, mapping) = self.mapped.current();
        Ok(Box::new(MmapEngine {
            mapped: self.mapped.clone(),
            mapping,
            generation,
            inner: self.image.engine(stop)?,
            is_uncommitted: false,
            stop: stop.clone(),
            done: Vec::new(),
        }))
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        self.image.grow(size)?;
        match Mapping::new(self.image.image().file(), size) {
            Ok(mapping) => self.mapped.replace(mapping),
            // The old mapping serves its part; the synchronous engine reads the rest.
            Err(error) => tracing::warn!(
                "{}: engine=mmap cannot map the {size} bytes that the image has now ({error}); the new part is read \
                 with preadv",
                self.mapped.name
            ),
        }
        Ok(())
    }

    fn frees_space(&self) -> bool {
        self.image.frees_space()
    }

    fn info(&self) -> StorageInfo {
        StorageInfo::raw("mmap")
    }
}

impl Mapped {
    fn current(&self) -> (u64, Arc<Mapping>) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        (self.generation.load(Ordering::Relaxed), current.clone())
    }

    /// Lanes take the new mapping at their next read; the old one lives until the last of them has.
    fn replace(&self, mapping: Mapping) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(mapping);
        self.generation.fetch_add(1, Ordering::Release);
        self.reported.store(false, Ordering::Relaxed);
    }

    /// Logs once that a mapping is not used any more.
    fn report_fault(&self) {
        if !self.reported.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "{}: a read of the mapped image failed (it was cut while in use, or the host cannot read it); \
                 from now on engine=mmap reads with preadv, as engine=sync does",
                self.name
            );
        }
    }
}

/// Serves the reads of a lane from the mapping, and forwards everything else.
#[derive(Debug)]
struct MmapEngine {
    mapped: Arc<Mapped>,
    mapping: Arc<Mapping>,
    /// That of `mapping`.
    generation: u64,
    inner: Box<dyn Engine>,
    /// Whether `inner` has requests that it may start at its next commit.
    is_uncommitted: bool,
    stop: Stop,
    done: Vec<Completion>,
}

impl MmapEngine {
    /// Starts what the synchronous engine may have queued.
    fn commit_inner(&mut self) {
        if std::mem::take(&mut self.is_uncommitted) {
            self.inner.commit();
        }
    }

    fn forward(&mut self, request: Request) {
        self.is_uncommitted = true;
        self.inner.push(request);
    }

    fn copy(&mut self, offset: u64, data: &Buffers) -> Copied {
        if self.mapped.generation.load(Ordering::Acquire) != self.generation {
            (self.generation, self.mapping) = self.mapped.current();
        }
        let copied = self.mapping.read(offset, data, &self.stop);
        if copied == Copied::No && self.mapping.faulted() {
            self.mapped.report_fault();
        }
        copied
    }
}

impl Engine for MmapEngine {
    fn push(&mut self, request: Request) {
        let copied = match &request.operation {
            Operation::Read(data) => {
                // A read sees the writes of its own batch.
                self.commit_inner();
                self.copy(request.offset, data)
            }
            _ => Copied::No,
        };
        let (transferred, result) = match copied {
            Copied::All => (request.operation.len(), Ok(())),
            Copied::Stopped(done) => (done, Err(BlockError::Stopped)),
            Copied::No => return self.forward(request),
        };
        self.done.push(Completion { request, transferred, result });
    }

    fn commit(&mut self) {
        self.commit_inner();
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        hand_over(&mut self.done, done);
        self.inner.reap(done);
    }

    fn wait(&mut self, limit: Duration) {
        if self.done.is_empty() {
            self.inner.wait(limit);
        }
    }

    fn wake(&self) -> Option<Arc<EventFd>> {
        self.inner.wake()
    }
}

#[cfg(test)]
mod tests;
