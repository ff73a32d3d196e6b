//! virtio-blk, virtio-gpu and virtio-input on virtio-mmio version 2, with split virtqueues (virtio 1.4).
//!
//! | to learn | open |
//! |---|---|
//! | the registers, feature and status bits | `virtio/spec.rs`, and for each kind of device `virtio/spec/` |
//! | the split virtqueue | `virtio/queue.rs` |
//! | the handshake | `virtio/handshake.rs` |
//! | a disk: its capacity; a request and its end | `virtio/config.rs`, `virtio/disk.rs` |
//! | a GPU: its commands; the pointer on its screen | `virtio/gpu.rs`, `virtio/cursor.rs` |
//! | a keyboard, a mouse or a tablet | `virtio/input.rs` |
//! | the interrupt | `virtio/interrupt.rs` |

mod config;
mod cursor;
mod disk;
mod error;
mod gpu;
mod handshake;
mod input;
mod interrupt;
mod queue;
pub mod spec;

pub use config::Config;
pub use cursor::{Cursor, SIDE as CURSOR_SIDE};
pub use disk::{Disk, SECTOR_SIZE};
pub use error::Error;
pub use gpu::{Area, Command, Gpu};
pub use input::{Axis, Event, Input, Kind};
pub use interrupt::{Events, watch};
pub use queue::{Descriptor, Queue, Used};
