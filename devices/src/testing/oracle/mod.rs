//! A virtqueue's oracle: it knows the right answer. A script of what a guest does is played to a real device and to
//! a model of it, and after each step all that the guest and the host can see must be the same: every byte of RAM,
//! status bytes and used lengths with it, every byte of the image, what a power cut would leave of it, the
//! interrupts.
//!
//! ```text
//!  bytes ──▶ Input ──▶ script ──┬──▶ registers, RAM ──▶ Mmio ──▶ Blk ──▶ an image       ──┐
//!   (a fuzzer's, proptest's)    │                                                      ├─ the same?
//!                               └──▶ Model ──▶ plain vectors                           ──┘
//! ```
//!
//! Mostly the guest keeps to the rules, and one time in some it breaks one: else no script would come further
//! than its first error.

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
