//! An oracle for virtqueues: it knows the correct result. A script of a guest's actions runs on a real device and on a
//! model of it. After each step, everything visible to the guest and the host must be equal: every byte of RAM
//! including status bytes and used lengths, every byte of the image, the bytes that would survive a power cut, and the
//! interrupts.
//!
//! ```text
//!  bytes ──▶ Input ──▶ script ──┬──▶ registers, RAM ──▶ Mmio ──▶ Blk ──▶ an image       ──┐
//!   (a fuzzer's, proptest's)    │                                                      ├─ the same?
//!                               └──▶ Model ──▶ plain vectors                           ──┘
//! ```
//!
//! The guest usually follows the rules and sometimes breaks one; otherwise most scripts would end at their first error.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "an oracle is for tests, and its numbers are small"
)]

mod guest;
mod handshake;
mod machine;
mod memory;
mod model;
mod request;
mod script;

pub use model::Tally;
pub use script::{play, play_on, play_on_a_snapshot_of};
