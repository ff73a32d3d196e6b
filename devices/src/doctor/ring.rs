//! Mistakes in split virtqueues and interrupts that no single access shows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use super::Report;
use crate::catalogue::observed_rules as rules;
use crate::observe::{DescriptorInfo, Direction, Event, Place, Suppression};
use crate::virtio::spec::blk::{DEVICE_ID, HEADER_SIZE};
use crate::virtio::spec::ring::{
    AVAIL_ELEM, DESC_INDIRECT, DESC_SIZE, DESC_WRITE, RING_HEADER, USED_ELEM,
};

/// The most buffers of one batch that are compared.
const MOST_BUFFERS: usize = 4096;
/// The number of doorbells without an acknowledge after which the driver does not seem to acknowledge at all.
const UNACKNOWLEDGED: u32 = 4;
/// The number of results without an interrupt, with the same used_event, after which the driver does not seem to move it.
const UNMOVED: u32 = 4;

/// The queues and the interrupt of one device.
#[derive(Debug, Default)]
pub(super) struct Rings {
    queues: HashMap<u32, Queue>,
    interrupt: Interrupt,
    /// Whether DeviceID was read, and is not that of a disk. Requests of other devices have other headers.
    is_no_disk: bool,
}

#[derive(Debug, Default)]
struct Queue {
    /// Descriptor table, available ring, used ring.
    parts: [Range<u64>; 3],
    doorbells: u64,
    chains: u64,
    /// Whether the last doorbell has not led to a chain yet.
    rung: bool,
    batch: Batch,
    used_event: Option<(u16, u32)>,
}

/// The chains that were available at the same time. None of them can have been returned before all were queued.
#[derive(Debug, Default)]
struct Batch {
    available: u16,
    heads: HashSet<u16>,
    /// The buffers that the device writes, by start: the end and the chain.
    buffers: BTreeMap<u64, (u64, Taken)>,
    chain: Taken,
    is_first: bool,
}

/// A chain: its first descriptor, and the entry of the available ring that names it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Taken {
    head: u16,
    entry: u16,
}

#[derive(Debug, Default)]
struct Interrupt {
    /// The reasons that are not acknowledged.
    reasons: u32,
    /// The doorbells since the first of these reasons.
    doorbells: u32,
    /// Whether InterruptStatus was read since the last acknowledge.
    was_read: bool,
}

const PARTS: [&str; 3] = ["descriptor table", "available ring", "used ring"];

impl Rings {
    pub(super) fn event(&mut self, event: &Event<'_>, report: Report<'_>) {
        match *event {
            Event::QueueReady { queue, size, place: Place::Split { desc, avail, used } } => {
                let queue = self.queues.entry(queue).or_default();
                *queue = Queue { parts: parts(size, [desc, avail, used]), ..Queue::default() };
                queue.check_parts(report);
            }
            Event::Notified { queue } => {
                // A doorbell may name any queue; one that never was ready is reported by the device.
                if let Some(queue) = self.queues.get_mut(&queue) {
                    queue.doorbells += 1;
                    queue.rung = true;
                    self.interrupt.doorbell(report);
                }
            }
            Event::NothingAvailable { queue, index } => {
                if let Some(queue) = self.queues.get_mut(&queue) {
                    queue.nothing(index, report);
                }
            }
            Event::ChainTaken { queue, head, available, entry, .. } => {
                if let Some(queue) = self.queues.get_mut(&queue.into()) {
                    queue.taken(head, available, entry, report);
                }
            }
            Event::Descriptor { queue, descriptor } => {
                if let Some(queue) = self.queues.get_mut(&queue.into()) {
                    queue.descriptor(&descriptor, self.is_no_disk, report);
                }
            }
            Event::Suppressed { queue, why: Suppression::Event { used_event }, used } => {
                if let Some(queue) = self.queues.get_mut(&queue.into()) {
                    queue.suppressed(used_event, used, report);
                }
            }
            Event::Raised { reasons } => {
                self.interrupt.reasons |= reasons;
                for queue in self.queues.values_mut() {
                    queue.used_event = None;
                }
            }
            Event::Register { register: "InterruptStatus", direction: Direction::Read, .. } => {
                self.interrupt.was_read = true;
            }
            Event::Register { register: "DeviceID", value, .. } => {
                self.is_no_disk = value != DEVICE_ID;
            }
            Event::Acknowledged { reasons } => self.interrupt.acknowledged(reasons, report),
            Event::Status { now: 0, .. } => {
                *self = Self { is_no_disk: self.is_no_disk, ..Self::default() };
            }
            _ => {}
        }
    }
}

/// The memory of each part of a queue, without used_event and avail_event: many drivers without EVENT_IDX leave them out.
fn parts(size: u32, [desc, avail, used]: [u64; 3]) -> [Range<u64>; 3] {
    let size = u64::from(size);
    let range = |at: u64, len: u64| at..at.saturating_add(len);
    [
        range(desc, u64::from(DESC_SIZE) * size),
        range(avail, RING_HEADER + AVAIL_ELEM * size),
        range(used, RING_HEADER + USED_ELEM * size),
    ]
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl Queue {
    fn check_parts(&self, report: Report<'_>) {
        for (n, (a, name)) in self.parts.iter().zip(PARTS).enumerate() {
            for (b, other) in self.parts.iter().zip(PARTS).skip(n + 1) {
                if overlap(a, b) {
                    report(
                        rules::OVERLAP,
                        format_args!(
                            "the {name} at {:#x} to {:#x} and the {other} at {:#x} to {:#x} overlap",
                            a.start,
                            a.end - 1,
                            b.start,
                            b.end - 1
                        ),
                    );
                }
            }
        }
    }

    /// Another vCPU's doorbell may have handled this one's chain. But no driver rings more often than it adds chains.
    fn nothing(&mut self, index: u32, report: Report<'_>) {
        if std::mem::take(&mut self.rung) && self.doorbells > self.chains {
            let avail = self.parts[1].start;
            report(
                rules::NOTHING_NEW,
                format_args!(
                    "the doorbell came, but the available index at {:#x} is {index}, as before",
                    avail.saturating_add(2)
                ),
            );
        }
    }

    fn taken(&mut self, head: u16, available: u16, entry: u16, report: Report<'_>) {
        self.rung = false;
        self.chains += 1;
        let batch = &mut self.batch;
        if batch.available != available || batch.heads.is_empty() {
            *batch = Batch { available, ..Batch::default() };
        }
        if !batch.heads.insert(head) {
            report(
                rules::HEAD_IN_USE,
                format_args!(
                    "entry {entry} of the available ring names descriptor {head}, as an earlier entry of the same \
                     batch does"
                ),
            );
        }
        (batch.chain, batch.is_first) = (Taken { head, entry }, true);
    }

    fn descriptor(&mut self, descriptor: &DescriptorInfo, is_no_disk: bool, report: Report<'_>) {
        let DescriptorInfo { index, addr, len, flags, .. } = *descriptor;
        let buffer = addr..addr.saturating_add(len.into());
        if flags & DESC_INDIRECT != 0 || buffer.is_empty() {
            return;
        }
        let is_first = std::mem::take(&mut self.batch.is_first);
        if flags & DESC_WRITE == 0 {
            if is_first && !is_no_disk && len as usize != HEADER_SIZE && (8..64).contains(&len) {
                report(
                    rules::HEADER,
                    format_args!(
                        "the first descriptor of the chain has {len} bytes; the header of a request has {HEADER_SIZE}"
                    ),
                );
            }
            return;
        }
        let ring = self.parts.iter().zip(PARTS).find(|(part, _)| overlap(part, &buffer));
        if let Some((_, name)) = ring {
            report(
                rules::BUFFER_OVER_RING,
                format_args!(
                    "the device shall write {len} bytes at {addr:#x} (descriptor {index}), where the {name} of the \
                     queue is"
                ),
            );
        }
        self.batch.buffer(buffer, report);
    }

    fn suppressed(&mut self, used_event: u16, used: u16, report: Report<'_>) {
        let (event, times) = self.used_event.get_or_insert((used_event, 0));
        if *event != used_event {
            (*event, *times) = (used_event, 0);
        }
        *times += 1;
        if *times == UNMOVED {
            report(
                rules::USED_EVENT,
                format_args!(
                    "the driver accepted EVENT_IDX, and used_event stays {used_event} while the used index is {used}: \
                     no interrupt comes"
                ),
            );
        }
    }
}

impl Batch {
    fn buffer(&mut self, buffer: Range<u64>, report: Report<'_>) {
        if self.buffers.len() >= MOST_BUFFERS {
            return;
        }
        let before = self.buffers.range(..buffer.end).next_back();
        if let Some((start, (end, other))) = before
            && *end > buffer.start
        {
            let (first, last) = (buffer.start.max(*start), buffer.end.min(*end) - 1);
            let (own, head) = (self.chain, other.head);
            let what = format!(
                "the device writes {first:#x} to {last:#x} for the chain at descriptor {head}"
            );
            // A loop leads to the same descriptor again; the device reports it.
            let is_same = (*start, *end) == (buffer.start, buffer.end);
            if *other == own && !is_same {
                report(
                    rules::BUFFER_SHARED,
                    format_args!(
                        "{what} in two of its descriptors: is the status byte in the data?"
                    ),
                );
            } else if head != own.head {
                let own = own.head;
                report(
                    rules::BUFFER_SHARED,
                    format_args!(
                        "{what} and for the chain at descriptor {own}, which are both in use"
                    ),
                );
            }
        }
        self.buffers.insert(buffer.start, (buffer.end, self.chain));
    }
}

impl Interrupt {
    fn doorbell(&mut self, report: Report<'_>) {
        let Self { reasons, doorbells, .. } = self;
        if *reasons == 0 {
            return;
        }
        *doorbells = doorbells.saturating_add(1);
        if *doorbells == UNACKNOWLEDGED {
            report(
                rules::IRQ_NOT_ACKNOWLEDGED,
                format_args!(
                    "the device interrupted the driver, which rang {doorbells} doorbells since and did not write \
                     {reasons:#x} to InterruptACK"
                ),
            );
        }
    }

    fn acknowledged(&mut self, reasons: u32, report: Report<'_>) {
        self.reasons &= !reasons;
        if self.reasons == 0 {
            self.doorbells = 0;
        }
        if !std::mem::take(&mut self.was_read) {
            report(
                rules::IRQ_NOT_READ,
                format_args!(
                    "InterruptACK was written with {reasons:#x}, but InterruptStatus was not read"
                ),
            );
        }
    }
}
