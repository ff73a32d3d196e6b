//! One processor's queue: a batch of reads that is made once, and given to the device again and again.

use drivers::virtio::spec::request;
use rt::dma::Dma;
use rt::wait::{DEVICE_LIMIT, Wait};
use scenario::block::Block;
use scenario::{DESCRIPTOR, Outcome, Piece, Ring, ensure, ensure_eq, pattern};

/// Reads a doorbell.
pub(crate) const BATCH: u16 = 64;
/// Entries in the ring, usually: room for two batches, so that a batch is less than a device may do in one turn.
pub(crate) const ENTRIES: u16 = 2 * BATCH;
const SECTOR: u64 = 512;
/// Bytes of a request's header (virtio 1.4, 5.2.6).
const HEADER: usize = 16;
/// A header, the data, the status.
const PIECES: usize = 3;
/// What stands where the device is to write.
const UNTOUCHED: u8 = 0xee;

/// Which reads a lane makes.
#[derive(Clone, Copy)]
pub(crate) struct Reads {
    /// Bytes of each, whole sectors.
    pub(crate) bytes: usize,
    /// Whether all go to the same memory, for want of more.
    pub(crate) one_buffer: bool,
    /// Entries in the ring, a multiple of [`BATCH`]: they never change, because the batch is in it a whole number of times.
    pub(crate) entries: u16,
    /// The seed of the disk's contents.
    pub(crate) seed: u64,
    /// Which half of the disk's sectors: read n of lane l begins at place 2 * n + l of 128.
    pub(crate) lane: u64,
}

/// A queue of a device, and the reads it is given.
pub(crate) struct Lane {
    block: Block,
    queue: u16,
    ring: Ring,
    reads: Reads,
    /// Sectors from one of the 128 places to the next.
    stride: u64,
    buffers: Dma,
    statuses: Dma,
}

impl Lane {
    /// Makes the batch, and gives the queue to the device, which has agreed to its features and is not started.
    pub(crate) fn new(block: Block, queue: u16, reads: Reads) -> Result<Lane, scenario::Failure> {
        let count = usize::from(BATCH);
        let buffers =
            Dma::new(reads.bytes * if reads.one_buffer { 1 } else { count }, SECTOR as usize);
        let stride = block.capacity() / (2 * u64::from(BATCH));
        ensure!(stride * SECTOR >= reads.bytes as u64, "the disk is too small");
        let mut lane = Lane {
            block,
            queue,
            ring: Ring::new(reads.entries),
            reads,
            stride,
            buffers,
            statuses: Dma::new(count, 8),
        };
        let headers = Dma::new(HEADER * count, HEADER);
        let tables = Dma::new(PIECES * DESCRIPTOR * count, DESCRIPTOR);
        lane.ring.clear(false);
        let mut heads = [0; BATCH as usize];
        for (n, head) in heads.iter_mut().enumerate() {
            let header = headers.part(HEADER * n, HEADER);
            header.write(0, request::IN);
            header.write(8, lane.sector(n));
            let chain = [
                Piece::read(header),
                Piece::written(lane.buffer(n)),
                Piece::written(lane.statuses.part(n, 1)),
            ];
            let table = tables.part(PIECES * DESCRIPTOR * n, PIECES * DESCRIPTOR);
            *head = lane.ring.indirect_chain(&chain, table);
        }
        for _ in 1..reads.entries / BATCH {
            for head in heads {
                lane.ring.give(head);
            }
        }
        lane.ring.withdraw();
        lane.ring.want_interrupts(false);
        lane.statuses.fill(UNTOUCHED);
        block.give_queue(queue, &lane.ring)?;
        Ok(lane)
    }

    fn sector(&self, n: usize) -> u64 {
        (2 * n as u64 + self.reads.lane) * self.stride
    }

    fn buffer(&self, n: usize) -> Dma {
        let at = if self.reads.one_buffer { 0 } else { self.reads.bytes * n };
        self.buffers.part(at, self.reads.bytes)
    }

    /// Gives the batch to the device, and waits until all of it is done.
    #[inline]
    pub(crate) fn run(&mut self) -> Outcome {
        self.finish()?;
        self.ring.pass_over(BATCH);
        Ok(())
    }

    #[inline]
    fn finish(&mut self) -> Outcome {
        self.ring.give_again(BATCH);
        if self.ring.publish() {
            self.block.notify(self.queue);
        }
        let ring = &self.ring;
        let all = Wait::Poll.until(DEVICE_LIMIT, || ring.done() >= BATCH);
        ensure!(all, "queue {}: {} of {BATCH} reads are done", self.queue, ring.done());
        Ok(())
    }

    /// Fails where a read up to now, the last one into each status byte, has failed.
    pub(crate) fn check_statuses(&self) -> Outcome {
        if self.statuses.is_all(0) {
            return Ok(());
        }
        for n in 0..self.statuses.len() {
            ensure_eq!(
                self.statuses.read::<u8>(n),
                0,
                "status of read {n} of queue {}",
                self.queue
            );
        }
        Ok(())
    }

    /// Runs the batch once more, and compares all that the device wrote.
    pub(crate) fn run_and_compare(&mut self) -> Outcome {
        self.buffers.fill(UNTOUCHED);
        self.statuses.fill(UNTOUCHED);
        self.finish()?;
        ensure_eq!(self.ring.done(), BATCH, "reads done on queue {}", self.queue);
        // The device may finish them in any order; the head of read n is n.
        let mut seen = 0_u64;
        while let Some(used) = self.ring.take() {
            ensure!(used.id < u32::from(BATCH), "queue {}: no chain {}", self.queue, used.id);
            ensure!(seen & 1 << used.id == 0, "queue {}: chain {} twice", self.queue, used.id);
            seen |= 1 << used.id;
            ensure_eq!(used.len as usize, self.reads.bytes + 1, "bytes of read {}", used.id);
        }
        self.check_statuses()?;
        for n in 0..usize::from(BATCH) {
            pattern::check(self.buffer(n), self.reads.seed, self.sector(n) * SECTOR)?;
        }
        Ok(())
    }
}
