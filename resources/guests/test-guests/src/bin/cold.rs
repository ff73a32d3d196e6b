//! Counts while a read is out: what a vCPU gets done while the host waits for its storage.
//!
//! | word | means |
//! |---|---|
//! | `reads=N` | reads of 4 KiB, one after the other, each of other sectors (default 20) |
//! | `apart=N` | bytes on the disk from one read to the next (default 4096) |
//!
//! The guest prints `alone COUNT in CYCLES`, counted without a request, and `reads COUNT in CYCLES during N`: counted from
//! each doorbell to its answer, and the number of reads during which it counted at all. CYCLES are of the time-stamp
//! counter.
#![no_std]
#![no_main]

use drivers::virtio::spec::{feature, request};
use rt::dma::Dma;
use rt::{command_line, println, tsc};
use scenario::block::{Block, INDIRECT_DESC};
use scenario::{Outcome, Piece, Report, Ring, ensure, ensure_eq};

const BYTES: usize = 4096;
const SECTOR: u64 = 512;
/// Counts without a request.
const ALONE: u64 = 100_000;
/// The most counts for a read: many seconds.
const TOO_LONG: u64 = 1 << 28;

rt::entry!(main);

/// Counts until `done`, or up to `most`. Returns the count and the cycles.
#[inline(never)]
fn count(most: u64, done: impl Fn() -> bool) -> (u64, u64) {
    let (mut counted, start) = (0, tsc::now());
    while counted < most && !done() {
        counted += 1;
    }
    (counted, tsc::now() - start)
}

fn cold() -> Outcome {
    let reads = command_line::number("reads").unwrap_or(20);
    let apart = command_line::number("apart").unwrap_or(BYTES as u64);
    let block = Block::first()?;
    block.negotiate(feature::FLUSH | INDIRECT_DESC)?;
    let mut ring = Ring::new(4);
    ring.want_interrupts(false);
    let (header, data, status) = (Dma::new(16, 16), Dma::new(BYTES, 4096), Dma::new(1, 1));
    block.give_queue(0, &ring)?;
    block.start()?;
    // The same look as at the end of a read.
    let (alone, cycles) = count(ALONE, || ring.done() != 0);
    println!("alone {alone} in {cycles}");
    let (mut all, mut of_all, mut during) = (0, 0, 0);
    for read in 0..reads {
        let at = read * apart;
        ensure!(at + BYTES as u64 <= block.capacity() * SECTOR, "the disk is too small");
        header.write(0, request::IN);
        header.write(8, at / SECTOR);
        status.fill(0xff);
        ring.chain(&[Piece::read(header), Piece::written(data), Piece::written(status)]);
        let start = tsc::now();
        if ring.publish() {
            block.notify(0);
        }
        let (counted, _) = count(TOO_LONG, || ring.done() != 0);
        of_all += tsc::now() - start;
        ensure!(ring.take().is_some(), "read {read} is not done");
        ensure_eq!(status.read::<u8>(0), request::OK, "status of read {read}");
        (all, during) = (all + counted, during + u64::from(counted > 0));
    }
    println!("reads {all} in {of_all} during {during}");
    Ok(())
}

fn main() -> u32 {
    let mut report = Report::new();
    report.run("cold", cold);
    report.code()
}
