//! `engine=uring`: the kernel carries out reads, writes and flushes while the guest goes on. `engine=auto`: only those
//! that would block.
//!
//! **One ring a lane.** A lane is used by one thread at a time, so its ring needs no lock, and its completions go to
//! its own wake descriptor. The requests of one commit enter the kernel in one call. The threads that use a lane
//! differ - a vCPU at a doorbell, the thread for I/O otherwise - so the ring is not bound to one (SINGLE_ISSUER).
//!
//! Discards and zeros go to the synchronous engine: they only change the file system's metadata, mostly.
//!
//! | question | file |
//! |---|---|
//! | What does a request become, and what follows from a completion? | `engine.rs` |
//! | What does `engine=auto` do at once? | `auto.rs` |
//! | Who owns the memory that the kernel uses? | `ring.rs` |

mod auto;
mod engine;
mod ring;

use std::io;
use std::sync::Arc;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use self::engine::{Job, RingEngine};
use self::ring::Ring;
use super::{Engine, Image, ImageError, ImageStorage, Stop, Storage, StorageInfo};

pub use auto::AutoStorage;

/// An image whose lanes have a ring each.
#[derive(Debug)]
pub struct UringStorage {
    image: ImageStorage,
    make: MakeRing,
}

type MakeRing = fn() -> io::Result<Ring<Job>>;

/// Whether this process may use io_uring.
pub fn has_io_uring() -> bool {
    make_ring().is_ok()
}

fn make_ring() -> io::Result<Ring<Job>> {
    Ring::new(Arc::new(EventFd::new(EFD_NONBLOCK)?))
}

impl UringStorage {
    /// Storage on `image`.
    ///
    /// # Errors
    ///
    /// If the host has no io_uring for this process.
    pub fn new(image: Image) -> Result<Self, ImageError> {
        Self::made_by(make_ring, image)
    }

    fn made_by(make: MakeRing, image: Image) -> Result<Self, ImageError> {
        let path = image.path().to_owned();
        let storage = Self { image: ImageStorage::new(image), make };
        // Tried here, where the message can name the image.
        make().map(drop).map_err(|source| ImageError::NoRing { path, source })?;
        Ok(storage)
    }
}

impl Storage for UringStorage {
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>> {
        let inner = self.image.engine(stop)?;
        Ok(Box::new(RingEngine::new(self.image.clone(), inner, (self.make)()?, stop.clone())))
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        self.image.grow(size)
    }

    fn frees_space(&self) -> bool {
        self.image.frees_space()
    }

    fn info(&self) -> StorageInfo {
        StorageInfo::raw("uring")
    }
}

#[cfg(test)]
mod tests;
