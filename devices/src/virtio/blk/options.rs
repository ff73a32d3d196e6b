//! What a virtio-blk device can be, and why a disk cannot be one.

use crate::block::SECTOR_SIZE;
use crate::virtio::spec::blk;

/// The most queues a device can have.
pub const QUEUES_MAX: u16 = 16;
/// The fewest entries that the largest queue can have: a request has a header, data and a status byte, which drivers
/// put into a descriptor each.
pub const QUEUE_SIZE_MIN: u16 = 4;
/// The most entries a queue can have.
pub const QUEUE_SIZE_MAX: u16 = 1024;

/// What a virtio-blk device is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlkOptions {
    /// What GET_ID returns: at most 20 bytes.
    pub id: String,
    /// Queues: 1 to [`QUEUES_MAX`].
    pub queues: u16,
    /// The most entries of each: a power of two, [`QUEUE_SIZE_MIN`] to [`QUEUE_SIZE_MAX`].
    pub queue_size: u16,
    /// The guest's block size in bytes: 512 or 4096.
    pub block_size: u32,
    /// Whether there is a write-back cache, until the driver says otherwise (CONFIG_WCE). Without, a write is on
    /// stable storage before it is answered.
    pub writeback: bool,
}

impl Default for BlkOptions {
    fn default() -> Self {
        Self { id: String::new(), queues: 1, queue_size: 256, block_size: 512, writeback: true }
    }
}

/// Why a disk cannot be a virtio-blk device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlkError {
    /// The protocol counts in sectors, and there is not one block of them.
    #[error(
        "{name}: has {size} bytes, and the disk needs at least one block of {block_size}; enlarge it with 'truncate -s 64M {name}'"
    )]
    TooSmall {
        /// What messages call the disk.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// The bytes of a block.
        block_size: u32,
    },
    /// The text that GET_ID returns has no room in its 20 bytes.
    #[error("id {id:?} has {} bytes; a disk's id has at most {}", id.len(), blk::ID_SIZE)]
    IdTooLong {
        /// The text.
        id: String,
    },
    /// Not that many queues.
    #[error("{queues} queues: a disk has 1 to {QUEUES_MAX}")]
    Queues {
        /// The queues asked for.
        queues: u16,
    },
    /// Not that many entries.
    #[error(
        "a queue of {size} entries: the size is a power of two from {QUEUE_SIZE_MIN} to {QUEUE_SIZE_MAX}"
    )]
    QueueSize {
        /// The entries asked for.
        size: u16,
    },
    /// Not that block size.
    #[error("a block size of {size} bytes: it is 512 or 4096")]
    BlockSize {
        /// The bytes asked for.
        size: u32,
    },
    /// The host does not give what an engine needs.
    #[error("{name}: the host gives no engine for the disk: {why}")]
    NoEngine {
        /// What messages call the disk.
        name: String,
        /// The host's error.
        why: String,
    },
}

impl BlkOptions {
    /// Whether a device can be so.
    ///
    /// # Errors
    ///
    /// What is out of its range.
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

    /// The sectors that the guest of a disk of `size` bytes sees: those of whole blocks. Messages call the disk `name`.
    ///
    /// # Errors
    ///
    /// Where an option is out of its range, or there is not one block.
    pub fn capacity(&self, name: &str, size: u64) -> Result<u64, BlkError> {
        self.check()?;
        let block_size = self.block_size;
        match whole_blocks(size, block_size) {
            0 => Err(BlkError::TooSmall { name: name.to_owned(), size, block_size }),
            sectors => Ok(sectors),
        }
    }
}

/// The sectors that make whole blocks.
pub(super) fn whole_blocks(size: u64, block_size: u32) -> u64 {
    let block = u64::from(block_size);
    size / block * (block / SECTOR_SIZE)
}
