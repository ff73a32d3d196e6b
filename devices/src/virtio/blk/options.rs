//! The options of a virtio-blk device.

use crate::block::SECTOR_SIZE;
use crate::virtio::spec::blk;

/// The most queues of a device.
pub const QUEUES_MAX: u16 = 16;
/// The smallest allowed maximum of a queue's entries: a request has a header, data and a status byte, which drivers put
/// into one descriptor each.
pub const QUEUE_SIZE_MIN: u16 = 4;
/// The largest maximum of a queue's entries.
pub const QUEUE_SIZE_MAX: u16 = 1024;

/// The options of a virtio-blk device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlkOptions {
    /// The answer to GET_ID: at most 20 bytes.
    pub id: String,
    /// The number of queues: 1 to [`QUEUES_MAX`].
    pub queues: u16,
    /// The most entries of each queue: a power of two, [`QUEUE_SIZE_MIN`] to [`QUEUE_SIZE_MAX`].
    pub queue_size: u16,
    /// The guest's block size in bytes: 512 or 4096.
    pub block_size: u32,
    /// Whether the device starts with a write-back cache; the driver can switch it (CONFIG_WCE). Without the cache, a
    /// write is durable when it is answered.
    pub writeback: bool,
}

impl Default for BlkOptions {
    fn default() -> Self {
        Self { id: String::new(), queues: 1, queue_size: 256, block_size: 512, writeback: true }
    }
}

/// Why a virtio-blk device cannot be created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlkError {
    /// The disk has no whole block.
    #[error(
        "{name}: has {size} bytes, and the disk needs at least one block of {block_size}; enlarge it with 'truncate -s 64M {name}'"
    )]
    TooSmall {
        /// The disk's name in messages.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// The bytes of a block.
        block_size: u32,
    },
    /// The id is longer than the 20 bytes of GET_ID.
    #[error("id {id:?} has {} bytes; a disk's id has at most {}", id.len(), blk::ID_SIZE)]
    IdTooLong {
        /// The text.
        id: String,
    },
    /// A wrong number of queues.
    #[error("{queues} queues: a disk has 1 to {QUEUES_MAX}")]
    Queues {
        /// The queues asked for.
        queues: u16,
    },
    /// A wrong number of entries.
    #[error(
        "a queue of {size} entries: the size is a power of two from {QUEUE_SIZE_MIN} to {QUEUE_SIZE_MAX}"
    )]
    QueueSize {
        /// The entries asked for.
        size: u16,
    },
    /// A wrong block size.
    #[error("a block size of {size} bytes: it is 512 or 4096")]
    BlockSize {
        /// The bytes asked for.
        size: u32,
    },
    /// The host does not provide the resources of an engine.
    #[error("{name}: the host refuses the resources that the disk needs: {why}")]
    NoEngine {
        /// The disk's name in messages.
        name: String,
        /// The host's error.
        why: String,
    },
}

impl BlkOptions {
    /// Checks the options.
    ///
    /// # Errors
    ///
    /// The first option that is out of its range.
    pub fn check(&self) -> Result<(), BlkError> {
        if self.id.len() > blk::ID_SIZE {
            return Err(BlkError::IdTooLong { id: self.id.clone() });
        }
        if !(1..=QUEUES_MAX).contains(&self.queues) {
            return Err(BlkError::Queues { queues: self.queues });
        }
        if !(QUEUE_SIZE_MIN..=QUEUE_SIZE_MAX).contains(&self.queue_size)
            || !self.queue_size.is_power_of_two()
        {
            return Err(BlkError::QueueSize { size: self.queue_size });
        }
        if self.block_size != 512 && self.block_size != 4096 {
            return Err(BlkError::BlockSize { size: self.block_size });
        }
        Ok(())
    }

    /// The capacity that the guest sees, in sectors, for a disk of `size` bytes: whole blocks only. Errors contain
    /// `name`.
    ///
    /// # Errors
    ///
    /// If an option is out of its range, or the disk has no whole block.
    pub fn capacity(&self, name: &str, size: u64) -> Result<u64, BlkError> {
        self.check()?;
        let block_size = self.block_size;
        match whole_blocks(size, block_size) {
            0 => Err(BlkError::TooSmall { name: name.to_owned(), size, block_size }),
            sectors => Ok(sectors),
        }
    }
}

/// The sectors of whole blocks of `block_size` bytes, a power of two.
pub(super) fn whole_blocks(size: u64, block_size: u32) -> u64 {
    // Each request needs this, so there is no division.
    let mask = u64::from(block_size).wrapping_neg();
    (size & mask) / SECTOR_SIZE
}
