//! A disk, shared by all who use it, and the lane that each of them has.
//!
//! **A failed flush is final.** When fdatasync fails, the kernel marks the pages clean that it could not write: the
//! next fdatasync succeeds although the data is gone. So after one failure every later flush, and every write that is
//! to be on stable storage, fails too, until the image is opened anew. QEMU does the same.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use super::{BlockError, Completion, Engine, GrowError, Image, ImageStorage};
use super::{Operation, Request, Storage};

/// How long [`Lane::run`] waits before it looks whether the machine is being stopped.
const LOOK: Duration = Duration::from_millis(100);

/// Ends what a disk does, for good: requests not begun yet are refused, long ones are given up between two pieces.
/// Clones share it.
///
/// For the machine's owner, on any thread: it takes no lock.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Stops. There is no way back.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Hears that a write found the host's storage full, and pauses the machine until there is room.
pub trait FullAlarm: Send + Sync {
    /// A write to `disk` failed with `error`. The device keeps the request, and takes no new ones, until the machine's
    /// owner lets it go on. May be called from any thread; must not block.
    fn raise(&self, disk: &str, error: &io::Error);
}

/// A disk: storage behind the one check of range, right to write, and trust in flushes. Clones share it.
#[derive(Clone)]
pub struct Disk(Arc<Shared>);

struct Shared {
    storage: Box<dyn Storage>,
    name: String,
    /// In bytes.
    size: AtomicU64,
    read_only: bool,
    /// Why flushes cannot be trusted any more.
    lost: OnceLock<String>,
    stop: Stop,
    full: Option<Arc<dyn FullAlarm>>,
    /// For each lane the requests that its engine has.
    in_flight: Mutex<Vec<Arc<AtomicUsize>>>,
}

impl Disk {
    /// The disk in `storage`. `name` is for messages; `size` is in bytes and need not be whole sectors.
    pub fn new(storage: Box<dyn Storage>, name: String, size: u64, read_only: bool) -> Self {
        Self(Arc::new(Shared {
            storage,
            name,
            size: AtomicU64::new(size),
            read_only,
            lost: OnceLock::new(),
            stop: Stop::default(),
            full: None,
            in_flight: Mutex::default(),
        }))
    }

    /// The disk in `image`, served synchronously.
    pub fn from_image(image: Image) -> Self {
        let (name, size, read_only) = (image.name(), image.size(), image.read_only());
        Self::new(Box::new(ImageStorage::new(image)), name, size, read_only)
    }

    /// The same disk, on which a write that finds the host full waits: see [`FullAlarm`]. Before any lane is made.
    #[must_use]
    pub fn waiting_for_room(mut self, alarm: Arc<dyn FullAlarm>) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            shared.full = Some(alarm);
        }
        self
    }

    /// A way to the disk for one queue, or another user that submits requests of its own.
    ///
    /// # Errors
    ///
    /// Where the host does not give what an engine needs.
    pub fn lane(&self) -> io::Result<Lane> {
        let engine = self.0.storage.engine(&self.0.stop)?;
        let in_flight = Arc::new(AtomicUsize::new(0));
        let mut lanes = self.0.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.push(in_flight.clone());
        Ok(Lane { disk: self.clone(), engine, in_flight, refused: Vec::new() })
    }

    /// What messages call the disk: usually the image's path.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The disk's size in bytes.
    pub fn size(&self) -> u64 {
        self.0.size.load(Ordering::Acquire)
    }

    /// Whether writes are refused.
    pub fn read_only(&self) -> bool {
        self.0.read_only
    }

    /// Whether the host can free the space behind a part of the disk.
    pub fn frees_space(&self) -> bool {
        self.0.storage.frees_space()
    }

    /// Ends what the disk does.
    pub fn stop_handle(&self) -> Stop {
        self.0.stop.clone()
    }

    /// Whether [`Stop::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.0.stop.is_stopped()
    }

    /// Who hears that the host is full; none where the request fails.
    pub fn full_alarm(&self) -> Option<&dyn FullAlarm> {
        self.0.full.as_deref()
    }

    /// How many requests the host has not finished, all lanes together. Takes no lock that I/O holds.
    pub fn in_flight(&self) -> usize {
        let lanes = self.0.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.iter().map(|lane| lane.load(Ordering::Relaxed)).sum()
    }

    /// Makes the disk larger. Only with nothing in flight.
    ///
    /// # Errors
    ///
    /// Where it would not be larger, is read-only, or the host cannot.
    pub fn grow(&self, size: u64) -> Result<(), GrowError> {
        if self.0.read_only {
            return Err(GrowError::ReadOnly);
        }
        let now = self.size();
        if size <= now {
            return Err(GrowError::NotLarger { size, now });
        }
        self.0.storage.grow(size)?;
        self.0.size.store(size, Ordering::Release);
        Ok(())
    }

    /// Notes that written data may be lost: from now on no flush succeeds.
    pub(crate) fn lose(&self, why: String) {
        if self.0.lost.set(why).is_ok() {
            tracing::error!(
                "{}: a flush failed ({}): the host may have dropped data that the guest wrote; every later flush fails, \
                 too, until the image is attached anew",
                self.name(),
                self.0.lost.get().map_or("", String::as_str),
            );
        }
    }

    fn check(&self, request: &Request) -> Result<(), BlockError> {
        // A flush moves nothing new, it makes safe what was done before.
        if self.is_stopped() && !matches!(request.operation, Operation::Flush) {
            return Err(BlockError::Stopped);
        }
        let (offset, len) = (request.offset, request.operation.len());
        if self.0.read_only && request.operation.changes() {
            return Err(BlockError::ReadOnly);
        }
        if request.operation.is_durable()
            && let Some(why) = self.0.lost.get()
        {
            return Err(BlockError::Lost(why.clone()));
        }
        if matches!(request.operation, Operation::Flush) {
            return Ok(());
        }
        let size = self.size();
        match offset.checked_add(len) {
            Some(end) if end <= size => Ok(()),
            _ => Err(BlockError::OutOfRange { offset, len, size }),
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { storage, name, size, read_only, .. } = &*self.0;
        f.debug_struct("Disk")
            .field("storage", storage)
            .field("name", name)
            .field("size", size)
            .field("read_only", read_only)
            .finish_non_exhaustive()
    }
}

/// One user's way to a [`Disk`]: its own requests, its own engine.
#[derive(Debug)]
pub struct Lane {
    disk: Disk,
    engine: Box<dyn Engine>,
    /// The requests that the engine has, for [`Disk::in_flight`].
    in_flight: Arc<AtomicUsize>,
    /// Requests that never reached the engine.
    refused: Vec<Completion>,
}

impl Lane {
    /// The disk.
    pub const fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Hands a request over; its completion comes by [`Lane::reap`], also where it is refused. It may begin only with
    /// [`Lane::commit`].
    pub fn push(&mut self, request: Request) {
        match self.disk.check(&request) {
            Ok(()) => {
                // Only this lane writes the count, so it is no read-modify-write.
                self.in_flight.store(self.in_flight() + 1, Ordering::Relaxed);
                self.engine.push(request);
            }
            Err(error) => {
                self.refused.push(Completion { request, transferred: 0, result: Err(error) });
            }
        }
    }

    /// Begins all requests pushed so far.
    pub fn commit(&mut self) {
        self.engine.commit();
    }

    /// Moves all completions that are there to the end of `done`. Never waits.
    pub fn reap(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.refused);
        let before = done.len();
        self.engine.reap(done);
        let fresh = done.get(before..).unwrap_or_default();
        if fresh.is_empty() {
            return;
        }
        let left = self.in_flight().saturating_sub(fresh.len());
        self.in_flight.store(left, Ordering::Relaxed);
        for completion in fresh {
            if let Err(BlockError::Sync(error)) = &completion.result {
                self.disk.lose(error.to_string());
            }
        }
    }

    /// Waits until a completion can be reaped, nothing is in flight, or `limit` has passed.
    pub fn wait(&mut self, limit: Duration) {
        if self.refused.is_empty() {
            self.engine.wait(limit);
        }
    }

    /// How many requests the engine has.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What becomes readable when completions may be there; none where they are there after `push`.
    pub fn wake(&self) -> Option<Arc<EventFd>> {
        self.engine.wake()
    }

    /// Does one request and waits for it. For callers that have nothing else in flight on this lane.
    ///
    /// # Errors
    ///
    /// Why the request failed.
    pub fn run(&mut self, operation: Operation, offset: u64) -> Result<(), BlockError> {
        let mut done = Vec::with_capacity(1);
        self.push(Request { tag: 0, operation, offset });
        self.commit();
        loop {
            self.reap(&mut done);
            match done.pop() {
                Some(completion) => return completion.result,
                // The request stays with the engine; nothing else comes on this lane.
                None if self.disk.is_stopped() => return Err(BlockError::Stopped),
                None => self.wait(LOOK),
            }
        }
    }
}
