//! Disks for a virtual machine monitor, over virtio-mmio or over the teaching protocol svirtb.
//!
//! The crate uses no hypervisor and starts no thread. A device is a value with `read` and `write` ([`bus::BusDevice`]);
//! the VMM decides which threads call them. A device needs guest RAM ([`memory::GuestRam`], over [`vm_memory`]), an
//! interrupt line ([`irq::IrqLine`]) and an image ([`block::Image`]). The guest is hostile: whatever it writes, a
//! device does not panic, block for long, flood the log, or access other memory or another disk.
//!
//! ```text
//!  guest access ──▶ bus::Bus ──▶ svirtb::Device ──────────────────▶ block::Lane ──▶ Engine ──▶ image
//!                      │                                              ▲
//!                      └──────▶ virtio::mmio::Mmio ──▶ blk::Blk ──────┘ one a queue
//!  guest interrupt ◀── irq::IrqLine ◀─────────────────────┘
//! ```
//!
//! `examples/embed.rs` is a complete embedding in 80 lines: RAM, an image, registers written by hand, a served request.
//! Three steps create a disk with virtio-mmio registers:
//!
#![doc = "```no_run"]
#![doc = include_str!("../docs/disk.rs")]
#![doc = "```"]
//!
//! # What a VMM calls, and when
//!
//! | when | call | on which thread |
//! |---|---|---|
//! | a vCPU exits for an access to memory or to a port | [`bus::Bus::read`], [`bus::Bus::write`] | the vCPU's |
//! | [`irq::Wake`] of [`mmio::MmioOptions::leftover`](virtio::mmio::MmioOptions::leftover) was woken | [`Mmio::service_unfinished`](virtio::mmio::Mmio::service_unfinished) | one for I/O |
//! | a descriptor of [`Mmio::wakes`](virtio::mmio::Mmio::wakes) is readable | [`Mmio::service_queue`](virtio::mmio::Mmio::service_queue) | one for I/O |
//! | the disk must grow | [`Mmio::reconfigure`](virtio::mmio::Mmio::reconfigure) with [`Blk::resize`](virtio::blk::Blk::resize) | one that may wait |
//! | the machine pauses | [`Mmio::hold`](virtio::mmio::Mmio::hold), then [`Mmio::quiesce`](virtio::mmio::Mmio::quiesce); at its end [`Mmio::release`](virtio::mmio::Mmio::release) | one that may wait |
//! | the machine ends | [`block::Stop::stop`] of each disk | any |
//!
//! A VMM without the second thread leaves out `leftover`: doorbells then serve all requests themselves. The devices
//! report a driver's mistakes and failures of the host as [`tracing`] events; without a subscriber they are lost.
//!
//! # Modules
//!
//! | module | what |
//! |---|---|
//! | [`bus`] | finds the device at an address |
//! | [`memory`] | guest RAM, and the only access to it |
//! | [`block`] | disks: requests, checks, engines, images |
//! | [`virtio`] | registers, rings and chains; the devices [`virtio::blk`], [`virtio::rng`], [`virtio::input`] and [`virtio::gpu`] |
//! | [`svirtb`] | the teaching protocol at 0xcafe0000 |
//! | [`register_page`] | registers that a guest reads as memory |
//! | [`serial`] | the serial console |
//! | [`display`] | the picture between a GPU and its viewers |
//! | [`observe`] | the mistakes of a driver, and all its actions |
//! | [`catalogue`] | all rules that drivers break, explained |
//! | [`doctor`] | the mistakes of drivers, as findings |
//! | [`stuck`] | a device that does not become idle in time |
//!
//! # Threads and locks
//!
//! Several vCPUs and an I/O thread may use a device at the same time.
//!
//! - A register access waits for no I/O, except for its own: a doorbell serves its queue and returns.
//! - Status and interrupt status are atomics. The registers for the set-up of a device share one lock, which is never
//!   held during I/O.
//! - Each live queue has a worker, and one thread at a time uses the worker (`turn.rs`). A second thread does not wait:
//!   the first one checks the queue again. Work that is left goes to the I/O thread, which [`irq::Wake`] wakes.
//! - A reset, the reset of a queue, a resize and a pause wait until a queue is idle, with a limit, and report an error
//!   after it.
//!
//! # Errors
//!
//! A mistake of the hostile guest is not an error of the crate: the device answers it as the protocol specifies (a
//! status byte, DEVICE_NEEDS_RESET, the RESET state) and reports it to the log, at a limited rate, through
//! [`observe::RuleLog`]. `Result`s are for the host's side: an image that cannot be opened, RAM that cannot be
//! allocated.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::type_complexity,
        reason = "tests make small numbers"
    )
)]

mod address;
pub mod block;
pub mod bus;
pub mod catalogue;
pub mod display;
pub mod doctor;
pub mod irq;
pub mod memory;
pub mod observe;
pub mod register_page;
pub mod serial;
pub mod stuck;
pub mod svirtb;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod turn;
pub mod virtio;

pub use {vm_memory, vmm_sys_util};
