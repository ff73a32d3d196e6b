//! Storage that holds requests back until a test lets them go: what is in flight stays in flight.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use crate::block::{Completion, Engine, Request, Stop, Storage};

#[derive(Debug)]
struct Inner {
    storage: Box<dyn Storage>,
    /// For each lane its engine, and what that has done.
    lanes: Vec<(Box<dyn Engine>, Vec<Completion>)>,
    /// What is held, oldest first, with its lane.
    waiting: VecDeque<(usize, Request)>,
    /// How many requests were let go because the device waited.
    waited: u64,
    /// Whether they are let go for that.
    patient: bool,
}

impl Inner {
    /// Does the request `at` requests behind the oldest one.
    fn release(&mut self, at: usize) -> bool {
        let Some((lane, request)) = self.waiting.remove(at) else { return false };
        let Some((engine, done)) = self.lanes.get_mut(lane) else { return false };
        engine.push(request);
        engine.commit();
        engine.wait(Duration::from_secs(1));
        engine.reap(done);
        true
    }
}

/// The test's hand on the requests of a [`HeldStorage`].
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

    /// From now on requests stay held also where the device waits for them, as with a host that hangs.
    pub fn hang(&self) {
        self.lock().patient = false;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds every request until [`Held::release`], or until the device waits: then the oldest one of the lane is done, as
/// time would do it.
#[derive(Debug)]
pub struct HeldStorage(Held);

impl HeldStorage {
    /// Storage that hands requests to `storage` when they are let go.
    pub fn new(storage: Box<dyn Storage>) -> Self {
        let (lanes, waiting) = (Vec::new(), VecDeque::new());
        let inner = Inner { storage, lanes, waiting, waited: 0, patient: true };
        Self(Held(Arc::new(Mutex::new(inner))))
    }

    /// The hand on its requests.
    pub fn held(&self) -> Held {
        self.0.clone()
    }
}

impl Storage for HeldStorage {
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>> {
        let mut inner = self.0.lock();
        let engine = inner.storage.engine(stop)?;
        inner.lanes.push((engine, Vec::new()));
        Ok(Box::new(HeldEngine { held: self.0.clone(), lane: inner.lanes.len() - 1 }))
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        let inner = self.0.lock();
        // The rule of the waist: storage grows only with nothing in flight.
        if !inner.waiting.is_empty() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        inner.storage.grow(size)
    }

    fn frees_space(&self) -> bool {
        self.0.lock().storage.frees_space()
    }
}

#[derive(Debug)]
struct HeldEngine {
    held: Held,
    lane: usize,
}

impl Engine for HeldEngine {
    fn push(&mut self, request: Request) {
        self.held.lock().waiting.push_back((self.lane, request));
    }

    fn commit(&mut self) {}

    fn reap(&mut self, done: &mut Vec<Completion>) {
        if let Some((_, finished)) = self.held.lock().lanes.get_mut(self.lane) {
            done.append(finished);
        }
    }

    fn wait(&mut self, limit: Duration) {
        let mut inner = self.held.lock();
        if inner.lanes.get(self.lane).is_some_and(|(_, done)| !done.is_empty()) {
            return;
        }
        if !inner.patient {
            drop(inner);
            return std::thread::sleep(limit);
        }
        let oldest = inner.waiting.iter().position(|(lane, _)| *lane == self.lane);
        if oldest.is_some_and(|at| inner.release(at)) {
            inner.waited += 1;
        }
    }

    fn wake(&self) -> Option<Arc<EventFd>> {
        None
    }
}
