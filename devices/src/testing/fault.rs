//! An engine that fails as a test plans.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use crate::block::{BlockError, Completion, Engine, Operation, Request, Stop, Storage};

/// The outcome of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It succeeds.
    None,
    /// It fails with this errno after this many bytes.
    After(u64, i32),
}

/// The planned faults: one for each future request, in order; later requests succeed. Clones share the plan.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<VecDeque<Fault>>>);

impl Faults {
    /// Plans the next request that has no plan yet.
    pub fn push(&self, fault: Fault) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(fault);
    }

    fn next(&self) -> Fault {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(Fault::None)
    }
}

/// Storage with planned faults, for requests and growth.
#[derive(Debug)]
pub struct FaultStorage {
    inner: Box<dyn Storage>,
    faults: Faults,
}

impl FaultStorage {
    /// Storage that forwards all requests to `inner`, until [`FaultStorage::faults`] has a plan.
    pub fn new(inner: Box<dyn Storage>) -> Self {
        Self { inner, faults: Faults::default() }
    }

    /// The plan, which can be extended at any time.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }
}

impl Storage for FaultStorage {
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>> {
        let (inner, faults) = (self.inner.engine(stop)?, self.faults.clone());
        Ok(Box::new(FaultEngine { inner, faults, failed: Vec::new() }))
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        match self.faults.next() {
            Fault::None => self.inner.grow(size),
            Fault::After(_, errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn frees_space(&self) -> bool {
        self.inner.frees_space()
    }
}

/// Forwards requests to another engine, except those that must fail.
#[derive(Debug)]
struct FaultEngine {
    inner: Box<dyn Engine>,
    faults: Faults,
    failed: Vec<Completion>,
}

impl Engine for FaultEngine {
    fn push(&mut self, request: Request) {
        match self.faults.next() {
            Fault::None => self.inner.push(request),
            Fault::After(bytes, errno) => {
                let source = io::Error::from_raw_os_error(errno);
                let mut part = request.clone();
                let transferred = cut(&mut part.operation, bytes);
                if transferred > 0 {
                    self.inner.push(part);
                    self.inner.commit();
                    let mut done = Vec::new();
                    while done.is_empty() {
                        self.inner.wait(Duration::from_secs(1));
                        self.inner.reap(&mut done);
                    }
                    self.failed.extend(done.into_iter().filter(|c| c.request.tag != request.tag));
                }
                let offset = request.offset + transferred;
                let error = match request.operation {
                    Operation::Flush => BlockError::Sync(source),
                    _ => BlockError::Host { offset, source },
                };
                self.failed.push(Completion { request, transferred, result: Err(error) });
            }
        }
    }

    fn commit(&mut self) {
        self.inner.commit();
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.failed);
        self.inner.reap(done);
    }

    fn wait(&mut self, limit: Duration) {
        if self.failed.is_empty() {
            self.inner.wait(limit);
        }
    }

    fn wake(&self) -> Option<Arc<EventFd>> {
        self.inner.wake()
    }

    fn wake_by(&mut self, wake: &Arc<EventFd>) {
        self.inner.wake_by(wake);
    }
}

/// Cuts an operation to its first bytes. Returns its length then.
fn cut(operation: &mut Operation, bytes: u64) -> u64 {
    match operation {
        Operation::Read(data) | Operation::Write { data, .. } => data.truncate(bytes),
        Operation::Discard { len } | Operation::WriteZeroes { len, .. } => *len = bytes.min(*len),
        Operation::Flush => {}
    }
    operation.len()
}
