//! Measures the cost of a request in the device itself, with an engine that does nothing: nanoseconds for each of the
//! 64 requests of 4 KiB of a doorbell. The guest's work on the available ring is not counted.
//!
//! `cargo bench -p cafevm-devices`

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cafevm_devices::block::{Completion, Disk, Engine, Request, Stop, Storage};
use cafevm_devices::observe::Tap;
use cafevm_devices::testing::VirtioDriver;
use cafevm_devices::virtio::blk::{Blk, BlkOptions};
use cafevm_devices::virtio::spec::{blk, feature};
use vmm_sys_util::eventfd::EventFd;

const REQUESTS: u16 = 64;
const ROUNDS: u32 = 20_000;

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

fn main() {
    for (name, indirect, kind) in [
        ("read", false, blk::T_IN),
        ("write", false, blk::T_OUT),
        ("read, indirect", true, blk::T_IN),
        ("write, indirect", true, blk::T_OUT),
    ] {
        let mut each: Vec<_> = (0..5).map(|_| measure(indirect, kind)).collect();
        each.sort_unstable();
        println!("{name:16} {} ns a request", each[2]);
    }
}

/// The nanoseconds of one request.
fn measure(indirect: bool, kind: u32) -> u128 {
    let disk = Disk::new(Box::new(NoStorage), "bench".into(), 1 << 30, false);
    #[expect(clippy::expect_used, reason = "a benchmark")]
    let device =
        Blk::new("bench", &disk, &BlkOptions::default(), Tap::default()).expect("a device");
    let features = feature::BLK_FLUSH | if indirect { feature::RING_INDIRECT_DESC } else { 0 };
    let mut driver = VirtioDriver::new(device).live(features, 256);
    let heads: Vec<u16> = (0..REQUESTS).map(|n| if indirect { n } else { 3 * n }).collect();
    for (n, head) in (0..).zip(&heads) {
        let (header, status) = (0x8000 + 16 * n, 0x9000 + n);
        driver.header(header, kind, 8 * n);
        let data = (0x1_0000 + 4096 * n, 4096, kind == blk::T_IN);
        let parts = [(header, 16, false), data, (status, 1, true)];
        match indirect {
            true => driver.indirect(*head, 0xa000 + 48 * n, &parts),
            false => driver.chain(*head, &parts),
        }
    }
    let mut spent = Duration::ZERO;
    for _ in 0..ROUNDS {
        for head in &heads {
            driver.offer(*head);
        }
        let start = Instant::now();
        driver.kick();
        spent += start.elapsed();
    }
    spent.as_nanos() / u128::from(ROUNDS * u32::from(REQUESTS))
}
