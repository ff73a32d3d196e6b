//! Standard virtio: devices behind virtio-mmio registers, on the split virtqueue.
//!
//! ```text
//!  register access ──▶ mmio::Mmio (registers) ──▶ transport::Core (status, features, queue set-up)
//!                          │ activate: hands the queues over
//!                          ▼
//!  doorbell ────────▶ VirtioDevice::service ──▶ queue::SplitQueue ──▶ chain::Chain ──▶ the device's request
//!                          │
//!  interrupt ◀── notifier::Notifier ◀─────────────┘
//! ```
//!
//! The transport owns the set-up, the device owns the live queues, and each of these has a lock of its own. A reset takes
//! the queues away from the device, and the transport begins anew.

pub mod blk;
pub mod chain;
pub mod device;
pub mod mmio;
pub mod notifier;
pub mod queue;
pub mod rng;
mod rules;
pub mod spec;
mod transport;
