//! The rules of the specification, as they appear in reports.

use crate::observe::Rule;

pub(super) const WIDTH: Rule = "virtio 1.4, 4.2.2.2: access widths";
pub(super) const NO_REGISTER: Rule = "virtio 1.4, 4.2.2: table of registers";
pub(super) const DIRECTION: Rule = "virtio 1.4, 4.2.2: direction of registers";
pub(super) const LEGACY: Rule = "virtio 1.4, 4.2.4: legacy interface";
pub(super) const CONFIG_WRITE: Rule = "virtio 1.4, 2.5: configuration space";
pub(super) const CONFIG_EARLY: Rule =
    "virtio 1.4, 3.1.1: the configuration space is written after FEATURES_OK";
pub(super) const INTERRUPT_ACK: Rule = "virtio 1.4, 4.2.2.2: InterruptACK";
pub(super) const STATUS_BITS: Rule = "virtio 1.4, 2.1: device status field";
pub(super) const STATUS_CLEARED: Rule = "virtio 1.4, 2.1.1: the driver must not clear a status bit";
pub(super) const NEEDS_RESET: Rule =
    "virtio 1.4, 2.1.1: no request completes while DEVICE_NEEDS_RESET is set";
pub(super) const STATUS_ORDER: Rule = "virtio 1.4, 3.1.1: order of initialization";
pub(super) const FEATURES_SUBSET: Rule = "virtio 1.4, 2.2.1: accept only features that are offered";
pub(super) const FEATURES_SETTLED: Rule = "virtio 1.4, 3.1.1: no new features after FEATURES_OK";
pub(super) const VERSION_1: Rule = "virtio 1.4, 6.1: a driver must accept VERSION_1";
pub(super) const NO_QUEUE: Rule = "virtio 1.4, 4.2.3.2: queues are set up before DRIVER_OK";
pub(super) const EMPTY_SLOT: Rule = "virtio 1.4, 4.2.3.1: DeviceID 0 means no device";
pub(super) const QUEUE_SEL: Rule = "virtio 1.4, 4.2.3.2: QueueNumMax 0 means no such queue";
pub(super) const QUEUE_EARLY: Rule = "virtio 1.4, 3.1.1: queues are set up after FEATURES_OK";
pub(super) const QUEUE_LIVE: Rule = "virtio 1.4, 4.2.2.2: a queue in use is not set up again";
pub(super) const QUEUE_LAYOUT: Rule = "virtio 1.4, 2.7: size, alignment and place of a queue";
pub(super) const QUEUE_ALIGN: Rule =
    "virtio 1.4, 4.2.4: QueueAlign is a power of two, written before QueuePFN";
pub(super) const GUEST_PAGE_SIZE: Rule =
    "virtio 1.4, 4.2.4: GuestPageSize is written before a queue is used";
pub(super) const QUEUE_RESET: Rule = "virtio 1.4, 2.6.1: queue reset";
pub(super) const NOTIFY: Rule = "virtio 1.4, 4.2.3.3: notify only a queue in use";
pub(super) const AVAIL_INDEX: Rule = "virtio 1.4, 2.7.13.3: the available index";
pub(super) const CHAIN: Rule = "virtio 1.4, 2.7.5: descriptor chains";
pub(super) const CHAIN_LENGTH: Rule = "virtio 1.4, 2.7.5.3.1: no chain is longer than its queue";
pub(super) const FRAMING: Rule = "virtio 1.4, 2.7.4.2: readable buffers precede writable buffers";
pub(super) const BLK_LAYOUT: Rule = "virtio 1.4, 5.2.6: layout of a request";
pub(super) const BLK_DATA: Rule = "virtio 1.4, 5.2.6.1: data in whole sectors";
pub(super) const BLK_RANGE: Rule = "virtio 1.4, 5.2.6.1: sectors on the disk";
pub(super) const BLK_READ_ONLY: Rule = "virtio 1.4, 5.2.6.2: a read-only disk is not written";
pub(super) const BLK_RANGES: Rule = "virtio 1.4, 5.2.6.1: ranges of discard and write zeroes";
pub(super) const BLK_TYPE: Rule = "virtio 1.4, 5.2.6: types of requests";
pub(super) const BLK_SIZE: Rule = "cafevm: the bytes of one request";
pub(super) const RNG_BUFFERS: Rule = "virtio 1.4, 5.4.6.1: buffers are for the device to write";
pub(super) const INPUT_BUFFERS: Rule =
    "virtio 1.4, 5.8.6.1: buffers of the eventq are for the device to write, one event each";
pub(super) const INPUT_STATUS: Rule =
    "virtio 1.4, 5.8.6.1: buffers of the statusq have an event for the device to read";
pub(super) const GPU_LAYOUT: Rule = "virtio 1.4, 5.7.6.7: layout of a command";
pub(super) const GPU_RESPONSE: Rule = "virtio 1.4, 5.7.6.7: room for the response";
pub(super) const GPU_COMMAND: Rule = "virtio 1.4, 5.7.6.7: commands of a 2D device";
pub(super) const GPU_RESOURCE: Rule = "virtio 1.4, 5.7.6.8: resources are created before their use";
pub(super) const GPU_RANGE: Rule = "virtio 1.4, 5.7.6.8: rectangles are within the resource";
pub(super) const GPU_BACKING: Rule = "virtio 1.4, 5.7.6.8: the backing of a resource";
pub(super) const GPU_MEMORY: Rule = "cafevm: the memory of a GPU";
pub(super) const HOST: Rule = "host";
