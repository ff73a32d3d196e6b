//! Five kinds of driver for the legacy register layout (version 1), as tutorials and courses teach them.
//!
//! `kind=NAME` on the command line selects one:
//!
//! | kind | its file | what is special |
//! |---|---|---|
//! | `1000-lines-old` | `thousand_lines.rs` | QueuePFN is an address in bytes, QueueAlign is 0 |
//! | `1000-lines-new` | `thousand_lines.rs` | QueueAlign is never written |
//! | `xv6-2020` | `xv6_2020.rs` | the queue is set up after DRIVER_OK |
//! | `osblog` | `osblog.rs` | DRIVER_OK comes before the features and before the queue |
//! | `every-feature` | `every_feature.rs` | EVENT_IDX is accepted, and used_event never moves |
//!
//! `limit=N` is the number of milliseconds that it waits for a request (default 10000).
//!
//! The disk is the first on the command line. It holds [`scenario::pattern`] with seed 1 and has 64 sectors at least.
//! Afterwards sectors 10 and 11 are all 0x55, and sectors 32 to 33, 34 to 35, ... are all 0x60, 0x61, ...: a pair for
//! each request that the kind has under way at the same time, which the guest prints as `at once N`.
#![no_std]
#![no_main]

mod every_feature;
mod osblog;
mod queue;
mod registers;
mod thousand_lines;
mod waiting;
mod xv6_2020;

use rt::dma::Dma;
use rt::mmio::Mmio;
use rt::{command_line, interrupts, println};
use scenario::pattern::{self, SEED};
use scenario::{Outcome, Report, ensure_eq, fail};
use thousand_lines::Edition;

rt::entry!(main);

/// The bytes of one request, whatever the kind.
const BLOCK: usize = 1024;
/// The sectors of one request.
const SECTORS: u64 = 2;
/// The most requests under way at the same time.
const AT_ONCE_MAX: usize = 8;
/// More than any of the five queues has entries.
const MANY: u64 = 140;

/// A driver of one kind.
trait Driver {
    /// From a device after a reset to a live one.
    fn init(&mut self) -> Outcome;
    /// How many requests the driver has under way at the same time.
    fn at_once(&self) -> usize;
    /// Hands a request of one block from `sector` on to the device: number `n` of those under way.
    fn begin(&mut self, n: usize, sector: u64, data: Dma, write: bool) -> Outcome;
    /// Waits for all requests that were begun, in the way that this kind waits.
    fn finish(&mut self) -> Outcome;
}

/// One request, and its end.
fn transfer(driver: &mut dyn Driver, sector: u64, data: Dma, write: bool) -> Outcome {
    if !write {
        data.fill(0xee);
    }
    driver.begin(0, sector, data, write)?;
    driver.finish()
}

fn read_all(driver: &mut dyn Driver, data: Dma) -> Outcome {
    for sector in (0..32).step_by(SECTORS as usize) {
        transfer(driver, sector, data, false)?;
        pattern::check(data, SEED, sector * 512)?;
    }
    Ok(())
}

fn write_and_read_back(driver: &mut dyn Driver, data: Dma) -> Outcome {
    data.fill(0x55);
    transfer(driver, 10, data, true)?;
    transfer(driver, 10, data, false)?;
    pattern::check_all(data, 0x55)
}

/// As many requests at the same time as the driver can have: writes, then reads in the opposite order.
fn many_at_once(driver: &mut dyn Driver, buffers: Dma) -> Outcome {
    let at_once = driver.at_once();
    let buffer = |n: usize| buffers.part(n * BLOCK, BLOCK);
    let sector = |n: usize| 32 + SECTORS * n as u64;
    let byte = |n: usize| 0x60 + n as u8;
    println!("at once {at_once}");
    for n in 0..at_once {
        buffer(n).fill(byte(n));
        driver.begin(n, sector(n), buffer(n), true)?;
    }
    driver.finish()?;
    for n in 0..at_once {
        buffer(n).fill(0xee);
        driver.begin(n, sector(at_once - 1 - n), buffer(n), false)?;
    }
    driver.finish()?;
    (0..at_once).try_for_each(|n| pattern::check_all(buffer(n), byte(at_once - 1 - n)))
}

fn around_the_ring(driver: &mut dyn Driver, data: Dma) -> Outcome {
    for request in 0..MANY {
        let sector = request % 4 * SECTORS;
        transfer(driver, sector, data, false)?;
        pattern::check(data.part(0, 64), SEED, sector * 512)?;
    }
    Ok(())
}

fn work(driver: &mut dyn Driver, registers: Mmio) -> u32 {
    let mut report = Report::new();
    let buffers = Dma::new(AT_ONCE_MAX * BLOCK, BLOCK);
    let data = buffers.part(0, BLOCK);
    report.run("init", || driver.init());
    if report.code() == 0 {
        report.run("read", || read_all(driver, data));
    }
    if report.code() != 0 {
        return report.code();
    }
    report.run("write-and-read-back", || write_and_read_back(driver, data));
    report.run("many-at-once", || many_at_once(driver, buffers));
    report.run("around-the-ring", || around_the_ring(driver, data));
    report.run("init-again", || {
        // Not all kinds reset the device: they find it as a machine's reset left it.
        registers.write32(registers::STATUS, 0);
        ensure_eq!(registers.read32(registers::STATUS), 0, "Status after a reset");
        driver.init()?;
        around_the_ring(driver, data)
    });
    report.code()
}

fn main() -> u32 {
    interrupts::init();
    let mut report = Report::new();
    let slot = command_line::virtio_slots().next();
    let Some((slot, r)) = slot.and_then(|s| Some((s, Mmio::outside_ram(s.base, s.size)?))) else {
        report.run("find-a-disk", || fail!("no virtio_mmio.device= on the command line"));
        return report.code();
    };
    match command_line::value("kind") {
        Some("1000-lines-old") => work(&mut thousand_lines::Disk::new(r, Edition::Old), r),
        Some("1000-lines-new") => work(&mut thousand_lines::Disk::new(r, Edition::New), r),
        Some("xv6-2020") => work(&mut xv6_2020::Disk::new(r, slot.line), r),
        Some("osblog") => work(&mut osblog::Disk::new(r, slot.line), r),
        Some("every-feature") => work(&mut every_feature::Disk::new(r, slot.line), r),
        kind => {
            report.run("kind", || fail!("kind={} is none", kind.unwrap_or("")));
            report.code()
        }
    }
}
