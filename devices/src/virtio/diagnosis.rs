//! A second look at a chain without a status byte, for the log: the descriptors, and the likely mistake.
//!
//! The guest may have changed the descriptors since the device read them, so the text may differ from what the device
//! saw; nothing but the text depends on it.

use std::cell::RefCell;
use std::fmt;

use super::chain::Chain;
use super::queue::SplitQueue;
use super::spec::blk::HEADER_SIZE;
use super::spec::ring::{DESC_NEXT, DESC_WRITE};
use crate::observe::DescriptorInfo;

/// The most descriptors in a message.
const SHOWN: usize = 4;

/// A chain without a byte for the device to write.
pub(super) struct NoStatusByte {
    slot: u16,
    head: u16,
    first: Vec<DescriptorInfo>,
    count: usize,
    last: Option<DescriptorInfo>,
}

impl NoStatusByte {
    /// Looks at the chain at `head`, which the device has just taken from the available ring.
    pub(super) fn examine(queue: &SplitQueue, head: u16, indirect: bool) -> Self {
        let seen = RefCell::new(Self {
            slot: queue.last_slot(),
            head,
            first: Vec::new(),
            count: 0,
            last: None,
        });
        let observe = |descriptor| {
            let mut seen = seen.borrow_mut();
            if seen.first.len() < SHOWN {
                seen.first.push(descriptor);
            }
            seen.count += 1;
            seen.last = Some(descriptor);
        };
        // The walk has a bound, and its result is known.
        let _known = Chain::default().walk(queue, head, indirect, observe);
        seen.into_inner()
    }

    fn likely(&self) -> &'static str {
        let Some(last) = self.last else { return "is WRITE missing on the status descriptor?" };
        let is_header = last.len as usize == HEADER_SIZE && last.flags & DESC_NEXT == 0;
        if self.first.iter().all(|descriptor| descriptor.addr == 0 && descriptor.len == 0) {
            "the descriptor is empty: was it filled in, is the head written into the slot of the available index modulo the \
             queue size, and was the descriptor freed too early?"
        } else if self.first.iter().chain([&last]).any(|d| d.flags & DESC_WRITE != 0) {
            "the status descriptor needs 1 byte"
        } else if self.count == 1 && is_header {
            "is NEXT missing on the header's descriptor?"
        } else if last.len > 1 && last.flags & DESC_NEXT == 0 {
            "is NEXT missing on the data's descriptor?"
        } else {
            "is WRITE missing on the status descriptor?"
        }
    }
}

impl fmt::Display for NoStatusByte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slot, head, first, count, .. } = self;
        write!(f, "slot {slot} of the available ring names descriptor {head}; ")?;
        for (n, descriptor) in first.iter().enumerate() {
            let DescriptorInfo { index, addr, len, flags, .. } = descriptor;
            let comma = if n > 0 { ", " } else { "" };
            let flags = match flags & (DESC_NEXT | DESC_WRITE) {
                0 => "no flags",
                DESC_NEXT => "NEXT",
                DESC_WRITE => "WRITE",
                _ => "NEXT and WRITE",
            };
            let s = if *len == 1 { "" } else { "s" };
            write!(f, "{comma}descriptor {index} has {len} byte{s} at {addr:#x}, {flags}")?;
        }
        if *count > first.len() {
            write!(f, ", and {} more", count - first.len())?;
        }
        write!(f, "; {}", self.likely())
    }
}
