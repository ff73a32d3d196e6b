//! A split virtqueue in the hands of a test: many chains at once, of any descriptors, also indirect, and interrupts
//! and doorbells by index (virtio 1.4, 2.7).

use core::sync::atomic::{Ordering, fence};

use drivers::virtio::Used;
use drivers::virtio::spec::{AVAIL_NO_INTERRUPT, USED_NO_NOTIFY, descriptor};
use rt::dma::Dma;

/// Descriptor flag: the buffer is a table of descriptors (2.7.5.3).
const INDIRECT: u16 = 4;
/// Bytes of a descriptor.
pub const DESCRIPTOR: usize = 16;

const FLAGS: usize = 0;
const IDX: usize = 2;
const ENTRIES: usize = 4;

/// A buffer of a chain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Piece {
    /// Guest-physical address.
    pub address: u64,
    /// Length in bytes.
    pub len: u32,
    /// Whether the device writes it; it reads it otherwise.
    pub written: bool,
}

impl Piece {
    /// Memory that the device reads.
    pub fn read(memory: Dma) -> Piece {
        Piece { address: memory.address(), len: memory.len() as u32, written: false }
    }

    /// Memory that the device writes.
    pub fn written(memory: Dma) -> Piece {
        Piece { written: true, ..Piece::read(memory) }
    }
}

/// The driver's side of a split virtqueue.
#[derive(Debug)]
pub struct Ring {
    size: u16,
    table: Dma,
    available: Dma,
    used: Dma,
    /// With the feature EVENT_IDX.
    events: bool,
    /// The next descriptor. They are used in turn; the caller has no more than `size` under way.
    next: u16,
    /// Chains put into the available ring.
    given: u16,
    /// Chains that were announced to the device.
    told: u16,
    /// Used entries taken.
    seen: u16,
}

impl Ring {
    /// A ring of `size` entries, a power of two, all zero.
    pub fn new(size: u16) -> Ring {
        let entries = usize::from(size);
        Ring {
            size,
            table: Dma::new(DESCRIPTOR * entries, 16),
            available: Dma::new(ENTRIES + 2 * entries + 2, 2),
            used: Dma::new(ENTRIES + 8 * entries + 2, 4),
            events: false,
            next: 0,
            given: 0,
            told: 0,
            seen: 0,
        }
    }

    /// As new, with or without EVENT_IDX. Not while the device has it.
    pub fn clear(&mut self, events: bool) {
        for area in [self.table, self.available, self.used] {
            area.fill(0);
        }
        let Ring { size, table, available, used, .. } = *self;
        *self = Ring { size, table, available, used, events, next: 0, given: 0, told: 0, seen: 0 };
    }

    /// Entries.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Guest-physical addresses of the descriptor table, the available ring and the used ring.
    pub fn addresses(&self) -> [u64; 3] {
        [self.table.address(), self.available.address(), self.used.address()]
    }

    /// Makes a chain of `pieces` and puts it into the available ring. What it will be called in the used ring.
    pub fn chain(&mut self, pieces: &[Piece]) -> u16 {
        let head = self.next;
        self.next = (head + pieces.len() as u16) % self.size;
        let mut at = head;
        for (index, piece) in pieces.iter().enumerate() {
            let after = (at + 1) % self.size;
            describe(
                self.table,
                at,
                piece,
                if index + 1 < pieces.len() { Some(after) } else { None },
            );
            at = after;
        }
        self.give(head);
        head
    }

    /// The same with the descriptors in `table`, and one in the ring's own.
    pub fn indirect_chain(&mut self, pieces: &[Piece], table: Dma) -> u16 {
        let head = self.next;
        self.next = (head + 1) % self.size;
        for (index, piece) in (0..).zip(pieces) {
            let more = usize::from(index) + 1 < pieces.len();
            describe(table, index, piece, more.then_some(index + 1));
        }
        let at = DESCRIPTOR * usize::from(head);
        self.table.write(at, table.address());
        self.table.write(at + 8, (DESCRIPTOR * pieces.len()) as u32);
        self.table.write(at + 12, INDIRECT);
        self.give(head);
        head
    }

    /// Puts a chain that was made before into the available ring once more.
    pub fn give(&mut self, head: u16) {
        self.available.write(ENTRIES + 2 * usize::from(self.given % self.size), head);
        self.given = self.given.wrapping_add(1);
    }

    /// Puts `chains` chains into the available ring whose entries stand there already, from an earlier turn of the ring
    /// or from before [`Ring::withdraw`]: only the index moves.
    #[inline]
    pub fn give_again(&mut self, chains: u16) {
        self.given = self.given.wrapping_add(chains);
    }

    /// Takes back what was put into the available ring and was not announced to the device.
    pub fn withdraw(&mut self) {
        self.given = self.told;
    }

    /// Tells the device of all that was put into the available ring. True where it wants a doorbell.
    pub fn publish(&mut self) -> bool {
        let before = core::mem::replace(&mut self.told, self.given);
        fence(Ordering::Release);
        self.available.write(IDX, self.given);
        // The index before the question (2.7.13.4.1).
        fence(Ordering::SeqCst);
        if self.events {
            let wanted_at: u16 = self.used.read(ENTRIES + 8 * usize::from(self.size));
            self.given.wrapping_sub(wanted_at).wrapping_sub(1) < self.given.wrapping_sub(before)
        } else {
            self.used.read::<u16>(FLAGS) & USED_NO_NOTIFY == 0
        }
    }

    /// Without EVENT_IDX: whether the device is to interrupt.
    pub fn want_interrupts(&mut self, wanted: bool) {
        self.available.write(FLAGS, if wanted { 0 } else { AVAIL_NO_INTERRUPT });
    }

    /// With EVENT_IDX: the device is to interrupt when it has done this many chains more than were taken.
    pub fn interrupt_after(&mut self, chains: u16) {
        let event = self.seen.wrapping_add(chains).wrapping_sub(1);
        self.available.write(ENTRIES + 2 * usize::from(self.size), event);
    }

    /// Where the used ring's index stands. Counts all chains ever done, modulo 65536.
    pub fn used_index(&self) -> u16 {
        self.used.read(IDX)
    }

    /// How many chains are done and not taken.
    #[inline]
    pub fn done(&self) -> u16 {
        self.used_index().wrapping_sub(self.seen)
    }

    /// The next chain that is done.
    pub fn take(&mut self) -> Option<Used> {
        if self.done() == 0 {
            return None;
        }
        fence(Ordering::Acquire);
        let at = ENTRIES + 8 * usize::from(self.seen % self.size);
        self.seen = self.seen.wrapping_add(1);
        Some(Used { id: self.used.read(at), len: self.used.read(at + 4) })
    }

    /// Takes this many chains without a look at them.
    pub fn pass_over(&mut self, chains: u16) {
        self.seen = self.seen.wrapping_add(chains);
    }
}

fn describe(table: Dma, index: u16, piece: &Piece, next: Option<u16>) {
    let at = DESCRIPTOR * usize::from(index);
    let direction = if piece.written { descriptor::WRITE } else { 0 };
    table.write(at, piece.address);
    table.write(at + 8, piece.len);
    table.write(at + 12, direction | if next.is_some() { descriptor::NEXT } else { 0 });
    table.write(at + 14, next.unwrap_or(0));
}
