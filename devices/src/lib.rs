//! The devices of cafevm: two ways for a guest kernel to reach one disk.
//!
//! ```text
//!  guest access ──▶ bus::Bus ──▶ svirtb::Device ─────────────▶ block::Disk ──▶ Engine ──▶ image
//!                      │                                          ▲
//!                      └──────▶ virtio::mmio::Mmio ──▶ blk::Worker ┘
//!  guest interrupt ◀── irq::IrqLine ◀───────────────────┘
//! ```
//!
//! The crate names no hypervisor and starts no thread. A device is a value with a `read` and a `write`
//! ([`bus::BusDevice`]); whoever owns it decides which thread calls them. So every behaviour of a device can
//! be tested as a plain call, with the drivers of `testing` in the role of the guest.
//!
//! # Which file do I open?
//!
//! | question | file |
//! |---|---|
//! | Which device answers at an address, and what does an address nobody owns give? | `bus.rs` |
//! | How do devices reach guest memory, and what stops them from leaving it? | `memory.rs` |
//! | What is a request to a disk, who checks its range, who locks the image? | `block/` |
//! | The teaching protocol at 0xcafe0000 | `svirtb/` |
//! | The virtio-mmio registers, the split ring, descriptor chains | `virtio/` |
//! | virtio-blk: config space, parsing a request, serving it | `virtio/blk/` |
//! | The serial console | `serial.rs` |
//! | What a driver's author is told, and how often | `complaints.rs` |
//! | What a curious person can watch | `trace.rs` |
//!
//! # Errors
//!
//! The guest is hostile, and a guest's mistake is not an error of ours: it is answered in the protocol's own
//! words (a status byte, DEVICE_NEEDS_RESET, the RESET state) and told once to the host's log through
//! [`complaints::Complaints`]. `Result`s are for the host's side: an image that cannot be opened, RAM that
//! cannot be had.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::type_complexity,
        reason = "tests make small numbers"
    )
)]

pub mod block;
pub mod bus;
pub mod complaints;
pub mod irq;
pub mod memory;
pub mod serial;
pub mod svirtb;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trace;
mod turn;
pub mod virtio;
