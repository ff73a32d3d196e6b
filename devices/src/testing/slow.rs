//! Storage that keeps the thread waiting that submits requests, as a disk does whose bytes the host has not cached.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use crate::block::{Completion, Engine, Request, Stop, Storage};

/// Waits before it starts requests.
#[derive(Debug)]
pub struct SlowStorage {
    inner: Box<dyn Storage>,
    delay: Duration,
}

impl SlowStorage {
    /// Storage that waits for `delay` before the requests of a batch go to `inner`.
    pub const fn new(inner: Box<dyn Storage>, delay: Duration) -> Self {
        Self { inner, delay }
    }
}

impl Storage for SlowStorage {
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>> {
        let (inner, delay) = (self.inner.engine(stop)?, self.delay);
        Ok(Box::new(SlowEngine { inner, delay, pushed: false }))
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        self.inner.grow(size)
    }

    fn frees_space(&self) -> bool {
        self.inner.frees_space()
    }
}

#[derive(Debug)]
struct SlowEngine {
    inner: Box<dyn Engine>,
    delay: Duration,
    /// Whether a request was pushed since the last commit.
    pushed: bool,
}

impl Engine for SlowEngine {
    fn push(&mut self, request: Request) {
        self.pushed = true;
        self.inner.push(request);
    }

    fn commit(&mut self) {
        if std::mem::take(&mut self.pushed) {
            std::thread::sleep(self.delay);
        }
        self.inner.commit();
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        self.inner.reap(done);
    }

    fn wait(&mut self, limit: Duration) {
        self.inner.wait(limit);
    }

    fn wake(&self) -> Option<Arc<EventFd>> {
        self.inner.wake()
    }

    fn wake_by(&mut self, wake: &Arc<EventFd>) {
        self.inner.wake_by(wake);
    }
}
