//! Block requests: every request to a disk, from either protocol, is a [`Request`] and ends as a [`Completion`].
//!
//! ```text
//!  svirtb ────────────▶ Lane ──┐                        ┌──▶ SyncEngine (preadv, pwritev2, fallocate, fdatasync)
//!                              ├── checks by Disk ──▶ Engine ──▶ mmap: reads from a mapping, the rest by SyncEngine
//!  virtio, each queue ▶ Lane ──┘                        ├──▶ uring: reads, writes and flushes by io_uring, later
//!                                                       ├──▶ nbd: messages to a server, later
//!                                                       ├──▶ auto: what is cached at once, the rest by io_uring
//!                                                       └──▶ testing: engines that fail, hold back, finish late
//! ```
//!
//! A [`Disk`] checks every request: its range, the permission to write, and whether flushes can still be trusted. All
//! users share the disk. Each user has its own [`Lane`] with an [`Engine`] that moves the bytes, so the queues of a
//! disk work in parallel. An engine may finish requests later: [`Lane::push`] and [`Lane::commit`] submit,
//! [`Lane::reap`] collects completions, [`Lane::run`] waits. A [`Storage`] is what all lanes of a disk share, usually
//! an image, or several with a map ([`mod@format`]). Offsets are in bytes here; the protocols count in sectors.
//!
//! | question | file |
//! |---|---|
//! | What is a disk, what does it check, what follows from a failed flush, how is it stopped? | `disk.rs` |
//! | What is the contract of an engine? | `engine.rs` |
//! | What does a storage report of itself? | `info.rs` |
//! | How does a user submit requests, and collect completions? | `lane.rs` |
//! | How is the speed of a disk limited? | `limit/` |
//! | What is counted and measured? | `stats.rs` |
//! | How does the synchronous engine move bytes? | `sync.rs` |
//! | Which requests does one call of the host move together? | `joined.rs` |
//! | Which engines can a user select? | `kind.rs` |
//! | How does `engine=mmap` read, and what if its image is cut? | `mmap/` |
//! | How does `engine=uring` keep requests in the kernel? What does `engine=auto` do at once? | `uring/` |
//! | How does a disk on an NBD server work, and what if its connection is lost? | [`mod@nbd`] |
//! | How is an image opened, measured, locked? | `image.rs`, `lock.rs` |
//! | How is a disk copied while the guest writes? | `backup.rs`, `watch.rs` |
//! | How does an overlay reach its base while the guest writes? | `commit.rs` |
//! | What may be wrong with a sector past the end? | `sector_hint.rs` |
//! | How are formats mapped? What is `snapshot=on`? | [`mod@format`] |

mod backup;
mod commit;
mod disk;
mod engine;
pub mod format;
mod image;
mod info;
mod joined;
mod kind;
mod lane;
mod limit;
mod lock;
mod mmap;
pub mod nbd;
mod new_file;
mod sector_hint;
mod slots;
mod stats;
mod sync;
mod uring;
mod watch;

use std::io;

use crate::memory::Buffers;
use crate::stuck::Stuck;

pub use backup::{Backup, CopyError};
pub use commit::Commit;
pub use disk::{Disk, FullAlarm, Stop};
pub use engine::{CommitTarget, Engine, Storage};
pub use image::{Access, Cache, Image, ImageError, Opening};
pub use info::StorageInfo;
pub use kind::EngineKind;
pub use lane::Lane;
pub use limit::{Limits, Pace, Rate};
pub use mmap::MmapStorage;
pub(crate) use sector_hint::sector_hint;
pub use stats::{DiskStats, ErrorKind, Histogram, OperationKind, OperationStats};
pub(crate) use stats::{LaneStats, Moment};
pub use sync::{ImageStorage, SyncEngine};
pub use uring::{AutoStorage, UringStorage, has_io_uring};

/// The sector of both protocols: 512 bytes (virtio 1.4, 5.2.4; svirtb 2.2.1).
pub const SECTOR_SIZE: u64 = 512;

/// The operation of a request. It owns the guest's buffers, which were checked, and with them guest RAM.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Reads from the disk into the buffers.
    Read(Buffers),
    /// Writes the buffers to the disk.
    Write {
        /// The buffers.
        data: Buffers,
        /// Whether the bytes must be on stable storage before the request completes (write-through).
        durable: bool,
    },
    /// Discards these bytes; later reads return the old bytes or zeros.
    Discard {
        /// The number of bytes.
        len: u64,
    },
    /// Writes zeros to these bytes.
    WriteZeroes {
        /// The number of bytes.
        len: u64,
        /// Whether the host may free their space.
        unmap: bool,
        /// See the write.
        durable: bool,
    },
    /// Flushes all completed writes to stable storage.
    Flush,
}

impl Operation {
    /// Its kind.
    pub const fn kind(&self) -> OperationKind {
        match self {
            Self::Read(_) => OperationKind::Read,
            Self::Write { .. } => OperationKind::Write,
            Self::Flush => OperationKind::Flush,
            Self::Discard { .. } => OperationKind::Discard,
            Self::WriteZeroes { .. } => OperationKind::WriteZeroes,
        }
    }

    /// The bytes of the disk that it covers.
    pub const fn len(&self) -> u64 {
        match self {
            Self::Read(data) | Self::Write { data, .. } => data.len(),
            Self::Discard { len } | Self::WriteZeroes { len, .. } => *len,
            Self::Flush => 0,
        }
    }

    /// The guest's buffers, if it has any.
    pub const fn data(&self) -> Option<&Buffers> {
        match self {
            Self::Read(data) | Self::Write { data, .. } => Some(data),
            Self::Discard { .. } | Self::WriteZeroes { .. } | Self::Flush => None,
        }
    }

    /// Whether it covers no bytes.
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

    /// Makes a write durable.
    pub(crate) const fn harden(&mut self) {
        match self {
            Self::Write { durable, .. } | Self::WriteZeroes { durable, .. } => *durable = true,
            Self::Read(_) | Self::Flush | Self::Discard { .. } => {}
        }
    }

    /// Whether it changes the disk.
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
    /// A value of the submitter, returned in the completion.
    pub tag: u64,
    /// The operation.
    pub operation: Operation,
    /// The first byte on the disk; without meaning for a flush.
    pub offset: u64,
}

/// The completion of one request.
#[derive(Debug)]
pub struct Completion {
    /// The request.
    pub request: Request,
    /// The bytes done: all of them if `result` is ok, otherwise those before the error.
    pub transferred: u64,
    /// Whether the whole request succeeded.
    pub result: Result<(), BlockError>,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// A byte of the request is not on the disk.
    #[error("{len} bytes at byte {offset} reach past the end of the disk, which has {size} bytes")]
    OutOfRange {
        /// The first byte on the disk.
        offset: u64,
        /// The length in bytes.
        len: u64,
        /// The disk's size in bytes.
        size: u64,
    },
    /// A write to a read-only disk.
    #[error("the disk is read-only")]
    ReadOnly,
    /// The host failed.
    #[error("the host failed at byte {offset}: {source}")]
    Host {
        /// The first byte on the disk that was not transferred.
        offset: u64,
        /// The host's error.
        source: io::Error,
    },
    /// The host could not write data to stable storage, and may have dropped it.
    #[error("the host failed to write data to stable storage: {0}")]
    Sync(io::Error),
    /// An earlier flush failed, so no later one can be trusted.
    #[error(
        "an earlier flush failed ({0}), and the host may have dropped data; attach the image again"
    )]
    Lost(String),
    /// The machine is being stopped ([`Stop`]).
    #[error("not done, because the machine is being stopped")]
    Stopped,
}

impl BlockError {
    /// The host's error if the request can succeed later, when someone has done something about it: its storage, or the
    /// user's share of it, is full, or its server cannot be reached.
    pub fn no_room(&self) -> Option<&io::Error> {
        let passing =
            [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::NotConnected];
        match self {
            Self::Host { source, .. } if passing.contains(&source.kind()) => Some(source),
            _ => None,
        }
    }
}

/// Why a disk cannot be enlarged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrowError {
    /// A disk can only grow: cutting it would lose a guest's data.
    #[error("{size} bytes are not more than the disk's {now}; a disk in use can only grow")]
    NotLarger {
        /// The bytes asked for.
        size: u64,
        /// The current size in bytes.
        now: u64,
    },
    /// The disk is read-only.
    #[error("the disk is read-only")]
    ReadOnly,
    /// The host failed.
    #[error("the host cannot enlarge the image: {0}")]
    Host(#[from] io::Error),
    /// Requests are in flight that the host does not finish.
    #[error(transparent)]
    Busy(#[from] Stuck),
}

#[cfg(test)]
mod tests;
