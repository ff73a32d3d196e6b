//! EVENT_IDX (virtio 1.4, 2.7.7, 2.7.10): which notifications are sent, and when; and the limit of one doorbell.

use super::*;

const EVENT_IDX: u64 = feature::BLK_FLUSH | feature::RING_EVENT_IDX;

/// A live device with a helper, and a queue of `size` entries with room for as many reads of one sector.
fn with_helper(features: u64, size: u16) -> (VirtioDriver, CountingLine, WatchedImage) {
    let helper = CountingLine::default();
    let options =
        MmioOptions { leftover: Some(Arc::new(helper.clone())), ..MmioOptions::default() };
    let (blk, image) = watched(8, &named(""));
    let driver = VirtioDriver::with(blk, options).live(features, size.into());
    driver.header(HEADER, T_FLUSH, 0);
    for head in 0..size {
        // The header is shared, and the status byte the only one to be written: each is a chain of two, of which
        // the second is shared as well.
        driver.desc(head, HEADER, 16, 1, size - 1);
    }
    driver.desc(size - 1, STATUS_BYTE, 1, 2, 0);
    (driver, helper, image)
}

fn answered(driver: &mut VirtioDriver) -> usize {
    std::iter::from_fn(|| driver.pop()).count()
}

#[test]
fn event_idx_is_offered_only_where_somebody_goes_on_with_unfinished_work() {
    let (blk, _) = watched(8, &named(""));
    assert_eq!(VirtioDriver::new(blk).offered() & feature::RING_EVENT_IDX, 0);
    let (mut driver, ..) = with_helper(EVENT_IDX, 8);
    assert_ne!(driver.offered() & feature::RING_EVENT_IDX, 0);
}

#[test]
fn no_other_thread_is_woken_for_a_batch_as_large_as_the_queue() {
    for features in [EVENT_IDX, feature::BLK_FLUSH] {
        let (mut driver, helper, _) = with_helper(features, 8);
        for round in 1..4 {
            for _ in 0..8 {
                driver.offer(0);
            }
            driver.kick();
            assert_eq!((answered(&mut driver), helper.take()), (8, 0));
            let armed = if features == EVENT_IDX { 8 * round } else { 0 };
            assert_eq!(driver.ring.avail_event(&driver.ram), armed);
        }
    }
}

#[test]
fn a_doorbell_moves_a_bounded_number_of_bytes_and_the_rest_is_left_to_another_thread() {
    let (mut driver, helper, image) = with_helper(feature::BLK_FLUSH, 256);
    image.hollow_out();
    // 64 reads of 1 MiB each, into all of RAM: only the number of bytes matters.
    driver.header(HEADER, T_IN, 0);
    driver.chain(0, &[(HEADER, 16, false), (0, 1 << 20, true), (STATUS_BYTE, 1, true)]);
    driver.resize(64 << 20).unwrap();
    for _ in 0..64 {
        driver.offer(0);
    }
    driver.kick();
    let first = answered(&mut driver);
    assert_eq!((first, helper.take()), (16, 1));
    let mut all = first;
    while all < 64 {
        driver.mmio.service_unfinished();
        let now = answered(&mut driver);
        assert!((1..=16).contains(&now), "{now}");
        all += now;
    }
    assert_eq!(image.moved(), 64 << 20);
}

#[test]
fn an_interrupt_comes_with_the_chain_that_used_event_names_and_with_no_other() {
    let (mut driver, ..) = with_helper(EVENT_IDX, 8);
    driver.ring.set_used_event(&driver.ram, 2);
    // NO_INTERRUPT has no meaning here.
    driver.ring.set_flags(&driver.ram, 1);
    for (offered, interrupts) in [(1, 0), (1, 0), (1, 1), (2, 0)] {
        for _ in 0..offered {
            driver.offer(0);
        }
        driver.kick();
        assert_eq!(answered(&mut driver), offered);
        assert_eq!(driver.line.take(), interrupts);
    }
    // In the middle of a batch: one interrupt, for all of it.
    driver.ring.set_used_event(&driver.ram, 6);
    for _ in 0..4 {
        driver.offer(0);
    }
    driver.kick();
    assert_eq!((answered(&mut driver), driver.line.take()), (4, 1));
}

#[test]
fn avail_event_names_the_next_chain_after_each_doorbell() {
    let (mut driver, ..) = with_helper(EVENT_IDX, 8);
    let mut all = 0;
    for offered in [1, 3, 0, 2] {
        for _ in 0..offered {
            driver.offer(0);
        }
        all += offered;
        driver.kick();
        assert_eq!(driver.ring.avail_event(&driver.ram), all);
    }
    // Without the feature the device ignores the field.
    let (mut driver, ..) = with_helper(feature::BLK_FLUSH, 8);
    driver.offer(0);
    driver.kick();
    assert_eq!((answered(&mut driver), driver.ring.avail_event(&driver.ram)), (1, 0));
}

#[test]
fn a_doorbell_serves_a_queue_full_and_the_helper_sees_to_the_rest() {
    for features in [EVENT_IDX, feature::BLK_FLUSH] {
        let (mut driver, helper, image) = with_helper(features, 8);
        // A guest that adds a chain for each one that is served, 20 in all.
        let (ram, mut idx) = (driver.ram.clone(), 1);
        let avail = driver.ring.avail;
        image.before_each(move |_| {
            if idx < 20 {
                idx += 1;
                ram.store_u16(avail + 2, idx).unwrap();
            }
        });
        driver.offer(0);
        driver.kick();
        assert_eq!((answered(&mut driver), helper.take()), (8, 1));
        // No doorbell is requested before the device has reached the end.
        assert_eq!(driver.ring.avail_event(&driver.ram), 0);
        driver.mmio.service_unfinished();
        assert_eq!((answered(&mut driver), helper.take()), (8, 1));
        driver.mmio.service_unfinished();
        assert_eq!((answered(&mut driver), helper.take()), (4, 0));
        let armed = if features == EVENT_IDX { 20 } else { 0 };
        assert_eq!(driver.ring.avail_event(&driver.ram), armed);
        driver.mmio.service_unfinished();
        assert_eq!((answered(&mut driver), helper.take()), (0, 0));
    }
}

/// The guest makes a fifth chain available while the first four are served.
fn one_more(driver: &VirtioDriver, image: &WatchedImage) {
    let (ram, avail) = (driver.ram.clone(), driver.ring.avail);
    image.before_each(move |_| ram.store_u16(avail + 2, 5).unwrap());
}

#[test]
fn unfinished_work_is_forgotten_with_the_reset() {
    let (mut driver, helper, image) = with_helper(EVENT_IDX, 4);
    one_more(&driver, &image);
    for _ in 0..4 {
        driver.offer(0);
    }
    driver.kick();
    assert_eq!((answered(&mut driver), helper.take()), (4, 1));
    image.log();
    driver.restart(EVENT_IDX, 4);
    driver.mmio.service_unfinished();
    assert_eq!((answered(&mut driver), helper.take()), (0, 0));
    assert!(image.log().is_empty());
}

#[test]
fn unfinished_work_goes_with_its_queue_and_nobody_is_sent_to_look_for_it() {
    let (mut driver, helper, image) = with_helper(EVENT_IDX | feature::RING_RESET, 4);
    one_more(&driver, &image);
    for register in [reg::QUEUE_RESET, reg::QUEUE_READY] {
        driver.restart(EVENT_IDX | feature::RING_RESET, 4);
        driver.header(HEADER, T_FLUSH, 0);
        driver.desc(0, HEADER, 16, 1, 3);
        driver.desc(3, STATUS_BYTE, 1, 2, 0);
        for _ in 0..4 {
            driver.offer(0);
        }
        driver.kick();
        assert_eq!((answered(&mut driver), helper.take()), (4, 1));
        driver.set(register, u32::from(register == reg::QUEUE_RESET));
        driver.mmio.service_unfinished();
        assert_eq!(helper.take(), 0, "the helper goes round in circles");
    }
}
