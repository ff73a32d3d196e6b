//! A driver that does as much wrong as it can with a GPU and with input devices, while the second processor reads and
//! writes the disk beside them. Then the devices are set up as they should be, and must serve.
//!
//! `rounds=N` (default 24) rounds of attacks, of chance from `seed=N` (default 1).
//!
//! The disk is the first on the command line. Its first half is only read, and holds the pattern of seed 1; its second half
//! holds that of seed 2 at the end. There is a GPU, and any number of input devices. It prints `attacking`
//! and `attacked`, with counts, and waits then for a byte on the serial console, while the host looks at its memory.
#![no_std]
#![no_main]

mod gpu;
mod input;

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use drivers::virtio::spec::{BLOCK_DEVICE, GPU_DEVICE, INPUT_DEVICE, gpu::FORMAT_B8G8R8X8};
use drivers::virtio::{Area, Command, Disk, SECTOR_SIZE};
use drivers::{Quiet, virtio};
use rt::command_line::{self, VirtioSlot};
use rt::dma::Dma;
use rt::lock::Lock;
use rt::wait::{DEVICE_LIMIT, Wait};
use rt::{console, interrupts, println, smp};
use scenario::block::{EVENT_IDX, INDIRECT_DESC};
use scenario::{
    Device, Failure, Outcome, Random, Report, Ring, Tangle, ensure, fail, pattern, scribble, slots,
};

/// APIC id of the processor that has the disk.
const SECOND: u8 = 1;
/// Bytes of a request to the disk.
const REQUEST: usize = 16 * 512;
/// Seeds of the pattern in either half of the disk.
const HALVES: [u64; 2] = [pattern::SEED, pattern::SEED + 1];

/// The second processor is to come to its end.
static STOP: AtomicBool = AtomicBool::new(false);
/// Requests to the disk that were done.
static REQUESTS: AtomicU32 = AtomicU32::new(0);
/// What the second processor's work came to, once it has ended.
static DISK: Lock<Option<Outcome>> = Lock::new(None);

rt::entry!(main);

fn main() -> u32 {
    interrupts::init();
    console::listen();
    let mut report = Report::new();
    report.run("start", || {
        ensure!(smp::start(SECOND, second), "the second processor did not come");
        Ok(())
    });
    report.run("attacks", attack);
    STOP.store(true, Ordering::Release);
    report.run("the-disk-beside-them", || {
        let mut ended = None;
        Wait::Poll.until(6 * DEVICE_LIMIT, || {
            ended = DISK.with(Option::take);
            ended.is_some()
        });
        ended.unwrap_or_else(|| fail!("it has not ended"))
    });
    println!("attacked; {} requests to the disk", REQUESTS.load(Ordering::Acquire));
    console::wait_for_byte();
    report.run("gpus-serve", || slots(GPU_DEVICE).try_for_each(draw));
    report.run("inputs-serve", || slots(INPUT_DEVICE).try_for_each(open_input));
    report.code()
}

/// The second processor's main function.
fn second() {
    interrupts::init();
    let outcome = use_disk();
    DISK.with(|place| *place = Some(outcome));
}

/// Reads the one half and writes the other, until it is to stop.
fn use_disk() -> Outcome {
    let failed = |error| Failure::format(format_args!("the disk: {error}"));
    let Some(slot) = slots(BLOCK_DEVICE).next() else { fail!("no disk") };
    let Some(mut disk) = Disk::new(slot, Wait::Interrupt) else {
        fail!("{slot:x?} is where RAM is")
    };
    disk.handshake(&mut Quiet).map_err(failed)?;
    let (buffer, mut random) = (Dma::new(REQUEST, 4096), Random::new(1));
    let count = REQUEST as u64 / SECTOR_SIZE;
    let half = disk.config().capacity / 2;
    let write = |disk: &mut Disk, sector: u64| {
        pattern::fill(buffer, HALVES[1], sector * SECTOR_SIZE);
        disk.write(sector, buffer).map_err(failed)?;
        buffer.fill(0);
        disk.read(sector, buffer).map_err(failed)?;
        pattern::check(buffer, HALVES[1], sector * SECTOR_SIZE)
    };
    while !STOP.load(Ordering::Acquire) {
        let sector = random.below(half - count);
        buffer.fill(0);
        disk.read(sector, buffer).map_err(failed)?;
        pattern::check(buffer, HALVES[0], sector * SECTOR_SIZE)?;
        write(&mut disk, half + random.below(half - count))?;
        REQUESTS.fetch_add(3, Ordering::AcqRel);
    }
    (half..2 * half).step_by(count as usize).try_for_each(|sector| write(&mut disk, sector))?;
    disk.flush().map_err(failed)
}

/// All rounds.
fn attack() -> Outcome {
    let number = |name, default| command_line::number(name).unwrap_or(default);
    let (rounds, seed) = (number("rounds", 24), number("seed", 1));
    println!("attacking: {rounds} rounds, seed {seed}");
    let mut random = Random::new(seed);
    let Some(slot) = slots(GPU_DEVICE).next() else { fail!("no GPU") };
    let mut gpu = gpu::Gpu::new(Device::at(slot)?);
    let mut input = input::Input::new();
    let tangle = Tangle::new(&[0, 0x100, 0x300]);
    gpu.reach_limits(&mut random)?;
    for round in 0..rounds {
        let inputs = slots(INPUT_DEVICE).count() as u64;
        let device = match random.below(3) {
            0 if inputs > 0 => slots(INPUT_DEVICE).nth(random.below(inputs) as usize),
            _ => None,
        };
        let device = device.map_or(Ok(gpu.device), Device::at)?;
        let features =
            [0, INDIRECT_DESC, EVENT_IDX, INDIRECT_DESC | EVENT_IDX][random.below(4) as usize];
        let outcome = if random.once_in(4) {
            tangle.start(device, features, 2)?;
            tangle.ring(device, 2, &mut random);
            Ok(())
        } else if device.id() == GPU_DEVICE {
            gpu.attack(features, &mut random)
        } else {
            input.attack(device, features, &mut random)
        };
        outcome.map_err(|error| Failure::format(format_args!("round {round}: {error}")))?;
        if random.once_in(4) {
            // Queues that there are, and one that there is not.
            (0..256).for_each(|_| device.notify(random.below(3) as u16));
        }
        if random.once_in(4) {
            (0..64).for_each(|_| scribble(device.window, 0x200, &mut random));
        }
    }
    gpu.report()
}

/// Chains that the device must answer: waits until all are in the used ring, and takes them.
fn wait_for_all(ring: &mut Ring, chains: u16) -> Outcome {
    let all = Wait::Poll.until(DEVICE_LIMIT, || ring.done() == chains);
    ensure!(all, "{} of {chains} chains were answered", ring.done());
    ring.pass_over(chains);
    Ok(())
}

/// Shows a picture on the GPU, as a driver that behaves does.
fn draw(slot: VirtioSlot) -> Outcome {
    let failed = |error| Failure::format(format_args!("the GPU at {:#x}: {error}", slot.base));
    let Some((mut gpu, mut cursor)) = virtio::Gpu::new(slot) else { fail!("RAM at {slot:x?}") };
    gpu.handshake(&mut cursor, &mut Quiet).map_err(failed)?;
    ensure!(gpu.display().map_err(failed)?.is_some(), "no display");
    let whole = Area { x: 0, y: 0, width: 64, height: 64 };
    let backing = Dma::new(64 * 64 * 4, 4096);
    gpu.run(&[
        Command::Create { resource: 1, format: FORMAT_B8G8R8X8, width: 64, height: 64 },
        Command::Attach(1, backing),
        Command::Scanout(1, whole),
        Command::Transfer(1, whole, 0),
        Command::Flush(1, whole),
    ])
    .map_err(failed)?;
    ensure!(cursor.move_to(0, 1, 1), "no cursor");
    Ok(())
}

/// Sets an input device up, as a driver that behaves does.
fn open_input(slot: VirtioSlot) -> Outcome {
    let Some(mut input) = virtio::Input::new(slot) else { fail!("RAM at {slot:x?}") };
    input.handshake(&mut Quiet).map_err(|error| {
        Failure::format(format_args!("the input device at {:#x}: {error}", slot.base))
    })
}
