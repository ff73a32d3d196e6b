//! Resize of a live disk, with a notification of the driver (virtio 1.4, 4.2.2.1, 5.2.6).

use super::*;
use crate::block::GrowError;
use crate::bus::BusDevice;
use crate::testing::virtio_driver::reg::{CONFIG, CONFIG_GENERATION};

fn capacity(driver: &mut VirtioDriver) -> u64 {
    let mut data = [0; 8];
    driver.mmio.read(CONFIG, &mut data);
    u64::from_le_bytes(data)
}

#[test]
fn a_driver_is_told_of_new_sectors_and_can_use_them() {
    let setup = Setup::new();
    let mut driver = live(&setup);
    let generation = driver.get(CONFIG_GENERATION);
    assert_eq!(driver.request(T_IN, 8, 512), used(1, S_IOERR));
    driver.take_interrupts();
    driver.line.take();
    driver.resize(10 * 512).unwrap();
    assert_eq!(capacity(&mut driver), 10);
    assert_ne!(driver.get(CONFIG_GENERATION), generation);
    assert_eq!((driver.take_interrupts(), driver.line.take()), (mmio::INTERRUPT_CONFIG, 1));
    driver.write(DATA, &[0xab; 1024]);
    assert_eq!(driver.request(T_IN, 8, 1024), used(1025, S_OK));
    // The bytes after the last whole sector are the start of a sector now; zeros follow.
    assert_eq!(driver.bytes(DATA, 1024), [&[0xee; 100][..], &[0; 924]].concat());
    assert_eq!(driver.request(T_OUT, 9, 512), used(1, S_OK));
    assert_eq!(driver.request(T_IN, 10, 512), used(1, S_IOERR));
    assert_eq!(setup.bytes().len(), 10 * 512);
    // A second time; and a reset keeps what is.
    driver.resize(11 * 512 + 1).unwrap();
    let generation = driver.get(CONFIG_GENERATION);
    driver.restart(feature::BLK_FLUSH, 8);
    assert_eq!((capacity(&mut driver), driver.get(CONFIG_GENERATION)), (11, generation));
}

#[test]
fn a_driver_that_is_not_live_is_not_interrupted() {
    let setup = Setup::new();
    let mut driver = setup.driver(Access::ReadWrite);
    let generation = driver.get(CONFIG_GENERATION);
    driver.resize(20 * 512).unwrap();
    assert!(driver.negotiate(feature::VERSION_1));
    driver.resize(21 * 512).unwrap();
    assert_eq!((driver.get(reg::INTERRUPT_STATUS), driver.line.take()), (0, 0));
    assert_eq!(driver.get(CONFIG_GENERATION), generation + 2);
    assert_eq!(capacity(&mut driver), 21);
}

#[test]
fn growth_of_less_than_a_block_is_no_news() {
    let (blk, _) = watched(8, &BlkOptions { block_size: 4096, ..named("") });
    let mut driver = VirtioDriver::new(blk).live(0, 8);
    let generation = driver.get(CONFIG_GENERATION);
    driver.resize(4096 + 4095).unwrap();
    assert_eq!((capacity(&mut driver), driver.get(CONFIG_GENERATION)), (8, generation));
    assert_eq!((driver.take_interrupts(), driver.line.take()), (0, 0));
    driver.resize(2 * 4096).unwrap();
    assert_eq!((capacity(&mut driver), driver.get(CONFIG_GENERATION)), (16, generation + 1));
    assert_eq!(driver.take_interrupts(), mmio::INTERRUPT_CONFIG);
}

#[test]
fn what_cannot_grow_stays_as_it_is_and_nobody_is_told() {
    let setup = Setup::new();
    let size = Setup::contents().len() as u64;
    let unchanged = |driver: &mut VirtioDriver| {
        assert_eq!((capacity(driver), driver.get(CONFIG_GENERATION)), (8, 0));
        assert_eq!((driver.take_interrupts(), driver.line.take()), (0, 0));
        assert_eq!(setup.bytes(), Setup::contents());
    };
    let mut driver = live(&setup);
    for smaller in [0, 512, size - 1, size] {
        let error = driver.resize(smaller).unwrap_err();
        assert!(matches!(error, GrowError::NotLarger { .. }), "{error}");
        unchanged(&mut driver);
    }
    drop(driver);
    let mut driver = setup.driver(Access::ReadOnly).live(feature::BLK_RO, 8);
    assert!(matches!(driver.resize(1 << 20), Err(GrowError::ReadOnly)));
    unchanged(&mut driver);
    drop(driver);
    let (driver, faults) = setup.faulty();
    let mut driver = driver.live(0, 8);
    faults.push(Fault::After(0, libc::ENOSPC));
    assert!(matches!(driver.resize(1 << 20), Err(GrowError::Host(_))));
    unchanged(&mut driver);
    assert_eq!(driver.request(T_IN, 8, 512), used(1, S_IOERR));
}
