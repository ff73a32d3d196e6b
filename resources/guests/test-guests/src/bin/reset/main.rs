//! Reset and fresh handshake, again and again, with requests under way: nothing that was acknowledged is lost, nothing
//! comes after the reset, and the device is as new.
//!
//! | `t=` | does |
//! |---|---|
//! | `doorbell` (default) | rings the doorbell for a batch and resets at once |
//! | `race` | a second processor rings the doorbell without end, while this one offers batches and resets |
//! | `queue` | resets the queue alone (RING_RESET) |
//!
//! `rounds=N` (default 200). The disk is the first on the command line, with [`batch::SECTORS`] sectors, each holding
//! its number in all of its 64 words, and 4 sectors behind them, into which the guest writes at the end, 8 bytes a
//! sector, the word that each holds now.
//! The guest prints `rounds N: N with nothing done at the reset, N with all`.
#![no_std]
#![no_main]

mod batch;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use batch::{Batch, Model, SECTORS};
use drivers::virtio::spec::{self, feature};
use rt::mmio::Mmio;
use rt::wait::{DEVICE_LIMIT, Wait};
use rt::{command_line, interrupts, println, smp};
use scenario::block::{Block, RING_RESET};
use scenario::{Outcome, Random, Report, ensure, ensure_eq, fail};

/// APIC id of the second processor.
const SECOND: u8 = 1;

/// Where the second processor rings; 0: nowhere.
static DOORBELL: AtomicU64 = AtomicU64::new(0);
/// How often it did.
static RUNG: AtomicU32 = AtomicU32::new(0);
/// It is to stop.
static STOP: AtomicBool = AtomicBool::new(false);

rt::entry!(main);

/// Who rings, and what is reset.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Doorbell,
    Race,
    Queue,
}

fn main() -> u32 {
    let mut report = Report::new();
    interrupts::init();
    let (name, kind) = match command_line::value("t").unwrap_or("doorbell") {
        "doorbell" => ("reset-after-the-doorbell", Kind::Doorbell),
        "race" => ("reset-while-another-rings", Kind::Race),
        "queue" => ("reset-of-the-queue", Kind::Queue),
        other => {
            println!("FAIL {other}: no such scenario");
            return 1;
        }
    };
    let rounds = command_line::number("rounds").unwrap_or(200);
    report.run(name, || {
        let block = Block::first()?;
        ensure_eq!(block.capacity(), SECTORS + batch::MODEL_SECTORS, "sectors");
        if kind == Kind::Race {
            DOORBELL.store(block.window.base(), Ordering::Release);
            ensure!(smp::start(SECOND, ring_without_end), "the second processor did not come");
        }
        rounds_of(block, kind, rounds)
    });
    report.code()
}

/// The second processor's main function.
fn ring_without_end() {
    let Some(window) = Mmio::outside_ram(DOORBELL.load(Ordering::Acquire), spec::CONFIG) else {
        return;
    };
    while !STOP.load(Ordering::Acquire) {
        spec::QUEUE_NOTIFY.write(window, 0);
        RUNG.fetch_add(1, Ordering::AcqRel);
    }
}

fn rounds_of(block: Block, kind: Kind, rounds: u64) -> Outcome {
    let mut model = Model::new();
    let mut random = Random::new(rounds);
    // In turn, so that the memory of the last round can be looked at when this one is done.
    let mut batches = [Batch::new(), Batch::new()];
    let (mut nothing, mut all) = (0, 0);
    open(block, kind, &mut batches[0], true)?;
    for round in 0..rounds {
        let [now, last] = &mut batches;
        let told = |outcome: Outcome| {
            outcome.map_err(|e| scenario::Failure::format(format_args!("round {round}: {e}")))
        };
        // First what went before: what is on the disk, by a batch that is waited for.
        told(now.settle(block, &mut model, last))?;
        now.fill(&mut random);
        if now.offer() && kind != Kind::Race {
            block.notify(0);
        }
        if kind == Kind::Race {
            // At once, or after a few doorbells.
            let wanted = random.below(6) as u32;
            if wanted > 2 {
                let before = RUNG.load(Ordering::Acquire);
                let rung = || RUNG.load(Ordering::Acquire).wrapping_sub(before) >= wanted - 2;
                ensure!(Wait::Poll.until(DEVICE_LIMIT, rung), "the other processor does not ring");
            }
            for _ in 0..random.below(8) {
                core::hint::spin_loop();
            }
        }
        if kind == Kind::Queue {
            block.reset_queue(0)?;
        } else {
            block.reset()?;
            ensure_eq!(
                spec::INTERRUPT_STATUS.read(block.window),
                0,
                "InterruptStatus after a reset"
            );
        }
        let done = now.close();
        // The monitor has ended; nothing receives this.
        now.offer_again();
        block.notify(0);
        nothing += u64::from(done == 0);
        all += u64::from(done == batch::REQUESTS);
        batches.swap(0, 1);
        told(open(block, kind, &mut batches[0], false))?;
    }
    println!("rounds {rounds}: {nothing} with nothing done at the reset, {all} with all");
    let [now, last] = &mut batches;
    now.settle(block, &mut model, last)?;
    if kind == Kind::Race {
        STOP.store(true, Ordering::Release);
    }
    now.write_model(block, &model)
}

/// The device, or its queue, made ready for a batch.
fn open(block: Block, kind: Kind, batch: &mut Batch, first: bool) -> Outcome {
    batch.clear();
    if kind == Kind::Queue && !first {
        return block.give_queue(0, batch.ring());
    }
    // With FLUSH, though there is none: without it each write waits for the storage.
    block.negotiate(feature::FLUSH | if kind == Kind::Queue { RING_RESET } else { 0 })?;
    block.give_queue(0, batch.ring())?;
    block.start()
}

/// Waits until all that was offered is done; the doorbell is rung for it here also where another does so.
fn wait_for(ring: &scenario::Ring, block: Block, chains: u16) -> Outcome {
    block.notify(0);
    if Wait::Poll.until(DEVICE_LIMIT, || ring.done() >= chains) {
        return Ok(());
    }
    fail!("{} of {chains} requests are done", ring.done())
}
