//! Writes numbered sectors without end, and prints each number when it is durable: for a host that kills the monitor, or
//! the server behind a disk.
//!
//! | word | means |
//! |---|---|
//! | `start=N` | the first number (default 1) |
//! | `sectors=N` | how many sectors the disk has; number n goes to sector n modulo this (default: the virtio disk's capacity) |
//! | `flush=0` | FLUSH is not taken, so that a write is safe when it is answered |
//! | `writes=N` | up to so many writes under way at once, then one FLUSH (1 to 16; default 1) |
//! | `pause=N` | up to so many milliseconds between the answers to the writes and the FLUSH (1 to 1000; default: none) |
//! | `reads=1` | after each flush one sector is read, and must hold its newest number; needs `start=1` and an empty disk |
//! | `limit=N` | how long an answer may take, in seconds (1 to 500; default 10) |
//!
//! The disk is the first over virtio or, where there is none, the one over svirtb, where a write is done when the
//! doorbell returns. Word 0 of a sector is its number, words 1 to 62 are [`check_word`] of it, word 63 is its
//! complement. The guest prints `ready`, and then, after each flush that was answered, the last number before it: all
//! up to it are on the disk.
//!
//! A byte on the console ends it: with `reads=1` it then reads the whole disk. It prints
//! `last N: W writes, F flushes, R reads`.
#![no_std]
#![no_main]

use drivers::Quiet;
use drivers::svirtb::{self, Stride};
use drivers::virtio::spec::{BLOCK_DEVICE, feature, request};
use rt::dma::Dma;
use rt::wait::{DEVICE_LIMIT, Wait};
use rt::{command_line, console, interrupts, println};
use scenario::block::Block;
use scenario::{Failure, Outcome, Piece, Random, Report, Ring, ensure, ensure_eq, fail, slots};

const SECTOR: usize = 512;
/// Numbers in a write at most.
const MOST: u64 = 8;
/// Writes under way at most.
const MOST_WRITES: usize = 16;
/// Bytes of a request's header (virtio 1.4, 5.2.6).
const HEADER: usize = 16;

rt::entry!(main);

/// What makes a sector that is half of one number and half of another visible.
fn check_word(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A part of the disk, and the memory that it is written from or read to.
#[derive(Clone, Copy)]
struct Part {
    sector: u64,
    data: Dma,
}

/// A disk with a way to make writes durable.
enum Safe {
    Virtio(Virtio),
    Svirtb(svirtb::Device),
}

struct Virtio {
    block: Block,
    ring: Ring,
    headers: Dma,
    statuses: Dma,
    /// FLUSH was negotiated.
    flush: bool,
    /// Milliseconds.
    limit: u32,
}

impl Virtio {
    /// Requests of one kind, all under way at once. All are done, and well, when this returns.
    fn run(&mut self, kind: u32, parts: impl Iterator<Item = Part>) -> Outcome {
        let mut requests = 0;
        for Part { sector, data } in parts {
            let header = self.headers.part(requests * HEADER, HEADER);
            let status = self.statuses.part(requests, 1);
            header.write(0, kind);
            header.write(8, sector);
            status.write(0, 0xaa_u8);
            let (header, status) = (Piece::read(header), Piece::written(status));
            let data = Piece { written: kind == request::IN, ..Piece::read(data) };
            if data.len == 0 {
                self.ring.chain(&[header, status]);
            } else {
                self.ring.chain(&[header, data, status]);
            }
            requests += 1;
        }
        if self.ring.publish() {
            self.block.notify(0);
        }
        let done = Wait::Poll.until(self.limit, || usize::from(self.ring.done()) == requests);
        ensure!(done, "no answer to a request {kind} within {} ms", self.limit);
        self.ring.pass_over(requests as u16);
        for index in 0..requests {
            let status = self.statuses.read::<u8>(index);
            ensure_eq!(status, request::OK, "status of a request {kind}");
        }
        Ok(())
    }

    fn flush(&mut self) -> Outcome {
        let nothing = Part { sector: 0, data: self.headers.part(0, 0) };
        self.run(request::FLUSH, [nothing].into_iter())
    }
}

impl Safe {
    fn open() -> Result<Safe, Failure> {
        if slots(BLOCK_DEVICE).next().is_none() {
            let mut device = svirtb::Device::new(8, Stride::Packed);
            return match device.handshake(&mut Quiet) {
                Ok(()) => Ok(Safe::Svirtb(device)),
                Err(error) => fail!("no virtio disk, and svirtb: {error}"),
            };
        }
        let block = Block::first()?;
        let flush = command_line::number("flush") != Some(0);
        block.negotiate(if flush { feature::FLUSH } else { 0 })?;
        let mut ring = Ring::new(64);
        ring.want_interrupts(false);
        block.give_queue(0, &ring)?;
        block.start()?;
        let limit = within("limit", 1, 500)?.map_or(DEVICE_LIMIT, |seconds| 1000 * seconds as u32);
        let headers = Dma::new(MOST_WRITES * HEADER, 16);
        let statuses = Dma::new(MOST_WRITES, 1);
        Ok(Safe::Virtio(Virtio { block, ring, headers, statuses, flush, limit }))
    }

    /// Writes all parts; they are safe when this returns. Before a flush, so many milliseconds pass.
    fn write(&mut self, mut parts: impl Iterator<Item = Part>, pause: u32) -> Outcome {
        match self {
            Safe::Svirtb(device) => parts.try_for_each(|Part { sector, data }| {
                device.write(sector, data).map_err(|e| Failure::format(format_args!("{e}")))
            }),
            Safe::Virtio(disk) => {
                disk.run(request::OUT, parts)?;
                if pause > 0 {
                    Wait::Interrupt.until(pause, || false);
                }
                if disk.flush { disk.flush() } else { Ok(()) }
            }
        }
    }

    fn read(&mut self, part: Part) -> Outcome {
        match self {
            Safe::Svirtb(device) => device
                .read(part.sector, part.data)
                .map_err(|e| Failure::format(format_args!("{e}"))),
            Safe::Virtio(disk) => disk.run(request::IN, [part].into_iter()),
        }
    }
}

/// The number of this word on the command line, where it is there.
fn within(name: &str, first: u64, last: u64) -> Result<Option<u64>, Failure> {
    let Some(text) = command_line::value(name) else { return Ok(None) };
    match command_line::parse_number(text) {
        Some(number) if (first..=last).contains(&number) => Ok(Some(number)),
        _ => fail!("{name}={text}: not a number from {first} to {last}"),
    }
}

/// The last number up to `last` that goes to `sector`; 0 where there is none.
fn newest(last: u64, sector: u64, sectors: u64) -> u64 {
    ((last + sectors - sector) / sectors * sectors + sector).saturating_sub(sectors)
}

fn fill(sector: Dma, number: u64) {
    sector.fill_words(check_word(number));
    sector.write(0, number);
    sector.write(SECTOR - 8, !number);
}

/// Whether the disk's sector `sector` holds its newest number, whole.
fn check(data: Dma, sector: u64, number: u64) -> Outcome {
    let [first, last]: [u64; 2] = [data.read(0), data.read(SECTOR - 8)];
    let (wanted_last, word) = if number == 0 { (0, 0) } else { (!number, check_word(number)) };
    ensure_eq!(first, number, "sector {sector}, first word");
    ensure_eq!(last, wanted_last, "sector {sector}, last word");
    ensure!(data.part(8, SECTOR - 16).is_all(word), "sector {sector} is torn");
    Ok(())
}

fn numbered() -> Outcome {
    let mut disk = Safe::open()?;
    let sectors = match (&disk, command_line::number("sectors")) {
        (_, Some(sectors)) => sectors,
        (Safe::Virtio(disk), None) => disk.block.capacity(),
        (Safe::Svirtb(_), None) => {
            fail!("sectors=N is missing: svirtb does not report the size")
        }
    };
    let most_writes = within("writes", 1, MOST_WRITES as u64)?.unwrap_or(1);
    ensure!(most_writes * MOST <= sectors, "{sectors} sectors are too few");
    let longest_pause = within("pause", 1, 1000)?;
    let look = command_line::number("reads") == Some(1);
    let mut number = command_line::number("start").unwrap_or(1);
    ensure!(!look || number == 1, "reads=1 needs start=1");

    let memory = Dma::new(MOST_WRITES * MOST as usize * SECTOR, SECTOR);
    let one = Dma::new(SECTOR, SECTOR);
    let mut random = Random::new(number);
    let (mut writes, mut flushes, mut reads) = (0, 0, 0);
    console::listen();
    println!("ready");
    while console::read().is_none() {
        let mut parts = [Part { sector: 0, data: memory }; MOST_WRITES];
        let parts = &mut parts[..random.within(1, most_writes) as usize];
        let mut rest = memory;
        for part in parts.iter_mut() {
            let count = random.within(1, MOST).min(sectors - number % sectors);
            let len = count as usize * SECTOR;
            *part = Part { sector: number % sectors, data: rest.part(0, len) };
            rest = rest.part(len, rest.len() - len);
            for n in 0..count {
                fill(part.data.part(n as usize * SECTOR, SECTOR), number + n);
            }
            number += count;
        }
        let pause = longest_pause.map_or(0, |most| random.within(1, most) as u32);
        disk.write(parts.iter().copied(), pause)?;
        println!("{}", number - 1);
        (writes, flushes) = (writes + parts.len(), flushes + 1);
        if look {
            let sector = random.below(sectors);
            one.fill(0xaa);
            disk.read(Part { sector, data: one })?;
            check(one, sector, newest(number - 1, sector, sectors))?;
            reads += 1;
        }
    }
    for sector in 0..if look { sectors } else { 0 } {
        one.fill(0xaa);
        disk.read(Part { sector, data: one })?;
        check(one, sector, newest(number - 1, sector, sectors))?;
        reads += 1;
    }
    println!("last {}: {writes} writes, {flushes} flushes, {reads} reads", number - 1);
    Ok(())
}

fn main() -> u32 {
    let mut report = Report::new();
    interrupts::init();
    report.run("numbered", numbered);
    report.code()
}
