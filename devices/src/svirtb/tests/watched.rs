//! An image in memory that remembers what was done to it, in which order, and what a power cut would leave.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::block::{BlockError, Completion, Engine, Operation, Request};

type Hook = Box<dyn FnMut(&Request) + Send>;

#[derive(Default)]
struct Inner {
    bytes: Vec<u8>,
    stable: Vec<u8>,
    /// "read 512 at 0", "write ...", "flush".
    log: Vec<String>,
    /// Called before each request.
    hook: Option<Hook>,
    /// Bytes moved in all.
    moved: u64,
    /// Whether bytes are moved at all, or only counted.
    hollow: bool,
}

/// The image, shared between a test and the engine that serves it.
#[derive(Clone, Default)]
pub(super) struct WatchedImage(Arc<Mutex<Inner>>);

impl WatchedImage {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let image = Self::default();
        (image.lock().bytes, image.lock().stable) = (bytes.to_vec(), bytes.to_vec());
        image
    }

    pub(super) fn engine(&self) -> WatchedEngine {
        WatchedEngine { image: self.clone(), done: Vec::new() }
    }

    /// What a reader of the image sees now.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// What would be left after a power cut.
    pub(super) fn stable(&self) -> Vec<u8> {
        self.lock().stable.clone()
    }

    /// Takes what was done since the last call.
    pub(super) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().log)
    }

    /// The bytes moved so far.
    pub(super) fn moved(&self) -> u64 {
        self.lock().moved
    }

    /// From now on no byte is moved, and requests are only counted: for many large ones.
    pub(super) fn hollow_out(&self) {
        self.lock().hollow = true;
    }

    /// Calls `hook` before each request from now on.
    pub(super) fn before_each(&self, hook: impl FnMut(&Request) + Send + 'static) {
        self.lock().hook = Some(Box::new(hook));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }
}

pub(super) struct WatchedEngine {
    image: WatchedImage,
    done: Vec<Completion>,
}

impl std::fmt::Debug for WatchedEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WatchedEngine")
    }
}

impl Engine for WatchedEngine {
    fn submit(&mut self, request: Request) {
        let mut inner = self.image.lock();
        if let Some(hook) = &mut inner.hook {
            hook(&request);
        }
        let Request { tag, operation, offset, buffers } = request;
        let (at, len) = (usize::try_from(offset).unwrap(), usize::try_from(buffers.len()).unwrap());
        let Inner { bytes, stable, log, moved, hollow, .. } = &mut *inner;
        let verb = match operation {
            Operation::Read => "read",
            Operation::Write { durable: false } => "write",
            Operation::Write { durable: true } => "write through",
            Operation::Flush => "flush",
        };
        log.push(if operation == Operation::Flush {
            verb.to_owned()
        } else {
            format!("{verb} {len} at {offset}")
        });
        *moved += buffers.len();
        let result = match operation {
            _ if *hollow => Ok(()),
            Operation::Flush => {
                stable.clone_from(bytes);
                Ok(())
            }
            Operation::Read | Operation::Write { .. } => match bytes.get_mut(at..at + len) {
                Some(there) if operation == Operation::Read => {
                    assert_eq!(buffers.copy_from(there), len);
                    Ok(())
                }
                Some(there) => {
                    assert_eq!(buffers.copy_to(there), len);
                    Ok(())
                }
                None => {
                    Err(BlockError::Host { offset, source: io::ErrorKind::InvalidInput.into() })
                }
            },
        };
        let transferred = if result.is_ok() { buffers.len() } else { 0 };
        self.done.push(Completion { tag, transferred, result });
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.done);
    }

    fn wait(&mut self) {}

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
