//! The options that every transport has.

use std::sync::Arc;

use crate::irq::Wake;

/// The interface between driver and device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// Since virtio 1.0.
    #[default]
    Modern,
    /// The legacy interface of drivers before virtio 1.0 (1.3.1).
    Legacy,
}

impl Version {
    /// The features that drivers of this version can see.
    pub(super) const fn visible(self) -> u64 {
        match self {
            Self::Modern => u64::MAX,
            // Legacy drivers see 32 bits.
            Self::Legacy => u32::MAX as u64,
        }
    }
}

/// What a device does when its driver breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Report the rule, and continue as far as possible.
    #[default]
    Lenient,
    /// Report the rule, and serve nothing until a reset.
    Strict,
}

/// The options of a [`Core`](super::Core).
pub(in crate::virtio) struct CoreOptions {
    pub(in crate::virtio) version: Version,
    pub(in crate::virtio) policy: Policy,
    /// Woken when a doorbell leaves work. Without it, the device does not offer EVENT_IDX, with which a driver may omit
    /// the doorbell for that work.
    pub(in crate::virtio) leftover: Option<Arc<dyn Wake>>,
    /// Woken when a driver has set DRIVER_OK.
    pub(in crate::virtio) driver_ok: Option<Arc<dyn Wake>>,
}
