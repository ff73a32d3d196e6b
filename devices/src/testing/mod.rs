//! What plays the guest, and the guest's host, in tests: drivers for both protocols, an interrupt line that
//! counts, an engine that fails on demand.

mod fault;
mod irq;

pub use fault::{Fault, FaultEngine, Faults};
pub use irq::CountingLine;
