//! NOTIFY_ON_EMPTY (virtio 1.4, 6.3) of the legacy interface: an interrupt whenever the queue becomes empty, even if
//! used_event or NO_INTERRUPT suppresses interrupts.

use super::*;
use crate::bus::BusDevice;
use crate::virtio::mmio::Version;

const EMPTY: u64 = 1 << 24;
const EVENT_IDX: u64 = feature::RING_EVENT_IDX;
const PLACE: u64 = 0x4_0000;

/// A live legacy device with a queue of 8 entries, and requests held back.
fn live_with(features: u64) -> (VirtioDriver, Ring, Held) {
    let (blk, _, held) = holding(8, &named(""));
    let options = MmioOptions {
        version: Version::Legacy,
        leftover: Some(Arc::new(CountingLine::default())),
        ..MmioOptions::default()
    };
    let mut driver = VirtioDriver::with(blk, options);
    let mut ring = Ring::contiguous(8, PLACE, 4096);
    driver.negotiate_legacy(features as u32, 4096);
    assert!(driver.set_up_legacy(0, &mut ring, 4096, (PLACE / 4096) as u32));
    driver.go_live();
    (driver, ring, held)
}

/// Makes a read available at descriptors 2 * `n` and the next.
fn offer(driver: &VirtioDriver, ring: &mut Ring, n: u16) {
    driver.header(HEADER, T_IN, 1);
    let data = DATA + 0x400 * u64::from(n);
    ring.chain(&driver.ram, 2 * n, &[(HEADER, 16, false), (data, 513, true)]);
    ring.offer(&driver.ram, 2 * n);
}

/// So many reads, one doorbell, and all of them done; the interrupts.
fn batch(driver: &mut VirtioDriver, ring: &mut Ring, held: &Held, reads: u16) -> u64 {
    for n in 0..reads {
        offer(driver, ring, n);
    }
    driver.kick();
    held.release_all();
    driver.mmio.service_queue(0);
    for n in 0..reads {
        assert_eq!(ring.pop(&driver.ram), Some((u32::from(2 * n), 513)));
    }
    driver.line.take()
}

#[test]
fn a_driver_that_never_moves_used_event_is_interrupted_whenever_the_ring_is_empty() {
    let (mut driver, mut ring, held) = live_with(EVENT_IDX | EMPTY);
    for round in 0..100 {
        assert_eq!(batch(&mut driver, &mut ring, &held, 1 + round % 4), 1, "{round}");
        assert_eq!(driver.take_interrupts(), mmio::INTERRUPT_USED);
    }
    // Nothing was used: no interrupt.
    driver.kick();
    driver.mmio.service_queue(0);
    assert_eq!(driver.line.take(), 0);
}

#[test]
fn without_the_feature_used_event_has_the_last_word() {
    let (mut driver, mut ring, held) = live_with(EVENT_IDX);
    // used_event is 0: the first request crosses it, and no other of the next 65535.
    for round in 0..100 {
        assert_eq!(batch(&mut driver, &mut ring, &held, 1), u64::from(round == 0), "{round}");
    }
}

#[test]
fn the_flag_against_interrupts_is_overruled_too() {
    for (features, interrupts) in [(EMPTY, 1), (0, 0)] {
        let (mut driver, mut ring, held) = live_with(features);
        driver.ram.write(ring.avail, &[1, 0]).unwrap();
        for _ in 0..3 {
            assert_eq!(batch(&mut driver, &mut ring, &held, 2), interrupts);
        }
    }
}

#[test]
fn a_queue_with_requests_in_flight_is_not_empty() {
    let (mut driver, mut ring, held) = live_with(EVENT_IDX | EMPTY);
    assert_eq!(batch(&mut driver, &mut ring, &held, 1), 1);
    for n in 0..3 {
        offer(&driver, &mut ring, n);
    }
    driver.kick();
    for left in (0..3).rev() {
        assert!(held.release(0));
        driver.mmio.service_queue(0);
        assert!(ring.pop(&driver.ram).is_some());
        assert_eq!(driver.line.take(), u64::from(left == 0), "{left}");
    }
}

#[test]
fn a_request_that_waits_for_its_turn_is_no_empty_ring() {
    let (mut driver, mut ring, held) = live_with(EVENT_IDX | EMPTY);
    assert_eq!(batch(&mut driver, &mut ring, &held, 1), 1);
    offer(&driver, &mut ring, 0);
    driver.kick();
    // Made available without a doorbell, while the machine is about to be paused: it is not taken.
    driver.mmio.hold();
    offer(&driver, &mut ring, 1);
    held.release_all();
    driver.mmio.service_queue(0);
    assert_eq!((ring.pop(&driver.ram), driver.line.take()), (Some((0, 513)), 0));
    driver.mmio.release();
    held.release_all();
    driver.mmio.write(reg::QUEUE_NOTIFY, &[0; 4]);
    assert_eq!((ring.pop(&driver.ram), driver.line.take()), (Some((2, 513)), 1));
}
