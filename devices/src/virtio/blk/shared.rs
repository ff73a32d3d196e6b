//! State that all workers of a device share, without a lock.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::QUIET_WITHIN;
use super::options::{BlkOptions, whole_blocks};
use crate::block::Disk;
use crate::bus::first_bytes;
use crate::observe::Reporter;
use crate::stuck::Stuck;
use crate::virtio::spec::blk;

/// The reasons to hold new requests: bits of [`Shared::hold`].
pub(super) mod hold {
    /// A pause of the machine.
    pub(crate) const PAUSED: u8 = 1;
    /// A request that waits for room on the host.
    pub(crate) const FULL: u8 = 2;
    /// A resize of the disk.
    pub(crate) const RESIZING: u8 = 4;
    /// The begin or the end of a copy of the disk.
    pub(crate) const COPYING: u8 = 8;
}

/// State that all workers of a device share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) reporter: Reporter,
    pub(super) disk: Disk,
    pub(super) options: BlkOptions,
    /// Whether a driver uses the device: set by DRIVER_OK, cleared by the reset.
    pub(super) live: AtomicBool,
    /// Whether there is a write-back cache, as in the configuration space.
    pub(super) writeback: AtomicBool,
    /// The reasons to hold new requests; 0 if there is none.
    pub(super) hold: AtomicU8,
}

impl Shared {
    pub(super) fn is_held(&self) -> bool {
        self.hold.load(Ordering::Acquire) != 0
    }

    /// The capacity that the guest sees, in sectors of 512 bytes.
    pub(super) fn capacity(&self) -> u64 {
        whole_blocks(self.disk.size(), self.options.block_size)
    }

    /// The answer to GET_ID: the id, filled up with zeros.
    pub(super) fn id(&self) -> [u8; blk::ID_SIZE] {
        first_bytes(self.options.id.as_bytes())
    }

    /// The error for requests that the host has not finished within [`QUIET_WITHIN`].
    pub(super) fn stuck(&self, requests: String) -> Stuck {
        Stuck { name: self.disk.name().to_owned(), requests, limit: QUIET_WITHIN }
    }
}
