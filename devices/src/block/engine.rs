//! What moves the bytes: the contract of engines, and of what they share.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use super::{Completion, Request, Stop};

/// Moves bytes between an image and guest buffers, for one [`super::Lane`]. Requests were checked by
/// [`super::Disk`].
///
/// Every request pushed is completed exactly once, and comes back with its completion. An engine may complete out of
/// order, but a flush covers all writes, of all lanes, that were completed before it was pushed.
pub trait Engine: Send + fmt::Debug {
    /// Takes a request over. A synchronous engine has finished it when this returns; another one may wait for
    /// [`Engine::commit`] to begin.
    fn push(&mut self, request: Request);
    /// Begins all requests pushed so far.
    fn commit(&mut self);
    /// Moves all completions that are there to the end of `done`. Never waits.
    fn reap(&mut self, done: &mut Vec<Completion>);
    /// Waits until a completion can be reaped, nothing is in flight, or `limit` has passed.
    fn wait(&mut self, limit: Duration);
    /// What becomes readable when completions may be there; none for an engine that finishes inside `push`. The reader
    /// reads it, then calls [`Engine::reap`].
    fn wake(&self) -> Option<Arc<EventFd>>;
    /// Signals `wake` from now on, in the place of its own descriptor: several engines behind one lane share one.
    /// Called before the first request. An engine whose [`Engine::wake`] is none has nothing to do; another one that
    /// does nothing cannot serve such a lane.
    fn wake_by(&mut self, wake: &Arc<EventFd>) {
        let _ = wake;
    }
}

/// What the lanes of a disk share: usually an image.
pub trait Storage: Send + Sync + fmt::Debug {
    /// An engine for one lane. Between the pieces of a long request it looks at `stop`, and gives the request up with
    /// [`super::BlockError::Stopped`].
    ///
    /// # Errors
    ///
    /// Where the host does not give what the engine needs.
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>>;
    /// Makes the storage `size` bytes long, which is more than it has. Only with nothing in flight.
    ///
    /// # Errors
    ///
    /// The host's error, and what it is if the storage cannot grow.
    fn grow(&self, size: u64) -> io::Result<()>;
    /// Whether the host can free the space behind a part of the storage (PUNCH_HOLE).
    fn frees_space(&self) -> bool;
}
