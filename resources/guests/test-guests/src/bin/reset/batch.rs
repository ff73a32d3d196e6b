//! A ring with its requests and their memory, and the model of the disk.

use drivers::virtio::spec::request::{IN, OK, OUT};
use rt::dma::Dma;
use scenario::block::Block;
use scenario::{Failure, Outcome, Piece, Random, Ring, ensure, ensure_eq, pattern};

use crate::wait_for;

/// Sectors of the disk that requests are about.
pub(crate) const SECTORS: u64 = 256;
/// And those after them, for the model.
pub(crate) const MODEL_SECTORS: u64 = SECTORS * 8 / SECTOR as u64;
/// Requests of a batch: one in each stretch of the disk, so that no two are about one sector.
pub(crate) const REQUESTS: u16 = 8;
/// Sectors of a request at most.
const MOST: u64 = 2;
const SECTOR: usize = 512;
/// How much of a request's data is looked at for what comes after the reset, from the start.
const WATCHED: usize = 64;
/// What is in memory that no device has touched since.
const CANARY: u8 = 0xc5;
/// A status that no device gives.
const NO_STATUS: u8 = 0xaa;

/// The word that each sector holds in all its places.
pub(crate) struct Model(Dma);

impl Model {
    /// Each its number.
    pub(crate) fn new() -> Model {
        let model = Model(Dma::new(SECTORS as usize * 8, SECTOR));
        (0..SECTORS).for_each(|sector| model.set(sector, sector));
        model
    }

    fn set(&self, sector: u64, word: u64) {
        self.0.write(8 * sector as usize, word);
    }

    fn get(&self, sector: u64) -> u64 {
        self.0.read(8 * sector as usize)
    }
}

#[derive(Clone, Copy, Default)]
struct Request {
    kind: u32,
    sector: u64,
    sectors: u64,
    /// What a write puts everywhere.
    word: u64,
    /// Whether it was acknowledged: its status byte and the used ring showed it when the device was reset.
    done: bool,
}

pub(crate) struct Batch {
    ring: Ring,
    headers: Dma,
    statuses: Dma,
    data: Dma,
    requests: [Request; REQUESTS as usize],
    /// Where the used ring's index stood at the reset, once there was one.
    closed: Option<u16>,
}

impl Batch {
    pub(crate) fn new() -> Batch {
        let most = usize::from(REQUESTS) * MOST as usize;
        Batch {
            // Three descriptors a request, and a batch that looks at what the last one left.
            ring: Ring::new(64),
            headers: Dma::new(16 * usize::from(REQUESTS), 16),
            statuses: Dma::new(REQUESTS.into(), 1),
            data: Dma::new(most * SECTOR, SECTOR),
            requests: [Request::default(); REQUESTS as usize],
            closed: None,
        }
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// As new.
    pub(crate) fn clear(&mut self) {
        self.ring.clear(false);
        // They are not let in, but the device has them pending when it is reset.
        self.ring.want_interrupts(true);
        self.requests = [Request::default(); REQUESTS as usize];
        self.closed = None;
    }

    fn data_of(&self, n: usize) -> Dma {
        let most = MOST as usize * SECTOR;
        self.data.part(n * most, self.requests[n].sectors as usize * SECTOR)
    }

    /// Puts request `n` into the ring.
    fn give(&mut self, n: usize) {
        let Request { kind, sector, .. } = self.requests[n];
        let (header, status) = (self.headers.part(16 * n, 16), self.statuses.part(n, 1));
        header.write(0, kind);
        header.write(4, 0_u32);
        header.write(8, sector);
        status.write(0, NO_STATUS);
        let data = self.data_of(n);
        let data = if kind == IN { Piece::written(data) } else { Piece::read(data) };
        self.ring.chain(&[Piece::read(header), data, Piece::written(status)]);
    }

    /// Looks at what the last batch wrote, now that its device is gone: each sector holds the old word or the new one,
    /// the new one where that was acknowledged; and nothing has come into its memory since.
    pub(crate) fn settle(&mut self, block: Block, model: &mut Model, last: &Batch) -> Outcome {
        let Some(closed) = last.closed else { return Ok(()) };
        self.requests = last.requests;
        for n in 0..usize::from(REQUESTS) {
            self.requests[n].kind = IN;
            // What no sector holds, neither before nor after.
            self.data_of(n).fill(CANARY);
            self.give(n);
        }
        self.ring.publish();
        wait_for(&self.ring, block, REQUESTS)?;
        self.ring.pass_over(REQUESTS);
        for (n, request) in last.requests.iter().enumerate() {
            ensure_eq!(self.statuses.read::<u8>(n), OK, "status of a read after the reset");
            for index in 0..request.sectors {
                let at = request.sector + index;
                let old = model.get(at);
                let data = self.data_of(n).part(index as usize * SECTOR, SECTOR);
                let word: u64 = data.read(0);
                ensure!(data.is_all(word), "sector {at} is torn");
                let new = request.kind == OUT && word == request.word;
                let lost = request.kind == OUT && request.done && !new;
                ensure!(
                    !lost,
                    "sector {at} was written, which was acknowledged, and holds {word:#x}"
                );
                ensure!(new || word == old, "sector {at} holds {word:#x}, and held {old:#x}");
                model.set(at, word);
            }
        }
        ensure_eq!(last.ring.used_index(), closed, "index of the used ring after the reset");
        let memory = |what: &str, memory: Dma| {
            pattern::check_all(memory, CANARY)
                .map_err(|e| Failure::format(format_args!("{what} after the reset: {e}")))
        };
        memory("status", last.statuses)?;
        (0..usize::from(REQUESTS))
            .try_for_each(|n| memory("data", last.data_of(n).part(0, WATCHED)))
    }

    /// New requests.
    pub(crate) fn fill(&mut self, random: &mut Random) {
        const STRETCH: u64 = SECTORS / REQUESTS as u64;
        for n in 0..usize::from(REQUESTS) {
            let sectors = random.within(1, MOST);
            let sector = n as u64 * STRETCH + random.below(STRETCH - MOST);
            let kind = if random.once_in(4) { IN } else { OUT };
            let word = random.number();
            self.requests[n] = Request { kind, sector, sectors, word, done: false };
            let data = self.data_of(n);
            match kind {
                OUT => data.fill_words(word),
                _ => data.part(0, WATCHED).fill(CANARY),
            }
        }
    }

    /// Offers them; whether the device wants a doorbell.
    pub(crate) fn offer(&mut self) -> bool {
        (0..usize::from(REQUESTS)).for_each(|n| self.give(n));
        self.ring.publish()
    }

    /// The device is gone: notes what was acknowledged and leaves the memory to be looked at later. How many requests
    /// were done.
    pub(crate) fn close(&mut self) -> u16 {
        let done = self.ring.done();
        for n in 0..usize::from(done) {
            // In the order in which they were offered: one queue, and one that serves it.
            self.requests[n].done = self.statuses.read::<u8>(n) == OK;
        }
        self.closed = Some(self.ring.used_index());
        self.statuses.fill(CANARY);
        for n in 0..usize::from(REQUESTS) {
            self.data_of(n).part(0, WATCHED).fill(CANARY);
        }
        done
    }

    /// Offers the first request once more, where the device had its queue.
    pub(crate) fn offer_again(&mut self) {
        self.ring.give(0);
        self.ring.publish();
    }

    /// Writes what each sector holds behind them all.
    pub(crate) fn write_model(&mut self, block: Block, model: &Model) -> Outcome {
        let (header, status) = (self.headers.part(0, 16), self.statuses.part(0, 1));
        header.write(0, OUT);
        header.write(4, 0_u32);
        header.write(8, SECTORS);
        self.ring.chain(&[Piece::read(header), Piece::read(model.0), Piece::written(status)]);
        self.ring.publish();
        wait_for(&self.ring, block, 1)?;
        ensure_eq!(status.read::<u8>(0), OK, "status of the model");
        Ok(())
    }
}
