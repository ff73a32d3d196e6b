//! Storage that finishes requests on its own thread: later, and out of order.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::block::{
    CommitTarget, Completion, Engine, ImageError, Request, Stop, Storage, StorageInfo,
};

/// The most requests that one round reorders.
const ROUND: usize = 64;

/// Passes each lane's requests to a thread, which carries out a round of them in another order. The thread ends with
/// the lane's engine, after the remaining requests.
#[derive(Debug)]
pub struct LateStorage {
    inner: Box<dyn Storage>,
    /// How long the thread waits before each round, so that it gets several requests.
    delay: Duration,
}

impl LateStorage {
    /// Storage that finishes the requests of `inner` later. With a `delay` more of them are in flight at a time.
    pub fn new(inner: Box<dyn Storage>, delay: Duration) -> Self {
        Self { inner, delay }
    }
}

impl Storage for LateStorage {
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>> {
        let inner = self.inner.engine(stop)?;
        let (sender, receiver) = mpsc::channel();
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let (done, finished) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { done, finished, wake: Mutex::new(wake) });
        let lane = Lane { inner, shared: shared.clone(), delay: self.delay };
        let thread =
            thread::Builder::new().name("late".to_owned()).spawn(move || lane.work(&receiver))?;
        let (sender, thread) = (Some(sender), Some(thread));
        Ok(Box::new(LateEngine { sender, thread, shared, pushed: Vec::new(), in_flight: 0 }))
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        self.inner.grow(size)
    }

    fn frees_space(&self) -> bool {
        self.inner.frees_space()
    }

    fn commit(&self) -> Result<Box<dyn CommitTarget>, ImageError> {
        self.inner.commit()
    }

    fn info(&self) -> StorageInfo {
        self.inner.info()
    }
}

#[derive(Debug)]
struct Shared {
    done: Mutex<Vec<Completion>>,
    finished: Condvar,
    wake: Mutex<Arc<EventFd>>,
}

impl Shared {
    fn done(&self) -> MutexGuard<'_, Vec<Completion>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) -> MutexGuard<'_, Arc<EventFd>> {
        self.wake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's side of a lane.
struct Lane {
    inner: Box<dyn Engine>,
    shared: Arc<Shared>,
    delay: Duration,
}

impl Lane {
    fn work(mut self, requests: &Receiver<Request>) {
        let mut seed = 1u64;
        while let Ok(first) = requests.recv() {
            if !self.delay.is_zero() {
                thread::sleep(self.delay);
            }
            let mut round: Vec<_> =
                std::iter::once(first).chain(requests.try_iter().take(ROUND - 1)).collect();
            while !round.is_empty() {
                // Any other order will do (Knuth's MMIX generator).
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = usize::try_from(seed >> 33).unwrap_or(0) % round.len();
                self.inner.push(round.swap_remove(at));
                self.inner.commit();
                let mut done = Vec::new();
                while done.is_empty() {
                    self.inner.wait(Duration::from_secs(1));
                    self.inner.reap(&mut done);
                }
                self.shared.done().append(&mut done);
                self.shared.finished.notify_all();
                // The one possible error is a full counter; the descriptor is readable then, too.
                let _written = self.shared.wake().write(1);
            }
        }
    }
}

/// The device's side of a lane.
#[derive(Debug)]
struct LateEngine {
    /// None only while it is dropped.
    sender: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    /// Requests that wait for [`Engine::commit`].
    pushed: Vec<Request>,
    in_flight: usize,
}

/// Waits for the thread, which finishes its requests, so that the image is free afterwards.
impl Drop for LateEngine {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

impl Engine for LateEngine {
    fn push(&mut self, request: Request) {
        self.pushed.push(request);
        self.in_flight += 1;
    }

    fn commit(&mut self) {
        for request in self.pushed.drain(..) {
            if let Some(sender) = &self.sender {
                // The thread lives as long as the sender does.
                let _sent = sender.send(request);
            }
        }
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        let mut finished = self.shared.done();
        self.in_flight = self.in_flight.saturating_sub(finished.len());
        done.append(&mut finished);
    }

    fn wait(&mut self, limit: Duration) {
        let finished = self.shared.done();
        if self.in_flight > 0 {
            let waited =
                self.shared.finished.wait_timeout_while(finished, limit, |done| done.is_empty());
            drop(waited);
        }
    }

    fn wake(&self) -> Option<Arc<EventFd>> {
        Some(self.shared.wake().clone())
    }

    fn wake_by(&mut self, wake: &Arc<EventFd>) {
        *self.shared.wake() = wake.clone();
    }
}
