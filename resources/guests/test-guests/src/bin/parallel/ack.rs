//! What a write to a register costs the second processor while queue 0 of the same device is idle, and while the first
//! processor has it served without a pause.
//!
//! The first processor rings for batches of 64 reads of 64 KiB. The second writes 1 to InterruptACK, and as another
//! series 0 to QueueSel, which does nothing to a live device. A series ends after `samples=N` writes or after five
//! seconds, with 1000 writes at least.
//!
//! Series: `idle-ack`, `ack`, `select`, as [`Histogram::print`] has them. `batches N cycles N` says how many batches
//! the first processor did in the last two, and how many cycles a batch took in the mean.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use drivers::Register;
use drivers::virtio::spec;
use rt::wait::{DEVICE_LIMIT, Wait};
use rt::{command_line, interrupts, println, tsc};
use scenario::block::{Block, INDIRECT_DESC};
use scenario::{Failure, Outcome, ensure, pattern};

use crate::histogram::Histogram;
use crate::lane::{ENTRIES, Lane, Reads};
use crate::{finish_second, second_outcome, start_second};

/// Bytes of a read: a batch must take far longer than a write to a register.
const BYTES: usize = 64 * 1024;
/// How long a series takes at the most, in milliseconds.
const SERIES_LIMIT: u64 = 5_000;
/// Writes that a series has in any case: no 99.9th percentile without them.
const LEAST: u64 = 1_000;

/// The first processor is to keep the queue busy.
static BUSY: AtomicBool = AtomicBool::new(false);
/// The second processor has all it wants.
static DONE: AtomicBool = AtomicBool::new(false);
/// Batches done, and the cycles they took.
static BATCHES: AtomicU64 = AtomicU64::new(0);
static CYCLES: AtomicU64 = AtomicU64::new(0);

/// The first processor's part.
pub(crate) fn run() -> Outcome {
    let block = Block::first()?;
    block.negotiate(INDIRECT_DESC)?;
    let reads =
        Reads { bytes: BYTES, one_buffer: true, entries: ENTRIES, seed: pattern::SEED, lane: 0 };
    let mut lane = Lane::new(block, 0, reads)?;
    block.start()?;
    lane.run()?;
    start_second(second)?;
    while !DONE.load(Ordering::Acquire) {
        if BUSY.load(Ordering::Acquire) {
            let start = tsc::now();
            lane.run()?;
            CYCLES.fetch_add(tsc::now() - start, Ordering::AcqRel);
            BATCHES.fetch_add(1, Ordering::AcqRel);
        } else {
            core::hint::spin_loop();
        }
    }
    second_outcome()?;
    let batches = BATCHES.load(Ordering::Acquire);
    ensure!(batches > 0, "not one batch was done meanwhile");
    println!("batches {batches} cycles {}", CYCLES.load(Ordering::Acquire) / batches);
    lane.check_statuses()
}

/// The second processor's main function.
fn second() {
    interrupts::init();
    let outcome = series();
    DONE.store(true, Ordering::Release);
    finish_second(outcome);
}

fn series() -> Outcome {
    let block = Block::first()?;
    let limit = SERIES_LIMIT * tsc::per_millisecond();
    measure(block, "idle-ack", spec::INTERRUPT_ACK, 1, limit);
    BUSY.store(true, Ordering::Release);
    let begun = Wait::Poll.until(DEVICE_LIMIT, || BATCHES.load(Ordering::Acquire) >= 2);
    if !begun {
        return Err(Failure::format(format_args!("the first processor's batches do not begin")));
    }
    measure(block, "ack", spec::INTERRUPT_ACK, 1, limit);
    measure(block, "select", spec::QUEUE_SEL, 0, limit);
    Ok(())
}

/// Writes `value` to `register` again and again, and prints how long each write took.
fn measure(block: Block, name: &str, register: Register, value: u32, limit: u64) {
    let samples = command_line::number("samples").unwrap_or(10_000);
    let mut histogram = Histogram::new();
    let begin = tsc::now();
    for sample in 0..samples {
        let start = tsc::now();
        register.write(block.window, value);
        let end = tsc::now();
        histogram.add(end - start);
        if end - begin > limit && sample >= LEAST {
            break;
        }
    }
    histogram.print(name);
}
