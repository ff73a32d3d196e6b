//! Measures what an access or a request costs in the device itself, with an engine that does nothing: nanoseconds, and
//! instructions where valgrind is installed. Of a file in the page cache the nanoseconds include the host's part, the
//! instructions do not.
//!
//! `cargo bench -p cafevm-devices`
//!
//! The nanoseconds are the median of several measurements; they depend on the machine and its load. The instructions do
//! not. They are counted by callgrind in a process of their own, with two numbers of rounds: the difference is the cost
//! of a round without the start of the process.

use std::env;
use std::hint::black_box;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cafevm_devices::block::{
    Access, Cache, Completion, Disk, Engine, Image, Limits, Pace, Rate, Request, Stop, Storage,
};
use cafevm_devices::memory::GuestRam;
use cafevm_devices::observe::Tap;
use cafevm_devices::svirtb::{Device, EntrySize, Register};
use cafevm_devices::testing::virtio_driver::reg;
use cafevm_devices::testing::{SvirtbDriver, SvirtbEntry, SvirtbRing, VirtioDriver};
use cafevm_devices::virtio::blk::{Blk, BlkOptions};
use cafevm_devices::virtio::chain::Chain;
use cafevm_devices::virtio::queue::{QueueLayout, RingRules, SplitQueue};
use cafevm_devices::virtio::spec::{blk, feature};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::tempfile::TempFile;

/// In the environment of a process that callgrind counts: the case and the number of rounds.
const COUNTED: &str = "CAFEVM_BENCH_COUNTED";
/// The requests of a doorbell.
const BATCH: u16 = 64;
/// The entries of each ring.
const RING: u16 = 256;
const ROUNDS: u32 = 20_000;
const MEASUREMENTS: usize = 5;
/// The operations that callgrind counts, and twice as many. The start of the process varies by some thousand instructions.
const COUNTED_OPERATIONS: u32 = 12_800;

/// What is measured: a name, the number of operations in a round, and the set-up, which returns a round.
type Case = (&'static str, u16, fn() -> Box<dyn FnMut()>);

const CASES: [Case; 13] = [
    ("register read", 1, register_read),
    ("doorbell, nothing new", 1, || virtio(0, false, blk::T_IN)),
    ("chain of 3 descriptors", 1, || chain_walk(false)),
    ("chain of 3, indirect", 1, || chain_walk(true)),
    ("virtio read, 64 a doorbell", BATCH, || virtio(BATCH, false, blk::T_IN)),
    ("virtio write, 64 a doorbell", BATCH, || virtio(BATCH, false, blk::T_OUT)),
    ("virtio read, indirect", BATCH, || virtio(BATCH, true, blk::T_IN)),
    ("virtio read, metrics on", BATCH, || virtio_on(&disk().timed(), BATCH, false, blk::T_IN)),
    ("virtio read, limits on", BATCH, || virtio_on(&limited(), BATCH, false, blk::T_IN)),
    ("virtio read, a file", BATCH, || virtio_on(&file(), BATCH, false, blk::T_IN)),
    ("virtio write, a file", BATCH, || virtio_on(&file(), BATCH, false, blk::T_OUT)),
    ("svirtb entry, apart", BATCH, || svirtb(2)),
    ("svirtb entry, in a row", BATCH, || svirtb(1)),
];

fn main() {
    if let Ok(counted) = env::var(COUNTED) {
        return run_counted(&counted);
    }
    println!("{:28} {:>8} {:>14}", "an operation", "ns", "instructions");
    for (number, (name, operations, set_up)) in CASES.iter().enumerate() {
        let mut round = set_up();
        let mut each: Vec<_> = (0..MEASUREMENTS).map(|_| time(&mut *round)).collect();
        each.sort_unstable();
        let median = each.get(MEASUREMENTS / 2).copied().unwrap_or_default();
        let ns = median.as_nanos() / u128::from(ROUNDS) / u128::from(*operations);
        let rounds = COUNTED_OPERATIONS / u32::from(*operations);
        let instructions = count(number, rounds).map_or("no valgrind".to_owned(), |all| {
            (all / u64::from(COUNTED_OPERATIONS)).to_string()
        });
        println!("{name:28} {ns:>8} {instructions:>14}");
    }
}

fn time(round: &mut dyn FnMut()) -> Duration {
    let start = Instant::now();
    (0..ROUNDS).for_each(|_| round());
    start.elapsed()
}

/// The instructions of some rounds of a case; none if they cannot be counted.
fn count(case: usize, rounds: u32) -> Option<u64> {
    let total = |rounds: u32| {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
        valgrind.arg(env::current_exe().ok()?).env(COUNTED, format!("{case} {rounds}"));
        let output = valgrind.stdout(Stdio::null()).output().ok()?;
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let collected = log.lines().find_map(|line| line.split("Collected : ").nth(1))?;
        collected.trim().parse::<u64>().ok()
    };
    let (few, many) = (total(rounds)?, total(2 * rounds)?);
    Some(many.saturating_sub(few))
}

fn run_counted(counted: &str) {
    let mut words = counted.split(' ');
    let case = words.next().and_then(|case| case.parse::<usize>().ok());
    let rounds = words.next().and_then(|rounds| rounds.parse::<u32>().ok());
    if let (Some((_, _, set_up)), Some(rounds)) = (case.and_then(|case| CASES.get(case)), rounds) {
        let mut round = set_up();
        (0..rounds).for_each(|_| round());
    }
}

/// Storage without content.
#[derive(Debug)]
struct NoStorage;

impl Storage for NoStorage {
    fn engine(&self, _: &Stop) -> io::Result<Box<dyn Engine>> {
        Ok(Box::new(NoEngine::default()))
    }
    fn grow(&self, _size: u64) -> io::Result<()> {
        Ok(())
    }
    fn frees_space(&self) -> bool {
        false
    }
}

/// Completes each request immediately.
#[derive(Debug, Default)]
struct NoEngine(Vec<Completion>);

impl Engine for NoEngine {
    fn push(&mut self, request: Request) {
        let transferred = black_box(&request).operation.len();
        self.0.push(Completion { request, transferred, result: Ok(()) });
    }
    fn commit(&mut self) {}
    fn reap(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.0);
    }
    fn wait(&mut self, _: Duration) {}
    fn wake(&self) -> Option<Arc<EventFd>> {
        None
    }
}

fn disk() -> Disk {
    Disk::new(Box::new(NoStorage), "bench".into(), 1 << 30, false)
}

#[expect(clippy::expect_used, reason = "a benchmark")]
fn driver(disk: &Disk, features: u64) -> VirtioDriver {
    let device = Blk::new("bench", disk, &BlkOptions::default(), Tap::default()).expect("a device");
    VirtioDriver::new(device).live(feature::BLK_FLUSH | features, RING.into())
}

fn register_read() -> Box<dyn FnMut()> {
    let mut driver = driver(&disk(), 0);
    Box::new(move || {
        black_box(driver.get(reg::INTERRUPT_STATUS));
    })
}

/// A doorbell with `requests` of 4 KiB. The ring is filled in before, so that a round only moves the available index.
fn virtio(requests: u16, indirect: bool, kind: u32) -> Box<dyn FnMut()> {
    virtio_on(&disk(), requests, indirect, kind)
}

/// A disk whose limits nothing reaches.
fn limited() -> Disk {
    let disk = disk().paced_by(Arc::new(NoAlarm));
    let rate = Some(Rate::new(NonZeroU64::MAX));
    disk.set_limits(Limits { bytes: rate, requests: rate });
    disk
}

/// The host's clock, without an alarm.
struct NoAlarm;

impl Pace for NoAlarm {
    fn now(&self) -> Instant {
        Instant::now()
    }
    fn wake_at(&self, _: Instant) {}
    fn sleep(&self, _: Duration) {}
    fn is_hurried(&self) -> bool {
        false
    }
}

/// A disk on a file of the host.
#[expect(clippy::expect_used, reason = "a benchmark")]
fn file() -> Disk {
    let file = TempFile::new().expect("a file");
    file.as_file().write_all_at(&[1; 1 << 20], 0).expect("room for it");
    let opening = Cache::WriteBack.opening(Access::ReadWrite);
    Disk::from_image(Image::open(file.as_path(), opening).expect("an image"))
}

fn virtio_on(disk: &Disk, requests: u16, indirect: bool, kind: u32) -> Box<dyn FnMut()> {
    let mut driver = driver(disk, if indirect { feature::RING_INDIRECT_DESC } else { 0 });
    for n in 0..RING {
        let n = n % BATCH;
        let (at, head) = (u64::from(n), if indirect { n } else { 3 * n });
        let (header, status) = (0x8000 + 16 * at, 0x9000 + at);
        // With a gap between any two, so that no call of the host moves both.
        driver.header(header, kind, 16 * at);
        let data = (0x1_0000 + 4096 * at, 4096, kind == blk::T_IN);
        let parts = [(header, 16, false), data, (status, 1, true)];
        match indirect {
            true => driver.indirect(head, 0xa000 + 48 * at, &parts),
            false => driver.chain(head, &parts),
        }
        driver.offer(head);
    }
    let (ram, index, mut available) = (driver.ram.clone(), driver.ring.avail + 2, 0_u16);
    Box::new(move || {
        available = available.wrapping_add(requests);
        let _in_ram = ram.store_u16(index, available);
        driver.kick();
    })
}

#[expect(clippy::expect_used, reason = "a benchmark")]
fn chain_walk(indirect: bool) -> Box<dyn FnMut()> {
    let driver = driver(&disk(), 0);
    let parts = [(0x8000, 16, false), (0x1_0000, 4096, true), (0x9000, 1, true)];
    let layout = QueueLayout { size: 8, desc: 0x2_0000, avail: 0x2_1000, used: 0x2_2000 };
    let table = if indirect { 0xa000 } else { layout.desc };
    for (n, &(addr, len, write)) in (0_u16..).zip(&parts) {
        let flags = u16::from(n < 2) | if write { 2 } else { 0 };
        driver.write_desc(table + 16 * u64::from(n), addr, len, flags, n + 1);
    }
    if indirect {
        driver.write_desc(layout.desc, table, 48, 4, 0);
    }
    let queue = SplitQueue::new(&driver.ram, layout, 8, RingRules::default()).expect("a queue");
    let mut chain = Chain::default();
    Box::new(move || {
        let walked = chain.walk(&queue, black_box(0), indirect, |_| ());
        black_box((&chain, walked.is_ok()));
    })
}

/// A doorbell with entries of one sector each, `step` sectors apart.
#[expect(clippy::expect_used, reason = "a benchmark")]
fn svirtb(step: u64) -> Box<dyn FnMut()> {
    let ram = GuestRam::anonymous(&[(0, 1 << 20)]).expect("RAM");
    let ring = SvirtbRing { base: 0x1000, size: RING.into(), stride: 32 };
    let device = Device::new(&disk(), ram.clone(), EntrySize::Padded, Tap::default());
    let mut driver = SvirtbDriver::new(device.expect("a device"), ram, ring);
    driver.handshake().expect("a handshake");
    for n in 0..u64::from(RING) {
        let entry = SvirtbEntry::read(n * step, 0x8000 + 512 * (n % 64), 512);
        driver.queue(entry).expect("a ring in RAM");
    }
    let mut head = 0;
    Box::new(move || {
        head = (head + u32::from(BATCH)) % u32::from(RING);
        driver.set(Register::QueueHead, head);
    })
}
