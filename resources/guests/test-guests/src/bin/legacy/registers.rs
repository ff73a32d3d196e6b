//! The legacy register layout (virtio 1.4, 4.2.4), by offset in bytes.

use rt::mmio::Mmio;
use scenario::{Outcome, ensure_eq};

pub(crate) const MAGIC_VALUE: u64 = 0x000;
pub(crate) const VERSION: u64 = 0x004;
pub(crate) const DEVICE_ID: u64 = 0x008;
pub(crate) const VENDOR_ID: u64 = 0x00c;
pub(crate) const HOST_FEATURES: u64 = 0x010;
pub(crate) const HOST_FEATURES_SEL: u64 = 0x014;
pub(crate) const GUEST_FEATURES: u64 = 0x020;
pub(crate) const GUEST_FEATURES_SEL: u64 = 0x024;
pub(crate) const GUEST_PAGE_SIZE: u64 = 0x028;
pub(crate) const QUEUE_SEL: u64 = 0x030;
pub(crate) const QUEUE_NUM_MAX: u64 = 0x034;
pub(crate) const QUEUE_NUM: u64 = 0x038;
pub(crate) const QUEUE_ALIGN: u64 = 0x03c;
pub(crate) const QUEUE_PFN: u64 = 0x040;
pub(crate) const QUEUE_NOTIFY: u64 = 0x050;
pub(crate) const INTERRUPT_STATUS: u64 = 0x060;
pub(crate) const INTERRUPT_ACK: u64 = 0x064;
pub(crate) const STATUS: u64 = 0x070;
/// The configuration space; a disk's begins with its capacity in sectors, in two halves.
pub(crate) const CONFIG: u64 = 0x100;

/// Status bits. FEATURES_OK is none of the legacy interface's, but many drivers set it.
pub(crate) const ACKNOWLEDGE: u32 = 1;
pub(crate) const DRIVER: u32 = 2;
pub(crate) const DRIVER_OK: u32 = 4;
pub(crate) const FEATURES_OK: u32 = 8;

/// What every kind looks at first.
pub(crate) fn check_is_legacy_disk(r: Mmio) -> Outcome {
    ensure_eq!(r.read32(MAGIC_VALUE), 0x7472_6976, "MagicValue");
    ensure_eq!(r.read32(VERSION), 1, "Version");
    ensure_eq!(r.read32(DEVICE_ID), 2, "DeviceID");
    Ok(())
}
