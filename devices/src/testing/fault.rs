//! An engine that fails where a test says so.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};

use crate::block::{BlockError, Completion, Engine, Operation, Request};

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is done as usual.
    None,
    /// It fails with this errno after so many bytes were moved.
    After(u64, i32),
}

/// The plan of an engine's faults: one for each request to come, in order; afterwards none. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<VecDeque<Fault>>>);

impl Faults {
    /// Adds a fault for the next request that has none yet.
    pub fn push(&self, fault: Fault) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(fault);
    }

    fn next(&self) -> Fault {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(Fault::None)
    }
}

/// Hands requests to another engine, except those that its plan lets fail.
#[derive(Debug)]
pub struct FaultEngine {
    inner: Box<dyn Engine>,
    faults: Faults,
    failed: Vec<Completion>,
}

impl FaultEngine {
    /// An engine in front of `inner` that does all requests, until [`FaultEngine::faults`] says otherwise.
    pub fn new(inner: Box<dyn Engine>) -> Self {
        Self { inner, faults: Faults::default(), failed: Vec::new() }
    }

    /// The plan, to be filled while the engine works.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }
}

impl Engine for FaultEngine {
    fn submit(&mut self, mut request: Request) {
        match self.faults.next() {
            Fault::None => self.inner.submit(request),
            Fault::After(bytes, errno) => {
                let (tag, offset) = (request.tag, request.offset);
                let transferred = cut(&mut request.operation, bytes);
                if transferred > 0 {
                    self.inner.submit(request);
                    let mut done = Vec::new();
                    while done.is_empty() {
                        self.inner.wait();
                        self.inner.reap(&mut done);
                    }
                    self.failed.extend(done.into_iter().filter(|c| c.tag != tag));
                }
                let source = io::Error::from_raw_os_error(errno);
                let offset = offset + transferred;
                let result = Err(BlockError::Host { offset, source });
                self.failed.push(Completion { tag, transferred, result });
            }
        }
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.failed);
        self.inner.reap(done);
    }

    fn wait(&mut self) {
        if self.failed.is_empty() {
            self.inner.wait();
        }
    }

    fn grow(&mut self, size: u64) -> io::Result<()> {
        match self.faults.next() {
            Fault::None => self.inner.grow(size),
            Fault::After(_, errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        self.inner.wake()
    }
}

/// Cuts an operation down to its first bytes, as far as it has so many; its length then.
fn cut(operation: &mut Operation, bytes: u64) -> u64 {
    match operation {
        Operation::Read(data) | Operation::Write { data, .. } => data.truncate(bytes),
        Operation::Discard { len } | Operation::WriteZeroes { len, .. } => *len = bytes.min(*len),
        Operation::Flush => {}
    }
    operation.len()
}
