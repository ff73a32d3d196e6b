//! The waist: every request to a disk, from whichever protocol, is one [`Request`] here and ends as one
//! [`Completion`].
//!
//! ```text
//!  svirtb ────────────▶ Lane ──┐                        ┌──▶ SyncEngine (preadv, pwritev2, fallocate, fdatasync)
//!                              ├── checks by Disk ──▶ Engine
//!  virtio, each queue ▶ Lane ──┘                        └──▶ testing: engines that fail, hold back, finish late
//! ```
//!
//! A [`Disk`] is the one place that checks a request: its range, the right to write, whether flushes can still be
//! trusted. It is shared by all who use it; each of them has a [`Lane`] of its own, with an [`Engine`] behind it that
//! moves the bytes, so that the queues of a disk work side by side. An engine may finish requests later:
//! [`Lane::push`] and [`Lane::commit`] hand over, [`Lane::reap`] collects what is finished, [`Lane::run`] waits.
//! A [`Storage`] is what all lanes of a disk share, usually an image, or several behind a map ([`mod@format`]). Offsets are
//! bytes here; sectors are a matter of the protocols.
//!
//! | question | file |
//! |---|---|
//! | What is a disk, who checks, what follows from a failed flush, how is it stopped? | `disk.rs` |
//! | What does an engine promise? | `engine.rs` |
//! | How does the synchronous engine move bytes? | `sync.rs` |
//! | How is an image opened, measured, locked? | `image.rs`, `lock.rs` |
//! | Which bytes of a disk are where? What is `snapshot=on`? | [`mod@format`] |

mod disk;
mod engine;
pub mod format;
mod image;
mod lock;
mod sync;

use std::io;

use crate::memory::Buffers;
use crate::stuck::Stuck;

pub use disk::{Disk, FullAlarm, Lane, Stop};
pub use engine::{Engine, Storage};
pub use image::{Access, Cache, Image, ImageError, Opening};
pub use sync::{ImageStorage, SyncEngine};

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

    /// Whether its success means that data is on stable storage.
    pub const fn is_durable(&self) -> bool {
        match self {
            Self::Write { durable, .. } | Self::WriteZeroes { durable, .. } => *durable,
            Self::Flush => true,
            Self::Read(_) | Self::Discard { .. } => false,
        }
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
#[derive(Debug, Clone)]
pub struct Request {
    /// Whatever the submitter wants to find again in the completion.
    pub tag: u64,
    /// What is to be done.
    pub operation: Operation,
    /// The first byte on the disk; of no meaning for a flush.
    pub offset: u64,
}

/// The end of one request, which comes back with it.
#[derive(Debug)]
pub struct Completion {
    /// The request.
    pub request: Request,
    /// The bytes done: all of them where `result` is ok, and otherwise those before the error.
    pub transferred: u64,
    /// Whether the request succeeded wholly.
    pub result: Result<(), BlockError>,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    /// The host could not bring data to stable storage, and may have dropped it.
    #[error("the host failed to bring data to stable storage: {0}")]
    Sync(io::Error),
    /// An earlier flush failed, so no later one can be trusted.
    #[error(
        "an earlier flush failed ({0}), and the host may have dropped data; attach the image anew"
    )]
    Lost(String),
    /// The machine is being stopped ([`Stop`]).
    #[error("not done, because the machine is being stopped")]
    Stopped,
}

impl BlockError {
    /// The host's error where its storage, or the user's share of it, is full: with more room the request can succeed.
    pub fn no_room(&self) -> Option<&io::Error> {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        match self {
            Self::Host { source, .. } if full.contains(&source.kind()) => Some(source),
            _ => None,
        }
    }
}

/// Why a disk cannot be made larger.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    /// Requests are in flight that the host does not finish.
    #[error(transparent)]
    Busy(#[from] Stuck),
}

#[cfg(test)]
mod tests;
