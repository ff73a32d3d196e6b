//! A thread that looks at a queue without doorbells: what it tells the driver (virtio 1.4, 2.7.10), and how it leaves.

use super::*;
use crate::virtio::device::PollResult;
use crate::virtio::spec::ring::USED_NO_NOTIFY;

const EVENT_IDX: u64 = feature::BLK_FLUSH | feature::RING_EVENT_IDX;
const SIZE: u16 = 8;

/// A live device, and a queue in which the chain at descriptor 0 is a flush.
fn polled(features: u64) -> (VirtioDriver, WatchedImage) {
    let leftover = Some(Arc::new(CountingLine::default()) as Arc<dyn crate::irq::Wake>);
    let options = MmioOptions { leftover, ..MmioOptions::default() };
    let (blk, image) = watched(8, &named(""));
    let driver = VirtioDriver::with(blk, options).live(features, SIZE.into());
    set_up_flush(&driver);
    (driver, image)
}

fn set_up_flush(driver: &VirtioDriver) {
    driver.header(HEADER, T_FLUSH, 0);
    driver.chain(0, &[(HEADER, 16, false), (STATUS_BYTE, 1, true)]);
}

fn no_notify(driver: &VirtioDriver) -> u16 {
    driver.ring.used_flags(&driver.ram) & USED_NO_NOTIFY
}

#[test]
fn requests_are_found_without_a_doorbell_and_the_driver_is_asked_for_none() {
    for features in [EVENT_IDX, feature::BLK_FLUSH] {
        let (mut driver, _) = polled(features);
        assert_eq!(driver.mmio.poll(0), PollResult::Idle);
        for _ in 0..3 {
            driver.offer(0);
            assert_eq!(driver.mmio.poll(0), PollResult::Worked);
            assert!(driver.pop().is_some());
            assert_eq!(driver.mmio.poll(0), PollResult::Idle);
        }
        if features == EVENT_IDX {
            // The driver rings when it passes this index: once in 65536 chains.
            assert_eq!((driver.ring.avail_event(&driver.ram), no_notify(&driver)), (0, 0));
        } else {
            assert_eq!(no_notify(&driver), USED_NO_NOTIFY);
        }
        driver.mmio.service_queue(0);
        assert_eq!(no_notify(&driver), 0);
        let armed = if features == EVENT_IDX { 3 } else { 0 };
        assert_eq!(driver.ring.avail_event(&driver.ram), armed);
        // With EVENT_IDX the driver asked for the first one alone.
        assert_eq!(driver.line.take(), if features == EVENT_IDX { 1 } else { 3 });
    }
}

#[test]
fn a_request_that_comes_while_doorbells_are_turned_on_is_found() {
    for features in [EVENT_IDX, feature::BLK_FLUSH] {
        let (mut driver, image) = polled(features);
        assert_eq!(driver.mmio.poll(0), PollResult::Idle);
        // The driver adds two more during the first, and rings for none.
        let (ram, avail) = (driver.ram.clone(), driver.ring.avail);
        image.before_each(move |_| ram.store_u16(avail + 2, 3).unwrap());
        driver.offer(0);
        driver.mmio.service_queue(0);
        assert_eq!(std::iter::from_fn(|| driver.pop()).count(), 3);
        assert_eq!(no_notify(&driver), 0);
    }
}

#[test]
fn a_queue_that_does_not_run_is_not_polled() {
    let (mut driver, image) = polled(feature::BLK_FLUSH);
    assert_eq!(driver.mmio.poll(1), PollResult::NotRunning);
    assert_eq!(driver.mmio.poll(0), PollResult::Idle);
    assert_eq!(no_notify(&driver), USED_NO_NOTIFY);
    // The next driver may not clear the flag, and would never ring.
    driver.set(reg::STATUS, 0);
    assert_eq!(no_notify(&driver), 0);
    driver.offer(0);
    image.log();
    assert_eq!(driver.mmio.poll(0), PollResult::NotRunning);
    assert!(image.log().is_empty());
    driver.restart(feature::BLK_FLUSH, SIZE.into());
    set_up_flush(&driver);
    driver.offer(0);
    driver.kick();
    assert!(driver.pop().is_some());
    // A broken queue.
    driver.ram.store_u16(driver.ring.avail + 2, 100).unwrap();
    assert_ne!(driver.mmio.poll(0), PollResult::NotRunning);
    assert!(driver.needs_reset());
    assert_eq!(driver.mmio.poll(0), PollResult::NotRunning);
}

#[test]
fn a_held_device_takes_nothing_and_goes_on_when_it_is_released() {
    let (mut driver, _) = polled(feature::BLK_FLUSH);
    assert_eq!(driver.mmio.poll(0), PollResult::Idle);
    driver.mmio.hold();
    driver.offer(0);
    assert_eq!(driver.mmio.poll(0), PollResult::Idle);
    driver.mmio.service_queue(0);
    assert!(driver.pop().is_none());
    driver.mmio.release();
    assert!(driver.pop().is_some());
    assert_eq!(no_notify(&driver), 0);
}
