//! What plays the guest, and the guest's host, in tests: drivers for both protocols, an interrupt line that
//! counts, an engine that fails on demand.

mod fault;
mod irq;
mod svirtb_driver;
pub mod virtio_driver;

pub use fault::{Fault, FaultEngine, Faults};
pub use irq::CountingLine;
pub use svirtb_driver::{SvirtbDriver, SvirtbEntry, SvirtbRefused, SvirtbRing};
pub use virtio_driver::VirtioDriver;
