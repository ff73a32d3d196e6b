//! The fuzzers as plain functions, so that a plain test can replay the corpora.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a fuzzer's body is a test, and its numbers are small"
)]

mod gpu;
mod input;
mod qcow2;
mod registers;
mod svirtb;

pub use crate::block::nbd::play::play as nbd;
pub use gpu::{GpuTally, virtio_gpu};
pub use input::{InputTally, virtio_input};
pub use qcow2::qcow2_open;
pub use registers::mmio_registers;
pub use svirtb::svirtb;

/// A whole virtqueue, against its oracle.
///
/// # Panics
///
/// If the device behaves differently from the model.
pub fn virtqueue(bytes: &[u8]) {
    super::oracle::play(bytes);
}
