//! Storage that finishes each request before the next one, whatever the engine behind it does.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use crate::block::{Completion, Engine, Request, Stop, Storage};

/// Makes an engine that finishes requests later, in any order, comparable with a model that does one after the other.
#[derive(Debug)]
pub struct SettledStorage(Box<dyn Storage>);

impl SettledStorage {
    /// Storage that waits for each request to `inner`.
    pub const fn new(inner: Box<dyn Storage>) -> Self {
        Self(inner)
    }
}

impl Storage for SettledStorage {
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>> {
        let (queued, done) = (Vec::new(), Vec::new());
        Ok(Box::new(SettledEngine { inner: self.0.engine(stop)?, queued, done }))
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        self.0.grow(size)
    }

    fn frees_space(&self) -> bool {
        self.0.frees_space()
    }
}

#[derive(Debug)]
struct SettledEngine {
    inner: Box<dyn Engine>,
    /// Submitted, and not started.
    queued: Vec<Request>,
    done: Vec<Completion>,
}

impl Engine for SettledEngine {
    fn push(&mut self, request: Request) {
        self.queued.push(request);
    }

    fn commit(&mut self) {
        for request in std::mem::take(&mut self.queued) {
            let before = self.done.len();
            self.inner.push(request);
            self.inner.commit();
            self.inner.reap(&mut self.done);
            while self.done.len() == before {
                self.inner.wait(Duration::from_secs(1));
                self.inner.reap(&mut self.done);
            }
        }
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.done);
    }

    fn wait(&mut self, _limit: Duration) {}

    fn wake(&self) -> Option<Arc<EventFd>> {
        None
    }
}
