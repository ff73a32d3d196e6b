//! What all workers of a device share, without a lock.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::QUIET_WITHIN;
use super::options::{BlkOptions, whole_blocks};
use crate::block::Disk;
use crate::bus::first_bytes;
use crate::observe::Reporter;
use crate::stuck::Stuck;
use crate::virtio::spec::blk;

/// Why a device takes no new requests off its queues: bits of [`Shared::hold`].
pub(super) mod hold {
    /// The machine's owner pauses it.
    pub(crate) const PAUSED: u8 = 1;
    /// A request waits for room on the host.
    pub(crate) const FULL: u8 = 2;
    /// The disk is being resized.
    pub(crate) const RESIZING: u8 = 4;
}

/// What all workers of a device share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) reporter: Reporter,
    pub(super) disk: Disk,
    pub(super) options: BlkOptions,
    /// Whether a driver uses the device: from DRIVER_OK to its reset.
    pub(super) live: AtomicBool,
    /// Whether there is a write-back cache, as the configuration space says.
    pub(super) writeback: AtomicBool,
    /// Why no new requests are taken; 0 where they are.
    pub(super) hold: AtomicU8,
}

impl Shared {
    pub(super) fn is_held(&self) -> bool {
        self.hold.load(Ordering::Acquire) != 0
    }

    /// The sectors of 512 bytes that the guest sees.
    pub(super) fn capacity(&self) -> u64 {
        whole_blocks(self.disk.size(), self.options.block_size)
    }

    /// The answer to GET_ID: the id, and zeros behind it.
    pub(super) fn id(&self) -> [u8; blk::ID_SIZE] {
        first_bytes(self.options.id.as_bytes())
    }

    /// The host has not finished these requests within [`QUIET_WITHIN`].
    pub(super) fn stuck(&self, requests: String) -> Stuck {
        Stuck { name: self.disk.name().to_owned(), requests, limit: QUIET_WITHIN }
    }
}
