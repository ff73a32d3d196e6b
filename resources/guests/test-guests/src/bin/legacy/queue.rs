//! The memory of a legacy queue, as all five kinds lay it out: the descriptors, behind them the available ring, and the
//! used ring from the next page on. Beside it the header and the status byte of a request for each descriptor.

use rt::dma::Dma;
use scenario::{Failure, ensure, ensure_eq};

pub(crate) const PAGE: usize = 4096;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
/// A status byte that no device writes.
const NO_STATUS: u8 = 111;

pub(crate) struct Queue {
    memory: Dma,
    entries: u16,
    headers: Dma,
    statuses: Dma,
    /// The used ring's entries that were looked at.
    taken: u16,
    under_way: usize,
}

impl Queue {
    pub(crate) fn new(entries: u16) -> Queue {
        let n = usize::from(entries);
        Queue {
            memory: Dma::new(used_ring(n) + 4 + 8 * n + 2, PAGE),
            entries,
            headers: Dma::new(16 * n, 16),
            statuses: Dma::new(n, 1),
            taken: 0,
            under_way: 0,
        }
    }

    /// Fills all with zeros. Not while a device has it.
    pub(crate) fn clear(&mut self) {
        self.memory.fill(0);
        (self.taken, self.under_way) = (0, 0);
    }

    pub(crate) fn entries(&self) -> u16 {
        self.entries
    }

    /// The guest-physical address, below 4 GiB as all of a guest's memory.
    pub(crate) fn address(&self) -> u32 {
        self.memory.address() as u32
    }

    /// Makes a request of the three descriptors `at`.
    pub(crate) fn fill(&self, at: [u16; 3], sector: u64, data: Dma, write: bool) {
        let [head, middle, end] = at;
        let header = self.headers.part(16 * usize::from(head), 16);
        header.write(0, u32::from(write));
        header.write(4, 0_u32);
        header.write(8, sector);
        let status = self.statuses.part(usize::from(head), 1);
        status.write(0, NO_STATUS);
        self.describe(head, header, NEXT, middle);
        self.describe(middle, data, NEXT | if write { 0 } else { WRITE }, end);
        self.describe(end, status, WRITE, 0);
    }

    fn describe(&self, index: u16, memory: Dma, flags: u16, next: u16) {
        let entry = self.memory.part(16 * usize::from(index), 16);
        entry.write(0, memory.address());
        entry.write(8, memory.len() as u32);
        entry.write(12, flags);
        entry.write(14, next);
    }

    /// Makes the chain at `head` available.
    pub(crate) fn offer(&mut self, head: u16) {
        let ring = 16 * usize::from(self.entries);
        let idx = self.memory.read::<u16>(ring + 2);
        self.memory.write(ring + 4 + 2 * usize::from(idx % self.entries), head);
        self.memory.write(ring + 2, idx.wrapping_add(1));
        self.under_way += 1;
    }

    /// Takes what the device has used. How many requests are still under way.
    pub(crate) fn take(&mut self) -> Result<usize, Failure> {
        let ring = used_ring(usize::from(self.entries));
        while self.taken != self.memory.read::<u16>(ring + 2) {
            let at = ring + 4 + 8 * usize::from(self.taken % self.entries);
            let id = self.memory.read::<u32>(at);
            ensure!(id < self.entries.into(), "the used ring names chain {id}");
            ensure_eq!(self.statuses.read::<u8>(id as usize), 0, "status byte of chain {id}");
            ensure!(self.under_way > 0, "chain {id} was used, and no request is under way");
            self.under_way -= 1;
            self.taken = self.taken.wrapping_add(1);
        }
        Ok(self.under_way)
    }
}

/// Where the used ring begins, from the queue's first byte.
const fn used_ring(entries: usize) -> usize {
    (16 * entries + 4 + 2 * entries + 2).next_multiple_of(PAGE)
}
