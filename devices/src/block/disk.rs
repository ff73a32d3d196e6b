//! A disk, shared by all its users.
//!
//! **A failed flush is final.** When fdatasync fails, the kernel marks the pages that it could not write as clean: the
//! next fdatasync succeeds although the data is lost. So after one failure every later flush, and every durable write,
//! fails too, until the image is opened again. QEMU does the same.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::limit::Limiter;
use super::watch::Watched;
use super::{BlockError, DiskStats, GrowError, Image, ImageStorage, Lane, LaneStats};
use super::{Limits, Operation, Pace, Request, Storage, StorageInfo};

/// Stops a disk permanently: further requests are refused, and long ones are aborted between two pieces. Clones share
/// the state.
///
/// The VMM may call it on any thread: it takes no lock.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Stops the disk. This cannot be undone.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Receives the alarm when a write finds the host's storage full, and pauses the machine until there is room.
pub trait FullAlarm: Send + Sync {
    /// A write to `disk` failed with `error`. The device keeps the request, and takes no new ones, until the VMM
    /// releases it. May be called on any thread; must not block.
    fn raise(&self, disk: &str, error: &io::Error);
}

/// A disk: storage, with the only checks of range, permission to write and trust in flushes. Clones share it.
#[derive(Clone)]
pub struct Disk(Arc<Shared>);

struct Shared {
    storage: Box<dyn Storage>,
    name: String,
    /// The size in bytes.
    size: AtomicU64,
    read_only: bool,
    /// Why flushes are no longer trusted.
    lost: OnceLock<String>,
    stop: Stop,
    full: Option<Arc<dyn FullAlarm>>,
    limiter: Limiter,
    /// Whether latencies are measured.
    timed: bool,
    /// The counters of each lane.
    lanes: Mutex<Vec<Arc<LaneStats>>>,
    watched: Watched,
}

impl Disk {
    /// A disk on `storage`. `name` is for messages; `size` is in bytes and may be a fraction of sectors.
    pub fn new(storage: Box<dyn Storage>, name: String, size: u64, read_only: bool) -> Self {
        Self(Arc::new(Shared {
            storage,
            name,
            size: AtomicU64::new(size),
            read_only,
            lost: OnceLock::new(),
            stop: Stop::default(),
            full: None,
            limiter: Limiter::new(None),
            timed: false,
            lanes: Mutex::default(),
            watched: Watched::default(),
        }))
    }

    /// A disk on `image`, with the synchronous engine.
    pub fn from_image(image: Image) -> Self {
        let (name, size, read_only) = (image.name(), image.size(), image.read_only());
        Self::new(Box::new(ImageStorage::new(image)), name, size, read_only)
    }

    /// The same disk, on which a write waits if it finds the host full: see [`FullAlarm`]. Call it before any lane is
    /// created.
    #[must_use]
    pub fn waiting_for_room(mut self, alarm: Arc<dyn FullAlarm>) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            shared.full = Some(alarm);
        }
        self
    }

    /// The same disk, with latencies in [`Disk::stats`]. Call it before any lane is created.
    #[must_use]
    pub fn timed(mut self) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            shared.timed = true;
        }
        self
    }

    /// The same disk, whose speed can be limited: see [`Disk::set_limits`]. Call it before any lane is created.
    #[must_use]
    pub fn paced_by(mut self, pace: Arc<dyn Pace>) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            shared.limiter = Limiter::new(Some(pace));
        }
        self
    }

    /// Changes the limits of the disk, also while it is in use. Then service its queues, because requests may be held
    /// that need not wait any more. Has no effect unless [`Disk::paced_by`] was called.
    pub fn set_limits(&self, limits: Limits) {
        self.0.limiter.set(limits);
    }

    /// The limits of the disk.
    pub fn limits(&self) -> Limits {
        self.0.limiter.limits()
    }

    pub(super) fn limiter(&self) -> &Limiter {
        &self.0.limiter
    }

    /// Why flushes are no longer trusted.
    pub(super) fn lost(&self) -> Option<&str> {
        self.0.lost.get().map(String::as_str)
    }

    /// Creates a lane for one queue, or for another user with its own requests.
    ///
    /// # Errors
    ///
    /// If the host does not provide the resources of an engine.
    pub fn lane(&self) -> io::Result<Lane> {
        let engine = self.0.storage.engine(&self.0.stop)?;
        let stats = Arc::new(LaneStats::new(self.0.timed));
        self.lanes().push(stats.clone());
        Ok(Lane::new(self.clone(), engine, stats))
    }

    /// The disk's name in messages: usually the image's path.
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

    /// Whether the host can free space within the disk.
    pub fn frees_space(&self) -> bool {
        self.0.storage.frees_space()
    }

    /// The format, the engine and the backing images, for people.
    pub fn info(&self) -> StorageInfo {
        self.0.storage.info()
    }

    /// The handle that stops the disk.
    pub fn stop_handle(&self) -> Stop {
        self.0.stop.clone()
    }

    /// Whether [`Stop::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.0.stop.is_stopped()
    }

    /// The receiver of the alarm for a full host; if none, the request fails.
    pub fn full_alarm(&self) -> Option<&dyn FullAlarm> {
        self.0.full.as_deref()
    }

    /// The number of requests of all lanes that the host has not finished. Takes no lock that is held during I/O.
    pub fn in_flight(&self) -> usize {
        self.lanes().iter().map(|lane| lane.in_flight()).sum()
    }

    /// The number of requests of all lanes that wait for the limits. Takes no lock that is held during I/O.
    pub fn delayed(&self) -> usize {
        self.lanes().iter().map(|lane| lane.delayed()).sum()
    }

    /// What the disk has done so far. Takes no lock that is held during I/O.
    pub fn stats(&self) -> DiskStats {
        let mut sum = DiskStats::default();
        for lane in &*self.lanes() {
            lane.add_to(&mut sum);
        }
        sum
    }

    fn lanes(&self) -> MutexGuard<'_, Vec<Arc<LaneStats>>> {
        self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enlarges the disk. Nothing may be in flight.
    ///
    /// # Errors
    ///
    /// If the new size is not larger, the disk is read-only, or the host cannot.
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

    /// The storage.
    pub(super) fn storage(&self) -> &dyn Storage {
        &*self.0.storage
    }

    /// Who is told of changes.
    pub(super) fn watched(&self) -> &Watched {
        &self.0.watched
    }

    /// Records that written data may be lost: from now on every flush fails.
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

    pub(super) fn check(&self, request: &Request) -> Result<(), BlockError> {
        // A flush moves no new data; it makes earlier writes durable.
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
