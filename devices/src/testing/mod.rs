//! Test doubles for the guest and the host: drivers for both protocols, an interrupt line that counts, storage that
//! fails, holds requests, finishes late or records, and models that know the correct result.

mod fault;
pub mod fuzz;
pub mod gpu_model;
mod held;
mod input;
mod irq;
mod late;
mod log_lines;
mod nbd_server;
pub mod oracle;
mod pace;
mod recorder;
mod settled;
mod slow;
mod svirtb_driver;
pub mod svirtb_model;
pub mod virtio_driver;
pub mod virtio_ring;
mod watched;

pub use fault::{Fault, FaultStorage, Faults};
pub use held::{Held, HeldStorage};
pub use irq::CountingLine;
pub use late::LateStorage;
pub use log_lines::LogLines;
pub use nbd_server::{ALL_FLAGS, Behaviour, NbdServer, READ_ONLY, Wrong};
pub use pace::ManualPace;
pub use recorder::{Recorded, Recorder};
pub use settled::SettledStorage;
pub use slow::SlowStorage;
pub use svirtb_driver::{SvirtbDriver, SvirtbEntry, SvirtbRefused, SvirtbRing};
pub use virtio_driver::VirtioDriver;
pub use virtio_ring::Ring;
pub use watched::WatchedImage;
