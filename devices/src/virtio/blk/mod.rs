//! virtio-blk (virtio 1.2, 5.2): a disk behind virtqueues.
//!
//! | question | file |
//! |---|---|
//! | What does the configuration space say? | `config.rs` |
//! | What does a descriptor chain ask for? | `request.rs`: a chain in, an owned request out, no look back |
//! | Who does it, and what is the driver told? | `worker.rs` |
//! | What is on its way to the disk? | `flight.rs` |

mod config;
mod flight;
mod request;
mod worker;

use crate::block::{Disk, GrowError, SECTOR_SIZE};
use crate::complaints::Complaints;
use crate::trace::Tracer;
use crate::virtio::device::{Activation, Served, VirtioDevice};
use crate::virtio::queue::SplitQueue;
use crate::virtio::spec::{blk, feature};

use config::Config;
use worker::{Live, Service};

/// The most queues a device can have.
pub const QUEUES_MAX: u16 = 16;
/// The most entries a queue can have.
pub const QUEUE_SIZE_MAX: u16 = 1024;

/// What a virtio-blk device is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What GET_ID returns: at most 20 bytes.
    pub id: String,
    /// Queues: 1 to [`QUEUES_MAX`].
    pub queues: u16,
    /// The most entries of each: a power of two, 2 to [`QUEUE_SIZE_MAX`].
    pub queue_size: u16,
    /// The guest's block size in bytes: 512 or 4096.
    pub block_size: u32,
    /// Whether there is a write-back cache, until the driver says otherwise (CONFIG_WCE). Without, a write is on
    /// stable storage before it is answered.
    pub writeback: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { id: String::new(), queues: 1, queue_size: 256, block_size: 512, writeback: true }
    }
}

/// Why a disk cannot be a virtio-blk device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlkError {
    /// The protocol counts in sectors, and there is not one block of them.
    #[error("{name}: has {size} bytes, and the disk needs at least one block of {block_size}")]
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
    #[error("a queue of {size} entries: the size is a power of two from 2 to {QUEUE_SIZE_MAX}")]
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
}

impl Options {
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
        if !(2..=QUEUE_SIZE_MAX).contains(&self.queue_size) || !self.queue_size.is_power_of_two() {
            return Err(BlkError::QueueSize { size: self.queue_size });
        }
        if self.block_size != 512 && self.block_size != 4096 {
            return Err(BlkError::BlockSize { size: self.block_size });
        }
        Ok(())
    }
}

/// A virtio-blk device.
#[derive(Debug)]
pub struct Blk {
    service: Service,
    config: Config,
    /// The most entries of each queue.
    queue_max: Vec<u16>,
    /// `writeback` after a reset.
    writeback: bool,
    live: Option<Live>,
}

impl Blk {
    /// The device that serves `disk` and that the log calls `name`.
    ///
    /// A ragged end of the disk, less than a block, is out of the guest's reach; this is said once.
    ///
    /// # Errors
    ///
    /// Where an option is out of its range, or the disk has no whole block.
    pub fn new(
        name: &str,
        disk: Disk,
        options: &Options,
        tracer: Tracer,
    ) -> Result<Self, BlkError> {
        options.check()?;
        let (size, block_size) = (disk.size(), options.block_size);
        let capacity = whole_blocks(size, block_size);
        if capacity == 0 {
            return Err(BlkError::TooSmall { name: disk.name().to_owned(), size, block_size });
        }
        let ragged = size - capacity * SECTOR_SIZE;
        if ragged != 0 {
            tracing::warn!(
                "{name}: {} has {size} bytes; the last {ragged} are less than a block of {block_size} and out of \
                 the guest's reach",
                disk.name(),
            );
        }
        let mut id = [0; blk::ID_SIZE];
        for (to, byte) in id.iter_mut().zip(options.id.bytes()) {
            *to = byte;
        }
        let config = Config {
            capacity,
            // Two descriptors of a chain are the header's and the status byte's.
            seg_max: u32::from(options.queue_size).saturating_sub(2).max(1),
            block_size,
            writeback: options.writeback,
            queues: options.queues,
        };
        Ok(Self {
            service: Service::new(Complaints::new(name.into()), tracer, disk, id),
            config,
            queue_max: vec![options.queue_size; options.queues.into()],
            writeback: options.writeback,
            live: None,
        })
    }
}

/// The sectors that make whole blocks.
fn whole_blocks(size: u64, block_size: u32) -> u64 {
    let block = u64::from(block_size);
    size / block * (block / SECTOR_SIZE)
}

impl VirtioDevice for Blk {
    fn complaints(&self) -> &Complaints {
        self.service.complaints()
    }

    fn device_id(&self) -> u32 {
        blk::DEVICE_ID
    }

    fn features(&self) -> u64 {
        let mut features = feature::RING_INDIRECT_DESC
            | feature::RING_EVENT_IDX
            | feature::BLK_SIZE_MAX
            | feature::BLK_SEG_MAX
            | feature::BLK_BLK_SIZE
            | feature::BLK_TOPOLOGY
            | feature::BLK_FLUSH
            | feature::BLK_CONFIG_WCE;
        features |= if self.service.disk().read_only() {
            feature::BLK_RO
        } else {
            feature::BLK_DISCARD | feature::BLK_WRITE_ZEROES
        };
        if self.config.queues > 1 {
            features |= feature::BLK_MQ;
        }
        features
    }

    fn queue_max(&self) -> &[u16] {
        &self.queue_max
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) -> bool {
        let was_writeback = self.config.writeback;
        let taken = self.config.write(offset, data);
        if was_writeback && !self.config.writeback {
            // From now on a write that is answered is safe; those answered before are made so here.
            if let Some(live) = &mut self.live {
                self.service.flush(live);
            }
        }
        taken
    }

    fn features_settled(&mut self, features: u64) {
        // Who cannot flush has no use for a cache, and is told so (5.2.5.2).
        let flushes = features & feature::BLK_FLUSH != 0;
        if features & feature::BLK_CONFIG_WCE != 0 && !flushes {
            self.config.writeback = false;
        }
    }

    fn activate(&mut self, activation: Activation) {
        self.live = Some(Live::new(activation));
    }

    fn service(&mut self, queue: u16) -> Served {
        match &mut self.live {
            Some(live) => self.service.serve(live, &self.config, queue),
            None => Served::All,
        }
    }

    fn start_queue(&mut self, index: u16, queue: SplitQueue) {
        if let Some(live) = &mut self.live {
            live.start_queue(index, queue);
        }
    }

    fn stop_queue(&mut self, queue: u16) {
        if let Some(live) = &mut self.live {
            // Gone first, so that nothing in flight is answered there; other queues' requests are.
            live.stop_queue(queue);
            self.service.settle(live);
        }
    }

    fn reset(&mut self) {
        if let Some(mut live) = self.live.take() {
            self.service.drain(&mut live);
        }
        self.config.writeback = self.writeback;
    }

    fn resize(&mut self, bytes: u64) -> Result<bool, GrowError> {
        if let Some(live) = &mut self.live {
            self.service.settle(live);
        }
        self.service.grow(bytes)?;
        let before = self.config.capacity;
        self.config.capacity = whole_blocks(bytes, self.config.block_size);
        Ok(self.config.capacity != before)
    }
}

#[cfg(test)]
mod tests;
