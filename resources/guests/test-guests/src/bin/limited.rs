//! A disk with limits beside one without: the doorbell of the first returns, and the second works meanwhile.
//!
//! The guest rings the first disk's doorbell once for all reads. When the second disk has served its reads, it prints
//! `others are done, N of the limited`, and waits until the first has served all. It prints `limited is done` then.
#![no_std]
#![no_main]

use drivers::virtio::spec::{feature, request};
use rt::dma::Dma;
use rt::println;
use scenario::block::{Block, INDIRECT_DESC};
use scenario::{Outcome, Piece, Report, Ring, ensure, ensure_eq};

const BYTES: usize = 512;
/// Reads of the limited disk.
const LIMITED: u16 = 30;
/// Reads of the other one.
const OTHERS: u64 = 50;

rt::entry!(main);

/// A disk with one queue, ready for reads.
struct Disk {
    block: Block,
    ring: Ring,
    header: Dma,
}

impl Disk {
    fn new(index: usize) -> Result<Disk, scenario::Failure> {
        let block = Block::nth(index)?;
        block.negotiate(feature::FLUSH | INDIRECT_DESC)?;
        let mut ring = Ring::new(128);
        ring.want_interrupts(false);
        block.give_queue(0, &ring)?;
        block.start()?;
        let header = Dma::new(16, 16);
        header.write(0, request::IN);
        Ok(Disk { block, ring, header })
    }

    /// Makes a read of sector 0 available.
    fn read(&mut self) -> Dma {
        let (data, status) = (Dma::new(BYTES, 512), Dma::new(1, 1));
        status.fill(0xff);
        let pieces = [Piece::read(self.header), Piece::written(data), Piece::written(status)];
        self.ring.chain(&pieces);
        status
    }

    fn ring(&mut self) {
        if self.ring.publish() {
            self.block.notify(0);
        }
    }
}

fn limited() -> Outcome {
    let (mut limited, mut other) = (Disk::new(0)?, Disk::new(1)?);
    let statuses: [Dma; LIMITED as usize] = core::array::from_fn(|_| limited.read());
    limited.ring();
    for _ in 0..OTHERS {
        let status = other.read();
        other.ring();
        while other.ring.take().is_none() {
            core::hint::spin_loop();
        }
        ensure_eq!(status.read::<u8>(0), request::OK, "the other disk");
    }
    println!("others are done, {} of the limited", limited.ring.done());
    for _ in 0..LIMITED {
        while limited.ring.take().is_none() {
            core::hint::spin_loop();
        }
    }
    let is_ok = |status: &Dma| status.read::<u8>(0) == request::OK;
    ensure!(statuses.iter().all(is_ok), "not all reads succeeded");
    println!("limited is done");
    Ok(())
}

fn main() -> u32 {
    let mut report = Report::new();
    report.run("limited", limited);
    report.code()
}
