//! Storage that holds requests until a test releases them, so that they stay in flight.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use crate::block::{Completion, Engine, Request, Stop, Storage};

#[derive(Debug)]
struct Inner {
    storage: Box<dyn Storage>,
    /// The engine of each lane, and its completions.
    lanes: Vec<(Box<dyn Engine>, Vec<Completion>)>,
    /// The held requests, oldest first, with their lanes.
    waiting: VecDeque<(usize, Request)>,
    /// The number of requests that were released because the device waited.
    waited: u64,
    /// Whether they are released when the device waits.
    patient: bool,
}

impl Inner {
    /// Carries out the request at `at`, counted from the oldest one.
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

/// Controls the requests of a [`HeldStorage`].
#[derive(Debug, Clone)]
pub struct Held(Arc<Mutex<Inner>>);

impl Held {
    /// The number of held requests.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Carries out the request at `at`, counted from the oldest one; it can be reaped then. Returns false if there are
    /// fewer.
    pub fn release(&self, at: usize) -> bool {
        self.lock().release(at)
    }

    /// Carries out all requests, oldest first.
    pub fn release_all(&self) {
        while self.release(0) {}
    }

    /// The number of requests that were carried out because the device waited for them, as before a queue stops.
    pub fn waited(&self) -> u64 {
        self.lock().waited
    }

    /// From now on requests stay held even if the device waits for them, as on a host that hangs.
    pub fn hang(&self) {
        self.lock().patient = false;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds every request until [`Held::release`]. If the device waits, the oldest request of the lane is carried out, as
/// on a host that finishes after some time.
#[derive(Debug)]
pub struct HeldStorage(Held);

impl HeldStorage {
    /// Storage that forwards requests to `storage` when they are released.
    pub fn new(storage: Box<dyn Storage>) -> Self {
        let (lanes, waiting) = (Vec::new(), VecDeque::new());
        let inner = Inner { storage, lanes, waiting, waited: 0, patient: true };
        Self(Held(Arc::new(Mutex::new(inner))))
    }

    /// The control of its requests.
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
        // The contract: storage grows only with nothing in flight.
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
