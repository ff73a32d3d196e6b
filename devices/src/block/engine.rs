//! The contract of engines, which move bytes, and of the storage that they share.

use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use super::{Completion, ImageError, Request, Stop, StorageInfo};

/// Moves bytes between an image and guest buffers, for one [`super::Lane`]. [`super::Disk`] has checked the requests.
///
/// Every request is completed exactly once, and returned in its completion. An engine may complete requests in any
/// order, but a flush covers all writes, of all lanes, that were completed before the flush was submitted.
pub trait Engine: Send + fmt::Debug {
    /// Submits a request. A synchronous engine has finished it when this returns; another one may start it at
    /// [`Engine::commit`].
    fn push(&mut self, request: Request);
    /// Starts all submitted requests. Call [`Engine::reap`] afterwards: completions that are available when this returns
    /// need not signal [`Engine::wake`].
    fn commit(&mut self);
    /// Appends all available completions to `done`. Never waits.
    fn reap(&mut self, done: &mut Vec<Completion>);
    /// Waits until there is a completion, nothing is in flight, or `limit` has passed.
    fn wait(&mut self, limit: Duration);
    /// The descriptor that becomes readable when there may be completions; none for an engine that finishes inside
    /// `push`. Read the descriptor first, then call [`Engine::reap`].
    fn wake(&self) -> Option<Arc<EventFd>>;
    /// Signals `wake` from now on instead of its own descriptor: several engines of one lane share it. Called before
    /// the first request. An engine without a [`Engine::wake`] ignores it. Every other engine must implement it to work
    /// behind such a lane.
    fn wake_by(&mut self, wake: &Arc<EventFd>) {
        let _ = wake;
    }
}

/// Moves all completions to the end of `to`. Usually it is empty, and nothing is copied.
pub(super) fn hand_over(from: &mut Vec<Completion>, to: &mut Vec<Completion>) {
    if to.is_empty() {
        mem::swap(from, to);
    } else {
        to.append(from);
    }
}

/// A backing image, open for writing.
pub trait CommitTarget: Send + fmt::Debug {
    /// Writes to the backing image what the disk has in the `len` bytes at `offset`, as far as that is not in the backing
    /// image already. Returns the number of bytes that were written.
    ///
    /// # Errors
    ///
    /// The host's error.
    fn copy(&mut self, offset: u64, len: u64) -> io::Result<u64>;
    /// Makes the backing image durable.
    ///
    /// # Errors
    ///
    /// The host's error.
    fn sync(&mut self) -> io::Result<()>;
}

/// The storage that the lanes of a disk share: usually an image.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Creates an engine for one lane. Between the pieces of a long request it checks `stop`, and aborts the request
    /// with [`super::BlockError::Stopped`].
    ///
    /// # Errors
    ///
    /// If the host does not provide the resources of the engine.
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>>;
    /// Enlarges the storage to `size` bytes. Nothing may be in flight.
    ///
    /// # Errors
    ///
    /// The host's error, or the reason why the storage cannot grow.
    fn grow(&self, size: u64) -> io::Result<()>;
    /// Whether the host can free space within the storage (PUNCH_HOLE).
    fn frees_space(&self) -> bool;
    /// Opens the backing image for a commit.
    ///
    /// # Errors
    ///
    /// If there is none, or it cannot be written.
    fn commit(&self) -> Result<Box<dyn CommitTarget>, ImageError> {
        Err(ImageError::NoBacking)
    }
    /// The format, the engine and the backing images, for people.
    fn info(&self) -> StorageInfo {
        StorageInfo::raw("custom")
    }
}
