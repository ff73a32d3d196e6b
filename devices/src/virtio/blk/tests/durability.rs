//! When are writes durable? (virtio 1.4, 5.2.6.2; CONFIG_WCE, 5.2.5)

use super::*;
use crate::bus::BusDevice;
use blk::{T_DISCARD, T_WRITE_ZEROES};

const WRITEBACK: u64 = 0x120;

fn switch(driver: &mut VirtioDriver, writeback: u8) {
    driver.mmio.write(WRITEBACK, &[writeback]);
}

fn writeback(driver: &mut VirtioDriver) -> u8 {
    let mut value = [0xee];
    driver.mmio.read(WRITEBACK, &mut value);
    value[0]
}

/// A write of sector 1 and a write-zeroes of sector 2.
fn write_and_zero(driver: &mut VirtioDriver) {
    driver.write(DATA, &[0xaa; 512]);
    assert_eq!(driver.request(T_OUT, 1, 512), used(1, S_OK));
    driver.header(HEADER, T_WRITE_ZEROES, 0);
    driver.write(DATA, &[2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let parts = [(HEADER, 16, false), (DATA, 16, false), (STATUS_BYTE, 1, true)];
    assert_eq!(driver.submit(&parts), used(1, S_OK));
}

const LAZY: [&str; 2] = ["write 512 at 512", "zero 512 at 1024"];
const SAFE: [&str; 2] = ["write through 512 at 512", "zero through 512 at 1024"];

#[test]
fn with_flush_a_write_is_safe_after_the_flush_and_without_it_at_once() {
    let (blk, image) = watched(8, &named(""));
    let mut driver = VirtioDriver::new(blk).live(feature::BLK_FLUSH, 8);
    let before = image.stable();
    write_and_zero(&mut driver);
    assert_eq!(image.log(), LAZY);
    assert_eq!(image.stable(), before);
    assert_eq!(driver.request(T_FLUSH, 0, 0), used(1, S_OK));
    assert_eq!(image.log(), ["flush"]);
    assert_eq!(image.stable(), image.bytes());
    // A driver that did not accept FLUSH has no other way to make a write durable.
    driver.restart(0, 8);
    write_and_zero(&mut driver);
    assert_eq!(image.log(), SAFE);
    assert_eq!(image.stable(), image.bytes());
}

#[test]
fn the_driver_switches_the_cache_while_the_device_is_live() {
    let (blk, image) = watched(8, &named(""));
    let features = feature::BLK_FLUSH | feature::BLK_CONFIG_WCE;
    let mut driver = VirtioDriver::new(blk).live(features, 8);
    assert_eq!(writeback(&mut driver), 1);
    write_and_zero(&mut driver);
    assert_eq!(image.log(), LAZY);
    // Writes that were answered before become durable, too.
    switch(&mut driver, 0);
    assert_eq!((writeback(&mut driver), image.log()), (0, vec!["flush".to_owned()]));
    assert_eq!(image.stable(), image.bytes());
    write_and_zero(&mut driver);
    assert_eq!(image.log(), SAFE);
    switch(&mut driver, 0);
    switch(&mut driver, 1);
    write_and_zero(&mut driver);
    assert_eq!((writeback(&mut driver), &image.log()[..]), (1, &LAZY.map(str::to_owned)[..]));
    // With another value nothing changes.
    for value in [2, 0xff] {
        switch(&mut driver, value);
        assert_eq!(writeback(&mut driver), 1);
    }
}

#[test]
fn a_reset_brings_back_the_owners_choice() {
    for (owner, other) in [(true, 0), (false, 1)] {
        let (blk, image) = watched(8, &BlkOptions { writeback: owner, ..named("") });
        let mut driver = VirtioDriver::new(blk).live(feature::BLK_FLUSH, 8);
        let expected = if owner { LAZY } else { SAFE };
        assert_eq!(writeback(&mut driver), u8::from(owner));
        write_and_zero(&mut driver);
        assert_eq!(image.log(), expected);
        switch(&mut driver, other);
        driver.restart(feature::BLK_FLUSH, 8);
        assert_eq!(writeback(&mut driver), u8::from(owner));
        image.log();
        write_and_zero(&mut driver);
        assert_eq!(image.log(), expected);
    }
}

#[test]
fn no_cache_asked_for_is_no_cache_even_where_the_driver_never_flushes() {
    // WCE on, but FLUSH not taken: the switch gives the driver no way to flush.
    let (blk, image) = watched(8, &named(""));
    let mut driver = VirtioDriver::new(blk).live(feature::BLK_CONFIG_WCE, 8);
    // 5.2.5.2: the field begins with 0 then.
    assert_eq!(writeback(&mut driver), 0);
    write_and_zero(&mut driver);
    assert_eq!(image.log(), SAFE);
    switch(&mut driver, 1);
    write_and_zero(&mut driver);
    assert_eq!(image.log(), SAFE);
}

#[test]
fn a_flush_is_answered_with_what_the_host_said_of_it() {
    let setup = Setup::new();
    let (driver, faults) = setup.faulty();
    let mut driver = driver.live(feature::BLK_FLUSH, 8);
    let complaints = driver.complaints.clone();
    faults.push(Fault::After(0, libc::EIO));
    assert_eq!(driver.request(T_FLUSH, 0, 0), used(1, S_IOERR));
    assert_eq!(complaints.count(rules::HOST), 1);
    // The switch flushes, too; no request waits for it, so a failure is logged.
    faults.push(Fault::After(0, libc::EIO));
    switch(&mut driver, 0);
    assert_eq!(complaints.count(rules::HOST), 2);
    assert!(complaints.last().unwrap().contains("a flush failed"));
}

#[test]
fn a_flush_after_a_failed_one_in_the_same_doorbell_fails_and_never_reaches_the_host() {
    let setup = Setup::new();
    let (driver, faults) = setup.faulty();
    let mut driver = driver.live(feature::BLK_FLUSH, 8);
    faults.push(Fault::After(0, libc::EIO));
    for n in 0..2_u16 {
        let header = DATA + 0x100 * u64::from(n);
        driver.header(header, T_FLUSH, 0);
        driver.chain(2 * n, &[(header, 16, false), (header + 16, 1, true)]);
        driver.offer(2 * n);
    }
    driver.kick();
    let status = |n: u64| driver.bytes(DATA + 0x100 * n + 16, 1)[0];
    assert_eq!((status(0), status(1)), (1, 1));
}

#[test]
fn a_discard_needs_no_flush() {
    let (blk, image) = watched(8, &named(""));
    let mut driver = VirtioDriver::new(blk).live(0, 8);
    driver.header(HEADER, T_DISCARD, 0);
    driver.write(DATA, &[2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let parts = [(HEADER, 16, false), (DATA, 16, false), (STATUS_BYTE, 1, true)];
    assert_eq!(driver.submit(&parts), used(1, S_OK));
    assert_eq!(image.log(), ["discard 512 at 1024"]);
}
