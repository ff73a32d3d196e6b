//! virtio-rng from the driver's side.

use super::*;
use crate::memory::GuestRam;
use crate::testing::virtio_driver::{DATA, RAM_SIZE};
use crate::testing::{Recorded, Recorder, VirtioDriver};
use crate::virtio::mmio::MmioOptions;
use crate::virtio::spec::feature::VERSION_1;

const SIZE: u32 = 8;

fn driver() -> VirtioDriver {
    VirtioDriver::new(Rng::new("rng", Tap::default())).live(VERSION_1, SIZE)
}

/// Offers one chain, rings, and takes the answer.
fn ask(driver: &mut VirtioDriver, parts: &[(u64, u32, bool)]) -> Option<(u32, u32)> {
    driver.chain(0, parts);
    driver.offer(0);
    driver.kick();
    driver.pop()
}

#[test]
fn a_request_is_filled_to_its_end_and_no_further() {
    let mut driver = driver();
    driver.write(DATA, &[0; 96]);
    let len = 32;
    assert_eq!(ask(&mut driver, &[(DATA, len, true), (DATA + 40, 8, true)]), Some((0, 40)));
    assert_eq!(driver.take_interrupts(), 1);
    let bytes = driver.bytes(DATA, 96);
    // 40 random bytes have a zero where it matters once in 2^64 runs.
    assert!(bytes[..32].chunks(8).all(|eight| eight != [0; 8]), "{bytes:x?}");
    assert_ne!(bytes[40..48], [0; 8]);
    assert_eq!((&bytes[32..40], &bytes[48..]), (&[0; 8][..], &[0; 48][..]));
    assert_eq!(ask(&mut driver, &[(DATA + 48, 32, true)]), Some((0, 32)));
    let more = driver.bytes(DATA + 48, 32);
    assert_ne!(more, bytes[..32]);
    assert_eq!(driver.complaints.last(), None);
}

#[test]
fn a_request_of_any_length_gets_a_bounded_number_of_bytes() {
    let mut driver = driver();
    let half = (RAM_SIZE / 2) as u32;
    let base = u64::from(half);
    driver.write(base, &[0; 8192]);
    assert_eq!(ask(&mut driver, &[(base, half, true)]), Some((0, 4096)));
    let bytes = driver.bytes(base, 8192);
    assert_ne!(bytes[4088..4096], [0; 8]);
    assert_eq!(bytes[4096..], [0; 4096]);
}

#[test]
fn wrong_buffers_are_answered_and_reported() {
    let mut driver = driver();
    assert_eq!(ask(&mut driver, &[(DATA, 16, false)]), Some((0, 0)));
    assert_eq!(driver.complaints.count(rules::RNG_BUFFERS), 2);
    assert_eq!(ask(&mut driver, &[(DATA, 16, false), (DATA, 8, true)]), Some((0, 8)));
    assert_eq!(driver.complaints.count(rules::RNG_BUFFERS), 3);
    assert_eq!(ask(&mut driver, &[(DATA, 8, true), (DATA, 8, false)]), Some((0, 0)));
    assert_eq!(ask(&mut driver, &[(RAM_SIZE as u64 - 4, 8, true)]), Some((0, 0)));
    assert_eq!(driver.complaints.count(rules::FRAMING), 2);
    assert_eq!(ask(&mut driver, &[(DATA, 0, true)]), Some((0, 0)));
    assert!(!driver.needs_reset());
}

#[test]
fn a_broken_ring_needs_a_reset_and_the_device_works_after_it() {
    let mut driver = driver();
    driver.desc(0, DATA, 8, 3, 200);
    driver.offer(0);
    driver.kick();
    assert_eq!((driver.pop(), driver.needs_reset()), (None, true));
    assert_eq!(driver.complaints.count(rules::CHAIN), 1);
    driver.restart(VERSION_1, SIZE);
    assert_eq!(ask(&mut driver, &[(DATA, 8, true)]), Some((0, 8)));
}

#[test]
fn indirect_tables_and_the_event_index_work() {
    let features = VERSION_1 | feature::RING_INDIRECT_DESC;
    let mut driver = VirtioDriver::new(Rng::new("rng", Tap::default())).live(features, SIZE);
    driver.indirect(0, DATA, &[(DATA + 0x100, 8, true), (DATA + 0x200, 8, true)]);
    driver.offer(0);
    driver.kick();
    assert_eq!(driver.pop(), Some((0, 16)));
    let offered =
        VirtioDriver::with(Rng::new("rng", Tap::default()), MmioOptions::default()).offered();
    assert_eq!(offered & feature::RING_EVENT_IDX, 0, "nobody goes on with leftover work here");
}

#[test]
fn nothing_is_taken_while_it_is_held_or_stopped() {
    let mut driver = driver();
    driver.mmio.hold();
    driver.mmio.quiesce().unwrap();
    assert_eq!(ask(&mut driver, &[(DATA, 8, true)]), None);
    driver.mmio.release();
    assert_eq!(driver.pop(), Some((0, 8)));
}

#[test]
fn a_host_without_random_bytes_is_reported() {
    let device = Rng::with_source("rng", Tap::default(), |_| Err(Errno::AGAIN));
    let mut driver = VirtioDriver::new(device).live(VERSION_1, SIZE);
    driver.write(DATA, &[0xaa; 8]);
    assert_eq!(ask(&mut driver, &[(DATA, 8, true)]), Some((0, 0)));
    assert_eq!(driver.bytes(DATA, 8), [0xaa; 8]);
    assert_eq!(driver.complaints.count(rules::HOST), 1);
}

#[test]
fn a_doorbell_has_bounded_work() {
    let mut driver = driver();
    let ram: GuestRam = driver.ram.clone();
    for index in 0..SIZE as u16 {
        driver.ring.chain(&ram, index, &[(DATA, 4096, true)]);
        driver.ring.offer(&ram, index);
    }
    driver.kick();
    let answered = std::iter::from_fn(|| driver.pop()).count();
    assert_eq!((answered, driver.take_interrupts()), (SIZE as usize, 1));
}

#[test]
fn an_observer_sees_each_request() {
    let recorder = Arc::new(Recorder::default());
    let mut driver =
        VirtioDriver::new(Rng::new("rng", Tap::to(recorder.clone()))).live(VERSION_1, SIZE);
    recorder.take();
    ask(&mut driver, &[(DATA, 32, true)]);
    ask(&mut driver, &[(DATA, 32, false)]);
    let finished = |recorded| match recorded {
        Recorded::Finished { request, outcome, .. } => {
            Some((request.operation, request.bytes, outcome))
        }
        _ => None,
    };
    let seen: Vec<_> = recorder.take().into_iter().filter_map(finished).collect();
    let expected = [
        ("random bytes", 32, "ok".to_owned()),
        ("random bytes", 0, "no byte is written".to_owned()),
    ];
    assert_eq!(seen, expected);
}
