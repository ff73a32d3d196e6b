//! The waist: every request to a disk, from whichever protocol, is one [`Request`] here and ends as one
//! [`Completion`].
//!
//! ```text
//!  svirtb ──┐                                   ┌──▶ sync::SyncEngine (preadv, pwritev2, fdatasync)
//!           ├──▶ Disk: range, read-only ──▶ Engine
//!  virtio ──┘                                   └──▶ testing::FaultEngine (fails where a test says so)
//! ```
//!
//! [`Disk`] is the one place that checks a request against the disk; an [`Engine`] only moves bytes, and may
//! do so later: [`Disk::submit`] hands over, [`Disk::reap`] collects what is finished, [`Disk::run`] waits.
//! Offsets are bytes here; sectors are a matter of the protocols.

mod image;
mod lock;
mod sync;

use std::fmt;
use std::os::fd::BorrowedFd;

use crate::memory::Buffers;

pub use image::{Access, Image, ImageError};
pub use sync::SyncEngine;

/// The unit in which both protocols count: 512 bytes (virtio 1.2, 5.2.4; svirtb 2.2.1).
pub const SECTOR_SIZE: u64 = 512;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Fill the buffers from the disk.
    Read,
    /// Store the buffers on the disk.
    Write {
        /// Whether the bytes are on stable storage before the request completes (write-through).
        durable: bool,
    },
    /// Bring everything that was written and completed to stable storage. Takes no buffers.
    Flush,
}

/// One request to a disk. It owns what it needs: the checked buffers, and with them guest RAM.
#[derive(Debug)]
pub struct Request {
    /// Whatever the submitter wants to find again in the completion.
    pub tag: u64,
    /// What is to be done.
    pub operation: Operation,
    /// The first byte on the disk.
    pub offset: u64,
    /// The guest's buffers; their length is the request's.
    pub buffers: Buffers,
}

/// The end of one request.
#[derive(Debug)]
pub struct Completion {
    /// The request's tag.
    pub tag: u64,
    /// The bytes moved between disk and buffers: all of them where `result` is ok, and otherwise those that
    /// were moved before the error.
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
        source: std::io::Error,
    },
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

    /// Does one request and waits for it. For callers that have nothing else in flight on this disk.
    ///
    /// # Errors
    ///
    /// Why the request failed.
    pub fn run(
        &mut self,
        operation: Operation,
        offset: u64,
        buffers: Buffers,
    ) -> Result<(), BlockError> {
        let mut done = Vec::with_capacity(1);
        self.submit(Request { tag: 0, operation, offset, buffers });
        loop {
            self.reap(&mut done);
            match done.pop() {
                Some(completion) => return completion.result,
                None => self.wait(),
            }
        }
    }

    fn check(&self, request: &Request) -> Result<(), BlockError> {
        let (offset, len) = (request.offset, request.buffers.len());
        match request.operation {
            Operation::Flush => return Ok(()),
            Operation::Write { .. } if self.read_only => return Err(BlockError::ReadOnly),
            Operation::Write { .. } | Operation::Read => {}
        }
        match offset.checked_add(len) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(BlockError::OutOfRange { offset, len, size: self.size }),
        }
    }
}

#[cfg(test)]
mod tests;
