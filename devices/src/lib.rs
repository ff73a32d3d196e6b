//! A disk for a virtual machine monitor, over virtio-mmio or over the teaching protocol svirtb, as plain code.
//!
//! The crate names no hypervisor and starts no thread. A device is a value with a `read` and a `write`
//! ([`bus::BusDevice`]); its owner decides which threads call them. It needs guest RAM ([`memory::GuestRam`], over
//! [`vm_memory`]), a way to interrupt ([`irq::IrqLine`]) and an image ([`block::Image`]). The guest is taken as hostile:
//! nothing that it writes panics, blocks for long, floods the log, or reaches memory or disk that is not its own.
//!
//! ```text
//!  guest access ──▶ bus::Bus ──▶ svirtb::Device ──────────────────▶ block::Lane ──▶ Engine ──▶ image
//!                      │                                              ▲
//!                      └──────▶ virtio::mmio::Mmio ──▶ blk::Blk ──────┘ one a queue
//!  guest interrupt ◀── irq::IrqLine ◀─────────────────────┘
//! ```
//!
//! `examples/embed.rs` is a complete embedding in 80 lines: RAM, an image, registers written by hand, a request served. A
//! disk behind virtio-mmio registers is made in three steps:
//!
#![doc = "```no_run"]
#![doc = include_str!("../docs/disk.rs")]
#![doc = "```"]
//!
//! # What an owner calls, and when
//!
//! | when | call | on which thread |
//! |---|---|---|
//! | a vCPU exits for an access to memory or to a port | [`bus::Bus::read`], [`bus::Bus::write`] | the vCPU's |
//! | [`irq::Wake`] of [`mmio::MmioOptions::leftover`](virtio::mmio::MmioOptions::leftover) was woken | [`Mmio::service_unfinished`](virtio::mmio::Mmio::service_unfinished) | one for I/O |
//! | a descriptor of [`Mmio::wakes`](virtio::mmio::Mmio::wakes) is readable | [`Mmio::service_finished`](virtio::mmio::Mmio::service_finished) | one for I/O |
//! | the disk is to grow | [`Mmio::reconfigure`](virtio::mmio::Mmio::reconfigure) with [`Blk::resize`](virtio::blk::Blk::resize) | one that may wait |
//! | the machine pauses | [`Mmio::hold`](virtio::mmio::Mmio::hold), then [`Mmio::quiesce`](virtio::mmio::Mmio::quiesce); at its end [`Mmio::release`](virtio::mmio::Mmio::release) | one that may wait |
//! | the machine ends | [`block::Stop::stop`] of each disk | any |
//!
//! An owner without the second thread leaves `leftover` out: doorbells then serve everything themselves. The devices report
//! a driver's mistakes, and what the host fails to do, as [`tracing`] events; without a subscriber they are lost.
//!
//! # What is where
//!
//! | module | what |
//! |---|---|
//! | [`bus`] | which device answers at an address |
//! | [`memory`] | guest RAM, and the one way to reach it |
//! | [`block`] | a disk: requests, the checks, engines, images |
//! | [`virtio`] | the registers, rings and chains; [`virtio::blk`] and [`virtio::rng`] behind them |
//! | [`svirtb`] | the teaching protocol at 0xcafe0000 |
//! | [`serial`] | the serial console |
//! | [`observe`] | the mistakes of a driver, and everything that it does |
//! | [`stuck`] | a device that does not become quiet in time |
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
//! # Errors
//!
//! The guest is hostile, and a guest's mistake is not an error of ours: it is answered in the protocol's own
//! words (a status byte, DEVICE_NEEDS_RESET, the RESET state) and reported to the host's log, at a bounded rate, through
//! [`observe::RuleLog`]. `Result`s are for the host's side: an image that cannot be opened, RAM that
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
pub mod irq;
pub mod memory;
pub mod observe;
pub mod serial;
pub mod stuck;
pub mod svirtb;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod turn;
pub mod virtio;

pub use {vm_memory, vmm_sys_util};
