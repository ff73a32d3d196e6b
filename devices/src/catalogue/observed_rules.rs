//! The rules whose breach only several events show, as they appear in reports. `doctor/` reports them.

use crate::observe::Rule;

pub(crate) const RESET_FIRST: Rule = "virtio 1.4, 3.1.1: the driver resets the device first";
pub(crate) const IDENTITY: Rule =
    "virtio 1.4, 4.2.3.1: the driver reads MagicValue, Version and DeviceID first";
pub(crate) const STEPS: Rule = "virtio 1.4, 3.1.1: the bits of Status are set one after the other";
pub(crate) const FEATURES_OK_READ: Rule = "virtio 1.4, 3.1.1: the driver reads FEATURES_OK back";
pub(crate) const SELECTOR: Rule = "virtio 1.4, 4.2.2.2: a selector is written before the features";
pub(crate) const QUEUE_NUM_MAX: Rule =
    "virtio 1.4, 4.2.3.2: QueueNumMax is read before QueueNum is written";
pub(crate) const OVERLAP: Rule = "virtio 1.4, 2.7: the parts of a queue do not overlap";
pub(crate) const NOTHING_NEW: Rule =
    "virtio 1.4, 2.7.13.4: a doorbell follows a new available index";
pub(crate) const HEAD_IN_USE: Rule = "virtio 1.4, 2.7.13: a chain in use is not queued again";
pub(crate) const BUFFER_OVER_RING: Rule = "virtio 1.4, 2.7: buffers and rings are different memory";
pub(crate) const BUFFER_SHARED: Rule = "cafevm: buffers in use do not overlap";
pub(crate) const HEADER: Rule = "cafevm: the header of a request is a descriptor of 16 bytes";
pub(crate) const IRQ_NOT_ACKNOWLEDGED: Rule = "virtio 1.4, 4.2.3.4: an interrupt is acknowledged";
pub(crate) const IRQ_NOT_READ: Rule =
    "virtio 1.4, 4.2.3.4: InterruptStatus is read before it is acknowledged";
pub(crate) const USED_EVENT: Rule =
    "virtio 1.4, 2.7.7.1: with EVENT_IDX, the driver moves used_event";
/// The guest accessed an address without a device. The VMM reports it.
pub const NO_DEVICE: Rule = "cafevm: memory accesses reach RAM or a device";
/// The guest waits, and nothing happens. The VMM reports it.
pub const WAITS: Rule = "cafevm: the driver and the device do not wait for each other";
/// The guest sleeps, and the driver has suppressed interrupts. The VMM reports it.
pub const SLEEPS: Rule = "cafevm: a driver that sleeps lets the device interrupt it";
pub(crate) const SVIRTB_NOTHING_NEW: Rule = "svirtb 3, a doorbell hands over at least one entry";
pub(crate) const SVIRTB_READ_PAST_END: Rule = "svirtb 2.2.1, a read begins on the disk";
pub(crate) const SVIRTB_SWAPPED: Rule = "svirtb 2.2.1, size is in bytes and sector in sectors";
pub(crate) const SVIRTB_SPACING: Rule = "svirtb 1.2, entries are 28 or 32 bytes apart";
