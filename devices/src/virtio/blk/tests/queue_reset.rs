//! RING_RESET (virtio 1.4, 2.6.1): one queue is reset and set up again, without an effect on the others.

use super::*;

const RESETTABLE: u64 = feature::VERSION_1 | feature::RING_RESET | feature::BLK_FLUSH;

/// Two live queues of 8 entries.
fn two_queues(features: u64) -> (VirtioDriver, [Ring; 2], WatchedImage) {
    let (blk, image) = watched(8, &BlkOptions { queues: 2, ..named("") });
    let mut driver = VirtioDriver::new(blk);
    assert!(driver.negotiate(features));
    let mut rings = [0x4_0000, 0x5_0000].map(|at| Ring::contiguous(8, at, 4));
    for (index, ring) in (0..).zip(&mut rings) {
        assert!(driver.set_up_ring(index, ring));
    }
    driver.go_live();
    (driver, rings, image)
}

/// Offers a read of one sector at the descriptors 0 to 2 of a queue, and rings.
fn read(driver: &mut VirtioDriver, queue: u32, ring: &mut Ring, sector: u64) -> Option<(u32, u32)> {
    driver.header(HEADER, T_IN, sector);
    driver.write(DATA, &[0; 512]);
    let parts = [(HEADER, 16, false), (DATA, 512, true), (STATUS_BYTE, 1, true)];
    ring.chain(&driver.ram, 0, &parts);
    ring.offer(&driver.ram, 0);
    driver.kick_queue(queue);
    let used = ring.pop(&driver.ram);
    assert_eq!(used.is_some(), driver.bytes(DATA, 512) == [sector as u8 + 1; 512]);
    used
}

#[test]
fn a_queue_is_reset_by_itself_and_begins_anew_elsewhere() {
    let (mut driver, [mut one, mut two], _) = two_queues(RESETTABLE);
    for sector in 0..3 {
        assert_eq!(read(&mut driver, 0, &mut one, sector), Some((0, 513)));
        assert_eq!(read(&mut driver, 1, &mut two, sector), Some((0, 513)));
    }
    driver.set(reg::QUEUE_SEL, 0);
    driver.set(reg::QUEUE_RESET, 1);
    // It is done when the write returns: neither under way, nor ready (4.2.2.2).
    assert_eq!((driver.get(reg::QUEUE_RESET), driver.get(reg::QUEUE_READY)), (0, 0));
    assert_eq!(read(&mut driver, 0, &mut one, 3), None);
    assert_eq!(read(&mut driver, 1, &mut two, 4), Some((0, 513)));
    // Another place, another size, the index from 0 again.
    let mut new = Ring::contiguous(4, 0x6_0000, 4);
    assert!(driver.set_up_ring(0, &mut new));
    for sector in 0..6 {
        assert_eq!(read(&mut driver, 0, &mut new, sector), Some((0, 513)));
        assert_eq!(read(&mut driver, 1, &mut two, sector), Some((0, 513)));
    }
    assert!(!driver.needs_reset());
}

#[test]
fn a_queue_in_use_is_not_set_up_again_without_a_reset_of_it() {
    let (mut driver, [mut one, _], _) = two_queues(RESETTABLE);
    let mut new = Ring::contiguous(4, 0x6_0000, 4);
    driver.set_up_ring(0, &mut new);
    assert_eq!(read(&mut driver, 0, &mut new, 1), None);
    assert_eq!(read(&mut driver, 0, &mut one, 1), Some((0, 513)));
}

#[test]
fn without_the_feature_the_register_does_nothing() {
    let (mut driver, [mut one, _], _) = two_queues(RESETTABLE & !feature::RING_RESET);
    let complaints = driver.complaints.clone();
    driver.set(reg::QUEUE_SEL, 0);
    driver.set(reg::QUEUE_RESET, 1);
    assert_eq!(complaints.count(rules::QUEUE_RESET), 1);
    assert_eq!((driver.get(reg::QUEUE_READY), driver.needs_reset()), (1, false));
    assert_eq!(read(&mut driver, 0, &mut one, 2), Some((0, 513)));
}

#[test]
fn a_value_other_than_1_and_a_queue_that_is_not_there_reset_nothing() {
    let (mut driver, [mut one, mut two], _) = two_queues(RESETTABLE);
    for (queue, value) in [(0, 0), (0, 2), (2, 1), (0x1_0000, 1), (u32::MAX, 1)] {
        driver.set(reg::QUEUE_SEL, queue);
        driver.set(reg::QUEUE_RESET, value);
        assert_eq!(read(&mut driver, 0, &mut one, 2), Some((0, 513)), "{queue} {value}");
        assert_eq!(read(&mut driver, 1, &mut two, 2), Some((0, 513)), "{queue} {value}");
    }
}

#[test]
fn a_queue_can_be_reset_before_it_was_ever_live_and_again_and_again() {
    let (blk, _) = watched(8, &named(""));
    let mut driver = VirtioDriver::new(blk);
    assert!(driver.negotiate(RESETTABLE));
    let mut ring = Ring::contiguous(8, 0x4_0000, 4);
    for _ in 0..3 {
        assert!(driver.set_up_ring(0, &mut ring));
        driver.set(reg::QUEUE_RESET, 1);
        assert_eq!(driver.get(reg::QUEUE_READY), 0);
        driver.set(reg::QUEUE_RESET, 1);
    }
    assert!(driver.set_up_ring(0, &mut ring));
    driver.go_live();
    for _ in 0..3 {
        assert_eq!(read(&mut driver, 0, &mut ring, 1), Some((0, 513)));
        driver.set(reg::QUEUE_RESET, 1);
        assert!(driver.set_up_ring(0, &mut ring));
    }
}
