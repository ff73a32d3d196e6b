//! virtio-blk on virtio-mmio version 2, with a split virtqueue (virtio 1.4).
//!
//! | to learn | open |
//! |---|---|
//! | the registers, feature and status bits | `virtio/spec.rs` |
//! | the split virtqueue | `virtio/queue.rs` |
//! | the handshake | `virtio/handshake.rs` |
//! | a request and its end | `virtio/disk.rs` |
//! | the interrupt | `virtio/interrupt.rs` |

mod disk;
mod error;
mod handshake;
mod interrupt;
mod queue;
pub mod spec;

pub use disk::{Disk, SECTOR_SIZE};
pub use error::Error;
pub use handshake::Config;
pub use interrupt::{Events, watch};
pub use queue::{Descriptor, Queue, Used};
