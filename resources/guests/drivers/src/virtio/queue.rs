//! A split virtqueue (2.7): three areas of memory that driver and device share.
//!
//! ```text
//!   descriptor table   {addr u64, len u32, flags u16, next u16} each      what memory a request is made of
//!   available ring     flags u16, idx u16, head u16 each                  driver to device: chains to be done
//!   used ring          flags u16, idx u16, {id u32, len u32} each         device to driver: chains that are done
//! ```
//!
//! Both `idx` count all entries ever made, modulo 65536; the place in the ring is `idx` modulo the queue's size, a
//! power of two.

use core::sync::atomic::{Ordering, fence};

use rt::dma::Dma;

use super::spec::{AVAIL_NO_INTERRUPT, USED_NO_NOTIFY};

const FLAGS: usize = 0;
const IDX: usize = 2;
const RING: usize = 4;

/// An entry of the descriptor table (2.7.5).
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// Guest-physical address of the buffer.
    pub addr: u64,
    /// Its length in bytes.
    pub len: u32,
    /// [`super::spec::descriptor`].
    pub flags: u16,
    /// The next descriptor of the chain, with the flag NEXT.
    pub next: u16,
}

/// An entry of the used ring (2.7.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// The first descriptor of the chain that is done.
    pub id: u32,
    /// Bytes that the device has written into the chain's buffers.
    pub len: u32,
}

/// The driver's side of a split virtqueue.
#[derive(Debug)]
pub struct Queue {
    table: Dma,
    available: Dma,
    used: Dma,
    size: u16,
    /// Chains made available so far.
    given: u16,
    /// Used entries seen so far.
    seen: u16,
}

impl Queue {
    /// A queue of `size` entries, zeroed, aligned as 2.7 demands: 16, 2 and 4 bytes.
    ///
    /// # Panics
    ///
    /// If `size` is no power of two.
    pub fn new(size: u16) -> Queue {
        assert!(size.is_power_of_two(), "a split queue's size is a power of two");
        let entries = usize::from(size);
        Queue {
            table: Dma::new(16 * entries, 16),
            // The last two bytes of either ring are for the feature EVENT_IDX; they exist without it, too.
            available: Dma::new(RING + 2 * entries + 2, 2),
            used: Dma::new(RING + 8 * entries + 2, 4),
            size,
            given: 0,
            seen: 0,
        }
    }

    /// Forgets everything, as the device does on reset. Not while the device has the queue.
    pub fn clear(&mut self) {
        for area in [self.table, self.available, self.used] {
            area.fill(0);
        }
        self.given = 0;
        self.seen = 0;
    }

    /// Entries in the queue.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Guest-physical addresses of the descriptor table, the available ring and the used ring.
    pub fn addresses(&self) -> [u64; 3] {
        [self.table.address(), self.available.address(), self.used.address()]
    }

    /// Fills entry `index` of the descriptor table.
    pub fn describe(&mut self, index: u16, descriptor: Descriptor) {
        let at = 16 * usize::from(index);
        self.table.write(at, descriptor.addr);
        self.table.write(at + 8, descriptor.len);
        self.table.write(at + 12, descriptor.flags);
        self.table.write(at + 14, descriptor.next);
    }

    /// Asks the device not to interrupt, or to do so. A hint: it may interrupt all the same.
    pub fn want_interrupts(&mut self, wanted: bool) {
        self.available.write(FLAGS, if wanted { 0 } else { AVAIL_NO_INTERRUPT });
    }

    /// Makes the chain that begins at descriptor `head` available. True where the device is to be notified.
    pub fn give(&mut self, head: u16) -> bool {
        self.put(head);
        self.publish()
    }

    /// Where the entry with this number is in a ring: its number modulo the size, a power of two.
    fn place(&self, number: u16) -> usize {
        usize::from(number & (self.size - 1))
    }

    /// Puts the chain that begins at descriptor `head` into the available ring; [`Queue::publish`] makes it available.
    pub fn put(&mut self, head: u16) {
        let place = self.place(self.given);
        self.available.write(RING + 2 * place, head);
        self.given = self.given.wrapping_add(1);
    }

    /// Makes available what was put into the ring. True where the device is to be notified.
    pub fn publish(&mut self) -> bool {
        // The entry before the index that says it is there (2.7.13.3) ...
        fence(Ordering::Release);
        self.available.write(IDX, self.given);
        // ... and the index before the question whether the device looks by itself (2.7.13.4).
        fence(Ordering::SeqCst);
        self.used.read::<u16>(FLAGS) & USED_NO_NOTIFY == 0
    }

    /// Takes all chains, where the device has done all of them; else none, and false.
    pub fn take_all(&mut self) -> bool {
        let all = self.used.read::<u16>(IDX) == self.given;
        if all {
            fence(Ordering::Acquire);
            self.seen = self.given;
        }
        all
    }

    /// The entry for the next chain, where each has one entry and they are done in order. `None` where all are under way.
    pub fn next_entry(&self) -> Option<u16> {
        (self.given.wrapping_sub(self.seen) < self.size).then_some(self.given & (self.size - 1))
    }

    /// Whether the device has done a chain that [`Queue::take`] has not given yet.
    #[inline]
    pub fn has_used(&self) -> bool {
        self.used.read::<u16>(IDX) != self.seen
    }

    /// The next chain that is done.
    pub fn take(&mut self) -> Option<Used> {
        if !self.has_used() {
            return None;
        }
        // The index before the entry it stands for (2.7.14).
        fence(Ordering::Acquire);
        let at = RING + 8 * self.place(self.seen);
        self.seen = self.seen.wrapping_add(1);
        Some(Used { id: self.used.read(at), len: self.used.read(at + 4) })
    }
}
