//! What the test guests share: how they report, what their disks hold, and a driver for any sequence, right or wrong.
//!
//! A guest prints one line for each scenario, `ok NAME` or `FAIL NAME: what was seen`, and ends the machine with
//! code 0 where all passed, 1 where one failed. Other lines are for the host to compare.
#![no_std]

pub mod block;
mod device;
pub mod pattern;
mod random;
mod report;
mod ring;
mod tangle;

pub use device::{Device, slots};
pub use random::Random;
pub use report::{Failure, Outcome, Report};
pub use ring::{DESCRIPTOR, Piece, Ring};
pub use tangle::{NO_RAM, Tangle, scribble};
