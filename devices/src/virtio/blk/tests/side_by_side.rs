//! Several vCPUs use one device: no register access waits for I/O, queues are serviced in parallel, and a doorbell that
//! arrives during a service is not lost.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use super::*;
use crate::bus::BusDevice;

/// Far longer than anything here takes without waiting for the other thread.
const LIMIT: Duration = Duration::from_secs(20);

/// A live device with two queues of 8 entries, whose host stops before each read of sector 7 until the test releases
/// it.
struct Bench {
    driver: VirtioDriver,
    rings: [Ring; 2],
    leftover: CountingLine,
    /// The host has come to a read of sector 7.
    stopped: Receiver<()>,
    go_on: Sender<()>,
}

fn bench() -> Bench {
    let (blk, image) = watched(8, &BlkOptions { queues: 2, ..named("") });
    let leftover = CountingLine::default();
    let options =
        MmioOptions { leftover: Some(Arc::new(leftover.clone())), ..MmioOptions::default() };
    let mut driver = VirtioDriver::with(blk, options);
    assert!(driver.negotiate(feature::VERSION_1 | feature::BLK_FLUSH));
    let mut rings = [0x4_0000, 0x5_0000].map(|at| Ring::contiguous(8, at, 4));
    for (index, ring) in (0..).zip(&mut rings) {
        assert!(driver.set_up_ring(index, ring));
    }
    driver.go_live();
    let (stop, stopped) = channel();
    let (go_on, wait) = channel();
    let wait = Mutex::new(wait);
    image.unlocked_before_each(move |request| {
        if request.offset == 7 * 512 {
            stop.send(()).unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
    });
    Bench { driver, rings, leftover, stopped, go_on }
}

/// Offers a read of one sector with descriptors from 3 * `n` on; the sector comes to DATA + 512 * sector.
fn offer(driver: &VirtioDriver, ring: &mut Ring, n: u16, sector: u64) {
    let header = HEADER + 16 * sector;
    driver.header(header, T_IN, sector);
    let status = STATUS_BYTE + sector;
    driver.write(status, &[0xff]);
    let data = DATA + 512 * sector;
    ring.chain(&driver.ram, 3 * n, &[(header, 16, false), (data, 512, true), (status, 1, true)]);
    ring.offer(&driver.ram, 3 * n);
}

#[test]
fn no_register_access_waits_while_another_vcpu_serves_a_queue() {
    let Bench { driver, mut rings, leftover, stopped, go_on } = bench();
    offer(&driver, &mut rings[0], 0, 7);
    offer(&driver, &mut rings[1], 0, 2);
    let (mmio, ram) = (&driver.mmio, &driver.ram);
    let set = |register: u64, value: u32| mmio.write(register, &value.to_le_bytes());
    let get = |register: u64| {
        let mut data = [0; 4];
        mmio.read(register, &mut data);
        u32::from_le_bytes(data)
    };
    thread::scope(|scope| {
        scope.spawn(|| set(reg::QUEUE_NOTIFY, 0));
        stopped.recv_timeout(LIMIT).unwrap();
        // The first vCPU is in the middle of its I/O. The other queue is served, and interrupts.
        let _line = driver.line.take();
        set(reg::QUEUE_NOTIFY, 1);
        assert_eq!((rings[1].pop(ram), driver.line.take()), (Some((0, 513)), 1));
        assert_eq!(get(reg::INTERRUPT_STATUS), 1);
        set(reg::INTERRUPT_ACK, 1);
        assert_eq!(get(reg::INTERRUPT_STATUS), 0);
        // Set-up registers and the configuration space answer, too.
        set(reg::QUEUE_SEL, 1);
        assert_eq!((get(reg::QUEUE_READY), get(reg::CONFIG)), (1, 8));
        // A doorbell of the same queue returns immediately.
        offer(&driver, &mut rings[0], 1, 3);
        set(reg::QUEUE_NOTIFY, 0);
        assert_eq!((rings[0].pop(ram), leftover.take()), (None, 0));
        go_on.send(()).unwrap();
    });
    // And its request is not lost, whether the first vCPU saw it or not.
    if leftover.take() > 0 {
        mmio.service_unfinished();
    }
    assert_eq!((rings[0].pop(ram), rings[0].pop(ram)), (Some((0, 513)), Some((3, 513))));
    assert_eq!(driver.bytes(DATA + 3 * 512, 512), [4; 512]);
}

#[test]
fn a_reset_waits_for_the_vcpu_that_serves_a_queue_and_others_go_on() {
    let Bench { driver, mut rings, stopped, go_on, .. } = bench();
    offer(&driver, &mut rings[0], 0, 7);
    let mmio = &driver.mmio;
    let set = |register: u64, value: u32| mmio.write(register, &value.to_le_bytes());
    thread::scope(|scope| {
        scope.spawn(|| set(reg::QUEUE_NOTIFY, 0));
        stopped.recv_timeout(LIMIT).unwrap();
        // A second request, which is not in the batch of the first one.
        offer(&driver, &mut rings[0], 1, 4);
        let reset = scope.spawn(|| set(reg::STATUS, 0));
        // As soon as the reset has begun, the queue takes no doorbells; other accesses continue.
        while driver.complaints.count(rules::NOTIFY) == 0 {
            set(reg::QUEUE_NOTIFY, 0);
            thread::yield_now();
        }
        set(reg::INTERRUPT_ACK, 1);
        set(reg::QUEUE_SEL, 0);
        go_on.send(()).unwrap();
        reset.join().unwrap();
    });
    let mut status = [0xff; 4];
    mmio.read(reg::STATUS, &mut status);
    assert_eq!(status, [0; 4]);
    let (ram, before) = (driver.bytes(0, 1 << 20), driver.bytes(STATUS_BYTE + 4, 1));
    assert_eq!(before, [0xff], "nothing is begun while the reset waits");
    mmio.service_unfinished();
    set(reg::QUEUE_NOTIFY, 0);
    assert!(driver.bytes(0, 1 << 20) == ram);
}
