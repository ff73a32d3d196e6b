//! What a driver has set up since the last reset: features, and where its queues are.

use crate::virtio::device::VirtioDevice;
use crate::virtio::queue::QueueLayout;

/// Everything that a reset forgets.
#[derive(Debug)]
pub(in crate::virtio) struct Setup<R> {
    /// The transport's own registers.
    pub(in crate::virtio) registers: R,
    /// The features as the driver wrote them.
    pub(in crate::virtio) driver_features: u64,
    /// The features that both sides have, once they are decided: by FEATURES_OK, or by DRIVER_OK without it.
    pub(super) accepted: Option<u64>,
    pub(super) queues: Vec<QueueSetup>,
    /// Whether the device was activated. A legacy device is activated by its first queue, if DRIVER_OK came before.
    pub(super) active: bool,
    /// Whether a vCPU waits for the device's reset. Until it is done, other vCPUs set nothing up.
    pub(super) resetting: bool,
}

/// The set-up of one queue.
#[derive(Debug, Clone, Copy)]
pub(in crate::virtio) struct QueueSetup {
    /// The most entries that the queue can have.
    pub(in crate::virtio) max: u16,
    /// Whether the driver has made the queue ready.
    pub(in crate::virtio) ready: bool,
    /// Whether it was reset separately (2.6.1), and may be set up again while the device is live.
    pub(in crate::virtio) was_reset: bool,
    pub(in crate::virtio) layout: QueueLayout,
}

impl QueueSetup {
    fn new(max: u16) -> Self {
        Self { max, ready: false, was_reset: false, layout: QueueLayout::default() }
    }

    /// Forgets the set-up, after a reset of this queue alone (2.6.1).
    pub(in crate::virtio) fn reset(&mut self) {
        *self = Self { was_reset: true, ..Self::new(self.max) };
    }
}

impl<R: Default> Setup<R> {
    pub(super) fn new(device: &dyn VirtioDevice) -> Self {
        Self {
            registers: R::default(),
            driver_features: 0,
            accepted: None,
            queues: device.queue_max().iter().map(|max| QueueSetup::new(*max)).collect(),
            active: false,
            resetting: false,
        }
    }
}

impl<R> Setup<R> {
    /// The features that both sides have; 0 until they are decided.
    pub(in crate::virtio) fn features(&self) -> u64 {
        self.accepted.unwrap_or(0)
    }

    /// Whether another vCPU resets the device at this moment.
    pub(in crate::virtio) const fn is_resetting(&self) -> bool {
        self.resetting
    }

    /// The queue with this index, if the device has it.
    pub(in crate::virtio) fn queue(&self, index: u32) -> Option<&QueueSetup> {
        self.queues.get(usize::try_from(index).ok()?)
    }

    /// The queue with this index, if the device has it.
    pub(in crate::virtio) fn queue_mut(&mut self, index: u32) -> Option<&mut QueueSetup> {
        self.queues.get_mut(usize::try_from(index).ok()?)
    }
}
