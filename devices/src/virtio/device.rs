//! What a kind of device (block, some day others) is to its transport.

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::notifier::Notifier;
use super::queue::SplitQueue;
use crate::observe::Reporter;
use crate::stuck::Stuck;

/// The features of a live device, and its way to signal the driver. Each live queue has them.
#[derive(Debug, Clone)]
pub struct Live {
    /// The features that the driver accepted: a part of those that the device offers.
    pub features: u64,
    /// Signals the driver.
    pub notifier: Arc<dyn Notifier>,
}

/// What a device gets when it goes live.
#[derive(Debug)]
pub struct Activation {
    /// The features, and the signals.
    pub live: Live,
    /// The device's queues, by index; none where the driver did not make one ready.
    pub queues: Vec<Option<SplitQueue>>,
}

/// What one call of [`VirtioDevice::service`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceResult {
    /// The queue has no more work. The driver rings for whatever it adds from now on.
    Drained,
    /// As much as one call may do. The queue may have more work, for which no doorbell comes.
    MoreWork,
    /// The device has no such live queue.
    NotRunning,
}

/// A kind of virtio device, without its transport.
///
/// All calls take `&self`, as several vCPUs and the host's I/O thread use a device at the same time. Only
/// [`VirtioDevice::service`] and the calls that say so wait for I/O.
pub trait VirtioDevice: Send + Sync {
    /// What the device and its transport report by.
    fn reporter(&self) -> &Reporter;
    /// The device's id (virtio 1.2, 5).
    fn device_id(&self) -> u32;
    /// What kind of device it is, in words: "a block device".
    fn kind(&self) -> &'static str;
    /// The features offered, without VERSION_1, which is the transport's.
    fn features(&self) -> u64;
    /// The names of the feature bits that only this kind of device has.
    fn feature_names(&self) -> &'static [(u64, &'static str)];
    /// For each queue the most entries it can have: a power of two.
    fn queue_max(&self) -> &[u16];
    /// Fills `data` from the configuration space at `offset` bytes; zeros past its end.
    fn read_config(&self, offset: u64, data: &mut [u8]);
    /// Takes what the driver wrote into the configuration space at `offset` bytes. False where nothing there
    /// can be written. May wait for I/O, as far as the write itself asks for it.
    fn write_config(&self, offset: u64, data: &[u8]) -> bool;
    /// The driver's features are settled (FEATURES_OK, which the legacy interface does not have), and the configuration
    /// space is as they want it.
    fn features_settled(&self, _features: u64) {}
    /// Goes live: with DRIVER_OK, or with the first queue, where a legacy driver sets that up later. Never called twice
    /// without [`VirtioDevice::reset`] in between.
    fn activate(&self, activation: Activation);
    /// Serves a queue: answers what the host has finished, then takes what is available, but never more than the queue
    /// has entries, nor more bytes than a limit of the device's, so that a guest that keeps adding cannot keep the
    /// caller here. Where another thread serves the queue at this moment, that thread looks again, and this call
    /// returns at once.
    fn service(&self, queue: u16) -> ServiceResult;
    /// Takes one queue into use again after [`VirtioDevice::stop_queue`] (2.6.1).
    fn start_queue(&self, index: u16, queue: SplitQueue, live: Live);
    /// Takes one queue out of use: when this returns `Ok`, the device touches it no more.
    ///
    /// # Errors
    ///
    /// Where the host does not finish what is in flight. The device answers nothing on the queue any more, but its
    /// buffers may still be written.
    fn stop_queue(&self, queue: u16) -> Result<(), Stuck>;
    /// Takes all queues out of use, and forgets what the driver said. When this returns `Ok`, the device touches no
    /// guest memory any more.
    ///
    /// # Errors
    ///
    /// As for [`VirtioDevice::stop_queue`].
    fn reset(&self) -> Result<(), Stuck>;

    /// From now on takes no new request off a queue; what is in flight is finished and answered. For a machine that is
    /// to be paused.
    fn hold(&self);
    /// Waits until nothing is in flight. Requests that wait for room on the host do not count: they are kept.
    ///
    /// # Errors
    ///
    /// Where the host does not finish what is in flight.
    fn quiesce(&self) -> Result<(), Stuck>;
    /// Ends [`VirtioDevice::hold`]: tries the requests again that wait for room on the host, then takes new ones. The
    /// caller then serves all queues, as doorbells may have come meanwhile.
    fn release(&self);
    /// For each queue, by index, what becomes readable when the host has finished requests of it:
    /// [`VirtioDevice::service`] then answers them. None for a queue whose requests finish inside `service`.
    fn wakes(&self) -> Vec<Option<Arc<EventFd>>>;
}
