//! What the test guests share: how they report, and what their disks hold.
//!
//! A guest prints one line for each scenario, `ok NAME` or `FAIL NAME: what was seen`, and ends the machine with
//! code 0 where all passed, 1 where one failed. Other lines are for the host to compare.
#![no_std]

pub mod pattern;
mod report;

pub use report::{Failure, Outcome, Report};
