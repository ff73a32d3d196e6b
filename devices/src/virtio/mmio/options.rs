//! How a device's transport can be.

use std::sync::Arc;

use super::page::Window;
use crate::irq::Wake;
use crate::trace::Tracer;
use crate::virtio::spec::mmio::{LEGACY_VERSION, VERSION};

/// Which layout the registers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// Version 2, since virtio 1.0.
    #[default]
    Modern,
    /// Version 1, from before (4.2.4).
    Legacy,
}

impl Version {
    /// What the Version register reads.
    pub(super) const fn value(self) -> u32 {
        match self {
            Self::Modern => VERSION,
            Self::Legacy => LEGACY_VERSION,
        }
    }

    /// The features that drivers of this version can see.
    pub(super) const fn visible(self) -> u64 {
        match self {
            Self::Modern => u64::MAX,
            // Legacy drivers see 32 bits.
            Self::Legacy => u32::MAX as u64,
        }
    }
}

/// What becomes of a driver that breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// It is told, and helped as far as possible.
    #[default]
    Lenient,
    /// It is told, and must reset the device.
    Strict,
}

/// How a device's transport is to be.
#[derive(Default)]
pub struct Options {
    /// The layout of the registers.
    pub version: Version,
    /// What becomes of a driver that breaks a rule.
    pub policy: Policy,
    /// Wakes the thread that calls [`service_unfinished`](super::Mmio::service_unfinished) when a doorbell left work
    /// undone. Without, the device does not offer EVENT_IDX, with which a driver may leave out the doorbell for that work.
    pub leftover: Option<Arc<dyn Wake>>,
    /// Signalled when a driver has set DRIVER_OK ([`was_used`](super::Mmio::was_used)).
    pub taken_over: Option<Arc<dyn Wake>>,
    /// Where the registers are to be read.
    pub window: Window,
    /// Who watches.
    pub tracer: Tracer,
}
