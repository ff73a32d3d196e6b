//! Names and numbers of the virtio 1.4 specification, as far as the drivers here need them.

pub mod gpu;
pub mod input;

use crate::register::Register;

/// "virt", little-endian (4.2.2).
pub const MAGIC: u32 = 0x7472_6976;
/// The version of the modern register layout (4.2.2).
pub const VERSION: u32 = 2;
/// Device ID of a block device (5.2.1); 0 is an empty slot (4.2.2).
pub const BLOCK_DEVICE: u32 = 2;
/// Device ID of a GPU (5.7.1).
pub const GPU_DEVICE: u32 = 16;
/// Device ID of a keyboard, mouse or tablet (5.8.1).
pub const INPUT_DEVICE: u32 = 18;

/// The kind of device that has this ID, of those with a driver here.
pub const fn kind(id: u32) -> &'static str {
    match id {
        BLOCK_DEVICE => "a block device",
        GPU_DEVICE => "a GPU",
        INPUT_DEVICE => "an input device",
        _ => "some other device",
    }
}

/// Bytes of registers before the configuration space (4.2.2).
pub const CONFIG: u64 = 0x100;

macro_rules! registers {
    ($($(#[$doc:meta])* $id:ident = $offset:literal, $name:literal;)*) => {
        $($(#[$doc])* pub const $id: Register = Register::new($offset, $name);)*
    };
}

// 4.2.2, MMIO device register layout. R: read only, W: write only.
registers! {
    /// R: "virt".
    MAGIC_VALUE = 0x000, "MagicValue";
    /// R: 2.
    DEVICE_VERSION = 0x004, "Version";
    /// R: what kind of device.
    DEVICE_ID = 0x008, "DeviceID";
    /// R: who made it.
    VENDOR_ID = 0x00c, "VendorID";
    /// R: 32 of the features that the device offers.
    DEVICE_FEATURES = 0x010, "DeviceFeatures";
    /// W: which 32.
    DEVICE_FEATURES_SEL = 0x014, "DeviceFeaturesSel";
    /// W: 32 of the features that the driver takes.
    DRIVER_FEATURES = 0x020, "DriverFeatures";
    /// W: which 32.
    DRIVER_FEATURES_SEL = 0x024, "DriverFeaturesSel";
    /// W: which queue the following registers are about.
    QUEUE_SEL = 0x030, "QueueSel";
    /// R: the most entries the queue can have; 0: there is no such queue.
    QUEUE_NUM_MAX = 0x034, "QueueNumMax";
    /// W: how many it has.
    QUEUE_NUM = 0x038, "QueueNum";
    /// RW: the queue is in use.
    QUEUE_READY = 0x044, "QueueReady";
    /// W: there are new buffers in the queue of this number.
    QUEUE_NOTIFY = 0x050, "QueueNotify";
    /// R: why the device interrupts.
    INTERRUPT_STATUS = 0x060, "InterruptStatus";
    /// W: which of these have been seen to.
    INTERRUPT_ACK = 0x064, "InterruptACK";
    /// RW: how far the handshake is; 0 resets.
    STATUS = 0x070, "Status";
    /// W: address of the descriptor table, low half.
    QUEUE_DESC_LOW = 0x080, "QueueDescLow";
    /// W: high half.
    QUEUE_DESC_HIGH = 0x084, "QueueDescHigh";
    /// W: address of the available ring.
    QUEUE_DRIVER_LOW = 0x090, "QueueDriverLow";
    /// W: high half.
    QUEUE_DRIVER_HIGH = 0x094, "QueueDriverHigh";
    /// W: address of the used ring.
    QUEUE_DEVICE_LOW = 0x0a0, "QueueDeviceLow";
    /// W: high half.
    QUEUE_DEVICE_HIGH = 0x0a4, "QueueDeviceHigh";
    /// R: changes when the configuration space does.
    CONFIG_GENERATION = 0x0fc, "ConfigGeneration";
}

// 5.2.4, configuration of a block device: what our driver reads of it.
registers! {
    /// R: sectors of 512 bytes, low half.
    CAPACITY_LOW = 0x100, "capacity, low half";
    /// R: high half.
    CAPACITY_HIGH = 0x104, "capacity, high half";
}

/// A field of a block device's configuration that means something with one feature only (5.2.4).
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The number of that feature.
    pub feature: u32,
    /// Where it is, and its name.
    pub register: Register,
    /// Its width in bytes, which is the width to read it with (4.2.2.2): 1, 2 or 4.
    pub width: u8,
    /// What its value counts.
    pub meaning: &'static str,
}

macro_rules! fields {
    ($($feature:literal, $offset:literal, $width:literal, $name:literal, $meaning:literal;)*) => {
        [$(Field {
            feature: $feature,
            register: Register::new($offset, $name),
            width: $width,
            meaning: $meaning,
        }),*]
    };
}

/// All of them that have a number to show, in order.
pub const FIELDS: [Field; 17] = fields! {
    1, 0x108, 4, "size_max", "bytes at most in a segment";
    2, 0x10c, 4, "seg_max", "segments at most in a request";
    4, 0x110, 2, "cylinders", "cylinders";
    4, 0x112, 1, "heads", "heads";
    4, 0x113, 1, "sectors", "sectors in a track";
    6, 0x114, 4, "blk_size", "bytes in a block";
    10, 0x118, 1, "physical_block_exp", "(2 to that power blocks in a physical block)";
    10, 0x119, 1, "alignment_offset", "blocks before the first physical block";
    10, 0x11a, 2, "min_io_size", "blocks at least, for speed";
    10, 0x11c, 4, "opt_io_size", "blocks at best, for speed";
    11, 0x120, 1, "writeback", "(1: writes may stay in a cache until a flush)";
    12, 0x122, 2, "num_queues", "queues";
    13, 0x124, 4, "max_discard_sectors", "sectors at most in a discard";
    13, 0x128, 4, "max_discard_seg", "ranges at most in a discard";
    14, 0x130, 4, "max_write_zeroes_sectors", "sectors at most in a write of zeros";
    14, 0x134, 4, "max_write_zeroes_seg", "ranges at most in a write of zeros";
    14, 0x138, 1, "write_zeroes_may_unmap", "(1: zeroed sectors may be given back to the host)";
};

/// Device status bits (2.1).
pub mod status {
    /// The guest has noticed the device.
    pub const ACKNOWLEDGE: u32 = 1;
    /// It has a driver for it.
    pub const DRIVER: u32 = 2;
    /// The driver is ready: the device is live.
    pub const DRIVER_OK: u32 = 4;
    /// The features are agreed on.
    pub const FEATURES_OK: u32 = 8;
    /// The device is in an error that only a reset ends.
    pub const NEEDS_RESET: u32 = 64;
    /// The guest has given the device up.
    pub const FAILED: u32 = 128;

    /// All of them by name, lowest first.
    pub const NAMES: [(u32, &str); 6] = [
        (ACKNOWLEDGE, "ACKNOWLEDGE"),
        (DRIVER, "DRIVER"),
        (DRIVER_OK, "DRIVER_OK"),
        (FEATURES_OK, "FEATURES_OK"),
        (NEEDS_RESET, "DEVICE_NEEDS_RESET"),
        (FAILED, "FAILED"),
    ];
}

/// Feature bits: of block devices (5.2.3), and of all devices (6).
pub mod feature {
    /// The disk cannot be written.
    pub const RO: u64 = 1 << 5;
    /// There is a flush command, and a write may stay in a cache until it.
    pub const FLUSH: u64 = 1 << 9;
    /// The device follows version 1 of the specification or later.
    pub const VERSION_1: u64 = 1 << 32;

    /// Bits by name, lowest first.
    pub const NAMES: [(u32, &str); 24] = [
        (1, "SIZE_MAX"),
        (2, "SEG_MAX"),
        (4, "GEOMETRY"),
        (5, "RO"),
        (6, "BLK_SIZE"),
        (9, "FLUSH"),
        (10, "TOPOLOGY"),
        (11, "CONFIG_WCE"),
        (12, "MQ"),
        (13, "DISCARD"),
        (14, "WRITE_ZEROES"),
        (15, "LIFETIME"),
        (16, "SECURE_ERASE"),
        (24, "NOTIFY_ON_EMPTY"),
        (27, "ANY_LAYOUT"),
        (28, "INDIRECT_DESC"),
        (29, "EVENT_IDX"),
        (32, "VERSION_1"),
        (33, "ACCESS_PLATFORM"),
        (34, "RING_PACKED"),
        (35, "IN_ORDER"),
        (36, "ORDER_PLATFORM"),
        (38, "NOTIFICATION_DATA"),
        (40, "RING_RESET"),
    ];
}

/// Interrupt status bits (4.2.2).
pub mod interrupt {
    /// A used ring has moved.
    pub const USED_BUFFER: u32 = 1;
    /// The configuration or the device status has changed.
    pub const CONFIG_CHANGE: u32 = 2;
}

/// Block requests (5.2.6).
pub mod request {
    /// From the disk.
    pub const IN: u32 = 0;
    /// To the disk.
    pub const OUT: u32 = 1;
    /// Out of every cache, to stable storage.
    pub const FLUSH: u32 = 4;
    /// The disk's name, 20 bytes.
    pub const GET_ID: u32 = 8;

    /// The status byte: done.
    pub const OK: u8 = 0;
    /// Device or driver error.
    pub const IOERR: u8 = 1;
    /// The device does not know such a request.
    pub const UNSUPP: u8 = 2;
}

/// Descriptor flags (2.7.5).
pub mod descriptor {
    /// The chain goes on at `next`.
    pub const NEXT: u16 = 1;
    /// The device writes the buffer; it reads it otherwise.
    pub const WRITE: u16 = 2;
}

/// Flag of the available ring: the device need not interrupt (2.7.6).
pub const AVAIL_NO_INTERRUPT: u16 = 1;
/// Flag of the used ring: the driver need not notify (2.7.8).
pub const USED_NO_NOTIFY: u16 = 1;
