//! What a kind of device (block, some day others) is to its transport.

use super::interrupt::Notifier;
use super::queue::SplitQueue;
use crate::block::GrowError;
use crate::complaints::Complaints;

/// What a device gets when it goes live.
#[derive(Debug)]
pub struct Activation {
    /// The features that the driver accepted: a part of those that the device offers.
    pub features: u64,
    /// The device's queues, by index; none where the driver did not make one ready.
    pub queues: Vec<Option<SplitQueue>>,
    /// Where to say that buffers were used.
    pub notifier: Notifier,
}

/// How much of a queue was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// All. The driver rings for whatever it adds from now on.
    All,
    /// As much as one call may. There may be more, for which no doorbell comes.
    Some,
}

/// A kind of virtio device, without its transport.
pub trait VirtioDevice: Send {
    /// Where the device complains about its driver; its transport does so at the same place.
    fn complaints(&self) -> &Complaints;
    /// The device's id (virtio 1.2, 5).
    fn device_id(&self) -> u32;
    /// The features offered, without VERSION_1, which is the transport's.
    fn features(&self) -> u64;
    /// For each queue the most entries it can have: a power of two.
    fn queue_max(&self) -> &[u16];
    /// Fills `data` from the configuration space at `offset` bytes; zeros past its end.
    fn read_config(&self, offset: u64, data: &mut [u8]);
    /// Takes what the driver wrote into the configuration space at `offset` bytes. False where nothing there
    /// can be written.
    fn write_config(&mut self, offset: u64, data: &[u8]) -> bool;
    /// The driver's features are settled (FEATURES_OK, which the legacy interface does not have), and the configuration
    /// space is as they want it.
    fn features_settled(&mut self, _features: u64) {}
    /// Goes live (DRIVER_OK). Never called twice without [`VirtioDevice::reset`] in between.
    fn activate(&mut self, activation: Activation);
    /// Serves a queue: all that is available, but never more than the queue has entries, so that a guest that
    /// keeps adding cannot keep the caller here. Without effect where there is no such queue.
    fn service(&mut self, queue: u16) -> Served;
    /// Takes one queue into use again after [`VirtioDevice::stop_queue`] (2.6.1).
    fn start_queue(&mut self, index: u16, queue: SplitQueue);
    /// Makes the device `bytes` large, as the host's user asks. True where the configuration space changed.
    ///
    /// # Errors
    ///
    /// Where it cannot be; nothing has changed then.
    fn resize(&mut self, bytes: u64) -> Result<bool, GrowError>;
    /// Takes one queue out of use: when this returns, the device touches it no more.
    fn stop_queue(&mut self, queue: u16);
    /// Takes all queues out of use, and forgets what the driver said.
    fn reset(&mut self);
}
