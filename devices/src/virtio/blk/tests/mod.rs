//! virtio-blk from the driver's side: a driver for rings on one side, an image on the other.

mod durability;
mod events;
mod flood;
mod full;
mod in_flight;
mod indirect;
mod limits;
mod no_status;
mod notify_on_empty;
mod observed;
mod polling;
mod queue_reset;
mod queues;
mod ranges;
mod resize;
mod side_by_side;
mod stats;
mod stuck;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::block::{Access, Image, ImageStorage, Opening};
use crate::testing::virtio_driver::{DATA, HEADER, STATUS_BYTE, Used, VirtioDriver, reg};
use crate::testing::{
    CountingLine, Fault, FaultStorage, Faults, Held, HeldStorage, LogLines, Ring, WatchedImage,
};
use crate::virtio::mmio::MmioOptions;
use crate::virtio::rules;
use crate::virtio::spec::mmio;
use blk::{S_IOERR, S_OK, S_UNSUPP, T_FLUSH, T_GET_ID, T_IN, T_OUT};

const SECTORS: u64 = 8;

/// An image of 8 sectors, each filled with its number plus 1, and 100 more bytes of 0xee.
struct Setup {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn named(id: &str) -> BlkOptions {
    BlkOptions { id: id.into(), ..BlkOptions::default() }
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.img");
        fs::write(&path, Self::contents()).unwrap();
        Self { _dir: dir, path }
    }

    fn contents() -> Vec<u8> {
        let sectors = (0..SECTORS as u8).flat_map(|n| [n + 1; 512]);
        sectors.chain([0xee; 100]).collect()
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    fn driver(&self, access: Access) -> VirtioDriver {
        let disk = Disk::from_image(Image::open(&self.path, Opening::cached(access)).unwrap());
        VirtioDriver::new(Blk::new("virtio0", &disk, &named("the id"), Tap::default()).unwrap())
    }

    fn faulty(&self) -> (VirtioDriver, Faults) {
        let image = Image::open(&self.path, Opening::cached(Access::ReadWrite)).unwrap();
        let storage = FaultStorage::new(Box::new(ImageStorage::new(image)));
        let (faults, size) = (storage.faults(), Self::contents().len() as u64);
        let disk = Disk::new(Box::new(storage), "d.img".into(), size, false);
        (VirtioDriver::new(Blk::new("virtio0", &disk, &named(""), Tap::default()).unwrap()), faults)
    }
}

/// A device on an image in memory of so many sectors, each filled with its number plus 1.
fn watched(sectors: u8, options: &BlkOptions) -> (Blk, WatchedImage) {
    let bytes: Vec<_> = (0..sectors).flat_map(|n| [n + 1; 512]).collect();
    let image = WatchedImage::new(&bytes);
    (Blk::new("virtio0", &image.disk(), options, Tap::default()).unwrap(), image)
}

/// The same, where requests stay in flight until the test lets them go.
fn holding(sectors: u8, options: &BlkOptions) -> (Blk, WatchedImage, Held) {
    let bytes: Vec<_> = (0..sectors).flat_map(|n| [n + 1; 512]).collect();
    let image = WatchedImage::new(&bytes);
    let storage = HeldStorage::new(Box::new(image.clone()));
    let held = storage.held();
    let disk = Disk::new(Box::new(storage), "in memory".into(), bytes.len() as u64, false);
    (Blk::new("virtio0", &disk, options, Tap::default()).unwrap(), image, held)
}

fn live(setup: &Setup) -> VirtioDriver {
    setup.driver(Access::ReadWrite).live(feature::BLK_FLUSH, 8)
}

fn used(len: u32, status: u8) -> Option<Used> {
    Some(Used { head: 0, len, status })
}

#[test]
fn a_read_fills_the_buffers_and_a_write_stores_them() {
    let setup = Setup::new();
    let mut driver = live(&setup);
    assert_eq!(driver.request(T_IN, 2, 1024), used(1025, S_OK));
    assert_eq!(driver.bytes(DATA, 1025), [&[3; 512][..], &[4; 512], &[0]].concat());
    driver.write(DATA, &[0xaa; 512]);
    assert_eq!(driver.request(T_OUT, 7, 512), used(1, S_OK));
    assert_eq!(driver.request(T_FLUSH, 0, 0), used(1, S_OK));
    let mut expected = Setup::contents();
    expected[7 * 512..8 * 512].fill(0xaa);
    assert_eq!(setup.bytes(), expected);
}

#[test]
fn header_data_and_status_may_be_cut_anywhere() {
    let setup = Setup::new();
    let mut driver = live(&setup);
    driver.header(HEADER, T_IN, 1);
    // The header in three parts, an empty descriptor, the data in two, the status with the data's last byte.
    let status = STATUS_BYTE;
    let parts = [
        (HEADER, 3, false),
        (HEADER + 3, 12, false),
        (HEADER + 15, 1, false),
        (HEADER, 0, false),
        (DATA, 100, true),
        (DATA + 0x1000, 411, true),
        (status - 1, 2, true),
    ];
    assert_eq!(driver.submit(&parts), used(513, S_OK));
    assert_eq!(driver.bytes(DATA, 101), [&[2; 100][..], &[0]].concat());
    assert_eq!(driver.bytes(DATA + 0x1000, 412), [&[2; 411][..], &[0]].concat());
    assert_eq!(driver.bytes(status - 2, 4), [0, 2, 0, 0]);

    // A write whose header stands in front of its data, in one descriptor.
    driver.header(HEADER, T_OUT, 1);
    driver.write(HEADER + 16, &[0xbb; 512]);
    assert_eq!(driver.submit(&[(HEADER, 528, false), (status, 1, true)]), used(1, S_OK));
    assert_eq!(setup.bytes()[512..1024], [0xbb; 512]);
}

#[test]
fn the_id_is_padded_with_zeros_to_20_bytes_or_cut_to_the_buffer() {
    let setup = Setup::new();
    let mut driver = live(&setup);
    driver.write(DATA, &[0xff; 32]);
    assert_eq!(driver.request(T_GET_ID, 0, 20), used(21, S_OK));
    assert_eq!(driver.bytes(DATA, 21), [&b"the id"[..], &[0; 14], &[0xff]].concat());
    assert_eq!(driver.request(T_GET_ID, 0, 3), used(4, S_OK));
    assert_eq!(driver.request(T_GET_ID, 0, 100), used(21, S_OK));
}

#[test]
fn a_request_that_cannot_be_done_touches_nothing_and_says_so() {
    let setup = Setup::new();
    let mut driver = live(&setup);
    driver.write(DATA, &[0x77; 2048]);
    let max = u64::MAX;
    for (kind, sector, len, expected) in [
        // Past the end, at it, across it; the last bytes that are no whole sector are not accessible.
        (T_IN, 8, 512, S_IOERR),
        (T_OUT, 8, 512, S_IOERR),
        (T_IN, 7, 1024, S_IOERR),
        (T_OUT, 7, 1024, S_IOERR),
        (T_OUT, max, 512, S_IOERR),
        (T_OUT, 1 << 55, 512, S_IOERR),
        (T_OUT, (1 << 55) + 1, 512, S_IOERR),
        (T_IN, max, 512, S_IOERR),
        (T_IN, max, 0, S_IOERR),
        // Not whole sectors.
        (T_IN, 0, 511, S_IOERR),
        (T_OUT, 0, 513, S_IOERR),
        // Types that are not offered, and unknown types.
        (2, 0, 512, S_UNSUPP),
        (14, 0, 512, S_UNSUPP),
        (u32::MAX, 0, 512, S_UNSUPP),
    ] {
        assert_eq!(driver.request(kind, sector, len), used(1, expected), "{kind} {sector} {len}");
        assert_eq!(driver.bytes(DATA, 2048), [0x77; 2048]);
    }
    assert_eq!(setup.bytes(), Setup::contents());
    // The device works on.
    assert_eq!(driver.request(T_IN, 7, 512), used(513, S_OK));
    assert!(!driver.needs_reset());
}

#[test]
fn a_chain_with_a_flaw_is_answered_where_it_has_a_status_byte() {
    let setup = Setup::new();
    let mut driver = live(&setup);
    driver.header(HEADER, T_IN, 0);
    let (header, status) = ((HEADER, 16, false), (STATUS_BYTE, 1, true));
    let flawed: &[&[(u64, u32, bool)]] = &[
        &[(HEADER, 15, false), status],
        &[status],
        &[header, (0xcafe_0000, 512, true), status],
        &[header, (u64::MAX, 512, true), status],
        &[header, (0xf_ff00, 512, true), status],
        &[(0xf_fff8, 16, false), (DATA, 512, true), status],
        // The WRITE flag of the data was forgotten.
        &[header, (DATA, 512, false), status],
        &[header, status, (DATA, 512, false)],
    ];
    for parts in flawed {
        assert_eq!(driver.submit(parts), used(1, S_IOERR), "{parts:x?}");
    }
    // Or was set where it should not be.
    driver.header(HEADER, T_OUT, 0);
    assert_eq!(driver.submit(&[header, (DATA, 512, true), status]), used(1, S_IOERR));
    assert_eq!(setup.bytes(), Setup::contents());
    assert!(!driver.needs_reset());
}

#[test]
fn a_chain_that_cannot_be_answered_stops_the_device_until_a_reset() {
    let broken: [(&str, fn(&mut VirtioDriver)); 7] = [
        ("head outside the table", |d| d.offer(8)),
        ("a circle", |d| {
            d.desc(0, HEADER, 16, 1, 0);
            d.offer(0);
        }),
        ("next outside the table", |d| {
            d.desc(0, HEADER, 16, 1, 8);
            d.offer(0);
        }),
        ("no status byte", |d| {
            d.desc(0, HEADER, 16, 0, 0);
            d.offer(0);
        }),
        ("status byte not in RAM", |d| {
            d.chain(0, &[(HEADER, 16, false), (0xcafe_0000, 1, true)]);
            d.offer(0);
        }),
        ("an indirect table without the feature", |d| {
            d.desc(0, HEADER, 16, 4, 0);
            d.offer(0);
        }),
        ("index too far ahead", |d| {
            for _ in 0..9 {
                d.offer(0);
            }
        }),
    ];
    for (name, break_it) in broken {
        let setup = Setup::new();
        let mut driver = live(&setup);
        assert_eq!(driver.request(T_IN, 0, 512), used(513, S_OK));
        driver.set(reg::INTERRUPT_ACK, 3);
        driver.line.take();
        break_it(&mut driver);
        driver.kick();
        assert_eq!(driver.pop(), None, "{name}");
        assert!(driver.needs_reset(), "{name}");
        assert_eq!(driver.get(reg::INTERRUPT_STATUS), mmio::INTERRUPT_CONFIG, "{name}");
        assert_eq!(driver.line.take(), 1, "{name}");
        // No further requests are served, valid or not, until a reset.
        driver.kick();
        assert_eq!(driver.request(T_IN, 0, 512), None, "{name}");
        assert_eq!(driver.line.take(), 0, "{name}");
        driver.restart(feature::BLK_FLUSH, 8);
        assert!(!driver.needs_reset(), "{name}");
        assert_eq!(driver.request(T_IN, 1, 512), used(513, S_OK), "{name}");
        assert_eq!(setup.bytes(), Setup::contents());
    }
}

#[test]
fn what_came_before_the_broken_chain_is_answered() {
    let setup = Setup::new();
    let mut driver = live(&setup);
    driver.header(HEADER, T_IN, 0);
    driver.chain(2, &[(HEADER, 16, false), (DATA, 512, true), (STATUS_BYTE, 1, true)]);
    driver.offer(2);
    driver.offer(100);
    driver.offer(2);
    driver.kick();
    assert_eq!(driver.pop(), Some((2, 513)));
    assert_eq!(driver.pop(), None);
    assert!(driver.needs_reset());
    assert_eq!(driver.get(reg::INTERRUPT_STATUS), mmio::INTERRUPT_CONFIG | mmio::INTERRUPT_USED);
}

#[test]
fn a_batch_is_answered_in_order_with_one_interrupt() {
    let setup = Setup::new();
    let mut driver = live(&setup);
    driver.write(DATA, &[0x55; 512]);
    // A write and a read of one sector: the read sees what was written.
    for (n, (kind, data)) in (0u16..).zip([(T_OUT, DATA), (T_IN, DATA + 0x1000)]) {
        let header = HEADER + 16 * u64::from(n);
        driver.header(header, kind, 3);
        let status = STATUS_BYTE + u64::from(n);
        driver.chain(4 * n, &[(header, 16, false), (data, 512, kind == T_IN), (status, 1, true)]);
        driver.offer(4 * n);
    }
    driver.kick();
    assert_eq!((driver.pop(), driver.pop(), driver.pop()), (Some((0, 1)), Some((4, 513)), None));
    assert_eq!(driver.bytes(DATA + 0x1000, 512), [0x55; 512]);
    assert_eq!(driver.line.take(), 1);
    assert_eq!(driver.get(reg::INTERRUPT_STATUS), mmio::INTERRUPT_USED);
    driver.set(reg::INTERRUPT_ACK, mmio::INTERRUPT_USED);
    assert_eq!(driver.get(reg::INTERRUPT_STATUS), 0);
    // A doorbell with nothing new is no interrupt; nor is one where the driver wants none.
    driver.kick();
    assert_eq!(driver.line.take(), 0);
    driver.write(crate::testing::virtio_driver::AVAIL, &[1, 0]);
    assert_eq!(driver.request(T_IN, 0, 512), used(513, S_OK));
    assert_eq!((driver.line.take(), driver.get(reg::INTERRUPT_STATUS)), (0, 0));
}

#[test]
fn a_read_only_disk_says_so_reads_flushes_and_is_never_written() {
    let setup = Setup::new();
    let mut driver = setup.driver(Access::ReadOnly);
    assert_ne!(driver.offered() & feature::BLK_RO, 0);
    let mut driver = driver.live(feature::BLK_RO | feature::BLK_FLUSH, 8);
    assert_eq!(driver.request(T_OUT, 0, 512), used(1, S_IOERR));
    assert_eq!(driver.request(T_FLUSH, 0, 0), used(1, S_OK));
    assert_eq!(driver.request(T_IN, 0, 512), used(513, S_OK));
    assert_eq!(setup.bytes(), Setup::contents());
}

#[test]
fn host_errors_are_answered_with_what_was_truly_written() {
    let setup = Setup::new();
    let (driver, faults) = setup.faulty();
    let mut driver = driver.live(feature::BLK_FLUSH, 8);
    for (kind, len, fault, expected) in [
        (T_IN, 1024, Fault::After(0, libc::EIO), 1),
        (T_IN, 1024, Fault::After(600, libc::EIO), 601),
        (T_OUT, 1024, Fault::After(600, libc::ENOSPC), 1),
        (T_FLUSH, 0, Fault::After(0, libc::EIO), 1),
    ] {
        faults.push(fault);
        assert_eq!(driver.request(kind, 0, len), used(expected, S_IOERR), "{kind} {fault:?}");
        assert_eq!(driver.request(T_IN, 0, 512), used(513, S_OK));
    }
}

#[test]
fn what_a_log_says_names_the_rule_and_the_request() {
    let setup = Setup::new();
    let disk =
        Disk::from_image(Image::open(&setup.path, Opening::cached(Access::ReadWrite)).unwrap());
    let device = Blk::new("virtio3", &disk, &named(""), Tap::default()).unwrap();
    let complaints = device.reporter().log().clone();
    let mut driver = VirtioDriver::new(device).live(0, 8);
    driver.request(T_IN, 9, 512);
    assert_eq!(
        complaints.last().unwrap(),
        "virtio3: a read of 512 bytes at sector 9 reaches past the end of the disk, which has 8 sectors \
         [virtio 1.4, 5.2.6.1: sectors on the disk]"
    );
    for _ in 0..1_000 {
        driver.request(77, 0, 512);
    }
    assert_eq!(complaints.count(rules::BLK_TYPE), 1_000);
}

#[test]
fn what_cannot_be_a_device_is_refused() {
    let setup = Setup::new();
    let disk =
        || Disk::from_image(Image::open(&setup.path, Opening::cached(Access::ReadOnly)).unwrap());
    let error =
        Blk::new("v", &disk(), &named("123456789012345678901"), Tap::default()).unwrap_err();
    assert!(matches!(error, BlkError::IdTooLong { .. }));
    Blk::new("v", &disk(), &named("12345678901234567890"), Tap::default()).unwrap();
    fs::write(&setup.path, [0; 511]).unwrap();
    let error = Blk::new("v", &disk(), &named(""), Tap::default()).unwrap_err();
    assert!(matches!(error, BlkError::TooSmall { size: 511, .. }));
}
