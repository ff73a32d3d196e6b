//! What two processors get done at once, and what a register write costs one while the other's queue is served.
//!
//! | word | means |
//! |---|---|
//! | `mode=one` | one processor, queue 0 of the first disk |
//! | `mode=queues` | two processors, each its own queue of the first disk (feature MQ) |
//! | `mode=disks` | two processors, each queue 0 of its own disk |
//! | `mode=scale` | any number of processors and queues: see [`scale`] |
//! | `mode=ack` | the first keeps queue 0 of the first disk busy, the second writes to registers of that disk |
//! | `slices=N` | parts that the time is taken of (default 1, at most 64); both processors begin each together |
//! | `batches=N` | doorbells of each processor in a slice (default 20), of 64 reads of 4 KiB each |
//! | `check=1` | each processor then does one batch more, and compares what it read with [`scenario::pattern`] |
//! | `wait=1` | the guest prints `ready` and waits for a byte on the serial port before it begins |
//! | `samples=N` | with `mode=ack`: writes in each series (default 10000), but see [`ack`] |
//!
//! The disks hold [`scenario::pattern`], the first with seed 1, the second with seed 2. A disk has 1024 sectors at
//! least, with `mode=ack` 16384.
//!
//! An instruction is slow where KVM emulates it. So all descriptors and ring entries are made before the time is taken,
//! and a batch moves nothing but the available index. Interrupts are suppressed; a processor looks at the used index
//! when the write to the doorbell is over, and then until all is done.
//!
//! The guest prints `tsc N`, cycles in a millisecond; then `lane L requests N cycles N` for each processor, of all
//! slices, and for each slice `slice requests N cycles N`, of both processors, from the first start to the last end.
//! Slices are short, so that some of them pass undisturbed on a host that has other work, too.
#![no_std]
#![no_main]

mod ack;
mod histogram;
mod lane;
mod scale;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use lane::{BATCH, ENTRIES, Lane, Reads};
use rt::lock::Lock;
use rt::wait::{DEVICE_LIMIT, Wait};
use rt::{command_line, console, interrupts, println, smp, tsc};
use scenario::block::{Block, INDIRECT_DESC, MQ};
use scenario::{Failure, Outcome, Report, ensure, fail, pattern};

rt::entry!(main);

/// APIC id of the second processor.
const SECOND: u8 = 1;

/// What the second processor is to do, and then what came of it.
static SECONDS: Lock<Option<Lane>> = Lock::new(None);
static OUTCOME: Lock<Option<Outcome>> = Lock::new(None);
static FINISHED: AtomicBool = AtomicBool::new(false);
/// Slices that processors are ready to begin or have begun, of both together.
static READY: AtomicU32 = AtomicU32::new(0);
const MOST_SLICES: usize = 64;
/// When each processor began and ended each slice.
static TIMES: [[[AtomicU64; 2]; MOST_SLICES]; 2] =
    [const { [const { [const { AtomicU64::new(0) }; 2] }; MOST_SLICES] }; 2];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    One,
    Queues,
    Disks,
    Scale,
    Ack,
}

fn main() -> u32 {
    let mut report = Report::new();
    interrupts::init();
    let mode = match command_line::value("mode") {
        Some("one") => Mode::One,
        Some("queues") => Mode::Queues,
        Some("disks") => Mode::Disks,
        Some("scale") => Mode::Scale,
        Some("ack") => Mode::Ack,
        other => {
            report.run("parallel", || fail!("no mode {}", other.unwrap_or("is given")));
            return report.code();
        }
    };
    println!("tsc {}", tsc::per_millisecond());
    report.run("parallel", || match mode {
        Mode::Ack => ack::run(),
        Mode::Scale => scale::run(),
        Mode::One | Mode::Queues | Mode::Disks => throughput(mode),
    });
    report.code()
}

fn throughput(mode: Mode) -> Outcome {
    let lanes: usize = if mode == Mode::One { 1 } else { 2 };
    let reads =
        Reads { bytes: 4096, one_buffer: false, entries: ENTRIES, seed: pattern::SEED, lane: 0 };
    let block = Block::first()?;
    block.negotiate(INDIRECT_DESC | if mode == Mode::Queues { MQ } else { 0 })?;
    let mut first = Lane::new(block, 0, reads)?;
    match mode {
        Mode::One | Mode::Scale | Mode::Ack => {}
        Mode::Queues => {
            let second = Lane::new(block, 1, Reads { lane: 1, ..reads })?;
            SECONDS.with(|place| *place = Some(second));
        }
        Mode::Disks => {
            let other = Block::nth(1)?;
            other.negotiate(INDIRECT_DESC)?;
            let reads = Reads { lane: 1, seed: pattern::SEED + 1, ..reads };
            let second = Lane::new(other, 0, reads)?;
            SECONDS.with(|place| *place = Some(second));
            other.start()?;
        }
    }
    block.start()?;
    if command_line::number("wait") == Some(1) {
        console::listen();
        println!("ready");
        console::wait_for_byte();
    }
    if lanes == 2 {
        start_second(second)?;
    }
    work(0, lanes, &mut first)?;
    if lanes == 2 {
        second_outcome()?;
    }
    tell(lanes);
    Ok(())
}

/// Starts the second processor in `entry`.
fn start_second(entry: fn()) -> Outcome {
    ensure!(smp::start(SECOND, entry), "the second processor did not come");
    Ok(())
}

/// Ends the second processor's part.
fn finish_second(outcome: Outcome) {
    OUTCOME.with(|place| *place = Some(outcome));
    FINISHED.store(true, Ordering::Release);
}

/// Waits for the end of the second processor's part.
fn second_outcome() -> Outcome {
    let ended = Wait::Poll.until(6 * DEVICE_LIMIT, || FINISHED.load(Ordering::Acquire));
    ensure!(ended, "the second processor has not ended");
    OUTCOME.with(Option::take).unwrap_or_else(|| Err(Failure::new()))
}

/// The second processor's main function.
fn second() {
    interrupts::init();
    let outcome = match SECONDS.with(Option::take) {
        Some(mut lane) => work(1, 2, &mut lane),
        None => Err(Failure::format(format_args!("nothing to do"))),
    };
    finish_second(outcome);
}

/// What a throughput run asks of each processor.
fn work(number: usize, lanes: usize, lane: &mut Lane) -> Outcome {
    let batches = batches();
    // Once for what is done only the first time: pages of the host, caches.
    lane.run()?;
    for (times, begun) in TIMES[number].iter().take(slices()).zip(1..) {
        READY.fetch_add(1, Ordering::AcqRel);
        let all = begun * lanes as u32;
        let both = Wait::Poll.until(DEVICE_LIMIT, || READY.load(Ordering::Acquire) >= all);
        ensure!(both, "the other processor is not ready");
        let start = tsc::now();
        for _ in 0..batches {
            lane.run()?;
        }
        let end = tsc::now();
        for (place, time) in times.iter().zip([start, end]) {
            place.store(time, Ordering::Release);
        }
    }
    lane.check_statuses()?;
    if command_line::number("check") == Some(1) { lane.run_and_compare() } else { Ok(()) }
}

fn slices() -> usize {
    command_line::number("slices").map_or(1, |slices| MOST_SLICES.min(slices as usize))
}

fn batches() -> u64 {
    command_line::number("batches").unwrap_or(20)
}

/// Prints what was measured.
fn tell(lanes: usize) {
    let requests = batches() * u64::from(BATCH);
    let time = |lane: usize, slice: usize| {
        TIMES[lane][slice].each_ref().map(|time| time.load(Ordering::Acquire))
    };
    for lane in 0..lanes {
        let cycles = |slice| time(lane, slice)[1] - time(lane, slice)[0];
        let (all, cycles) = (requests * slices() as u64, (0..slices()).map(cycles).sum::<u64>());
        println!("lane {lane} requests {all} cycles {cycles}");
    }
    for slice in 0..slices() {
        let (mut first, mut last) = (u64::MAX, 0);
        for lane in 0..lanes {
            let [start, end] = time(lane, slice);
            (first, last) = (first.min(start), last.max(end));
        }
        println!("slice requests {} cycles {}", requests * lanes as u64, last - first);
    }
}
