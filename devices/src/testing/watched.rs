//! An image in memory that records the operations on it, in order, and the bytes that would survive a power cut.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use crate::block::{BlockError, Completion, Disk, Engine, Operation, Request, Stop, Storage};

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

/// The image, shared between a test and the engines that serve it.
#[derive(Clone, Default)]
pub struct WatchedImage {
    inner: Arc<Mutex<Inner>>,
    /// Called before each request while nothing is locked, so that it may wait.
    gate: Arc<OnceLock<Gate>>,
}

type Gate = Box<dyn Fn(&Request) + Send + Sync>;

impl WatchedImage {
    /// An image that holds `bytes`, all of them on stable storage.
    pub fn new(bytes: &[u8]) -> Self {
        let image = Self::default();
        (image.lock().bytes, image.lock().stable) = (bytes.to_vec(), bytes.to_vec());
        image
    }

    /// The disk in it, writable, of all its bytes.
    pub fn disk(&self) -> Disk {
        let size = self.lock().bytes.len() as u64;
        Disk::new(Box::new(self.clone()), "in memory".into(), size, false)
    }

    /// The current content of the image.
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// The content that survives a power cut.
    pub fn stable(&self) -> Vec<u8> {
        self.lock().stable.clone()
    }

    /// Whether a reader sees `bytes`, and `stable` would be left after a power cut.
    pub fn holds(&self, bytes: &[u8], stable: &[u8]) -> bool {
        let inner = self.lock();
        inner.bytes == bytes && inner.stable == stable
    }

    /// Takes what was done since the last call.
    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().log)
    }

    /// The bytes moved so far.
    pub fn moved(&self) -> u64 {
        self.lock().moved
    }

    /// From now on no bytes are moved, and requests are only counted: for many large ones.
    pub fn hollow_out(&self) {
        self.lock().hollow = true;
    }

    /// Calls `hook` before each request from now on.
    pub fn before_each(&self, hook: impl FnMut(&Request) + Send + 'static) {
        self.lock().hook = Some(Box::new(hook));
    }

    /// Calls `gate` before each request from now on, on the thread that serves it, also on several at a time: it may
    /// wait. Can be set once.
    pub fn unlocked_before_each(&self, gate: impl Fn(&Request) + Send + Sync + 'static) {
        let set = self.gate.set(Box::new(gate));
        debug_assert!(set.is_ok());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for WatchedImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WatchedImage")
    }
}

impl Storage for WatchedImage {
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>> {
        let (image, stop) = (self.clone(), stop.clone());
        Ok(Box::new(WatchedEngine { image, stop, queued: Vec::new(), done: Vec::new() }))
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        let size = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut inner = self.lock();
        inner.bytes.resize(size, 0);
        inner.stable.resize(size, 0);
        inner.log.push(format!("grow to {size}"));
        Ok(())
    }

    fn frees_space(&self) -> bool {
        true
    }
}

/// Serves a [`WatchedImage`]; a request is finished when `commit` returns.
struct WatchedEngine {
    image: WatchedImage,
    stop: Stop,
    queued: Vec<Request>,
    done: Vec<Completion>,
}

impl std::fmt::Debug for WatchedEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WatchedEngine")
    }
}

impl Inner {
    /// Carries out a request. None if it is not within the image, or not all its bytes were moved.
    fn perform(&mut self, operation: &Operation, offset: u64) -> Option<()> {
        let at = usize::try_from(offset).ok()?;
        let place = at..at.checked_add(usize::try_from(operation.len()).ok()?)?;
        let whole = |moved: usize| (moved == place.len()).then_some(());
        match operation {
            Operation::Flush => self.stable.clone_from(&self.bytes),
            Operation::Read(data) => whole(data.copy_from(self.bytes.get(place.clone())?))?,
            Operation::Write { data, durable } => {
                whole(data.copy_to(self.bytes.get_mut(place.clone())?))?;
                self.settle(&place, *durable)?;
            }
            Operation::Discard { .. } => self.bytes.get_mut(place)?.fill(0),
            Operation::WriteZeroes { durable, .. } => {
                self.bytes.get_mut(place.clone())?.fill(0);
                self.settle(&place, *durable)?;
            }
        }
        Some(())
    }

    /// Writes a part to stable storage if it must be durable.
    fn settle(&mut self, place: &Range<usize>, durable: bool) -> Option<()> {
        if durable {
            let bytes = self.bytes.get(place.clone())?;
            self.stable.get_mut(place.clone())?.copy_from_slice(bytes);
        }
        Some(())
    }
}

/// The description of a request.
fn describe(operation: &Operation, offset: u64) -> String {
    let through = |durable: &bool| if *durable { " through" } else { "" };
    let len = operation.len();
    match operation {
        Operation::Read(_) => format!("read {len} at {offset}"),
        Operation::Write { durable, .. } => format!("write{} {len} at {offset}", through(durable)),
        Operation::Flush => "flush".to_owned(),
        Operation::Discard { .. } => format!("discard {len} at {offset}"),
        Operation::WriteZeroes { unmap, durable, .. } => {
            let unmap = if *unmap { " unmap" } else { "" };
            format!("zero{unmap}{} {len} at {offset}", through(durable))
        }
    }
}

impl WatchedEngine {
    fn finish(&mut self, request: Request) {
        if let Some(gate) = self.image.gate.get() {
            gate(&request);
        }
        let mut inner = self.image.lock();
        if let Some(hook) = &mut inner.hook {
            hook(&request);
        }
        let (len, offset) = (request.operation.len(), request.offset);
        inner.log.push(describe(&request.operation, offset));
        inner.moved += len;
        let done = inner.hollow || inner.perform(&request.operation, offset).is_some();
        let error = || BlockError::Host { offset, source: io::ErrorKind::InvalidInput.into() };
        let (transferred, result) = if done { (len, Ok(())) } else { (0, Err(error())) };
        self.done.push(Completion { request, transferred, result });
    }
}

impl Engine for WatchedEngine {
    fn push(&mut self, request: Request) {
        self.queued.push(request);
    }

    fn commit(&mut self) {
        for request in std::mem::take(&mut self.queued) {
            if self.stop.is_stopped() && !matches!(request.operation, Operation::Flush) {
                let result = Err(BlockError::Stopped);
                self.done.push(Completion { request, transferred: 0, result });
            } else {
                self.finish(request);
            }
        }
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.done);
    }

    fn wait(&mut self, _: Duration) {}

    fn wake(&self) -> Option<Arc<EventFd>> {
        None
    }
}
