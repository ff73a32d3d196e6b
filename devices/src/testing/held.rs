//! An engine that holds requests back until a test lets them go: what is in flight stays in flight.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::block::{Completion, Engine, Request};

#[derive(Debug)]
struct Inner {
    engine: Box<dyn Engine>,
    waiting: VecDeque<Request>,
    done: Vec<Completion>,
    /// How many requests were let go because somebody waited.
    waited: u64,
}

impl Inner {
    fn release(&mut self, at: usize) -> bool {
        let Some(request) = self.waiting.remove(at) else { return false };
        self.engine.submit(request);
        self.engine.wait();
        self.engine.reap(&mut self.done);
        true
    }
}

/// The test's hand on the requests of a [`HeldEngine`].
#[derive(Debug, Clone)]
pub struct Held(Arc<Mutex<Inner>>);

impl Held {
    /// How many requests are held.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Does the request that is `at` requests behind the oldest one; it can be reaped then. False where fewer are
    /// held.
    pub fn release(&self, at: usize) -> bool {
        self.lock().release(at)
    }

    /// Does all requests, oldest first.
    pub fn release_all(&self) {
        while self.release(0) {}
    }

    /// How many requests were done because the device waited for them, as it does before it lets a queue go.
    pub fn waited(&self) -> u64 {
        self.lock().waited
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds every request until [`Held::release`], or until somebody waits: then the oldest one is done, as time
/// would do it.
#[derive(Debug)]
pub struct HeldEngine(Held);

impl HeldEngine {
    /// An engine that hands requests to `engine` when they are let go.
    pub fn new(engine: Box<dyn Engine>) -> Self {
        let (waiting, done) = (VecDeque::new(), Vec::new());
        Self(Held(Arc::new(Mutex::new(Inner { engine, waiting, done, waited: 0 }))))
    }

    /// The hand on its requests.
    pub fn held(&self) -> Held {
        self.0.clone()
    }
}

impl Engine for HeldEngine {
    fn submit(&mut self, request: Request) {
        self.0.lock().waiting.push_back(request);
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.0.lock().done);
    }

    fn wait(&mut self) {
        let mut inner = self.0.lock();
        if inner.done.is_empty() && inner.release(0) {
            inner.waited += 1;
        }
    }

    fn grow(&mut self, size: u64) -> io::Result<()> {
        let mut inner = self.0.lock();
        // The rule of the waist: an image grows only with nothing in flight.
        if !inner.waiting.is_empty() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        inner.engine.grow(size)
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
