//! The waist: every request to a disk, from whichever protocol, is one [`Request`] here and ends as one
//! [`Completion`].
//!
//! ```text
//!  svirtb ──┐                                   ┌──▶ SyncEngine (preadv, pwritev2, fallocate, fdatasync)
//!           ├──▶ Disk: range, read-only ──▶ Engine ──▶ PatientEngine, in front of one: waits for room
//!  virtio ──┘                                   └──▶ testing::FaultEngine (fails where a test says so)
//! ```
//!
//! [`Disk`] is the one place that checks a request against the disk; an [`Engine`] only moves bytes, and may
//! do so later: [`Disk::submit`] hands over, [`Disk::reap`] collects what is finished, [`Disk::run`] waits.
//! Offsets are bytes here; sectors are a matter of the protocols.

mod image;
mod lock;
mod room;
mod sync;

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use crate::memory::Buffers;

pub use image::{Access, Cache, Image, ImageError, Opening};
pub use room::{Gate, PatientEngine};
pub use sync::SyncEngine;

/// The unit in which both protocols count: 512 bytes (virtio 1.2, 5.2.4; svirtb 2.2.1).
pub const SECTOR_SIZE: u64 = 512;

/// What is to be done. It owns what it needs: the guest's buffers, which were checked, and with them guest RAM.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Fill the buffers from the disk.
    Read(Buffers),
    /// Store the buffers on the disk.
    Write {
        /// The buffers.
        data: Buffers,
        /// Whether the bytes are on stable storage before the request completes (write-through).
        durable: bool,
    },
    /// Let the host forget these bytes; what is read there afterwards is old bytes or zeros.
    Discard {
        /// How many bytes.
        len: u64,
    },
    /// Make these bytes zeros.
    WriteZeroes {
        /// How many bytes.
        len: u64,
        /// Whether the host may free the space they took.
        unmap: bool,
        /// As of a write.
        durable: bool,
    },
    /// Bring everything that was written and completed to stable storage.
    Flush,
}

impl Operation {
    /// How many bytes of the disk it covers.
    pub const fn len(&self) -> u64 {
        match self {
            Self::Read(data) | Self::Write { data, .. } => data.len(),
            Self::Discard { len } | Self::WriteZeroes { len, .. } => *len,
            Self::Flush => 0,
        }
    }

    /// Whether it covers none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the disk is another afterwards.
    const fn changes(&self) -> bool {
        match self {
            Self::Write { .. } | Self::Discard { .. } | Self::WriteZeroes { .. } => true,
            Self::Read(_) | Self::Flush => false,
        }
    }
}

/// One request to a disk.
#[derive(Debug)]
pub struct Request {
    /// Whatever the submitter wants to find again in the completion.
    pub tag: u64,
    /// What is to be done.
    pub operation: Operation,
    /// The first byte on the disk; of no meaning for a flush.
    pub offset: u64,
}

/// The end of one request.
#[derive(Debug)]
pub struct Completion {
    /// The request's tag.
    pub tag: u64,
    /// The bytes done: all of them where `result` is ok, and otherwise those before the error.
    pub transferred: u64,
    /// Whether the request succeeded wholly.
    pub result: Result<(), BlockError>,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// Some byte of the request is not on the disk.
    #[error("{len} bytes at byte {offset} reach past the end of the disk, which has {size} bytes")]
    OutOfRange {
        /// The first byte on the disk.
        offset: u64,
        /// The length in bytes.
        len: u64,
        /// The disk's size in bytes.
        size: u64,
    },
    /// A write to a disk that may only be read.
    #[error("the disk is read-only")]
    ReadOnly,
    /// The host could not do it.
    #[error("the host failed at byte {offset}: {source}")]
    Host {
        /// The first byte on the disk that was not transferred.
        offset: u64,
        /// The host's error.
        source: io::Error,
    },
}

/// Why a disk cannot be made larger.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    /// A disk only grows: a guest's data is not cut off.
    #[error("{size} bytes are not more than the disk's {now}; a disk in use can only grow")]
    NotLarger {
        /// The bytes asked for.
        size: u64,
        /// The bytes it has.
        now: u64,
    },
    /// The disk may only be read.
    #[error("the disk is read-only")]
    ReadOnly,
    /// The host could not do it.
    #[error("the host cannot make the image larger: {0}")]
    Host(#[from] io::Error),
}

/// Moves bytes between an image and guest buffers. Requests were checked by [`Disk`].
///
/// Every request submitted is completed exactly once. An engine may complete out of order, but a flush
/// covers all writes that were completed before it was submitted.
pub trait Engine: Send + fmt::Debug {
    /// Takes a request over. A synchronous engine has finished it when this returns.
    fn submit(&mut self, request: Request);
    /// Moves all completions that are there to the end of `done`. Never waits.
    fn reap(&mut self, done: &mut Vec<Completion>);
    /// Waits until a completion is there or nothing is in flight.
    fn wait(&mut self);
    /// Makes the image `size` bytes long, which is more than it has. Only with nothing in flight.
    ///
    /// # Errors
    ///
    /// The host's error, and what it is if the image cannot grow.
    fn grow(&mut self, size: u64) -> io::Result<()>;
    /// What becomes readable when completions may be there; none for an engine that finishes inside submit.
    fn wake(&self) -> Option<BorrowedFd<'_>>;
}

/// A disk: an engine behind the one check of range and right to write.
#[derive(Debug)]
pub struct Disk {
    engine: Box<dyn Engine>,
    name: String,
    size: u64,
    read_only: bool,
    /// Requests that never reached the engine.
    refused: Vec<Completion>,
}

impl Disk {
    /// The disk that `engine` serves. `name` is for messages; `size` is in bytes and need not be whole sectors.
    pub fn new(engine: Box<dyn Engine>, name: String, size: u64, read_only: bool) -> Self {
        Self { engine, name, size, read_only, refused: Vec::new() }
    }

    /// The disk in `image`, served synchronously.
    pub fn from_image(image: Image) -> Self {
        let (name, size, read_only) = (image.name(), image.size(), image.read_only());
        Self::new(Box::new(SyncEngine::new(image)), name, size, read_only)
    }

    /// What messages call the disk: usually the image's path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The disk's size in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Whether writes are refused.
    pub const fn read_only(&self) -> bool {
        self.read_only
    }

    /// Hands a request over; its completion comes by [`Disk::reap`], also where it is refused.
    pub fn submit(&mut self, request: Request) {
        match self.check(&request) {
            Ok(()) => self.engine.submit(request),
            Err(error) => self.refused.push(Completion {
                tag: request.tag,
                transferred: 0,
                result: Err(error),
            }),
        }
    }

    /// Moves all completions that are there to the end of `done`. Never waits.
    pub fn reap(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.refused);
        self.engine.reap(done);
    }

    /// Waits until a completion can be reaped or nothing is in flight.
    pub fn wait(&mut self) {
        if self.refused.is_empty() {
            self.engine.wait();
        }
    }

    /// What becomes readable when completions may be there; none where they are there after `submit`.
    pub fn wake(&self) -> Option<BorrowedFd<'_>> {
        self.engine.wake()
    }

    /// Makes the disk larger. Only with nothing in flight.
    ///
    /// # Errors
    ///
    /// Where it would not be larger, is read-only, or the host cannot.
    pub fn grow(&mut self, size: u64) -> Result<(), GrowError> {
        if self.read_only {
            return Err(GrowError::ReadOnly);
        }
        if size <= self.size {
            return Err(GrowError::NotLarger { size, now: self.size });
        }
        self.engine.grow(size)?;
        self.size = size;
        Ok(())
    }

    /// Does one request and waits for it. For callers that have nothing else in flight on this disk.
    ///
    /// # Errors
    ///
    /// Why the request failed.
    pub fn run(&mut self, operation: Operation, offset: u64) -> Result<(), BlockError> {
        let mut done = Vec::with_capacity(1);
        self.submit(Request { tag: 0, operation, offset });
        loop {
            self.reap(&mut done);
            match done.pop() {
                Some(completion) => return completion.result,
                None => self.wait(),
            }
        }
    }

    fn check(&self, request: &Request) -> Result<(), BlockError> {
        let (offset, len) = (request.offset, request.operation.len());
        if self.read_only && request.operation.changes() {
            return Err(BlockError::ReadOnly);
        }
        if matches!(request.operation, Operation::Flush) {
            return Ok(());
        }
        match offset.checked_add(len) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(BlockError::OutOfRange { offset, len, size: self.size }),
        }
    }
}

#[cfg(test)]
mod tests;
