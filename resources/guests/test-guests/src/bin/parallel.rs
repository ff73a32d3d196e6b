//! Queues side by side: what two vCPUs get done at once, and how long a register access takes while another vCPU keeps
//! the device busy. The benchmark `parallel` of guest-tests says how it is read.
//!
//! `mode=one`: one vCPU on queue 0 of the first disk. `mode=queues`: a second vCPU on queue 1 of it. `mode=disks`: a
//! second vCPU on queue 0 of the second disk. Each hands over batches of 64 reads of 4 KiB, `rounds=N` times (default
//! 100), and prints `lane L requests R from T to T`, in ticks of the time-stamp counter.
//!
//! `mode=ack`: the second vCPU keeps queue 1 busy with batches of 64 reads of 64 KiB, while the first writes
//! InterruptACK, then QueueSel, `rounds` times each. It prints `NAME rounds N max T` and lines `NAME T N`: N writes took
//! up to T ticks.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use drivers::virtio::spec::{self, BLOCK_DEVICE, request};
use rt::command_line::{self, VirtioSlot};
use rt::dma::Dma;
use rt::lock::Lock;
use rt::mmio::Mmio;
use rt::wait::{DEVICE_LIMIT, Wait};
use rt::{interrupts, println, smp, tsc};
use scenario::block::{Block, INDIRECT_DESC, MQ};
use scenario::{DESCRIPTOR, Outcome, Piece, Report, Ring, ensure, ensure_eq, fail};

/// Requests of one doorbell, and entries of a queue.
const BATCH: u16 = 64;
const SMALL: usize = 4096;
const LARGE: usize = 64 << 10;
/// Sectors of the disk that one lane reads: each request its own.
const LANE_SECTORS: u64 = BATCH as u64 * (LARGE / 512) as u64;
/// Buckets of times: each twice as long as the one before.
const BUCKETS: usize = 40;

/// Both vCPUs are ready.
static READY: AtomicU32 = AtomicU32::new(0);
/// The second vCPU is to stop.
static ENOUGH: AtomicBool = AtomicBool::new(false);
static FINISHED: AtomicBool = AtomicBool::new(false);
static ROUNDS: AtomicU32 = AtomicU32::new(0);
/// What the second vCPU works on, what came of it, and when it began and ended.
static SECOND: Lock<Option<Lane>> = Lock::new(None);
static OUTCOME: Lock<Option<Outcome>> = Lock::new(None);
static BEGUN: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);

rt::entry!(main);

/// A queue, and the one batch of requests that it is given again and again.
#[derive(Debug)]
struct Lane {
    block: Block,
    queue: u16,
    ring: Ring,
    status: Dma,
    data: Dma,
}

impl Lane {
    /// Queue `queue` of a device that is being set up. Each of the batch's reads has `bytes`.
    fn new(block: Block, queue: u16, bytes: usize) -> Result<Lane, scenario::Failure> {
        let mut ring = Ring::new(BATCH);
        let status = Dma::new(BATCH.into(), 1);
        status.fill(0xff);
        // Small reads have a buffer each, large ones share one.
        let buffers = if bytes == SMALL { usize::from(BATCH) } else { 1 };
        let data = Dma::new(buffers * bytes, SMALL);
        for n in 0..BATCH {
            let header = Dma::new(16, 16);
            header.write(0, request::IN);
            header.write(8, u64::from(queue) * LANE_SECTORS + u64::from(n) * (bytes / 512) as u64);
            let at = usize::from(n) % buffers * bytes;
            let chain = [
                Piece::read(header),
                Piece::written(data.part(at, bytes)),
                Piece::written(status.part(n.into(), 1)),
            ];
            ring.indirect_chain(&chain, Dma::new(3 * DESCRIPTOR, 16));
        }
        // Only made, as yet.
        ring.withdraw();
        ring.want_interrupts(false);
        block.give_queue(queue, &ring)?;
        Ok(Lane { block, queue, ring, status, data })
    }

    /// One batch, from the doorbell to the last answer.
    fn batch(&mut self) -> Outcome {
        self.ring.give_again(BATCH);
        self.ring.publish();
        self.block.notify(self.queue);
        if self.ring.done() != BATCH {
            let done = Wait::Poll.until(DEVICE_LIMIT, || self.ring.done() == BATCH);
            ensure!(done, "queue {}: {} of {BATCH} answers", self.queue, self.ring.done());
        }
        self.ring.pass_over(BATCH);
        Ok(())
    }

    /// Whether every request of a batch was done, and brought what the image holds.
    fn check(&self, bytes: usize) -> Outcome {
        ensure!(self.status.is_all(0), "queue {}: a request failed", self.queue);
        let buffers = self.data.len() / bytes;
        for n in 0..buffers {
            // The pattern of the image: each word is its number, with the seed above.
            let first: u64 = self.data.read(n * bytes);
            let word = first & 0xffff_ffff_ffff;
            let (lane, each) = (u64::from(self.queue) * LANE_SECTORS * 64, (bytes / 8) as u64);
            if buffers > 1 {
                ensure_eq!(word, lane + n as u64 * each, "queue {}: request {n}", self.queue);
            } else {
                // All share a buffer, and any may have come last.
                let request = word.wrapping_sub(lane) / each;
                ensure_eq!(word, lane + request * each, "queue {}: word", self.queue);
                ensure!(request < BATCH.into(), "queue {}: request {request}", self.queue);
            }
        }
        Ok(())
    }
}

/// The disk in a slot, with the features that this needs accepted.
fn negotiate(slot: VirtioSlot, more: u64) -> Result<Block, scenario::Failure> {
    let Some(window) = Mmio::outside_ram(slot.base, slot.size) else {
        fail!("RAM at {:#x}", slot.base)
    };
    let block = Block { window, line: slot.line };
    ensure_eq!(spec::DEVICE_ID.read(window), BLOCK_DEVICE, "DeviceID");
    block.negotiate(INDIRECT_DESC | more)?;
    Ok(block)
}

/// `rounds` batches, from the moment on at which both vCPUs are ready; when that was, and when it was over.
fn race(lane: &mut Lane, vcpus: u32) -> Result<(u64, u64), scenario::Failure> {
    let rounds = ROUNDS.load(Ordering::Acquire);
    READY.fetch_add(1, Ordering::AcqRel);
    while READY.load(Ordering::Acquire) < vcpus {
        core::hint::spin_loop();
    }
    let from = tsc::now();
    for _ in 0..rounds {
        lane.batch()?;
    }
    Ok((from, tsc::now()))
}

fn second_races() {
    interrupts::init();
    finish(SECOND.with(Option::take).map_or(Ok(()), |mut lane| {
        let (from, to) = race(&mut lane, 2)?;
        BEGUN.store(from, Ordering::Release);
        ENDED.store(to, Ordering::Release);
        lane.check(SMALL)
    }));
}

fn second_keeps_busy() {
    interrupts::init();
    finish(SECOND.with(Option::take).map_or(Ok(()), |mut lane| {
        READY.fetch_add(1, Ordering::AcqRel);
        while !ENOUGH.load(Ordering::Acquire) {
            lane.batch()?;
        }
        lane.check(LARGE)
    }));
}

fn finish(outcome: Outcome) {
    OUTCOME.with(|place| *place = Some(outcome));
    FINISHED.store(true, Ordering::Release);
}

/// Waits for the second vCPU; what came of it.
fn second() -> Outcome {
    let ended = Wait::Poll.until(2 * DEVICE_LIMIT, || FINISHED.load(Ordering::Acquire));
    ensure!(ended, "the second vCPU has not ended");
    OUTCOME.with(Option::take).unwrap_or(Ok(()))
}

fn tell(lane: u32, (from, to): (u64, u64)) {
    let requests = u32::from(BATCH) * ROUNDS.load(Ordering::Acquire);
    println!("lane {lane} requests {requests} from {from} to {to}");
}

fn throughput(mode: &str) -> Outcome {
    let mut slots = command_line::virtio_slots();
    let Some(slot) = slots.next() else { fail!("no virtio_mmio.device= on the command line") };
    let queues = mode == "queues";
    let block = negotiate(slot, if queues { MQ } else { 0 })?;
    let mut lane = Lane::new(block, 0, SMALL)?;
    let mut vcpus = 1;
    match mode {
        "queues" => {
            let other = Lane::new(block, 1, SMALL)?;
            SECOND.with(|place| *place = Some(other));
            vcpus = 2;
        }
        "disks" => {
            let Some(slot) = slots.next() else { fail!("no second disk") };
            let other = negotiate(slot, 0)?;
            let lane = Lane::new(other, 0, SMALL)?;
            other.start()?;
            SECOND.with(|place| *place = Some(lane));
            vcpus = 2;
        }
        _ => {}
    }
    block.start()?;
    if vcpus == 2 {
        ensure!(smp::start(1, second_races), "the second vCPU did not come");
    }
    let times = race(&mut lane, vcpus)?;
    lane.check(SMALL)?;
    tell(0, times);
    if vcpus == 2 {
        second()?;
        tell(1, (BEGUN.load(Ordering::Acquire), ENDED.load(Ordering::Acquire)));
    }
    Ok(())
}

/// How long `write` takes, again and again.
fn series(name: &str, mut write: impl FnMut()) {
    let rounds = ROUNDS.load(Ordering::Acquire);
    let (mut buckets, mut longest) = ([0_u32; BUCKETS], 0);
    for _ in 0..rounds {
        let before = tsc::now();
        write();
        let ticks = tsc::now().wrapping_sub(before);
        longest = longest.max(ticks);
        let bucket = (u64::BITS - ticks.leading_zeros()) as usize;
        buckets[bucket.min(BUCKETS - 1)] += 1;
    }
    println!("{name} rounds {rounds} max {longest}");
    for (bucket, count) in buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
        println!("{name} {} {count}", 1_u64 << bucket);
    }
}

fn acknowledge() -> Outcome {
    let Some(slot) = command_line::virtio_slots().next() else { fail!("no disk") };
    let block = negotiate(slot, MQ)?;
    let lane = Lane::new(block, 1, LARGE)?;
    block.start()?;
    SECOND.with(|place| *place = Some(lane));
    ensure!(smp::start(1, second_keeps_busy), "the second vCPU did not come");
    while READY.load(Ordering::Acquire) == 0 {
        core::hint::spin_loop();
    }
    series("ack", || spec::INTERRUPT_ACK.write(block.window, 1));
    series("select", || spec::QUEUE_SEL.write(block.window, 0));
    ENOUGH.store(true, Ordering::Release);
    second()
}

fn main() -> u32 {
    let mut report = Report::new();
    interrupts::init();
    let rounds = command_line::number("rounds").and_then(|n| u32::try_from(n).ok()).unwrap_or(100);
    ROUNDS.store(rounds, Ordering::Release);
    let mode = command_line::value("mode").unwrap_or("one");
    report.run(mode, || if mode == "ack" { acknowledge() } else { throughput(mode) });
    report.code()
}
