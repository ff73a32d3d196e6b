//! Two processors at work at once: each writes and reads back its own sectors.
//!
//! `t=disks` (default): each has its own disk and takes its interrupts; the second processor's is the second virtio
//! disk or, where there is none, the svirtb disk. `t=shared`: one virtio disk between them, with a lock, polled.
//!
//! `rounds=N` (default 32). Each disk has 2 * N + 32 sectors at least. The first processor writes round r to sector
//! 32 + 2 * r, all bytes 0xb0 + r % 16, the second to the sector after it, all bytes 0xa0 + r % 16.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use drivers::svirtb::{self, Stride};
use drivers::virtio::spec::BLOCK_DEVICE;
use drivers::{Quiet, virtio};
use rt::command_line::{self, VirtioSlot};
use rt::dma::Dma;
use rt::lock::Lock;
use rt::wait::{DEVICE_LIMIT, Wait};
use rt::{interrupts, println, smp};
use scenario::{Failure, Outcome, Report, ensure, fail, pattern, slots};

/// APIC id of the processor that is started.
const SECOND: u8 = 1;
const SECTOR: usize = 512;
const FIRST_SECTOR: u64 = 32;

static ROUNDS: AtomicU32 = AtomicU32::new(0);
/// Rounds that the second processor has done.
static DONE: AtomicU32 = AtomicU32::new(0);
static FINISHED: AtomicBool = AtomicBool::new(false);
/// What the second processor's work came to.
static OUTCOME: Lock<Option<Outcome>> = Lock::new(None);
/// The disk between them.
static SHARED: Lock<Option<virtio::Disk>> = Lock::new(None);

rt::entry!(main);

/// Whose turn it is to look at the work.
#[derive(Clone, Copy)]
enum Who {
    First,
    Second,
}

/// One disk for one round.
trait Round {
    fn write(&mut self, sector: u64, buffer: Dma) -> Outcome;
    fn read(&mut self, sector: u64, buffer: Dma) -> Outcome;
}

impl Round for virtio::Disk {
    fn write(&mut self, sector: u64, buffer: Dma) -> Outcome {
        virtio::Disk::write(self, sector, buffer)
            .map_err(|e| Failure::format(format_args!("write: {e}")))
    }
    fn read(&mut self, sector: u64, buffer: Dma) -> Outcome {
        virtio::Disk::read(self, sector, buffer)
            .map_err(|e| Failure::format(format_args!("read: {e}")))
    }
}

impl Round for svirtb::Device {
    fn write(&mut self, sector: u64, buffer: Dma) -> Outcome {
        svirtb::Device::write(self, sector, buffer)
            .map_err(|e| Failure::format(format_args!("write: {e}")))
    }
    fn read(&mut self, sector: u64, buffer: Dma) -> Outcome {
        svirtb::Device::read(self, sector, buffer)
            .map_err(|e| Failure::format(format_args!("read: {e}")))
    }
}

/// The disk in [`SHARED`], locked for each request.
struct Turns;

impl Turns {
    fn with(&self, work: impl FnOnce(&mut virtio::Disk) -> Outcome) -> Outcome {
        SHARED.with(|disk| match disk {
            Some(disk) => work(disk),
            None => fail!("no disk to share"),
        })
    }
}

impl Round for Turns {
    fn write(&mut self, sector: u64, buffer: Dma) -> Outcome {
        self.with(|disk| Round::write(disk, sector, buffer))
    }
    fn read(&mut self, sector: u64, buffer: Dma) -> Outcome {
        self.with(|disk| Round::read(disk, sector, buffer))
    }
}

/// All rounds of one processor.
fn work(who: Who, disk: &mut dyn Round) -> Outcome {
    let buffer = Dma::new(SECTOR, SECTOR);
    for round in 0..ROUNDS.load(Ordering::Acquire) {
        let (after, mark) = match who {
            Who::First => (0, 0xb0),
            Who::Second => (1, 0xa0),
        };
        let sector = FIRST_SECTOR + 2 * u64::from(round) + after;
        let byte = mark + (round % 16) as u8;
        buffer.fill(byte);
        disk.write(sector, buffer)?;
        buffer.fill(0xee);
        disk.read(sector, buffer)?;
        pattern::check_all(buffer, byte)?;
        if matches!(who, Who::Second) {
            DONE.fetch_add(1, Ordering::AcqRel);
        }
    }
    Ok(())
}

fn open_virtio(slot: VirtioSlot, wait: Wait) -> Result<virtio::Disk, Failure> {
    let Some(mut disk) = virtio::Disk::new(slot, wait) else { fail!("{slot:x?} is where RAM is") };
    match disk.handshake(&mut Quiet) {
        Ok(()) => Ok(disk),
        Err(error) => fail!("the disk at {:#x}: {error}", slot.base),
    }
}

/// The second processor's main function, with its own disk.
fn second_with_its_own() {
    interrupts::init();
    let result = match slots(BLOCK_DEVICE).nth(1) {
        Some(slot) => {
            open_virtio(slot, Wait::Interrupt).and_then(|mut disk| work(Who::Second, &mut disk))
        }
        None => {
            let mut device = svirtb::Device::new(16, Stride::Packed);
            match device.handshake(&mut Quiet) {
                Ok(()) => work(Who::Second, &mut device),
                Err(error) => {
                    Err(Failure::format(format_args!("no second virtio disk, and svirtb: {error}")))
                }
            }
        }
    };
    end(result);
}

/// The second processor's main function, with the shared disk.
fn second_with_the_shared_one() {
    interrupts::init();
    end(work(Who::Second, &mut Turns));
}

fn end(outcome: Outcome) {
    OUTCOME.with(|place| *place = Some(outcome));
    FINISHED.store(true, Ordering::Release);
}

fn main() -> u32 {
    let mut report = Report::new();
    interrupts::init();
    let rounds = command_line::number("rounds").and_then(|n| u32::try_from(n).ok()).unwrap_or(32);
    ROUNDS.store(rounds, Ordering::Release);
    let shared = command_line::value("t") == Some("shared");
    let slot = slots(BLOCK_DEVICE).next();
    let Some(slot) = slot else {
        report.run("find-a-disk", || fail!("no virtio disk on the command line"));
        return report.code();
    };
    let wait = if shared { Wait::Poll } else { Wait::Interrupt };
    let mut own = None;
    report.run("first-disk", || {
        let disk = open_virtio(slot, wait)?;
        if shared {
            SHARED.with(|place| *place = Some(disk));
        } else {
            own = Some(disk);
        }
        Ok(())
    });
    let mut started = false;
    report.run("start-the-second-processor", || {
        let entry = if shared { second_with_the_shared_one } else { second_with_its_own };
        started = smp::start(SECOND, entry);
        ensure!(started, "it did not come");
        Ok(())
    });
    if !started {
        return report.code();
    }
    report.run("first-processor", || match &mut own {
        Some(disk) => work(Who::First, disk),
        None => work(Who::First, &mut Turns),
    });
    report.run("second-processor", || {
        let ended = Wait::Poll.until(2 * DEVICE_LIMIT, || FINISHED.load(Ordering::Acquire));
        let done = DONE.load(Ordering::Acquire);
        ensure!(ended, "it has not ended; it has done {done} of {rounds} rounds");
        OUTCOME.with(Option::take).unwrap_or(Ok(()))?;
        ensure!(done == rounds, "it has done {done} of {rounds} rounds");
        Ok(())
    });
    if let Some(disk) = &own {
        println!("interrupts {} of line {}", disk.interrupts(), disk.line());
    }
    report.code()
}
