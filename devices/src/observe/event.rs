//! The events of a device.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// A rule of a specification that a driver broke: the key under which breaches are counted.
///
/// The text names the section of the specification, such as "svirtb 2.1.1" or "virtio 1.4, 4.2.2.2".
pub type Rule = &'static str;

/// The direction of an access, as the guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The guest reads.
    Read,
    /// The guest writes.
    Write,
}

/// An event as an observer receives it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Seen<'a> {
    /// The time.
    pub at: Instant,
    /// The name of the device, or of the bus, as in the log.
    pub device: &'a Arc<str>,
    /// The event.
    pub event: Event<'a>,
}

impl<'a> Seen<'a> {
    /// An event at this moment.
    pub(crate) fn now(device: &'a Arc<str>, event: Event<'a>) -> Self {
        Self { at: Instant::now(), device, event }
    }
}

/// Something that a device or a bus saw or did.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The guest accessed an address or a port. A read is reported with its value, a write before its effect.
    Access {
        /// The first address.
        address: u64,
        /// The bytes accessed.
        width: usize,
        /// Read or write.
        direction: Direction,
        /// The value: the first 8 bytes, little-endian.
        value: u64,
        /// Whether there is a device.
        claimed: bool,
    },
    /// The guest accessed a register. A doorbell is reported before its effect, everything else after it.
    Register {
        /// The register's name in its specification.
        register: &'static str,
        /// Read or write.
        direction: Direction,
        /// The value read or written.
        value: u32,
        /// The meaning of the value in the protocol, and the effect of the access. May be empty.
        meaning: Words<'a>,
    },
    /// The status register has changed.
    Status {
        /// Its value before.
        before: u32,
        /// Its value now.
        now: u32,
    },
    /// A queue was started, or is ready to be started.
    QueueReady {
        /// The queue.
        queue: u32,
        /// Its entries.
        size: u32,
        /// Its address.
        place: Place,
    },
    /// A queue was refused, because its description is invalid.
    QueueRefused {
        /// The queue.
        queue: u32,
        /// The reason.
        why: Words<'a>,
    },
    /// A queue was stopped.
    QueueStopped {
        /// The queue.
        queue: u32,
    },
    /// The driver rang the doorbell of a queue.
    Notified {
        /// The queue, as the driver wrote it. It may not exist.
        queue: u32,
    },
    /// The device looked at a queue, after a doorbell for example, and found nothing new.
    NothingAvailable {
        /// The queue.
        queue: u32,
        /// virtio: the available index. svirtb: queue_head.
        index: u32,
    },
    /// The device took a descriptor chain from the available ring.
    ChainTaken {
        /// The queue.
        queue: u16,
        /// The chain's first descriptor, as the ring names it.
        head: u16,
        /// The index of the ring's entry, before the modulo.
        entry: u16,
        /// The available index, as the device last read it.
        available: u16,
        /// The used index, as the device last wrote it.
        used: u16,
    },
    /// The device read a descriptor of the chain that it took last from the queue.
    Descriptor {
        /// The queue.
        queue: u16,
        /// The descriptor, with its index in its table.
        descriptor: DescriptorInfo,
    },
    /// The device returned a descriptor chain through the used ring.
    ChainReturned {
        /// The queue.
        queue: u16,
        /// The chain's first descriptor.
        head: u16,
        /// The bytes that the device wrote into the chain's buffers.
        written: u32,
        /// The index of the ring's entry, before the modulo.
        entry: u16,
    },
    /// svirtb: the device read an entry of the ring.
    Entry {
        /// Its index in the ring.
        index: u32,
        /// Its guest-physical address.
        at: u64,
        /// The buffer's guest-physical address.
        addr: u64,
        /// The buffer's bytes.
        size: u64,
        /// The first sector, of 512 bytes.
        sector: u64,
        /// 0 reads, 1 writes.
        cmd: u32,
    },
    /// svirtb: the device found the distance of the driver's entries.
    EntrySpacing {
        /// The distance in bytes.
        bytes: u64,
        /// The reason.
        why: Words<'a>,
        /// Whether the driver's entries are valid at this distance only.
        certain: bool,
    },
    /// The device submitted a request to its host.
    Submitted(RequestInfo),
    /// What a request of another device than a disk is about, in words: an input event, a command of a GPU.
    Content {
        /// The queue.
        queue: u16,
        /// The words.
        what: Words<'a>,
    },
    /// The device finished a request.
    Finished {
        /// The request.
        request: RequestInfo,
        /// Its result.
        outcome: Outcome<'a>,
    },
    /// The device interrupted its driver.
    Raised {
        /// The reasons, as bits of InterruptStatus.
        reasons: u32,
    },
    /// The device returned chains without an interrupt, because the driver does not want one.
    Suppressed {
        /// The queue.
        queue: u16,
        /// How the driver expresses that.
        why: Suppression,
        /// The used index.
        used: u16,
    },
    /// The driver acknowledged interrupts.
    Acknowledged {
        /// The reasons, as the driver wrote them.
        reasons: u32,
    },
    /// The driver broke a rule, or the host failed.
    Broken {
        /// The rule.
        rule: Rule,
        /// What was seen, and how the device handles it.
        what: Words<'a>,
    },
}

/// How a driver of a split virtqueue suppresses interrupts (virtio 1.4, 2.7.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Suppression {
    /// By the flag NO_INTERRUPT of the available ring.
    Flag,
    /// By EVENT_IDX: the used index has not passed used_event.
    Event {
        /// The value of used_event.
        used_event: u16,
    },
}

/// The address of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A ring in one piece.
    Ring {
        /// The address of its first byte.
        base: u64,
    },
    /// A split virtqueue with its three parts.
    Split {
        /// The address of the descriptor table.
        desc: u64,
        /// The address of the available ring.
        avail: u64,
        /// The address of the used ring.
        used: u64,
    },
}

/// A descriptor of a split virtqueue, as the device read it (virtio 1.4, 2.7.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DescriptorInfo {
    /// Its index in its table.
    pub index: u32,
    /// Whether its table is an indirect one.
    pub in_indirect_table: bool,
    /// The buffer's guest-physical address.
    pub addr: u64,
    /// The buffer's bytes.
    pub len: u32,
    /// The flags NEXT, WRITE and INDIRECT.
    pub flags: u16,
    /// The next descriptor, if the flag NEXT is set.
    pub next: u16,
}

/// A request of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestInfo {
    /// The queue.
    pub queue: u16,
    /// svirtb: the index of the ring entry. virtio: the head of the descriptor chain.
    pub index: u32,
    /// "read", "write", "flush", ...
    pub operation: &'static str,
    /// The first sector, of 512 bytes.
    pub sector: u64,
    /// The bytes of the request's buffers.
    pub bytes: u64,
}

/// The result of a request. `Display` gives the answer to the driver in words.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Outcome<'a> {
    /// The request succeeded.
    Done,
    /// The request succeeded, but the disk ended within it.
    Cut {
        /// The bytes done.
        done: u64,
        /// The bytes asked for.
        of: u64,
    },
    /// The request failed.
    Failed(Words<'a>),
}

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("ok"),
            Self::Cut { done, of } => write!(f, "ok, {done} of {of} bytes (end of the disk)"),
            Self::Failed(why) => write!(f, "{why}"),
        }
    }
}

/// Values that can be displayed. The text is made only if an observer displays it.
#[derive(Clone, Copy)]
pub struct Words<'a>(pub &'a dyn fmt::Display);

impl Words<'_> {
    /// An empty text.
    pub const NONE: Self = Self(&"");
}

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}
