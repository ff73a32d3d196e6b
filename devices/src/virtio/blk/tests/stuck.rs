//! A host that hangs: every wait gives up after a limit and reports it, and can be repeated.

use super::*;
use crate::block::GrowError;
use crate::bus::BusDevice;
use crate::stuck::Stuck;

/// A live device with a read in flight that the host does not finish.
fn hanging() -> (VirtioDriver, WatchedImage, Held) {
    let (blk, image, held) = holding(8, &named(""));
    let features = feature::BLK_FLUSH | feature::RING_RESET | feature::BLK_CONFIG_WCE;
    let mut driver = VirtioDriver::new(blk).live(features, 8);
    held.hang();
    assert_eq!(driver.request(T_IN, 3, 512), None);
    (driver, image, held)
}

#[test]
fn a_reset_is_done_only_when_nothing_is_in_flight_any_more() {
    let (mut driver, _, held) = hanging();
    driver.set(reg::STATUS, 0);
    assert_ne!(driver.get(reg::STATUS), 0, "the reset is not done");
    assert!(driver.needs_reset());
    let said = driver.complaints.last().unwrap();
    assert!(said.contains("in memory: the host has not finished 1 requests of queue 0"), "{said}");
    // The device is unusable until then, and late completions are dropped.
    driver.kick();
    held.release_all();
    driver.mmio.service_queue(0);
    assert_eq!((driver.pop(), driver.status_byte(), driver.line.take()), (None, 0xff, 0));
    driver.set(reg::STATUS, 0);
    assert_eq!(driver.get(reg::STATUS), 0);
    driver.restart(feature::BLK_FLUSH, 8);
    driver.request(T_IN, 0, 512);
    held.release_all();
    driver.kick();
    assert_eq!((driver.pop(), driver.status_byte()), (Some((0, 513)), S_OK));
}

#[test]
fn a_queue_is_in_use_until_its_last_request_is_finished() {
    for register in [reg::QUEUE_RESET, reg::QUEUE_READY] {
        let (mut driver, _, held) = hanging();
        driver.set(register, u32::from(register == reg::QUEUE_RESET));
        assert_eq!(driver.get(reg::QUEUE_READY), 1);
        assert!(driver.complaints.last().unwrap().contains("queue 0 is not stopped"));
        held.release_all();
        driver.set(register, u32::from(register == reg::QUEUE_RESET));
        assert_eq!((driver.get(reg::QUEUE_READY), driver.pop()), (0, None));
    }
}

#[test]
fn a_pause_and_a_resize_name_the_disk_that_keeps_them_and_lose_no_request() {
    let (mut driver, image, held) = hanging();
    driver.mmio.hold();
    let Stuck { name: disk, requests, .. } = driver.mmio.quiesce().unwrap_err();
    assert_eq!((disk.as_str(), requests.as_str()), ("in memory", "1 requests of queue 0"));
    assert!(matches!(driver.resize(1 << 20), Err(GrowError::Busy(_))));
    assert_eq!(image.bytes().len(), 8 * 512);
    held.release_all();
    driver.mmio.quiesce().unwrap();
    assert_eq!((driver.pop(), driver.status_byte()), (Some((0, 513)), S_OK));
    // The held device takes no new requests until it is released.
    assert_eq!((driver.request(T_IN, 1, 512), held.waiting()), (None, 0));
    driver.mmio.release();
    assert_eq!(held.waiting(), 1);
    held.release_all();
    driver.resize(1 << 20).unwrap();
    assert_eq!(driver.pop(), Some((0, 513)));
}

#[test]
fn a_cache_that_cannot_be_switched_off_is_never_trusted_again() {
    let (mut driver, _, held) = hanging();
    driver.mmio.write(0x120, &[0]);
    assert!(driver.complaints.last().unwrap().contains("a flush failed"));
    held.release_all();
    driver.kick();
    assert_eq!(driver.pop(), Some((0, 513)));
    // Requests in flight may be answered without being durable, so no later flush may succeed.
    assert_eq!(driver.request(T_OUT, 0, 512), used(1, S_IOERR));
}
