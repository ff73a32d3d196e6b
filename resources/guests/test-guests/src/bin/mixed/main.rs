//! Requests of all kinds, sizes and descriptor splits in random order, many at once, against a model of the disk.
//!
//! | word | means |
//! |---|---|
//! | `seed=N` | which requests |
//! | `requests=N` | how many (default 10000); each processor does its share |
//! | `indirect=1` | half of the chains are indirect |
//! | `events=1` | interrupts and doorbells by index |
//! | `flush=0` | FLUSH is not taken: the device writes through |
//! | `wce=0` | the write-back cache is switched off, by the configuration space |
//! | `poll=1` | the queue is polled; else an interrupt is slept for |
//! | `cpus=2` | a second processor does the same on queue 1, polled, on the other half of the disk |
//!
//! The module (initrd) holds random bytes, the *stock*: what a sector may hold is 512 bytes of it, from some offset on,
//! or zeros. The disk has [`worker::SECTORS`] sectors, sector n with the stock from byte 61 * n modulo (its length -
//! 512); then 8 sectors, into which the guest writes at the end, 4 bytes for each sector, the offset of what it must
//! hold now: 0xffffffff for zeros, 0xfffffffe where it was discarded, and anything may be there. The disk's id is
//! "mixed".
//! The guest prints `requests N: N reads, ...` and, where it does not poll, `batches N, interrupts N`.
#![no_std]
#![no_main]

mod chain;
mod worker;

use core::sync::atomic::{AtomicBool, Ordering};

use drivers::virtio::spec::feature;
use drivers::virtio::watch;
use rt::lock::Lock;
use rt::wait::{DEVICE_LIMIT, Wait};
use rt::{boot_info, command_line, interrupts, println, smp};
use scenario::block::{Block, CONFIG_WCE, DISCARD, EVENT_IDX, INDIRECT_DESC, MQ, WRITE_ZEROES};
use scenario::{Failure, Outcome, Report, ensure, ensure_eq, fail};
use worker::{MODEL_SECTORS, SECTORS, Share, Worker};

rt::entry!(main);

/// The configuration space's field `writeback` (5.2.4).
const WRITEBACK: u64 = 0x120;
/// APIC id of the second processor.
const SECOND: u8 = 1;

/// What the second processor is to do, and then what came of it.
static SECONDS: Lock<Option<Worker>> = Lock::new(None);
static OUTCOME: Lock<Option<Outcome>> = Lock::new(None);
static FINISHED: AtomicBool = AtomicBool::new(false);

fn main() -> u32 {
    let mut report = Report::new();
    interrupts::init();
    report.run("mixed", mixed);
    report.code()
}

fn flag(name: &str, usual: bool) -> bool {
    command_line::number(name).map_or(usual, |value| value != 0)
}

fn mixed() -> Outcome {
    let stock = boot_info::get().modules().first().and_then(|module| module.bytes());
    let Some(stock) = stock else { fail!("no module with the bytes to write") };
    let block = Block::first()?;
    let requests = command_line::number("requests").unwrap_or(10_000);
    let seed = command_line::number("seed").unwrap_or(1);
    let two = command_line::number("cpus") == Some(2);
    let (indirect, events) = (flag("indirect", false), flag("events", false));
    let mut features = DISCARD | WRITE_ZEROES | CONFIG_WCE;
    for (wanted, bit) in [
        (flag("flush", true), feature::FLUSH),
        (indirect, INDIRECT_DESC),
        (events, EVENT_IDX),
        (two, MQ),
    ] {
        features |= if wanted { bit } else { 0 };
    }
    block.negotiate(features)?;
    let polled = flag("poll", false);
    if !polled {
        let watched = watch(block.line, block.window);
        ensure!(watched.is_some(), "no interrupt line {}", block.line);
    }

    let share = Share {
        queue: 0,
        first: 0,
        sectors: SECTORS / if two { 2 } else { 1 },
        requests: requests / if two { 2 } else { 1 },
        seed,
        wait: if polled { Wait::Poll } else { Wait::Interrupt },
    };
    let mut first = Worker::new(block, stock, share, features);
    block.give_queue(0, first.ring())?;
    if two {
        let share =
            Share { queue: 1, first: SECTORS / 2, seed: seed + 1000, wait: Wait::Poll, ..share };
        let second = Worker::new(block, stock, share, features);
        block.give_queue(1, second.ring())?;
        SECONDS.with(|place| *place = Some(second));
    }
    block.start()?;
    ensure_eq!(block.capacity(), SECTORS + MODEL_SECTORS, "sectors");
    let flushes = u8::from(flag("flush", true));
    ensure_eq!(block.window.read8(WRITEBACK), flushes, "writeback at first");
    if !flag("wce", true) {
        block.window.write8(WRITEBACK, 0);
        ensure_eq!(block.window.read8(WRITEBACK), 0, "writeback after it was switched off");
    }
    if two {
        ensure!(smp::start(SECOND, second), "the second processor did not come");
    }
    first.run()?;
    if two {
        let ended = Wait::Poll.until(6 * DEVICE_LIMIT, || FINISHED.load(Ordering::Acquire));
        ensure!(ended, "the second processor has not ended");
        OUTCOME.with(Option::take).unwrap_or_else(|| Err(Failure::new()))?;
    }
    if !polled {
        println!("batches {}, interrupts {}", first.batches(), interrupts::count(block.line));
    }
    Ok(())
}

/// The second processor's main function.
fn second() {
    interrupts::init();
    let worker = SECONDS.with(Option::take);
    let outcome = match worker {
        Some(mut worker) => worker.run(),
        None => Err(Failure::format(format_args!("nothing to do"))),
    };
    OUTCOME.with(|place| *place = Some(outcome));
    FINISHED.store(true, Ordering::Release);
}
