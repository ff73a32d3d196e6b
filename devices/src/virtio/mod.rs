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
//! The transport owns the set-up, the device owns the live queues, and each queue has its own lock. A reset takes the
//! queues from the device, and the transport starts with a new set-up.

pub mod blk;
mod catalogue;
pub mod chain;
pub mod device;
mod diagnosis;
pub mod gpu;
mod inline_queue;
pub mod input;
pub mod mmio;
pub mod notifier;
pub mod queue;
pub mod rng;
mod rules;
pub mod spec;
mod transport;

pub(crate) use catalogue::RULES;
