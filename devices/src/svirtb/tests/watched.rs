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
        let Request { tag, operation, offset } = request;
        let bytes_of = operation.len();
        let (at, len) = (usize::try_from(offset).unwrap(), usize::try_from(bytes_of).unwrap());
        let Inner { bytes, stable, log, moved, hollow, .. } = &mut *inner;
        log.push(match operation {
            Operation::Read(_) => format!("read {len} at {offset}"),
            Operation::Write { durable: false, .. } => format!("write {len} at {offset}"),
            Operation::Write { durable: true, .. } => format!("write through {len} at {offset}"),
            Operation::Flush => "flush".to_owned(),
            Operation::Discard { .. } | Operation::WriteZeroes { .. } => {
                unreachable!("svirtb has no such command")
            }
        });
        *moved += bytes_of;
        let result = match (operation, bytes.get_mut(at..at + len)) {
            _ if *hollow => Ok(()),
            (Operation::Flush, _) => {
                stable.clone_from(bytes);
                Ok(())
            }
            (Operation::Read(data), Some(there)) => {
                assert_eq!(data.copy_from(there), len);
                Ok(())
            }
            (Operation::Write { data, .. }, Some(there)) => {
                assert_eq!(data.copy_to(there), len);
                Ok(())
            }
            _ => Err(BlockError::Host { offset, source: io::ErrorKind::InvalidInput.into() }),
        };
        let transferred = if result.is_ok() { bytes_of } else { 0 };
        self.done.push(Completion { tag, transferred, result });
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.done);
    }

    fn wait(&mut self) {}

    fn grow(&mut self, _size: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
