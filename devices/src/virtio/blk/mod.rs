//! virtio-blk (virtio 1.2, 5.2): a disk behind a virtqueue.
//!
//! | question | file |
//! |---|---|
//! | What does the configuration space say? | `config.rs` |
//! | What does a descriptor chain ask for? | `request.rs`: a chain in, an owned request out, no look back |
//! | Who does it, and what is the driver told? | `worker.rs` |

mod config;
mod request;
mod worker;

use crate::block::{Disk, SECTOR_SIZE};
use crate::complaints::Complaints;
use crate::trace::Tracer;
use crate::virtio::device::{Activation, VirtioDevice};
use crate::virtio::spec::{blk, feature};

use config::Config;
use worker::{Live, Service};

/// The most entries of the one queue.
const QUEUE_MAX: u16 = 256;

/// Why a disk cannot be a virtio-blk device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlkError {
    /// The protocol counts in sectors, and there is not one.
    #[error(
        "{name}: has {size} bytes, and a virtio disk needs at least one sector of {SECTOR_SIZE}"
    )]
    TooSmall {
        /// What messages call the disk.
        name: String,
        /// Its size in bytes.
        size: u64,
    },
    /// The text that GET_ID returns has no room in its 20 bytes.
    #[error("id {id:?} has {} bytes; a disk's id has at most {}", id.len(), blk::ID_SIZE)]
    IdTooLong {
        /// The text.
        id: String,
    },
}

/// A virtio-blk device.
#[derive(Debug)]
pub struct Blk {
    service: Service,
    config: Config,
    live: Option<Live>,
}

impl Blk {
    /// The device that serves `disk` and that the log calls `name`. `id` is what GET_ID returns.
    ///
    /// A ragged end of the disk, less than a sector, is out of the guest's reach; this is said once.
    ///
    /// # Errors
    ///
    /// Where the disk has no whole sector, or the id more than 20 bytes.
    pub fn new(name: &str, disk: Disk, id: &str, tracer: Tracer) -> Result<Self, BlkError> {
        let (size, capacity) = (disk.size(), disk.size() / SECTOR_SIZE);
        if capacity == 0 {
            return Err(BlkError::TooSmall { name: disk.name().to_owned(), size });
        }
        let mut id_bytes = [0; blk::ID_SIZE];
        match id_bytes.get_mut(..id.len()) {
            Some(room) => room.copy_from_slice(id.as_bytes()),
            None => return Err(BlkError::IdTooLong { id: id.to_owned() }),
        }
        let ragged = size % SECTOR_SIZE;
        if ragged != 0 {
            tracing::warn!(
                "{name}: {} has {size} bytes; the last {ragged} are less than a sector and out of the guest's reach",
                disk.name(),
            );
        }
        Ok(Self {
            // Two descriptors of a chain are the header's and the status byte's.
            config: Config::new(capacity, u32::from(QUEUE_MAX) - 2),
            service: Service::new(Complaints::new(name.into()), tracer, disk, capacity, id_bytes),
            live: None,
        })
    }
}

impl VirtioDevice for Blk {
    fn complaints(&self) -> &Complaints {
        self.service.complaints()
    }

    fn device_id(&self) -> u32 {
        blk::DEVICE_ID
    }

    fn features(&self) -> u64 {
        let read_only = if self.service.disk().read_only() { feature::BLK_RO } else { 0 };
        feature::BLK_SEG_MAX | feature::BLK_BLK_SIZE | feature::BLK_FLUSH | read_only
    }

    fn queue_max(&self) -> &[u16] {
        &[QUEUE_MAX]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) -> bool {
        false
    }

    fn activate(&mut self, activation: Activation) {
        self.live = Some(Live::new(activation));
    }

    fn service(&mut self, queue: u16) {
        if let Some(live) = &mut self.live {
            self.service.serve(live, queue);
        }
    }

    fn stop_queue(&mut self, queue: u16) {
        if let Some(live) = &mut self.live {
            self.service.drain(live);
            live.forget(queue);
        }
    }

    fn reset(&mut self) {
        if let Some(mut live) = self.live.take() {
            self.service.drain(&mut live);
        }
    }
}

#[cfg(test)]
mod tests;
