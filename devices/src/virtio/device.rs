//! The interface between a kind of device and its transport.

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::notifier::Notifier;
use super::queue::{Interrupt, Progress, SplitQueue};
use crate::observe::{Event, Reporter};
use crate::stuck::Stuck;

/// The accepted features of a live device, and how to signal its driver. Each live queue has a copy.
#[derive(Debug, Clone)]
pub struct Live {
    /// The features that the driver accepted: a subset of those offered.
    pub features: u64,
    /// Signals the driver.
    pub notifier: Arc<dyn Notifier>,
}

impl Live {
    /// Interrupts the driver once, if it wants that for the chains that `queue` returned since the last call.
    pub(crate) fn interrupt(&self, queue: &mut SplitQueue, index: u16, reporter: &Reporter) {
        match queue.wants_interrupt() {
            None => {}
            Some(Interrupt::Wanted) => self.notifier.used_buffers(),
            Some(Interrupt::Suppressed(why)) => {
                let used = queue.progress().returned;
                reporter.emit(|| Event::Suppressed { queue: index, why, used });
            }
        }
    }
}

/// What a device gets when it is activated.
#[derive(Debug)]
pub struct Activation {
    /// The features, and the signals.
    pub live: Live,
    /// The device's queues by index; none for a queue that the driver did not make ready.
    pub queues: Vec<Option<SplitQueue>>,
}

/// The result of [`VirtioDevice::service`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceResult {
    /// The queue has no more work. The driver rings the doorbell for new work.
    Drained,
    /// The limit of one call was reached. The queue may have more work, for which no doorbell comes.
    MoreWork,
    /// The queue does not exist, or does not run.
    NotRunning,
}

/// The result of [`VirtioDevice::poll`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollResult {
    /// The device took or answered requests.
    Worked,
    /// There was nothing to do.
    Idle,
    /// The queue does not exist, or does not run.
    NotRunning,
}

/// A kind of virtio device, without its transport.
///
/// All calls take `&self`, because several vCPUs and the I/O thread use a device at the same time. Only
/// [`VirtioDevice::service`] and the calls that document it wait for I/O.
pub trait VirtioDevice: Send + Sync {
    /// Reports events and broken rules of the device and its transport.
    fn reporter(&self) -> &Reporter;
    /// The device's id (virtio 1.4, 5).
    fn device_id(&self) -> u32;
    /// The kind of device, in words: "a block device".
    fn kind(&self) -> &'static str;
    /// The offered features, without VERSION_1, which the transport adds.
    fn features(&self) -> u64;
    /// The names of the feature bits of this kind of device.
    fn feature_names(&self) -> &'static [(u64, &'static str)];
    /// For each queue, the most entries: a power of two.
    fn queue_max(&self) -> &[u16];
    /// Fills `data` from the configuration space at `offset` bytes; zeros past its end.
    fn read_config(&self, offset: u64, data: &mut [u8]);
    /// Applies a driver's write to the configuration space at `offset` bytes. Returns false if the bytes there are not
    /// writable. May wait for I/O if the write requires it.
    fn write_config(&self, offset: u64, data: &[u8]) -> bool;
    /// The driver's features are final (FEATURES_OK, which the legacy interface does not have). The device adapts its
    /// configuration space.
    fn features_settled(&self, _features: u64) {}
    /// Starts the device: at DRIVER_OK, or at the first queue if a legacy driver sets it up later. Never called twice
    /// without [`VirtioDevice::reset`] in between.
    fn activate(&self, activation: Activation);
    /// Services a queue: answers finished requests, then takes available ones. Each call takes at most as many requests
    /// as the queue has entries, and a limited number of bytes, so that a guest that keeps adding requests cannot
    /// occupy the caller. If another thread services the queue at this moment, that thread checks it again, and this
    /// call returns immediately.
    fn service(&self, queue: u16) -> ServiceResult;
    /// Services a queue like [`VirtioDevice::service`], and asks its driver not to ring the doorbell. For a thread that
    /// looks at the queue again and again. At the end it calls `service`, which turns doorbells on again. A device
    /// without it is driven by doorbells alone.
    fn poll(&self, _queue: u16) -> PollResult {
        PollResult::NotRunning
    }
    /// Starts one queue after [`VirtioDevice::stop_queue`] (2.6.1).
    fn start_queue(&self, index: u16, queue: SplitQueue, live: Live);
    /// Stops one queue: when this returns `Ok`, the device no longer accesses it.
    ///
    /// # Errors
    ///
    /// If the host does not finish the requests in flight. The device answers nothing more on the queue, but the host
    /// may still write to its buffers.
    fn stop_queue(&self, queue: u16) -> Result<(), Stuck>;
    /// Stops all queues, and forgets the driver's set-up. When this returns `Ok`, the device no longer accesses guest
    /// memory.
    ///
    /// # Errors
    ///
    /// See [`VirtioDevice::stop_queue`].
    fn reset(&self) -> Result<(), Stuck>;

    /// Takes no new requests from now on; requests in flight are finished and answered. For a pause of the machine.
    fn hold(&self);
    /// Waits until nothing is in flight. Requests that wait for the limits of a disk are started. Requests that wait for
    /// room on the host are kept, and do not count.
    ///
    /// # Errors
    ///
    /// If the host does not finish the requests in flight.
    fn quiesce(&self) -> Result<(), Stuck>;
    /// Ends [`VirtioDevice::hold`]: retries the requests that wait for room on the host, then takes new ones. The
    /// caller then services all queues, because doorbells may have arrived in the meantime.
    fn release(&self);
    /// For each queue, by index, the descriptor that becomes readable when the host has finished requests:
    /// [`VirtioDevice::service`] then answers them. None for a queue whose requests finish inside `service`.
    fn wakes(&self) -> Vec<Option<Arc<EventFd>>>;
    /// Whether the chains of a queue wait for something that happens on the host, such as a key press. Chains that
    /// wait there are nothing left undone.
    fn receives(&self, _queue: u16) -> bool {
        false
    }
    /// How far a queue has come; none if it does not run, or another thread services it at this moment. The second
    /// value is whether a doorbell arrived during the call: the caller then services the queue.
    fn progress(&self, _queue: u16) -> Option<(Progress, bool)> {
        None
    }
}
