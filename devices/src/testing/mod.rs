//! What plays the guest, and the guest's host, in tests: drivers for both protocols, an interrupt line that
//! counts, engines that fail, hold back or remember, and machines whose right answers are known.

mod fault;
pub mod fuzz;
mod held;
mod input;
mod irq;
mod log_lines;
pub mod oracle;
mod svirtb_driver;
pub mod svirtb_model;
pub mod virtio_driver;
pub mod virtio_ring;
mod watched;

pub use fault::{Fault, FaultEngine, Faults};
pub use held::{Held, HeldEngine};
pub use irq::CountingLine;
pub use log_lines::LogLines;
pub use svirtb_driver::{SvirtbDriver, SvirtbEntry, SvirtbRefused, SvirtbRing};
pub use virtio_driver::VirtioDriver;
pub use virtio_ring::Ring;
pub use watched::{WatchedEngine, WatchedImage};
