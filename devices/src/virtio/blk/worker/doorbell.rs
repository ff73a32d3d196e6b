//! Whether a driver rings the doorbell, or the device looks at the queue by itself.

use crate::virtio::blk::live::LiveQueue;

/// Whether the driver has to ring the doorbell for its next request.
#[derive(Clone, Copy)]
pub(super) enum Doorbell {
    On,
    Off,
}

impl Doorbell {
    /// Tells the driver of an empty queue. Returns true if the device must check the queue again.
    pub(super) fn set(self, live: &mut LiveQueue) -> bool {
        match self {
            Self::On => live.queue.rearm(),
            Self::Off => {
                live.queue.quieten();
                false
            }
        }
    }
}
