//! The constants of the specification, each with its section in "Virtual I/O Device (VIRTIO) Version 1.4".

pub mod gpu;
pub mod input;

/// The device status field (2.1).
pub mod status {
    /// ACKNOWLEDGE: the guest has found the device.
    pub const ACKNOWLEDGE: u32 = 1;
    /// DRIVER: the guest has a driver for it.
    pub const DRIVER: u32 = 2;
    /// DRIVER_OK: the driver is set up: the device is live.
    pub const DRIVER_OK: u32 = 4;
    /// FEATURES_OK: the features are final.
    pub const FEATURES_OK: u32 = 8;
    /// DEVICE_NEEDS_RESET: the device met an error from which only a reset recovers.
    pub const DEVICE_NEEDS_RESET: u32 = 64;
    /// FAILED: the guest has given up on the device.
    pub const FAILED: u32 = 128;

    /// The bits that a driver may set.
    pub const DRIVER_BITS: u32 = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED;
    /// Each bit with its name.
    pub const NAMES: [(u32, &str); 6] = [
        (ACKNOWLEDGE, "ACKNOWLEDGE"),
        (DRIVER, "DRIVER"),
        (FEATURES_OK, "FEATURES_OK"),
        (DRIVER_OK, "DRIVER_OK"),
        (DEVICE_NEEDS_RESET, "DEVICE_NEEDS_RESET"),
        (FAILED, "FAILED"),
    ];
}

/// Feature bits: those of every device (6), of the block device (5.2.3) and of the GPU (5.7.3).
pub mod feature {
    /// VIRTIO_BLK_F_SIZE_MAX: `size_max` is the largest buffer.
    pub const BLK_SIZE_MAX: u64 = 1 << 1;
    /// VIRTIO_BLK_F_SEG_MAX: `seg_max` is the greatest number of buffers in a request.
    pub const BLK_SEG_MAX: u64 = 1 << 2;
    /// VIRTIO_BLK_F_RO: the disk is read-only.
    pub const BLK_RO: u64 = 1 << 5;
    /// VIRTIO_BLK_F_BLK_SIZE: `blk_size` is the disk's block size.
    pub const BLK_BLK_SIZE: u64 = 1 << 6;
    /// VIRTIO_BLK_F_FLUSH: the flush command, and with it a write-back cache.
    pub const BLK_FLUSH: u64 = 1 << 9;
    /// VIRTIO_BLK_F_TOPOLOGY: the block sizes that suit the disk.
    pub const BLK_TOPOLOGY: u64 = 1 << 10;
    /// VIRTIO_BLK_F_CONFIG_WCE: the driver may switch the write-back cache.
    pub const BLK_CONFIG_WCE: u64 = 1 << 11;
    /// VIRTIO_BLK_F_MQ: more than one queue.
    pub const BLK_MQ: u64 = 1 << 12;
    /// VIRTIO_BLK_F_DISCARD: the discard command.
    pub const BLK_DISCARD: u64 = 1 << 13;
    /// VIRTIO_BLK_F_WRITE_ZEROES: the write-zeroes command.
    pub const BLK_WRITE_ZEROES: u64 = 1 << 14;
    /// VIRTIO_GPU_F_EDID: the command GET_EDID (5.7.3).
    pub const GPU_EDID: u64 = 1 << 1;
    /// VIRTIO_F_NOTIFY_ON_EMPTY: an interrupt whenever a queue becomes empty, wanted or not. Legacy only (6.3).
    pub const NOTIFY_ON_EMPTY: u64 = 1 << 24;
    /// VIRTIO_F_INDIRECT_DESC: descriptors may point to tables of descriptors (2.7.5.3).
    pub const RING_INDIRECT_DESC: u64 = 1 << 28;
    /// VIRTIO_F_EVENT_IDX: ring indices control notifications (2.7.7, 2.7.10).
    pub const RING_EVENT_IDX: u64 = 1 << 29;
    /// VIRTIO_F_VERSION_1: the driver complies with virtio 1.0 or later.
    pub const VERSION_1: u64 = 1 << 32;
    /// VIRTIO_F_RING_RESET: one queue can be reset by itself (2.6.1).
    pub const RING_RESET: u64 = 1 << 40;

    /// The bits of the block device, with their names.
    pub const BLK_NAMES: [(u64, &str); 10] = [
        (BLK_SIZE_MAX, "SIZE_MAX"),
        (BLK_SEG_MAX, "SEG_MAX"),
        (BLK_RO, "RO"),
        (BLK_BLK_SIZE, "BLK_SIZE"),
        (BLK_FLUSH, "FLUSH"),
        (BLK_TOPOLOGY, "TOPOLOGY"),
        (BLK_CONFIG_WCE, "CONFIG_WCE"),
        (BLK_MQ, "MQ"),
        (BLK_DISCARD, "DISCARD"),
        (BLK_WRITE_ZEROES, "WRITE_ZEROES"),
    ];
    /// The bits of the GPU, with their names.
    pub const GPU_NAMES: [(u64, &str); 1] = [(GPU_EDID, "EDID")];
    /// The bits of every device, with their names.
    pub const NAMES: [(u64, &str); 5] = [
        (NOTIFY_ON_EMPTY, "NOTIFY_ON_EMPTY"),
        (RING_INDIRECT_DESC, "INDIRECT_DESC"),
        (RING_EVENT_IDX, "EVENT_IDX"),
        (VERSION_1, "VERSION_1"),
        (RING_RESET, "RING_RESET"),
    ];
}

/// The MMIO transport (4.2.2).
pub mod mmio {
    /// MagicValue: "virt", little-endian.
    pub const MAGIC: u32 = 0x7472_6976;
    /// Version of the register layout: not legacy.
    pub const VERSION: u32 = 2;
    /// Version of the register layout from before virtio 1.0 (4.2.4).
    pub const LEGACY_VERSION: u32 = 1;
    /// VendorID: "QEMU", little-endian. The specification leaves it free; some drivers (xv6) require this value.
    pub const VENDOR: u32 = 0x554d_4551;
    /// The offset of QueueNotify, the doorbell, in bytes.
    pub const QUEUE_NOTIFY: u64 = 0x050;
    /// The offset of InterruptStatus, in bytes.
    pub const INTERRUPT_STATUS: u64 = 0x060;
    /// The offset of Status, in bytes.
    pub const STATUS: u64 = 0x070;
    /// The offset of the device's configuration space, in bytes.
    pub const CONFIG: u64 = 0x100;
    /// InterruptStatus: a queue has used buffers.
    pub const INTERRUPT_USED: u32 = 1;
    /// InterruptStatus: the configuration, or the device status, has changed.
    pub const INTERRUPT_CONFIG: u32 = 2;
}

/// The split virtqueue (2.7).
pub mod ring {
    /// The bytes of one descriptor, and the alignment of the descriptor table.
    pub const DESC_SIZE: u32 = 16;
    /// The alignment of the available ring.
    pub const AVAIL_ALIGN: u64 = 2;
    /// The alignment of the used ring.
    pub const USED_ALIGN: u64 = 4;
    /// The bytes of one element of the available ring.
    pub const AVAIL_ELEM: u64 = 2;
    /// The bytes of one element of the used ring.
    pub const USED_ELEM: u64 = 8;
    /// The bytes before the elements of either ring: flags and idx.
    pub const RING_HEADER: u64 = 4;
    /// Legacy: the default alignment of the used ring, if the driver does not write QueueAlign (4.2.4 requires it).
    /// Other devices use the same default.
    pub const LEGACY_ALIGN: u32 = 4096;
    /// The bytes after the elements of either ring: used_event or avail_event.
    pub const RING_EVENT: u64 = 2;

    /// Descriptor flag: `next` names another descriptor (2.7.5).
    pub const DESC_NEXT: u16 = 1;
    /// Descriptor flag: the device writes the buffer, and does not read it.
    pub const DESC_WRITE: u16 = 2;
    /// Descriptor flag: the buffer is a table of descriptors (2.7.5.3).
    pub const DESC_INDIRECT: u16 = 4;
    /// Available ring flag: the driver asks for no interrupts (2.7.7).
    pub const AVAIL_NO_INTERRUPT: u16 = 1;
    /// Used ring flag: the device asks for no doorbells (2.7.10).
    pub const USED_NO_NOTIFY: u16 = 1;
}

/// The block device (5.2).
pub mod blk {
    /// The device's id (5).
    pub const DEVICE_ID: u32 = 2;
    /// The bytes of a request's header: type, reserved, sector (5.2.6).
    pub const HEADER_SIZE: usize = 16;
    /// The bytes of the text that GET_ID returns (5.2.6).
    pub const ID_SIZE: usize = 20;

    /// Request type: read.
    pub const T_IN: u32 = 0;
    /// Request type: write.
    pub const T_OUT: u32 = 1;
    /// Request type: flush.
    pub const T_FLUSH: u32 = 4;
    /// Request type: the disk's id.
    pub const T_GET_ID: u32 = 8;
    /// Request type: discard.
    pub const T_DISCARD: u32 = 11;
    /// Request type: write zeroes.
    pub const T_WRITE_ZEROES: u32 = 13;

    /// The bytes of one range of a discard or a write-zeroes: sector, sectors, flags (5.2.6).
    pub const RANGE_SIZE: usize = 16;
    /// Flag of a write-zeroes range: the host may free the space.
    pub const RANGE_UNMAP: u32 = 1;

    /// Status: done.
    pub const S_OK: u8 = 0;
    /// Status: an error of the device or the driver.
    pub const S_IOERR: u8 = 1;
    /// Status: the request is not supported.
    pub const S_UNSUPP: u8 = 2;
}

/// The names of the bits set in `value`, joined by " | "; bits without a name as one number; "0" for none.
pub fn bit_names<T>(value: T, names: &[(T, &str)]) -> String
where
    T: Copy + Into<u64>,
{
    let mut rest: u64 = value.into();
    let mut parts = Vec::new();
    for (bit, name) in names {
        let bit: u64 = (*bit).into();
        if rest & bit != 0 {
            parts.push((*name).to_owned());
            rest &= !bit;
        }
    }
    if rest != 0 || parts.is_empty() {
        parts.push(if rest == 0 { "0".to_owned() } else { format!("{rest:#x}") });
    }
    parts.join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_named_and_the_unknown_ones_kept() {
        assert_eq!(bit_names(0u32, &status::NAMES), "0");
        assert_eq!(bit_names(11u32, &status::NAMES), "ACKNOWLEDGE | DRIVER | FEATURES_OK");
        assert_eq!(bit_names(0x31u32, &status::NAMES), "ACKNOWLEDGE | 0x30");
        assert_eq!(bit_names(1u64 << 32 | 1 << 29, &feature::NAMES), "EVENT_IDX | VERSION_1");
    }
}
