//! The devices of cafevm: two ways for a guest kernel to reach one disk.
//!
//! ```text
//!  guest access ──▶ bus::Bus ──▶ svirtb::Device ──────────────────▶ block::Lane ──▶ Engine ──▶ image
//!                      │                                              ▲
//!                      └──────▶ virtio::mmio::Mmio ──▶ blk::Blk ──────┘ one a queue
//!  guest interrupt ◀── irq::IrqLine ◀─────────────────────┘
//! ```
//!
//! The crate names no hypervisor and starts no thread. A device is a value with a `read` and a `write`
//! ([`bus::BusDevice`]); its owner decides which threads call them. So every behaviour of a device can be tested as a
//! plain call, with the drivers of `testing` in the role of the guest.
//!
//! # Threads and locks
//!
//! Several vCPUs, and a thread of the host, may use a device at the same time.
//!
//! - A register access waits for no I/O, but for the I/O that it asks for: a doorbell serves its queue and returns.
//! - Status and interrupt status are atomics. The registers that set a device up share one lock, which is never held
//!   while a disk is waited for.
//! - Each live queue has a worker, and one thread at a time has the worker (`turn.rs`). A second thread does not wait: the
//!   first one is told to look again. What is left goes to the host's thread, which [`irq::Wake`] wakes.
//! - A reset, a queue's reset, a resize and a pause wait until a queue is quiet, with a limit, and say so where it is not.
//!
//! # Which file do I open?
//!
//! | question | file |
//! |---|---|
//! | Which device answers at an address, and what does an address without a device give? | `bus.rs` |
//! | How do devices reach guest memory, and what stops them from leaving it? | `memory.rs` |
//! | What is a request to a disk, who checks its range, who locks the image? | `block/` |
//! | How do threads hand a queue's worker to each other? | `turn.rs` |
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
pub mod stuck;
pub mod svirtb;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trace;
mod turn;
pub mod virtio;
