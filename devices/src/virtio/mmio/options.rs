//! The options of a device behind virtio-mmio registers.

use std::sync::Arc;

use crate::irq::Wake;
use crate::register_page::Window;
use crate::virtio::spec::mmio::{LEGACY_VERSION, VERSION};
use crate::virtio::transport::{Policy, Version};

/// The value of the Version register.
pub(super) const fn version_value(version: Version) -> u32 {
    match version {
        Version::Modern => VERSION,
        Version::Legacy => LEGACY_VERSION,
    }
}

/// The options of a device behind virtio-mmio registers.
#[derive(Default)]
pub struct MmioOptions {
    /// The layout of the registers: version 2, or version 1 (4.2.4).
    pub version: Version,
    /// What the device does when its driver breaks a rule.
    pub policy: Policy,
    /// Wakes the thread that calls [`service_unfinished`](super::Mmio::service_unfinished) when a doorbell leaves work.
    /// Without it, the device does not offer EVENT_IDX, with which a driver may omit the doorbell for that work.
    pub leftover: Option<Arc<dyn Wake>>,
    /// Woken when a driver has set DRIVER_OK ([`was_used`](super::Mmio::was_used)).
    pub driver_ok: Option<Arc<dyn Wake>>,
    /// The memory in which the registers are stored.
    pub window: Window,
}
