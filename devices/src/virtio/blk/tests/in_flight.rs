//! Requests that the host has not finished: they are answered at the next service of their queue. And what happens to
//! them at a reset, at the reset of a queue, and at the end of the machine.

use super::*;
use crate::bus::BusDevice;

/// Two live queues of 8 entries, with requests held back.
fn two_queues() -> (VirtioDriver, [Ring; 2], WatchedImage, Held) {
    let (blk, image, held) = holding(8, &BlkOptions { queues: 2, ..named("") });
    let mut driver = VirtioDriver::new(blk);
    assert!(driver.negotiate(
        feature::VERSION_1 | feature::RING_RESET | feature::BLK_FLUSH | feature::BLK_CONFIG_WCE
    ));
    let mut rings = [0x4_0000, 0x5_0000].map(|at| Ring::contiguous(8, at, 4));
    for (index, ring) in (0..).zip(&mut rings) {
        assert!(driver.set_up_ring(index, ring));
    }
    driver.go_live();
    (driver, rings, image, held)
}

/// Where request `n` keeps its data, and its status byte.
fn place(n: u64) -> (u64, u64) {
    (DATA + 0x400 * n, STATUS_BYTE + n)
}

/// Offers request `n`, of one sector, at descriptors 0 to 2 of a queue, and rings. The device has taken the chain
/// when this returns, so the descriptors can be used again.
fn start(driver: &mut VirtioDriver, queue: u32, ring: &mut Ring, n: u64, kind: u32, sector: u64) {
    let (data, status) = place(n);
    driver.header(HEADER, kind, sector);
    driver.write(status, &[0xff]);
    ring.chain(
        &driver.ram,
        0,
        &[(HEADER, 16, false), (data, 512, kind == T_IN), (status, 1, true)],
    );
    ring.offer(&driver.ram, 0);
    driver.kick_queue(queue);
}

/// The bytes of a queue that the device writes, and the status byte of request `n`.
fn written(driver: &VirtioDriver, ring: &Ring, n: u64) -> (Vec<u8>, Vec<u8>) {
    let used = (ring.end() - ring.used) as usize;
    (driver.bytes(ring.used, used), driver.bytes(place(n).1, 1))
}

#[test]
fn requests_finish_out_of_order_and_are_answered_by_the_next_look_at_their_queue() {
    let (mut driver, [mut one, mut two], _, held) = two_queues();
    for n in 0..3 {
        start(&mut driver, 0, &mut one, n, T_IN, n);
    }
    start(&mut driver, 1, &mut two, 3, T_IN, 3);
    assert_eq!((held.waiting(), one.pop(&driver.ram), driver.line.take()), (4, None, 0));
    assert!(held.release(2) && held.release(2) && held.release(0));
    assert_eq!((one.pop(&driver.ram), two.pop(&driver.ram)), (None, None));
    // By a doorbell, or by the host's thread that learns of completions.
    driver.kick_queue(1);
    driver.mmio.service_queue(0);
    assert_eq!(driver.line.take(), 2);
    for n in [2, 0] {
        assert_eq!(one.pop(&driver.ram), Some((0, 513)));
        let (data, status) = place(n);
        assert_eq!(
            (driver.bytes(data, 512), driver.bytes(status, 1)),
            (vec![n as u8 + 1; 512], vec![0])
        );
    }
    assert_eq!((one.pop(&driver.ram), two.pop(&driver.ram)), (None, Some((0, 513))));
    assert_eq!(driver.bytes(place(1).1, 1), [0xff]);
    held.release_all();
    driver.kick_queue(0);
    assert_eq!((one.pop(&driver.ram), one.pop(&driver.ram)), (Some((0, 513)), None));
}

#[test]
fn a_reset_waits_for_what_is_in_flight_and_then_touches_nothing() {
    let (mut driver, [mut one, mut two], image, held) = two_queues();
    driver.write(place(1).0, &[0xaa; 512]);
    start(&mut driver, 0, &mut one, 0, T_IN, 5);
    start(&mut driver, 1, &mut two, 1, T_OUT, 6);
    let before = [written(&driver, &one, 0), written(&driver, &two, 1)];
    driver.set(reg::STATUS, 0);
    assert_eq!((held.waiting(), held.waited()), (0, 2));
    // Neither is answered; both have ended, so the driver may reuse the memory.
    assert_eq!([written(&driver, &one, 0), written(&driver, &two, 1)], before);
    assert_eq!((driver.line.take(), driver.get(reg::INTERRUPT_STATUS)), (0, 0));
    assert_eq!(image.bytes()[6 * 512..7 * 512], [0xaa; 512]);
    let ram = driver.bytes(0, 1 << 20);
    held.release_all();
    for queue in [0, 1] {
        driver.kick_queue(queue);
    }
    driver.mmio.service_unfinished();
    assert!(driver.bytes(0, 1 << 20) == ram);
    // The new queues have nothing of the old requests.
    driver.restart(feature::BLK_FLUSH, 8);
    driver.request(T_IN, 0, 512);
    held.release_all();
    driver.kick();
    assert_eq!((driver.pop(), driver.pop()), (Some((0, 513)), None));
}

#[test]
fn a_queue_reset_answers_nothing_of_its_own_and_all_of_the_others() {
    for register in [reg::QUEUE_RESET, reg::QUEUE_READY] {
        let (mut driver, [mut one, mut two], _, held) = two_queues();
        start(&mut driver, 0, &mut one, 0, T_IN, 1);
        start(&mut driver, 1, &mut two, 1, T_IN, 2);
        start(&mut driver, 0, &mut one, 2, T_IN, 3);
        let before = [written(&driver, &one, 0), written(&driver, &one, 2)];
        driver.set(reg::QUEUE_SEL, 0);
        driver.set(register, u32::from(register == reg::QUEUE_RESET));
        // The device does not wait for the other queue's request, and does not lose it.
        assert_eq!(held.waiting(), 1);
        assert_eq!([written(&driver, &one, 0), written(&driver, &one, 2)], before);
        held.release_all();
        driver.kick_queue(1);
        assert_eq!((two.pop(&driver.ram), two.pop(&driver.ram)), (Some((0, 513)), None));
        assert_eq!(driver.line.take(), 1);
        assert_eq!([written(&driver, &one, 0), written(&driver, &one, 2)], before);
    }
}

#[test]
fn a_switch_of_the_cache_loses_no_request() {
    let (mut driver, [mut one, mut two], image, held) = two_queues();
    driver.write(place(0).0, &[0xbb; 512]);
    start(&mut driver, 0, &mut one, 0, T_OUT, 1);
    start(&mut driver, 1, &mut two, 1, T_IN, 2);
    driver.mmio.write(0x120, &[0]);
    assert_eq!(image.log(), ["write 512 at 512", "read 512 at 1024", "flush"]);
    assert_eq!(held.waiting(), 0);
    driver.kick_queue(0);
    assert_eq!((one.pop(&driver.ram), two.pop(&driver.ram)), (Some((0, 1)), Some((0, 513))));
}

#[test]
fn a_resize_waits_for_what_is_in_flight_and_loses_none_of_it() {
    let (mut driver, [mut one, _], _, held) = two_queues();
    start(&mut driver, 0, &mut one, 0, T_IN, 1);
    driver.resize(100 * 512).unwrap();
    assert_eq!(held.waiting(), 0);
    driver.kick_queue(0);
    assert_eq!((one.pop(&driver.ram), driver.bytes(place(0).1, 1)), (Some((0, 513)), vec![0]));
}

#[test]
fn a_broken_ring_leaves_what_is_in_flight_to_the_reset() {
    let (mut driver, [mut one, _], _, held) = two_queues();
    start(&mut driver, 0, &mut one, 0, T_IN, 1);
    one.offer(&driver.ram, 99);
    driver.kick_queue(0);
    assert!(driver.needs_reset());
    held.release_all();
    driver.kick_queue(0);
    driver.restart(feature::BLK_FLUSH, 8);
    driver.request(T_IN, 4, 512);
    held.release_all();
    driver.kick();
    assert_eq!((driver.pop(), driver.pop()), (Some((0, 513)), None));
}

#[test]
fn the_machines_end_leaves_memory_that_lives_as_long_as_the_last_request() {
    let (mut driver, [mut one, mut two], image, held) = two_queues();
    driver.write(place(1).0, &[0xcc; 512]);
    start(&mut driver, 0, &mut one, 0, T_IN, 3);
    start(&mut driver, 1, &mut two, 1, T_OUT, 4);
    let before = [written(&driver, &one, 0), written(&driver, &two, 1)];
    let VirtioDriver { mmio, ram, .. } = driver;
    drop(mmio);
    // The host finishes later. Nothing writes to a ring or a status byte.
    held.release_all();
    let bytes = |addr, len| {
        let mut bytes = vec![0; len];
        ram.read_into(addr, &mut bytes).unwrap();
        bytes
    };
    for (ring, n, before) in [(one, 0, &before[0]), (two, 1, &before[1])] {
        let used = (ring.end() - ring.used) as usize;
        assert_eq!((&bytes(ring.used, used), &bytes(place(n).1, 1)), (&before.0, &before.1));
    }
    drop(ram);
    // The requests had the last handles on guest RAM.
    assert_eq!(held.waiting(), 0);
    assert_eq!(image.bytes()[4 * 512..5 * 512], [0xcc; 512]);
}

#[test]
fn a_request_changed_while_it_is_in_flight_is_done_as_it_was_read() {
    let (mut driver, [mut ring, _], image, held) = two_queues();
    start(&mut driver, 0, &mut ring, 0, T_IN, 3);
    // Now the memory has another request, with another place and another status byte.
    driver.header(HEADER, T_OUT, 5);
    let (elsewhere, status) = (place(8).0, place(8).1);
    driver.write(status, &[0xff]);
    ring.chain(&driver.ram, 0, &[(HEADER, 16, false), (elsewhere, 512, false), (status, 1, true)]);
    held.release_all();
    driver.kick_queue(0);
    assert_eq!(ring.pop(&driver.ram), Some((0, 513)));
    assert_eq!(driver.bytes(place(0).0, 512), [4; 512]);
    assert_eq!((driver.bytes(place(0).1, 1), driver.bytes(status, 1)), (vec![0], vec![0xff]));
    assert_eq!(image.bytes()[5 * 512..6 * 512], [6; 512]);
}

#[test]
fn no_more_requests_are_in_flight_than_the_queue_has_entries() {
    // The driver offers descriptors again that the device still uses.
    let (mut driver, [mut one, mut two], _, held) = two_queues();
    for n in 0..8 {
        start(&mut driver, 0, &mut one, n, T_IN, n);
        start(&mut driver, 1, &mut two, n, T_IN, n);
    }
    assert_eq!((held.waiting(), driver.needs_reset()), (16, false));
    assert!(held.release(0));
    start(&mut driver, 0, &mut one, 0, T_IN, 0);
    assert_eq!((held.waiting(), driver.needs_reset()), (16, false));
    start(&mut driver, 0, &mut one, 0, T_IN, 0);
    assert_eq!((held.waiting(), driver.needs_reset()), (16, true));
}

#[test]
fn a_request_is_what_it_was_when_it_was_taken_whatever_the_driver_writes_later() {
    let (mut driver, [mut one, _], image, held) = two_queues();
    let before = image.bytes();
    start(&mut driver, 0, &mut one, 0, T_IN, 5);
    // Another type, another sector, another place for data and status.
    driver.header(HEADER, T_OUT, 0);
    let (data, status) = place(1);
    driver.write(status, &[0xff]);
    one.chain(&driver.ram, 0, &[(HEADER, 16, false), (data, 512, false), (status, 1, true)]);
    held.release_all();
    driver.kick_queue(0);
    assert_eq!(one.pop(&driver.ram), Some((0, 513)));
    assert_eq!(
        (driver.bytes(place(0).0, 512), driver.bytes(place(0).1, 1)),
        (vec![6; 512], vec![0])
    );
    assert_eq!((driver.bytes(data, 512), driver.bytes(status, 1)), (vec![0; 512], vec![0xff]));
    assert!(image.bytes() == before);
}
