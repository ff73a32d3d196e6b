//! Writes numbered sectors without end, and prints each number when it is durable: for a host that kills the monitor.
//!
//! | word | means |
//! |---|---|
//! | `start=N` | the first number (default 1) |
//! | `sectors=N` | how many sectors the disk has; number n goes to sector n modulo this (default: the virtio disk's capacity) |
//! | `flush=0` | FLUSH is not taken, so that a write is safe when it is answered |
//!
//! The disk is the first over virtio or, where there is none, the one over svirtb, where a write is done when the
//! doorbell returns. Word 0 of a sector is its number, words 1 to 62 are [`check_word`] of it, word 63 is its
//! complement. The guest prints `ready`, and then, after each flush that was answered, the last number before it: all
//! up to it are on the disk.
#![no_std]
#![no_main]

use drivers::Quiet;
use drivers::svirtb::{self, Stride};
use drivers::virtio::spec::{feature, request};
use rt::dma::Dma;
use rt::wait::{DEVICE_LIMIT, Wait};
use rt::{command_line, interrupts, println};
use scenario::block::Block;
use scenario::{Failure, Outcome, Piece, Random, Report, Ring, ensure, ensure_eq, fail};

const SECTOR: usize = 512;
/// Numbers between two flushes at most.
const MOST: u64 = 8;

rt::entry!(main);

/// What makes a sector that is half of one number and half of another visible.
fn check_word(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A disk with a way to make writes durable.
enum Safe {
    Virtio { block: Block, ring: Ring, header: Dma, status: Dma, flush: bool },
    Svirtb(svirtb::Device),
}

impl Safe {
    fn open() -> Result<Safe, Failure> {
        if command_line::virtio_slots().next().is_none() {
            let mut device = svirtb::Device::new(8, Stride::Packed);
            return match device.handshake(&mut Quiet) {
                Ok(()) => Ok(Safe::Svirtb(device)),
                Err(error) => fail!("no virtio disk, and svirtb: {error}"),
            };
        }
        let block = Block::first()?;
        let flush = command_line::number("flush") != Some(0);
        block.negotiate(if flush { feature::FLUSH } else { 0 })?;
        let mut ring = Ring::new(8);
        ring.want_interrupts(false);
        block.give_queue(0, &ring)?;
        block.start()?;
        Ok(Safe::Virtio { block, ring, header: Dma::new(16, 16), status: Dma::new(1, 1), flush })
    }

    /// Writes `data` from `sector` on; it is safe when this returns.
    fn write(&mut self, sector: u64, data: Dma) -> Outcome {
        match self {
            Safe::Svirtb(device) => {
                device.write(sector, data).map_err(|e| Failure::format(format_args!("{e}")))
            }
            Safe::Virtio { block, ring, header, status, flush } => {
                let mut run = |kind: u32, data: Option<Dma>| {
                    header.write(0, kind);
                    header.write(8, sector);
                    status.write(0, 0xaa_u8);
                    let (header, status_piece) = (Piece::read(*header), Piece::written(*status));
                    match data {
                        Some(data) => ring.chain(&[header, Piece::read(data), status_piece]),
                        None => ring.chain(&[header, status_piece]),
                    };
                    if ring.publish() {
                        block.notify(0);
                    }
                    let done = Wait::Poll.until(DEVICE_LIMIT, || ring.done() == 1);
                    ensure!(done, "no answer to a request {kind}");
                    ring.pass_over(1);
                    ensure_eq!(status.read::<u8>(0), request::OK, "status of a request {kind}");
                    Ok(())
                };
                run(request::OUT, Some(data))?;
                if *flush { run(request::FLUSH, None) } else { Ok(()) }
            }
        }
    }
}

fn main() -> u32 {
    let mut report = Report::new();
    interrupts::init();
    report.run("numbered", || {
        let mut disk = Safe::open()?;
        let sectors = match (&disk, command_line::number("sectors")) {
            (_, Some(sectors)) => sectors,
            (Safe::Virtio { block, .. }, None) => block.capacity(),
            (Safe::Svirtb(_), None) => {
                fail!("sectors=N is missing: svirtb does not report the size")
            }
        };
        let mut number = command_line::number("start").unwrap_or(1);
        let data = Dma::new(MOST as usize * SECTOR, SECTOR);
        let mut random = Random::new(number);
        println!("ready");
        loop {
            let count = random.within(1, MOST).min(sectors - number % sectors);
            for n in 0..count {
                let sector = data.part(n as usize * SECTOR, SECTOR);
                sector.fill_words(check_word(number + n));
                sector.write(0, number + n);
                sector.write(SECTOR - 8, !(number + n));
            }
            disk.write(number % sectors, data.part(0, count as usize * SECTOR))?;
            number += count;
            println!("{}", number - 1);
        }
    });
    report.code()
}
