//! Two vCPUs, the I/O thread and the VMM use one disk at the same time, for many rounds: no request is lost or carried
//! out twice, with every engine.
//!
//! Each vCPU drives its own queue, and uses its own sectors. Sometimes it resets its queue. The VMM pauses, resumes and
//! enlarges the disk; between two lives the whole device is reset.
//!
//! `CAFEVM_ROUNDS=N` sets the number of rounds. ThreadSanitizer runs it, too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and makes small numbers"
)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cafevm_devices::block::format::Snapshot;
use cafevm_devices::block::{Disk, Storage};
use cafevm_devices::bus::BusDevice;
use cafevm_devices::irq::{IrqLine, Wake};
use cafevm_devices::memory::GuestRam;
use cafevm_devices::observe::Tap;
use cafevm_devices::testing::virtio_driver::reg;
use cafevm_devices::testing::{LateStorage, Ring, WatchedImage};
use cafevm_devices::virtio::blk::{Blk, BlkOptions};
use cafevm_devices::virtio::mmio::{Mmio, MmioOptions};
use cafevm_devices::virtio::spec::{blk, feature, status};

/// The sectors of each vCPU.
const SECTORS: u64 = 16;
const QUEUES: u16 = 2;
/// Requests of one vCPU in flight at a time.
const DEPTH: u16 = 4;
/// Far more than a round needs, unless a request is lost.
const LIMIT: Duration = Duration::from_secs(120);

/// Counts, and wakes a thread.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    ringing: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.ringing.notify_all();
    }

    /// Waits with a limit: engines signal through their own eventfd.
    fn wait(&self) {
        let limit = Duration::from_micros(100);
        let rung = self.rung.lock().unwrap();
        *self.ringing.wait_timeout_while(rung, limit, |rung| !*rung).unwrap().0 = false;
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.ring();
    }
}

impl IrqLine for Bell {
    fn raise(&self) {}
}

struct Machine {
    mmio: Mmio,
    blk: Arc<Blk>,
    ram: GuestRam,
    bell: Arc<Bell>,
    ended: AtomicBool,
    /// The number of vCPUs that are running.
    running: AtomicUsize,
}

impl Machine {
    fn new(storage: Box<dyn Storage>, bytes: u64) -> Self {
        let disk = Disk::new(storage, "the disk".into(), bytes, false);
        let options = BlkOptions { queues: QUEUES, queue_size: 64, ..BlkOptions::default() };
        let blk = Arc::new(Blk::new("virtio0", &disk, &options, Tap::default()).unwrap());
        let ram = GuestRam::anonymous(&[(0, 1 << 20)]).unwrap();
        let bell = Arc::new(Bell::default());
        let options = MmioOptions { leftover: Some(bell.clone()), ..MmioOptions::default() };
        let mmio = Mmio::new(blk.clone(), ram.clone(), bell.clone(), options);
        let (ended, running) = (AtomicBool::new(false), AtomicUsize::new(0));
        Self { mmio, blk, ram, bell, ended, running }
    }

    fn set(&self, register: u64, value: u32) {
        self.mmio.write(register, &value.to_le_bytes());
    }

    fn get(&self, register: u64) -> u32 {
        let mut data = [0; 4];
        self.mmio.read(register, &mut data);
        u32::from_le_bytes(data)
    }

    fn set_up(&self, index: u32, ring: &mut Ring) {
        ring.clear(&self.ram);
        self.set(reg::QUEUE_SEL, index);
        self.set(reg::QUEUE_NUM, ring.size.into());
        for (register, addr) in [
            (reg::QUEUE_DESC, ring.desc),
            (reg::QUEUE_DRIVER, ring.avail),
            (reg::QUEUE_DEVICE, ring.used),
        ] {
            self.set(register, addr as u32);
            self.set(register + 4, 0);
        }
        self.set(reg::QUEUE_READY, 1);
        assert_eq!(self.get(reg::QUEUE_READY), 1);
    }

    /// The whole handshake; the queues.
    fn begin(&self) -> Vec<Ring> {
        self.set(reg::STATUS, 0);
        assert_eq!(self.get(reg::STATUS), 0);
        self.set(reg::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        let features = feature::BLK_FLUSH
            | feature::BLK_MQ
            | feature::VERSION_1
            | feature::RING_EVENT_IDX
            | feature::RING_RESET;
        for (half, bits) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.set(reg::DRIVER_FEATURES_SEL, half);
            self.set(reg::DRIVER_FEATURES, bits);
        }
        let now = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        self.set(reg::STATUS, now);
        assert_eq!(self.get(reg::STATUS), now);
        let mut rings: Vec<_> =
            (0..QUEUES).map(|n| Ring::contiguous(64, 0x1_0000 * (1 + u64::from(n)), 4)).collect();
        for (index, ring) in (0..).zip(&mut rings) {
            self.set_up(index, ring);
        }
        self.set(reg::STATUS, now | status::DRIVER_OK);
        rings
    }
}

/// Ends the other threads with the last vCPU, also after a panic.
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// A vCPU with its queue.
struct Vcpu<'a> {
    machine: &'a Machine,
    index: u64,
    ring: Ring,
    /// The content of each of its sectors.
    held: [u8; SECTORS as usize],
    seed: u64,
}

impl Vcpu<'_> {
    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.seed >> 33) % below
    }

    /// Where request `slot` has its header, its data and its status byte.
    fn place(&self, slot: u64) -> (u64, u64, u64) {
        let base = 0x8_0000 + 0x1_0000 * self.index + 0x1000 * slot;
        (base, base + 0x200, base + 0x800)
    }

    /// The final content of its sectors.
    fn run(mut self, rounds: u64) -> [u8; SECTORS as usize] {
        let _running = Running(&self.machine.running);
        for round in 0..rounds {
            self.batch();
            if round % 16 == 15 {
                self.reset_queue();
            }
            // Writes that drivers make all the time, which must not wait or disturb.
            self.machine.set(reg::INTERRUPT_ACK, self.machine.get(reg::INTERRUPT_STATUS) & 3);
        }
        self.held
    }

    /// Some requests to different sectors at a time, all awaited and compared.
    fn batch(&mut self) {
        let Machine { ram, .. } = self.machine;
        let first = self.random(SECTORS);
        let requests: Vec<_> = (0..u64::from(DEPTH))
            .map(|slot| ((first + slot) % SECTORS, self.random(2) == 0, self.random(255) as u8))
            .collect();
        for (slot, &(sector, write, byte)) in (0u16..).zip(&requests) {
            let (header, data, status) = self.place(slot.into());
            let kind = if write { blk::T_OUT } else { blk::T_IN };
            let place = self.index * SECTORS + sector;
            ram.write(header, &[&kind.to_le_bytes()[..], &[0; 4], &place.to_le_bytes()].concat())
                .unwrap();
            ram.write(data, &[if write { byte } else { 0xee }; 512]).unwrap();
            ram.write(status, &[0xff]).unwrap();
            let parts = [(header, 16, false), (data, 512, !write), (status, 1, true)];
            self.ring.chain(ram, 3 * slot, &parts);
            self.ring.offer(ram, 3 * slot);
            // One doorbell for each request or for several: a queue may get more while it is serviced.
            if slot % 2 == 1 || byte % 2 == 0 {
                self.machine.set(reg::QUEUE_NOTIFY, self.index as u32);
            }
        }
        self.machine.set(reg::QUEUE_NOTIFY, self.index as u32);
        let until = Instant::now() + LIMIT;
        let mut done = [false; DEPTH as usize];
        while done.contains(&false) {
            let Some((head, len)) = self.ring.pop(ram) else {
                assert!(Instant::now() < until, "a request is lost: {done:?} of {requests:?}");
                thread::yield_now();
                continue;
            };
            let slot = head as usize / 3;
            assert!(!std::mem::replace(&mut done[slot], true), "done twice");
            let (sector, write, byte) = requests[slot];
            assert_eq!(len, if write { 1 } else { 513 });
            let (_, data, status) = self.place(slot as u64);
            assert_eq!(ram.read::<1>(status), Ok([blk::S_OK]));
            let held = &mut self.held[sector as usize];
            if write {
                *held = byte;
            } else {
                assert_eq!(ram.read::<512>(data), Ok([*held; 512]), "sector {sector}");
            }
        }
    }

    /// Resets the queue alone, with requests in flight that are then dropped, and starts it again.
    fn reset_queue(&mut self) {
        static SELECTS: Mutex<()> = Mutex::new(());
        let Machine { ram, .. } = self.machine;
        for slot in 0..DEPTH {
            let (header, data, status) = self.place(slot.into());
            let place = self.index * SECTORS;
            let kind = blk::T_IN;
            ram.write(header, &[&kind.to_le_bytes()[..], &[0; 4], &place.to_le_bytes()].concat())
                .unwrap();
            self.ring.chain(
                ram,
                3 * slot,
                &[(header, 16, false), (data, 512, true), (status, 1, true)],
            );
            self.ring.offer(ram, 3 * slot);
        }
        self.machine.set(reg::QUEUE_NOTIFY, self.index as u32);
        // QueueSel is one register, so drivers take turns.
        let _turn = SELECTS.lock().unwrap();
        self.machine.set(reg::QUEUE_SEL, self.index as u32);
        self.machine.set(reg::QUEUE_RESET, 1);
        assert_eq!(self.machine.get(reg::QUEUE_READY), 0);
        for slot in 0..DEPTH {
            let (_, data, _) = self.place(slot.into());
            ram.write(data, &[0x5a; 512]).unwrap();
        }
        let mut ring = self.ring;
        self.machine.set_up(self.index as u32, &mut ring);
        self.ring = ring;
        for slot in 0..DEPTH {
            let (_, data, _) = self.place(slot.into());
            assert_eq!(ram.read::<512>(data), Ok([0x5a; 512]), "touched after its reset");
        }
    }
}

fn play(make: impl Fn(WatchedImage) -> Box<dyn Storage>) {
    let rounds = std::env::var("CAFEVM_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let bytes = u64::from(QUEUES) * SECTORS * 512;
    let image = WatchedImage::new(&vec![0; bytes as usize]);
    let machine = Machine::new(make(image.clone()), bytes);
    let mut held = [[0; SECTORS as usize]; QUEUES as usize];
    for life in 0..3 {
        let rings = machine.begin();
        machine.running.store(QUEUES.into(), Ordering::Release);
        machine.ended.store(false, Ordering::Release);
        thread::scope(|scope| {
            let vcpus: Vec<_> = (0..)
                .zip(rings)
                .map(|(index, ring)| {
                    let held = held[index as usize];
                    let seed = 1 + life * 7 + index;
                    let vcpu = Vcpu { machine: &machine, index, ring, held, seed };
                    scope.spawn(move || vcpu.run(rounds))
                })
                .collect();
            // The I/O thread.
            scope.spawn(|| {
                let wakes = machine.mmio.wakes();
                while !machine.ended.load(Ordering::Acquire) {
                    machine.bell.wait();
                    machine.mmio.service_unfinished();
                    for (index, wake) in (0..).zip(&wakes) {
                        if wake.as_ref().is_some_and(|wake| wake.read().is_ok()) {
                            machine.mmio.service_queue(index);
                        }
                    }
                }
            });
            // The VMM.
            scope.spawn(|| {
                let mut size = bytes;
                while machine.running.load(Ordering::Acquire) > 0 {
                    machine.mmio.hold();
                    machine.mmio.quiesce().unwrap();
                    machine.mmio.release();
                    size += 512;
                    machine.mmio.reconfigure(|| machine.blk.resize(size)).ok();
                    thread::sleep(Duration::from_millis(1));
                }
                machine.ended.store(true, Ordering::Release);
            });
            for (held, vcpu) in held.iter_mut().zip(vcpus) {
                *held = vcpu.join().unwrap();
            }
        });
        let now = image.bytes();
        for (n, byte) in held.iter().flatten().enumerate() {
            assert_eq!(now[n * 512..][..512], [*byte; 512], "sector {n}");
        }
    }
}

#[test]
fn with_requests_that_finish_on_the_vcpu() {
    play(|image| Box::new(image));
}

#[test]
fn on_a_snapshot() {
    play(|layer| Box::new(snapshot(layer)));
}

#[test]
fn on_a_snapshot_of_which_both_stores_finish_late() {
    play(|layer| Box::new(snapshot(LateStorage::new(Box::new(layer), Duration::ZERO))));
}

/// A snapshot of zeros: everything written is in the layer.
fn snapshot(layer: impl Storage + 'static) -> Snapshot {
    let bytes = u64::from(QUEUES) * SECTORS * 512;
    let base = WatchedImage::new(&vec![0; bytes as usize]);
    let base = LateStorage::new(Box::new(base), Duration::ZERO);
    Snapshot::over(Box::new(base), bytes, Box::new(layer), "the layer".into())
}

#[test]
fn with_requests_that_finish_late_and_out_of_order() {
    play(|image| Box::new(LateStorage::new(Box::new(image), Duration::ZERO)));
}
