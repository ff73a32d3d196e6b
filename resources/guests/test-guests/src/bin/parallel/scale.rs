//! Any number of disks, queues and processors: what a request costs then.
//!
//! | word | means |
//! |---|---|
//! | `disks=N` | disks, each with the same number of queues (default 1) |
//! | `queues=N` | queues of each disk (default 1) |
//! | `cpus=N` | processors (default 1, at most 8), to which the queues are dealt in turn |
//! | `entries=N` | entries of each ring, a multiple of 64 (default 128) |
//! | `slices=N` | parts of the time, which all processors begin together (default 1) |
//! | `ms=N` | milliseconds of each (default 20) |
//! | `hold=1` | the guest prints `measured` at the end, and waits for a byte on the serial port |
//!
//! A processor serves its queues in turn, 64 reads of 4 KiB a doorbell, until the slice's time is over. The guest prints
//! `slice S requests N cycles N` for each slice: what all processors have finished within its time, whichever of them the
//! host let run. At most 24 queues in all.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use rt::lock::Lock;
use rt::wait::{DEVICE_LIMIT, Wait};
use rt::{command_line, console, interrupts, println, smp, tsc};
use scenario::block::{Block, INDIRECT_DESC, MQ};
use scenario::{Outcome, ensure, pattern};

use crate::lane::{BATCH, ENTRIES, Lane, Reads};

const MOST_LANES: usize = 24;
const MOST_CPUS: usize = 8;
const MOST_SLICES: usize = 64;

static LANES: Lock<[Option<Lane>; MOST_LANES]> = Lock::new([const { None }; MOST_LANES]);
/// The cycles of a slice.
static CYCLES: AtomicU64 = AtomicU64::new(0);
/// The next processor's number.
static NUMBER: AtomicU8 = AtomicU8::new(1);
/// Slices that processors are ready to begin, of all together.
static READY: AtomicU32 = AtomicU32::new(0);
/// Processors that have ended, and those of them that failed.
static ENDED: AtomicU32 = AtomicU32::new(0);
static FAILED: AtomicU32 = AtomicU32::new(0);
/// When each slice began; 0: not yet.
static BEGIN: [AtomicU64; MOST_SLICES] = [const { AtomicU64::new(0) }; MOST_SLICES];
/// Requests of all processors in each slice.
static DONE: [AtomicU64; MOST_SLICES] = [const { AtomicU64::new(0) }; MOST_SLICES];

fn word(name: &str, usual: u64) -> u64 {
    command_line::number(name).unwrap_or(usual)
}

fn cpus() -> usize {
    word("cpus", 1) as usize
}

fn slices() -> usize {
    word("slices", 1) as usize
}

pub(crate) fn run() -> Outcome {
    let (disks, queues) = (word("disks", 1), word("queues", 1));
    let fits = (1..=MOST_CPUS).contains(&cpus()) && (1..=MOST_SLICES).contains(&slices());
    ensure!(fits && disks * queues <= MOST_LANES as u64, "too many processors, slices or queues");
    let cycles = tsc::per_millisecond() * word("ms", 20);
    for disk in 0..disks {
        let block = Block::nth(disk as usize)?;
        block.negotiate(INDIRECT_DESC | if queues > 1 { MQ } else { 0 })?;
        for queue in 0..queues {
            let reads = Reads {
                bytes: 4096,
                one_buffer: true,
                entries: word("entries", ENTRIES.into()) as u16,
                seed: pattern::SEED,
                lane: 0,
            };
            let lane = Lane::new(block, queue as u16, reads)?;
            let number = (disk * queues + queue) as usize;
            LANES.with(|lanes| lanes[number] = Some(lane));
        }
        block.start()?;
    }
    CYCLES.store(cycles, Ordering::Release);
    for id in 1..cpus() {
        ensure!(smp::start(id as u8, other), "processor {id} did not come");
    }
    work(0)?;
    let others = cpus() as u32 - 1;
    let ended = Wait::Poll.until(6 * DEVICE_LIMIT, || ENDED.load(Ordering::Acquire) == others);
    ensure!(ended, "a processor has not ended");
    ensure!(FAILED.load(Ordering::Acquire) == 0, "a processor failed");
    for (slice, done) in DONE.iter().enumerate().take(slices()) {
        println!("slice {slice} requests {} cycles {cycles}", done.load(Ordering::Acquire));
    }
    if word("hold", 0) == 1 {
        console::listen();
        println!("measured");
        console::wait_for_byte();
    }
    Ok(())
}

/// The main function of the other processors.
fn other() {
    interrupts::init();
    let outcome = work(NUMBER.fetch_add(1, Ordering::AcqRel).into());
    if outcome.is_err() {
        FAILED.fetch_add(1, Ordering::AcqRel);
    }
    ENDED.fetch_add(1, Ordering::AcqRel);
}

/// Serves every queue whose number modulo the processors is this one's.
fn work(cpu: usize) -> Outcome {
    let (mut own, mut count) = ([const { None }; MOST_LANES], 0);
    LANES.with(|lanes| {
        for lane in lanes.iter_mut().skip(cpu).step_by(cpus()).filter(|lane| lane.is_some()) {
            own[count] = lane.take();
            count += 1;
        }
    });
    // Only those that there are: a look at an empty place costs as much as a part of a request.
    let lanes = &mut own[..count];
    // Once for what is done only the first time: pages of the host, caches.
    for lane in lanes.iter_mut().flatten() {
        lane.run()?;
    }
    let cycles = CYCLES.load(Ordering::Acquire);
    ensure!(count > 0, "processor {cpu} has no queue");
    for (slice, (begin, done)) in BEGIN.iter().zip(&DONE).enumerate().take(slices()) {
        let before = READY.fetch_add(1, Ordering::AcqRel);
        if before + 1 == (slice as u32 + 1) * cpus() as u32 {
            // The last one to come.
            begin.store(tsc::now(), Ordering::Release);
        }
        let begun = || begin.load(Ordering::Acquire) > 0 || FAILED.load(Ordering::Acquire) > 0;
        ensure!(Wait::Poll.until(DEVICE_LIMIT, begun), "another processor is not ready");
        let end = begin.load(Ordering::Acquire) + cycles;
        'time: loop {
            for lane in lanes.iter_mut().flatten() {
                lane.run()?;
                // What was finished too late belongs to no slice.
                if tsc::now() > end {
                    break 'time;
                }
                done.fetch_add(BATCH.into(), Ordering::AcqRel);
            }
        }
    }
    lanes.iter().flatten().try_for_each(Lane::check_statuses)
}
