//! The split virtqueue, from the device's side (virtio 1.4, 2.7).

use std::fmt;

use super::spec::ring::{
    AVAIL_ALIGN, AVAIL_ELEM, AVAIL_NO_INTERRUPT, DESC_SIZE, RING_EVENT, RING_HEADER, USED_ALIGN,
    USED_ELEM, USED_NO_NOTIFY,
};
use crate::memory::{GuestRam, OutOfRam, Window};
use crate::observe::{Event, Suppression};

/// The offset of the index in either ring (2.7.6, 2.7.8).
const INDEX: u64 = 2;

/// The addresses of a queue as the driver wrote them into the registers. Not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueLayout {
    /// Entries.
    pub size: u32,
    /// Guest-physical address of the descriptor table.
    pub desc: u64,
    /// Guest-physical address of the available ring.
    pub avail: u64,
    /// Guest-physical address of the used ring.
    pub used: u64,
}

/// The three parts of a split virtqueue (2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// The descriptor table.
    Desc,
    /// The available ring ("driver area").
    Driver,
    /// The used ring ("device area").
    Device,
}

impl QueueLayout {
    /// The address of one part.
    pub const fn area_mut(&mut self, area: Area) -> &mut u64 {
        match area {
            Area::Desc => &mut self.desc,
            Area::Driver => &mut self.avail,
            Area::Device => &mut self.used,
        }
    }
}

/// Why a queue is refused, or broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The size is 0, above the maximum, or no power of two.
    #[error("its size {size} is not a power of two from 1 to {max}")]
    Size {
        /// The entries asked for.
        size: u32,
        /// The maximum.
        max: u16,
    },
    /// A part of the queue is not aligned.
    #[error("its {area} at {addr:#x} is not aligned to {align} bytes{}", page_number_hint(*addr))]
    Unaligned {
        /// Which part.
        area: &'static str,
        /// Its guest-physical address.
        addr: u64,
        /// The alignment it needs, in bytes.
        align: u64,
    },
    /// A part of the queue is outside RAM.
    #[error("its {area} is not in RAM: {source}")]
    NotInRam {
        /// Which part.
        area: &'static str,
        /// Its address.
        source: OutOfRam,
    },
    /// The driver's index is ahead by more than the queue has entries.
    #[error(
        "the available index {idx} is {ahead} ahead of the device, but the queue has {size} entries"
    )]
    TooFarAhead {
        /// The driver's index.
        idx: u16,
        /// How far it is ahead.
        ahead: u16,
        /// The entries there are.
        size: u16,
    },
    /// The driver made more chains available than can be in use at the same time.
    #[error(
        "the device has {size} chains already, as many as the queue has entries, and there is one more"
    )]
    TooManyInUse {
        /// The entries there are.
        size: u16,
    },
}

/// The likely mistake in an address that is not aligned, as the rest of a sentence; empty if it shows none.
fn page_number_hint(addr: u64) -> impl fmt::Display {
    /// Below 1 MiB; few kernels have their rings there, and a page number below it is one of the low 4 GiB.
    const FEW_PAGES: u64 = 1 << 20;
    fmt::from_fn(move |f| match addr {
        0..FEW_PAGES => write!(f, " (a page number? The address would be {:#x})", addr << 12),
        _ => Ok(()),
    })
}

/// The negotiated rules of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RingRules {
    /// EVENT_IDX: ring indices control notifications (2.7.7, 2.7.10).
    pub event_idx: bool,
    /// NOTIFY_ON_EMPTY: when the queue becomes empty, the driver gets an interrupt in any case (6.3).
    pub notify_on_empty: bool,
    /// Whether the device accepts a chain through an indirect table that is longer than the queue, up to the most
    /// entries a queue can have. 2.7.5.3.1 forbids it to drivers.
    pub long_chains: bool,
}

/// The driver's wish for an interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// The driver wants an interrupt.
    Wanted,
    /// It wants none.
    Suppressed(Suppression),
}

/// How far a device has come with a queue. Both indices count modulo 2^16, as the rings do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The index of the next chain to take from the available ring.
    pub taken: u16,
    /// The used index.
    pub returned: u16,
}

/// A live virtqueue, checked at its creation. It accesses only its three parts of guest RAM.
#[derive(Debug)]
pub struct SplitQueue {
    size: u16,
    desc: Window,
    avail: Window,
    used: Window,
    /// The driver's index, as last read.
    seen_avail: u16,
    next_avail: u16,
    next_used: u16,
    /// The used index as the driver sees it.
    published: u16,
    rules: RingRules,
    longest_chain: u16,
    /// `published` at the last decision about an interrupt.
    signalled: u16,
    /// Whether the driver was asked not to ring the doorbell.
    quiet: bool,
}

impl SplitQueue {
    /// Creates the queue that `layout` describes.
    ///
    /// # Errors
    ///
    /// If its size is not a power of two up to `max`, or a part is unaligned or outside RAM.
    pub fn new(
        ram: &GuestRam,
        layout: QueueLayout,
        max: u16,
        rules: RingRules,
    ) -> Result<Self, QueueError> {
        let size = checked_size(layout.size, max)?;
        let (entries, desc_size) = (u64::from(size), u64::from(DESC_SIZE));
        let parts = [
            ("descriptor table", layout.desc, desc_size, desc_size * entries),
            (
                "available ring",
                layout.avail,
                AVAIL_ALIGN,
                RING_HEADER + AVAIL_ELEM * entries + RING_EVENT,
            ),
            ("used ring", layout.used, USED_ALIGN, RING_HEADER + USED_ELEM * entries + RING_EVENT),
        ];
        let ram = ram.own_handle();
        let [desc, avail, used] = parts.map(|(area, addr, align, len)| {
            if !addr.is_multiple_of(align) {
                return Err(QueueError::Unaligned { area, addr, align });
            }
            Window::new(&ram, addr, len).map_err(|source| QueueError::NotInRam { area, source })
        });
        Ok(Self {
            size,
            desc: desc?,
            avail: avail?,
            used: used?,
            seen_avail: 0,
            next_avail: 0,
            next_used: 0,
            published: 0,
            rules,
            longest_chain: if rules.long_chains { max } else { size },
            signalled: 0,
            quiet: false,
        })
    }

    /// The number of entries.
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// The most descriptors of a chain through an indirect table.
    pub const fn longest_chain(&self) -> u16 {
        self.longest_chain
    }

    /// The descriptor table.
    pub const fn desc(&self) -> &Window {
        &self.desc
    }

    /// Guest RAM.
    pub const fn ram(&self) -> &GuestRam {
        self.desc.ram()
    }

    /// Whether [`SplitQueue::pop`] would find a chain, or a wrong index of the driver.
    pub fn has_available(&self) -> bool {
        self.next_avail != self.seen_avail || self.avail.load_u16(INDEX) != self.next_avail
    }

    /// Takes the next chain that the driver made available. Returns its head, as the driver wrote it; none if there is
    /// no chain.
    ///
    /// # Errors
    ///
    /// If the driver's index is ahead by more than the queue has entries, or more chains would be in use than the queue
    /// has entries. The queue is broken then.
    pub fn pop(&mut self) -> Result<Option<u16>, QueueError> {
        if self.next_avail == self.seen_avail {
            let idx = self.avail.load_u16(INDEX);
            let ahead = idx.wrapping_sub(self.next_avail);
            if ahead > self.size {
                return Err(QueueError::TooFarAhead { idx, ahead, size: self.size });
            }
            self.seen_avail = idx;
            if ahead == 0 {
                return Ok(None);
            }
        }
        // Each chain in use needs at least one descriptor (2.7.13). Without this limit, a driver that uses descriptors
        // twice could fill the host's memory with requests.
        if self.next_avail.wrapping_sub(self.next_used) >= self.size {
            return Err(QueueError::TooManyInUse { size: self.size });
        }
        let slot = self.slot(self.next_avail);
        let head = self.avail.load_u16(RING_HEADER + AVAIL_ELEM * slot);
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(Some(head))
    }

    /// The slot of the available ring from which [`SplitQueue::pop`] took the last chain.
    pub(super) const fn last_slot(&self) -> u16 {
        self.last_taken() & (self.size - 1)
    }

    /// The entry of either ring at `index`, which counts modulo 2^16.
    const fn slot(&self, index: u16) -> u64 {
        // The size is a power of two. A division would be the slowest instruction of a request.
        (index & (self.size - 1)) as u64
    }

    const fn last_taken(&self) -> u16 {
        self.next_avail.wrapping_sub(1)
    }

    /// The event that reports the chain that [`SplitQueue::pop`] returned last.
    pub const fn taken_event(&self, queue: u16, head: u16) -> Event<'static> {
        Event::ChainTaken {
            queue,
            head,
            entry: self.last_taken(),
            available: self.seen_avail,
            used: self.next_used,
        }
    }

    /// Returns the chain at `head` to the driver; the device wrote `len` bytes into it (2.7.8.2). The driver sees it
    /// after [`SplitQueue::publish`]. The result is the index of the entry in the used ring, before the modulo.
    pub fn push(&mut self, head: u16, len: u32) -> u16 {
        let slot = self.slot(self.next_used);
        self.used.write_pair(RING_HEADER + USED_ELEM * slot, [head.into(), len]);
        let entry = self.next_used;
        self.next_used = entry.wrapping_add(1);
        entry
    }

    /// Publishes the chains returned since the last call: moves the used index.
    pub fn publish(&mut self) {
        if self.published != self.next_used {
            self.published = self.next_used;
            self.used.store_u16(INDEX, self.next_used);
        }
    }

    /// Asks the driver not to ring the doorbell, because the device looks at the queue without one (2.7.10). With
    /// EVENT_IDX the last request for a doorbell stays: the driver may ring once more.
    pub fn quieten(&mut self) {
        if !std::mem::replace(&mut self.quiet, true) && !self.rules.event_idx {
            self.used.store_u16(0, USED_NO_NOTIFY);
        }
    }

    /// Ends [`SplitQueue::quieten`], before the device leaves the queue.
    pub fn leave(&mut self) {
        if self.quiet {
            self.rearm();
        }
    }

    /// Requests a doorbell for the next chain, if the driver may believe that it needs none: with EVENT_IDX
    /// (2.7.10.2), and after [`SplitQueue::quieten`]. Returns true if the driver added a chain in the meantime, so that
    /// the device must check again.
    pub fn rearm(&mut self) -> bool {
        let was_quiet = std::mem::take(&mut self.quiet);
        if self.rules.event_idx {
            let avail_event = RING_HEADER + USED_ELEM * u64::from(self.size);
            self.used.store_u16(avail_event, self.next_avail);
        } else if was_quiet {
            self.used.store_u16(0, 0);
        } else {
            return false;
        }
        // The driver writes its index, then reads the request; the device writes the request, then reads the driver's
        // index.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        self.avail.load_u16(INDEX) != self.next_avail
    }

    /// Whether the driver wants an interrupt for the chains published since the last call (2.7.7); none if there are no
    /// such chains.
    pub fn wants_interrupt(&mut self) -> Option<Interrupt> {
        let (old, new) = (self.signalled, self.published);
        if old == new {
            return None;
        }
        self.signalled = new;
        // The used index must be visible before the driver's wish is read: the driver writes its wish, then checks the
        // index again.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        if self.rules.notify_on_empty && self.is_empty() {
            return Some(Interrupt::Wanted);
        }
        let (wanted, why) = if self.rules.event_idx {
            let used_event = RING_HEADER + AVAIL_ELEM * u64::from(self.size);
            let event = self.avail.load_u16(used_event);
            // Whether `event` is one of old, ..., new - 1, all modulo 2^16.
            let passed = new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old);
            (passed, Suppression::Event { used_event: event })
        } else {
            (self.avail.load_u16(0) & AVAIL_NO_INTERRUPT == 0, Suppression::Flag)
        };
        Some(if wanted { Interrupt::Wanted } else { Interrupt::Suppressed(why) })
    }

    /// How far the device has come.
    pub const fn progress(&self) -> Progress {
        Progress { taken: self.next_avail, returned: self.next_used }
    }

    /// Whether no chain is available or in use.
    fn is_empty(&self) -> bool {
        self.next_used == self.next_avail && self.avail.load_u16(INDEX) == self.next_avail
    }
}

/// Checks the size as the driver wrote it, before it is narrowed.
fn checked_size(size: u32, max: u16) -> Result<u16, QueueError> {
    match u16::try_from(size) {
        Ok(narrow) if narrow <= max && narrow.is_power_of_two() => Ok(narrow),
        _ => Err(QueueError::Size { size, max }),
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
