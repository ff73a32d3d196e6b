//! Keeps the disk busy without end, and by one doorbell only: a second processor makes each request available again as
//! soon as it is done, so that the device never comes to the end of the queue. For tests of what the host does then.
//! The requests are to be large: where the host is done with all of them before the guest has made one anew, the second
//! processor rings, after a while.
//!
//! | word | means |
//! |---|---|
//! | `bytes=N` | bytes of a buffer (default 4096, at most 4 MiB) |
//! | `buffers=N` | buffers of a request (default 1) |
//! | `entries=N` | requests at a time (default 64) |
//! | `stride=N` | by how many sectors a request lies behind the one before; 0, the default: all are the same |
//!
//! The requests are writes, and the buffers all one. The guest prints `busy` when it has rung, and `status N` for the
//! first request that fails.
#![no_std]
#![no_main]

use drivers::virtio::spec::{feature, request};
use rt::dma::Dma;
use rt::lock::Lock;
use rt::{command_line, interrupts, println, smp};
use scenario::block::{Block, INDIRECT_DESC};
use scenario::{DESCRIPTOR, Outcome, Piece, Report, Ring, ensure};

/// APIC id of the second processor.
const SECOND: u8 = 1;
/// Where the buffer is: far above the program, in RAM that nothing else uses.
const BUFFER: u64 = 64 << 20;
const SECTOR: u64 = 512;
/// Looks at the used ring without anything done, before the device is rung for again.
const LONG: u32 = 20_000;

/// The ring and its requests, by descriptor.
struct Work {
    ring: Ring,
    headers: Dma,
    status: Dma,
    next: u64,
    stride: u64,
    end: u64,
}

impl Work {
    /// The sector for the next request.
    fn sector(&mut self) -> u64 {
        let sector = self.next;
        self.next = if sector + self.stride < self.end { sector + self.stride } else { 0 };
        sector
    }

    /// Makes what is done available again, until there is no more time.
    fn go_on(mut self, block: Block) -> ! {
        let (mut told, mut idle) = (false, 0);
        loop {
            let Some(used) = self.ring.take() else {
                idle += 1;
                if idle == LONG {
                    idle = 0;
                    block.notify(0);
                }
                continue;
            };
            idle = 0;
            let status: u8 = self.status.read(used.id as usize);
            if status != request::OK && !told {
                println!("status {status}");
                told = true;
            }
            let sector = self.sector();
            self.headers.write(16 * used.id as usize + 8, sector);
            self.ring.give(used.id as u16);
            self.ring.publish();
        }
    }
}

static WORK: Lock<Option<(Work, Block)>> = Lock::new(None);

rt::entry!(main);

fn number(name: &str, usual: u64) -> u64 {
    command_line::number(name).unwrap_or(usual)
}

fn busy() -> Outcome {
    let block = Block::first()?;
    block.negotiate(feature::FLUSH | INDIRECT_DESC)?;
    let (bytes, buffers, entries) =
        (number("bytes", 4096), number("buffers", 1), number("entries", 64));
    let mut ring = Ring::new(entries as u16);
    ring.want_interrupts(false);
    let headers = Dma::new(16 * entries as usize, 16);
    let status = Dma::new(entries as usize, 1);
    let chain = DESCRIPTOR * (buffers as usize + 2);
    let end = block.capacity() - bytes * buffers / SECTOR;
    let mut work = Work { ring, headers, status, next: 0, stride: number("stride", 0), end };
    for entry in 0..entries as usize {
        let header = headers.part(16 * entry, 16);
        header.write(0, request::OUT);
        header.write(8, work.sector());
        let mut pieces = [Piece::read(header); 64];
        ensure!(buffers <= 62, "62 buffers at most");
        let data = Piece { address: BUFFER, len: bytes as u32, written: false };
        pieces[1..=buffers as usize].fill(data);
        pieces[buffers as usize + 1] = Piece::written(status.part(entry, 1));
        let table = Dma::new(chain, 16);
        work.ring.indirect_chain(&pieces[..buffers as usize + 2], table);
    }
    block.give_queue(0, &work.ring)?;
    block.start()?;
    work.ring.publish();
    WORK.with(|place| *place = Some((work, block)));
    ensure!(smp::start(SECOND, second), "the second processor did not come");
    println!("busy");
    block.notify(0);
    loop {
        core::hint::spin_loop();
    }
}

fn second() {
    interrupts::init();
    if let Some((work, block)) = WORK.with(Option::take) {
        work.go_on(block);
    }
}

fn main() -> u32 {
    let mut report = Report::new();
    interrupts::init();
    report.run("busy", busy);
    report.code()
}
