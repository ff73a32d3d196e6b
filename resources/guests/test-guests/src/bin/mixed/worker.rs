//! One processor's share: its queue, its part of the disk, and what that must hold.

use drivers::virtio::Used;
use drivers::virtio::spec::request::{FLUSH, GET_ID, IN, IOERR, OUT, UNSUPP};
use rt::dma::Dma;
use rt::println;
use rt::wait::{DEVICE_LIMIT, Wait};
use scenario::block::{Block, EVENT_IDX, INDIRECT_DESC, T_DISCARD, T_WRITE_ZEROES};
use scenario::{Outcome, Random, Ring, ensure, ensure_eq, fail, pattern};

use crate::chain::{MOST_SECTORS, OK, PIECES, Pieces, Places, Slot, put_range};

/// Sectors of the disk that requests are about.
pub(crate) const SECTORS: u64 = 1024;
/// And those after them, which hold 0x77 until the model is written there.
pub(crate) const MODEL_SECTORS: u64 = SECTORS * 4 / SECTOR as u64;
const SECTOR: usize = 512;
/// Requests under way at once.
const BATCH: usize = 16;
/// Room for as many chains, each split as far as it goes.
const ENTRIES: u16 = (BATCH * PIECES) as u16;
/// The state of a sector in the model, if it is not an offset in the stock.
const ZEROS: u32 = 0xffff_ffff;
const ANYTHING: u32 = 0xffff_fffe;
/// Ranges of a discard or write-zeroes at most.
const RANGES: u64 = 3;
/// A range's flag: its space may be freed.
const UNMAP: u32 = 1;
static EMPTY: [u8; SECTOR] = [0; SECTOR];
const ID: &[u8; 20] = b"mixed\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// What is one processor's.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    pub(crate) queue: u16,
    /// Its first sector, and how many there are.
    pub(crate) first: u64,
    pub(crate) sectors: u64,
    pub(crate) requests: u64,
    pub(crate) seed: u64,
    pub(crate) wait: Wait,
}

/// Requests by what became of them.
#[derive(Default)]
struct Counts {
    reads: u32,
    writes: u32,
    zeroes: u32,
    discards: u32,
    others: u32,
    refused: u32,
}

pub(crate) struct Worker {
    block: Block,
    stock: &'static [u8],
    share: Share,
    indirect: bool,
    events: bool,
    capacity: u64,
    random: Random,
    ring: Ring,
    /// For each sector of the share what it holds, 4 bytes.
    model: Dma,
    slots: [Slot; BATCH],
    batches: u32,
    counts: Counts,
}

impl Worker {
    pub(crate) fn new(block: Block, stock: &'static [u8], share: Share, features: u64) -> Worker {
        let model = Dma::new(share.sectors as usize * 4, SECTOR);
        for n in 0..share.sectors {
            let at = 61 * (share.first + n) % (stock.len() - SECTOR) as u64;
            model.write(4 * n as usize, at as u32);
        }
        let mut ring = Ring::new(ENTRIES);
        ring.clear(features & EVENT_IDX != 0);
        ring.want_interrupts(share.wait == Wait::Interrupt);
        Worker {
            block,
            stock,
            share,
            indirect: features & INDIRECT_DESC != 0,
            events: features & EVENT_IDX != 0,
            capacity: SECTORS + MODEL_SECTORS,
            random: Random::new(share.seed),
            ring,
            model,
            slots: core::array::from_fn(|_| Slot::new()),
            batches: 0,
            counts: Counts::default(),
        }
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(crate) fn batches(&self) -> u32 {
        self.batches
    }

    /// All requests, and then the model onto the disk.
    pub(crate) fn run(&mut self) -> Outcome {
        let mut left = self.share.requests;
        while left > 0 {
            let count = self.random.within(1, BATCH as u64).min(left);
            // Requests under way at once are about different sectors: their order is the device's affair.
            let zone = self.share.sectors / BATCH as u64;
            let shift = self.random.below(self.share.sectors);
            for n in 0..count {
                let within = self.random.below(zone);
                let at = (shift + n * zone + within) % self.share.sectors;
                let room = (zone - within).min(self.share.sectors - at);
                self.prepare(n as usize, at, room);
            }
            self.submit(count as u16)?;
            left -= count;
        }
        let Counts { reads, writes, zeroes, discards, others, refused } = self.counts;
        println!(
            "requests {}: {reads} reads, {writes} writes, {zeroes} of zeros, {discards} discards, {others} others, {refused} refused",
            self.share.requests
        );
        self.write_model()
    }

    /// Hands over `count` requests, waits for them and looks at their answers.
    fn submit(&mut self, count: u16) -> Outcome {
        if self.events {
            self.ring.interrupt_after(count);
        }
        if self.ring.publish() {
            self.block.notify(self.share.queue);
        }
        self.batches += 1;
        let ring = &self.ring;
        let done = self.share.wait.until(DEVICE_LIMIT, || ring.done() >= count);
        ensure!(done, "{} of {count} requests are not answered", count - ring.done().min(count));
        while let Some(used) = self.ring.take() {
            self.check(used)?;
        }
        let left = self.slots.iter().filter(|slot| slot.pending).count();
        ensure!(left == 0, "{left} requests never came back, others came twice");
        Ok(())
    }

    /// Makes a request about sectors of the share from `at` on, at most `room` of them.
    fn prepare(&mut self, n: usize, at: u64, room: u64) {
        let most = room.min(MOST_SECTORS);
        let count = if self.random.once_in(2) { 1 } else { self.random.within(1, most) };
        let sector = self.share.first + at;
        match self.random.below(128) {
            0..50 => self.read(n, sector, count * SECTOR as u64, OK),
            50..100 => self.write(n, at, count),
            100..110 => self.ranges(n, at, room, T_WRITE_ZEROES),
            110..115 => self.ranges(n, at, room, T_DISCARD),
            115..118 => self.id(n),
            118 => self.bare(n, FLUSH, 0, OK),
            119 => self.bare(n, 99, sector, UNSUPP),
            120 => self.read(n, self.capacity + at, 512, IOERR),
            121 => self.read(n, self.capacity - 1, 1024, IOERR),
            122 => self.read(n, sector, count * SECTOR as u64 - 12, IOERR),
            123 => self.refused_write(n, self.capacity + at, 512),
            124 => self.refused_write(n, self.capacity - 1, 1024),
            125 => self.refused_write(n, sector, 600),
            126 => self.refused_ranges(n, T_DISCARD, sector, 1, UNMAP, UNSUPP),
            _ => self.refused_ranges(n, T_WRITE_ZEROES, self.capacity - 1, 2, 0, IOERR),
        }
    }

    /// Some requests are split at random; the others are as plain as can be.
    fn split(random: &mut Random) -> Option<&mut Random> {
        if random.once_in(3) { Some(random) } else { None }
    }

    fn read(&mut self, n: usize, sector: u64, bytes: u64, status: u8) {
        let slot = &mut self.slots[n];
        let mut pieces = slot.memory.begin(IN, sector, Self::split(&mut self.random));
        slot.places =
            slot.memory.add_room(&mut pieces, bytes as usize, Self::split(&mut self.random));
        let written = if status == OK { bytes as u32 } else { 0 };
        self.give(n, &pieces, IN, sector, status, written);
    }

    /// Each run of sectors is from somewhere else in the stock.
    fn write(&mut self, n: usize, at: u64, count: u64) {
        const RUNS: u64 = 4;
        let sector = self.share.first + at;
        let memory = &self.slots[n].memory;
        let mut pieces = memory.begin(OUT, sector, Self::split(&mut self.random));
        let mut done = 0;
        for run in 1..=RUNS {
            let left = count - done;
            let sectors = if run == RUNS { left } else { self.random.within(1, left) };
            let len = sectors as usize * SECTOR;
            let from = self.random.below((self.stock.len() - len) as u64);
            // Some as a host needs them that goes past its page cache: the stock begins with a page. Of the others one
            // is cut in two, anywhere.
            let aligned = self.random.once_in(3);
            let from = if aligned { from & !(SECTOR as u64 - 1) } else { from };
            let cut = run == 1 && !aligned;
            let first = if cut { self.random.below(len as u64) as usize } else { 0 };
            memory.add_bytes(&mut pieces, self.stock.as_ptr() as u64 + from, len, first);
            for n in 0..sectors {
                let holds = from + n * SECTOR as u64;
                self.model.write(4 * (at + done + n) as usize, holds as u32);
            }
            done += sectors;
            if done == count {
                break;
            }
        }
        memory.add_status(&mut pieces);
        self.give(n, &pieces, OUT, sector, OK, 0);
    }

    fn refused_write(&mut self, n: usize, sector: u64, len: usize) {
        let memory = &self.slots[n].memory;
        let mut pieces = memory.begin(OUT, sector, Self::split(&mut self.random));
        let first = self.random.below(len as u64) as usize;
        memory.add_bytes(&mut pieces, self.stock.as_ptr() as u64, len, first);
        memory.add_status(&mut pieces);
        self.give(n, &pieces, OUT, sector, IOERR, 0);
    }

    /// One range or more behind each other, with sectors left out between them.
    fn ranges(&mut self, n: usize, at: u64, room: u64, kind: u32) {
        let data = self.slots[n].memory.data();
        let (mut count, mut next) = (0, at);
        for _ in 0..self.random.within(1, RANGES) {
            if next >= at + room {
                break;
            }
            let sectors = self.random.within(1, at + room - next);
            let unmap = if kind == T_WRITE_ZEROES && self.random.once_in(2) { UNMAP } else { 0 };
            put_range(data, count, self.share.first + next, sectors as u32, unmap);
            let holds = if kind == T_DISCARD { ANYTHING } else { ZEROS };
            for sector in next..next + sectors {
                self.model.write(4 * sector as usize, holds);
            }
            count += 1;
            next += sectors + self.random.below(3);
        }
        self.give_ranges(n, kind, count, OK);
    }

    fn refused_ranges(
        &mut self,
        n: usize,
        kind: u32,
        sector: u64,
        sectors: u32,
        flags: u32,
        status: u8,
    ) {
        put_range(self.slots[n].memory.data(), 0, sector, sectors, flags);
        self.give_ranges(n, kind, 1, status);
    }

    fn give_ranges(&mut self, n: usize, kind: u32, count: usize, status: u8) {
        let memory = &self.slots[n].memory;
        // The header's sector means nothing here.
        let mut pieces = memory.begin(kind, 0, Self::split(&mut self.random));
        let first = if self.random.once_in(2) { 0 } else { self.random.below(16 * count as u64) };
        memory.add_bytes(&mut pieces, memory.data().address(), 16 * count, first as usize);
        memory.add_status(&mut pieces);
        self.give(n, &pieces, kind, 0, status, 0);
    }

    fn id(&mut self, n: usize) {
        let slot = &mut self.slots[n];
        let mut pieces = slot.memory.begin(GET_ID, 0, Self::split(&mut self.random));
        slot.places = slot.memory.add_room(&mut pieces, ID.len(), Self::split(&mut self.random));
        self.give(n, &pieces, GET_ID, 0, OK, ID.len() as u32);
    }

    /// A request without data.
    fn bare(&mut self, n: usize, kind: u32, sector: u64, status: u8) {
        let memory = &self.slots[n].memory;
        let mut pieces = memory.begin(kind, sector, Self::split(&mut self.random));
        memory.add_status(&mut pieces);
        self.give(n, &pieces, kind, sector, status, 0);
    }

    fn give(
        &mut self,
        n: usize,
        pieces: &Pieces,
        kind: u32,
        sector: u64,
        status: u8,
        written: u32,
    ) {
        let indirect = self.indirect && self.random.once_in(2);
        let slot = &mut self.slots[n];
        slot.head = slot.memory.give(&mut self.ring, pieces, indirect);
        (slot.kind, slot.sector, slot.status, slot.written) = (kind, sector, status, written);
        slot.pending = true;
    }

    /// Looks at the answer to one of the requests.
    fn check(&mut self, used: Used) -> Outcome {
        let is_it = |slot: &&mut Slot| slot.pending && u32::from(slot.head) == used.id;
        let Some(slot) = self.slots.iter_mut().find(is_it) else {
            fail!("the used ring names chain {}, which is not under way", used.id);
        };
        slot.pending = false;
        let Slot { kind, sector, .. } = *slot;
        ensure_eq!(
            slot.memory.status(),
            slot.status,
            "status of a request {kind} at sector {sector}"
        );
        ensure_eq!(used.len, slot.written + 1, "length of a request {kind} at sector {sector}");
        let counts = &mut self.counts;
        *match (slot.status, kind) {
            (OK, IN) => &mut counts.reads,
            (OK, OUT) => &mut counts.writes,
            (OK, T_WRITE_ZEROES) => &mut counts.zeroes,
            (OK, T_DISCARD) => &mut counts.discards,
            (OK, _) => &mut counts.others,
            _ => &mut counts.refused,
        } += 1;
        if slot.status != OK {
            return Ok(());
        }
        let data = slot.memory.data();
        let mut offset = 0;
        for (mut at, mut len) in slot.places.all().filter(|_| matches!(kind, IN | GET_ID)) {
            while len > 0 {
                let within = offset % SECTOR;
                let part = len.min(SECTOR - within);
                let here = sector + (offset / SECTOR) as u64;
                let holds = match kind {
                    IN => self.model.read(4 * (here - self.share.first) as usize),
                    _ => ANYTHING,
                };
                let right = match holds {
                    _ if kind == GET_ID => data.matches(at, &ID[offset..offset + part]),
                    ANYTHING => true,
                    ZEROS => data.matches(at, &EMPTY[..part]),
                    from => data.matches(at, &self.stock[from as usize + within..][..part]),
                };
                ensure!(
                    right,
                    "{part} bytes of sector {here} from byte {within} on, model {holds:#x}"
                );
                (at, len, offset) = (at + part, len - part, offset + part);
            }
        }
        Ok(())
    }

    /// Looks whether the last sectors were left alone, and writes there what the others must hold.
    fn write_model(&mut self) -> Outcome {
        let first = SECTORS + self.share.first * 4 / SECTOR as u64;
        let there = self.slots[0].memory.data().part(0, self.model.len());
        self.whole(IN, first, there)?;
        pattern::check_all(there, 0x77)?;
        self.whole(OUT, first, self.model)
    }

    /// A request by itself, with all of `memory`.
    fn whole(&mut self, kind: u32, sector: u64, memory: Dma) -> Outcome {
        let mut pieces = self.slots[0].memory.begin(kind, sector, None);
        match kind {
            IN => self.slots[0].memory.add_room(&mut pieces, memory.len(), None),
            _ => {
                self.slots[0].memory.add_bytes(&mut pieces, memory.address(), memory.len(), 0);
                self.slots[0].memory.add_status(&mut pieces);
                Places::default()
            }
        };
        self.slots[0].memory.give(&mut self.ring, &pieces, false);
        if self.events {
            self.ring.interrupt_after(1);
        }
        if self.ring.publish() {
            self.block.notify(self.share.queue);
        }
        self.batches += 1;
        let ring = &self.ring;
        ensure!(self.share.wait.until(DEVICE_LIMIT, || ring.done() == 1), "no answer");
        self.ring.pass_over(1);
        ensure_eq!(self.slots[0].memory.status(), OK, "status of the model's sectors");
        Ok(())
    }
}
