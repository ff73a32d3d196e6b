//! A virtio block device in the hands of a test: any features, any number of queues.

use core::ops::Deref;

use drivers::virtio::spec::{self, BLOCK_DEVICE};

use crate::{Device, Failure};

/// Features that the drivers of `drivers` know nothing of (virtio 1.4, 5.2.3 and 6).
pub const CONFIG_WCE: u64 = 1 << 11;
/// Several queues.
pub const MQ: u64 = 1 << 12;
/// Discard.
pub const DISCARD: u64 = 1 << 13;
/// Write-zeroes.
pub const WRITE_ZEROES: u64 = 1 << 14;
/// Tables of descriptors within descriptors.
pub const INDIRECT_DESC: u64 = 1 << 28;
/// Interrupts and doorbells by index.
pub const EVENT_IDX: u64 = 1 << 29;
/// A queue can be reset alone.
pub const RING_RESET: u64 = 1 << 40;

/// Request types beside those of [`spec::request`] (5.2.6).
pub const T_DISCARD: u32 = 11;
/// Write-zeroes.
pub const T_WRITE_ZEROES: u32 = 13;

/// A virtio block device.
#[derive(Clone, Copy, Debug)]
pub struct Block(Device);

impl Block {
    /// The first on the command line.
    pub fn first() -> Result<Block, Failure> {
        Block::nth(0)
    }

    /// Number `index` of those on the command line, from 0.
    pub fn nth(index: usize) -> Result<Block, Failure> {
        Device::nth(index, BLOCK_DEVICE).map(Block)
    }

    /// Sectors of 512 bytes.
    pub fn capacity(self) -> u64 {
        let low = spec::CAPACITY_LOW.read(self.window);
        u64::from(spec::CAPACITY_HIGH.read(self.window)) << 32 | u64::from(low)
    }
}

impl Deref for Block {
    type Target = Device;

    fn deref(&self) -> &Device {
        &self.0
    }
}
