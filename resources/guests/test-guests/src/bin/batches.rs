//! The same sectors over svirtb and over virtio: 128 reads of a sector a doorbell.
//!
//! | word | means |
//! |---|---|
//! | `doorbells=N` | doorbells of a series (default 50) |
//!
//! One disk is on each bus; both images hold [`scenario::pattern`] with seed 1. The guest prints, for each bus and for
//! sectors in a row and sectors apart, `BUS ORDER CYCLES`: cycles of the time-stamp counter from the first doorbell of
//! the series to the answer of the last one. The rings are filled before, so that the guest's own work is small.
#![no_std]
#![no_main]

use drivers::svirtb::{self, DRIVER_OK, READY};
use drivers::virtio::spec::{feature, request};
use rt::dma::Dma;
use rt::wait::{DEVICE_LIMIT, Wait};
use rt::{command_line, println, tsc};
use scenario::block::{Block, INDIRECT_DESC};
use scenario::pattern::{self, SEED};
use scenario::{DESCRIPTOR, Outcome, Piece, Report, Ring, ensure, ensure_eq};

const BATCH: usize = 128;
const SECTOR: usize = 512;
const HEADER: usize = 16;
/// Descriptors of a request.
const PIECES: usize = 3;
/// The order of a batch's sectors, and the distance of two of them.
const ORDERS: [(&str, u64); 2] = [("in-a-row", 1), ("apart", 3)];
/// The distance of two entries of svirtb.
const ENTRY: usize = 32;

rt::entry!(main);

/// Checks what the reads of a batch brought.
fn check(data: Dma, step: u64) -> Outcome {
    for n in 0..BATCH {
        let at = n as u64 * step * SECTOR as u64;
        pattern::check(data.part(n * SECTOR, SECTOR), SEED, at)?;
    }
    data.fill(0xee);
    Ok(())
}

fn over_svirtb(doorbells: u64) -> Outcome {
    let (data, ring) = (Dma::new(BATCH * SECTOR, 4096), Dma::new(2 * BATCH * ENTRY, 4096));
    let window = svirtb::window();
    for (order, step) in ORDERS {
        for n in 0..2 * BATCH {
            let entry = ring.part(n * ENTRY, ENTRY);
            entry.fill(0);
            entry.write(0, data.part(n % BATCH * SECTOR, SECTOR).address());
            entry.write(8, SECTOR as u64);
            entry.write(16, (n % BATCH) as u64 * step);
        }
        svirtb::STATUS.write(window, svirtb::RESET);
        svirtb::STATUS.write(window, DRIVER_OK);
        svirtb::QUEUE_ADDR_HI.write(window, (ring.address() >> 32) as u32);
        svirtb::QUEUE_ADDR_LO.write(window, ring.address() as u32);
        svirtb::QUEUE_SIZE.write(window, 2 * BATCH as u32);
        svirtb::STATUS.write(window, READY);
        let mut start = 0;
        // One more, before the series.
        for bell in 0..=doorbells {
            if bell == 1 {
                start = tsc::now();
            }
            let head = if bell % 2 == 0 { BATCH as u32 } else { 0 };
            svirtb::QUEUE_HEAD.write(window, head);
            let tail = svirtb::QUEUE_TAIL.read(window);
            ensure_eq!(tail, head, "tail after doorbell {bell}");
        }
        let cycles = tsc::now() - start;
        ensure_eq!(svirtb::STATUS.read(window), READY, "status");
        println!("svirtb {order} {cycles}");
        check(data, step)?;
    }
    Ok(())
}

fn over_virtio(doorbells: u64) -> Outcome {
    let data = Dma::new(BATCH * SECTOR, 4096);
    let headers = Dma::new(HEADER * BATCH, HEADER);
    let tables = Dma::new(PIECES * DESCRIPTOR * BATCH, DESCRIPTOR);
    let status = Dma::new(BATCH, 8);
    let block = Block::first()?;
    let mut ring = Ring::new(BATCH as u16);
    for (order, step) in ORDERS {
        block.reset()?;
        ring.clear(false);
        block.negotiate(feature::FLUSH | INDIRECT_DESC)?;
        ring.want_interrupts(false);
        for n in 0..BATCH {
            let header = headers.part(HEADER * n, HEADER);
            header.write(0, request::IN);
            header.write(8, n as u64 * step);
            let chain = [
                Piece::read(header),
                Piece::written(data.part(n * SECTOR, SECTOR)),
                Piece::written(status.part(n, 1)),
            ];
            let table = tables.part(PIECES * DESCRIPTOR * n, PIECES * DESCRIPTOR);
            ring.indirect_chain(&chain, table);
        }
        ring.withdraw();
        block.give_queue(0, &ring)?;
        block.start()?;
        let mut start = 0;
        for bell in 0..=doorbells {
            if bell == 1 {
                start = tsc::now();
            }
            ring.give_again(BATCH as u16);
            if ring.publish() {
                block.notify(0);
            }
            let all = Wait::Poll.until(DEVICE_LIMIT, || ring.done() >= BATCH as u16);
            ensure!(all, "{} of {BATCH} reads are done", ring.done());
            ring.pass_over(BATCH as u16);
        }
        let cycles = tsc::now() - start;
        ensure!(status.is_all(request::OK.into()), "a read failed");
        println!("virtio {order} {cycles}");
        check(data, step)?;
    }
    Ok(())
}

fn main() -> u32 {
    let doorbells = command_line::number("doorbells").unwrap_or(50);
    let mut report = Report::new();
    report.run("over-svirtb", || over_svirtb(doorbells));
    report.run("over-virtio", || over_virtio(doorbells));
    report.code()
}
