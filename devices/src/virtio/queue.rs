//! The split virtqueue, from the device's side (virtio 1.2, 2.7).

use super::spec::ring::{
    AVAIL_ALIGN, AVAIL_ELEM, AVAIL_NO_INTERRUPT, DESC_SIZE, RING_EVENT, RING_HEADER, USED_ALIGN,
    USED_ELEM,
};
use crate::memory::{GuestRam, OutOfRam};
use crate::observe::Event;

/// Where a driver wants its queue, as it wrote it into the registers. Not checked.
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
    /// Where one part is.
    pub const fn area_mut(&mut self, area: Area) -> &mut u64 {
        match area {
            Area::Desc => &mut self.desc,
            Area::Driver => &mut self.avail,
            Area::Device => &mut self.used,
        }
    }
}

/// Why a queue cannot be used, or can be used no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The size is 0, more than the device can, or no power of two.
    #[error("its size {size} is not a power of two from 1 to {max}")]
    Size {
        /// The entries asked for.
        size: u32,
        /// The most there can be.
        max: u16,
    },
    /// A part of the queue is not aligned.
    #[error("its {area} at {addr:#x} is not aligned to {align} bytes")]
    Unaligned {
        /// Which part.
        area: &'static str,
        /// Its guest-physical address.
        addr: u64,
        /// The alignment it needs, in bytes.
        align: u64,
    },
    /// A part of the queue is not in RAM.
    #[error("its {area} is not in RAM: {source}")]
    NotInRam {
        /// Which part.
        area: &'static str,
        /// Where it would be.
        source: OutOfRam,
    },
    /// The driver's index ran ahead by more than there are entries.
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
    /// The driver made more chains available than can be in use at a time.
    #[error(
        "the device has {size} chains already, as many as the queue has entries, and there is one more"
    )]
    TooManyInUse {
        /// The entries there are.
        size: u16,
    },
}

/// What driver and device keep to on a queue, beyond where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RingRules {
    /// EVENT_IDX: notifications are asked for by index (2.7.7, 2.7.10).
    pub event_idx: bool,
    /// NOTIFY_ON_EMPTY: when the queue has run empty, the driver is interrupted whatever it asked for (6.3).
    pub notify_on_empty: bool,
    /// Whether the device serves a chain through an indirect table that is longer than the queue, up to the most
    /// entries a queue can have. 2.7.5.3.1 forbids it to drivers.
    pub long_chains: bool,
}

/// A live virtqueue: checked once, when it was made. It touches guest RAM only within its three parts.
#[derive(Debug)]
pub struct SplitQueue {
    ram: GuestRam,
    size: u16,
    desc: u64,
    avail: u64,
    used: u64,
    /// The driver's index, when it was last looked at.
    seen_avail: u16,
    next_avail: u16,
    next_used: u16,
    rules: RingRules,
    longest_chain: u16,
    /// `next_used` when the driver was last considered for an interrupt.
    signalled: u16,
}

impl SplitQueue {
    /// The queue that `layout` describes.
    ///
    /// # Errors
    ///
    /// Where its size is not a power of two up to `max`, or a part is unaligned or not in RAM.
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
        for (area, addr, align, len) in parts {
            if !addr.is_multiple_of(align) {
                return Err(QueueError::Unaligned { area, addr, align });
            }
            ram.check(addr, len).map_err(|source| QueueError::NotInRam { area, source })?;
        }
        Ok(Self {
            ram: ram.own_handle(),
            size,
            desc: layout.desc,
            avail: layout.avail,
            used: layout.used,
            seen_avail: 0,
            next_avail: 0,
            next_used: 0,
            rules,
            longest_chain: if rules.long_chains { max } else { size },
            signalled: 0,
        })
    }

    /// Entries.
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// The most descriptors of a chain through an indirect table.
    pub const fn longest_chain(&self) -> u16 {
        self.longest_chain
    }

    /// Guest-physical address of the descriptor table.
    pub const fn desc(&self) -> u64 {
        self.desc
    }

    /// Guest RAM.
    pub const fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// Whether [`SplitQueue::pop`] would find a chain, or a driver's index that is wrong.
    pub fn has_available(&self) -> bool {
        self.next_avail != self.seen_avail || self.load(self.avail + 2) != self.next_avail
    }

    /// The head of the next chain that the driver made available, as the driver wrote it; none where there is
    /// no more.
    ///
    /// # Errors
    ///
    /// Where the driver's index is further ahead than there are entries, or more chains would be in use than
    /// there are. The queue is then of no more use.
    pub fn pop(&mut self) -> Result<Option<u16>, QueueError> {
        if self.next_avail == self.seen_avail {
            let idx = self.load(self.avail + 2);
            let ahead = idx.wrapping_sub(self.next_avail);
            if ahead > self.size {
                return Err(QueueError::TooFarAhead { idx, ahead, size: self.size });
            }
            self.seen_avail = idx;
            if ahead == 0 {
                return Ok(None);
            }
        }
        // Each chain in use takes a descriptor at least (2.7.13). Without this bound a driver that uses its
        // descriptors twice could fill the host's memory with requests.
        if self.next_avail.wrapping_sub(self.next_used) >= self.size {
            return Err(QueueError::TooManyInUse { size: self.size });
        }
        let slot = u64::from(self.next_avail % self.size);
        let head = self.load(self.avail + RING_HEADER + AVAIL_ELEM * slot);
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(Some(head))
    }

    /// The event that reports the chain that [`SplitQueue::pop`] returned last.
    pub const fn taken_event(&self, queue: u16, head: u16) -> Event<'static> {
        Event::ChainTaken {
            queue,
            head,
            entry: self.next_avail.wrapping_sub(1),
            available: self.seen_avail,
            used: self.next_used,
        }
    }

    /// Gives the chain at `head` back to the driver; the device wrote `len` bytes into it (2.7.8.2).
    /// Returns the used index of the entry that says so.
    pub fn push(&mut self, head: u16, len: u32) -> u16 {
        let slot = u64::from(self.next_used % self.size);
        let mut element = [0; 8];
        let (id, written) = element.split_at_mut(4);
        id.copy_from_slice(&u32::from(head).to_le_bytes());
        written.copy_from_slice(&len.to_le_bytes());
        // The ring was checked to lie in RAM, and RAM does not go away.
        let in_ram = self.ram.write(self.used + RING_HEADER + USED_ELEM * slot, &element);
        debug_assert!(in_ram.is_ok());
        let entry = self.next_used;
        self.next_used = entry.wrapping_add(1);
        let in_ram = self.ram.store_u16(self.used + 2, self.next_used);
        debug_assert!(in_ram.is_ok());
        entry
    }

    /// With EVENT_IDX: asks the driver for a doorbell with the next chain it makes available (2.7.10.2), and
    /// says whether one came in the meantime, so that the device must look again.
    pub fn rearm(&mut self) -> bool {
        if !self.rules.event_idx {
            return false;
        }
        let avail_event = self.used + RING_HEADER + USED_ELEM * u64::from(self.size);
        let in_ram = self.ram.store_u16(avail_event, self.next_avail);
        debug_assert!(in_ram.is_ok());
        // The driver writes its index, then reads avail_event; we write avail_event, then read its index.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        self.load(self.avail + 2) != self.next_avail
    }

    /// Whether the driver wants an interrupt for what was pushed since the last call (2.7.7).
    pub fn wants_interrupt(&mut self) -> bool {
        let (old, new) = (self.signalled, self.next_used);
        if old == new {
            return false;
        }
        self.signalled = new;
        // The used index must be visible before the driver's wish is read: the driver writes its wish, then
        // looks at the index once more.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        if self.rules.notify_on_empty && self.is_empty() {
            return true;
        }
        if self.rules.event_idx {
            let used_event = self.avail + RING_HEADER + AVAIL_ELEM * u64::from(self.size);
            let event = self.load(used_event);
            // Whether `event` is one of old, ..., new - 1, all modulo 2^16.
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.load(self.avail) & AVAIL_NO_INTERRUPT == 0
        }
    }

    /// Whether nothing is available, and nothing in use.
    fn is_empty(&self) -> bool {
        self.next_used == self.next_avail && self.load(self.avail + 2) == self.next_avail
    }

    /// A field of one of the rings, which were checked to lie in RAM.
    fn load(&self, addr: u64) -> u16 {
        let value = self.ram.load_u16(addr);
        debug_assert!(value.is_ok());
        value.unwrap_or_default()
    }
}

/// The size as a number of entries: compared as the driver wrote it, before it is narrowed.
fn checked_size(size: u32, max: u16) -> Result<u16, QueueError> {
    match u16::try_from(size) {
        Ok(narrow) if narrow <= max && narrow.is_power_of_two() => Ok(narrow),
        _ => Err(QueueError::Size { size, max }),
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
