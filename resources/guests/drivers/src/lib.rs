//! Drivers for the devices of cafevm, written for authors of drivers to read.
//!
//! ```text
//!   svirtb::Device ──▶ ring of entries in shared memory, head and tail in registers    (one device, no interrupt)
//!   virtio::{Disk, Gpu, Input} ──▶ virtio::Queue (split virtqueue) ──▶ virtio-mmio registers, interrupt line   (up to 19)
//! ```
//!
//! Both report each register access of their handshake to a [`Story`], with the reason for it, so that a guest can show
//! a handshake as it happens; the reasons are the comments of that code.
//!
//! There is no `unsafe` here: registers are [`rt::mmio::Mmio`], shared memory is [`rt::dma::Dma`].
#![no_std]

mod register;
pub mod svirtb;
pub mod virtio;

pub use register::{Access, Quiet, Register, Story, Talk};
