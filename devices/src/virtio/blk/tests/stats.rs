//! What a disk counts: each request of the guest once, with its bytes, its error and its latency.

use super::*;
use crate::block::{DiskStats, ErrorKind, OperationKind};
use blk::{T_DISCARD, T_WRITE_ZEROES};

/// A timed disk whose requests fail as the test wants, and a driver for it.
fn counted() -> (VirtioDriver, Disk, Faults) {
    let image = WatchedImage::new(&[0; 64 * 512]);
    let storage = FaultStorage::new(Box::new(image));
    let faults = storage.faults();
    let disk = Disk::new(Box::new(storage), "in memory".into(), 64 * 512, false).timed();
    let blk = Blk::new("virtio0", &disk, &named(""), Tap::default()).unwrap();
    (VirtioDriver::new(blk).live(feature::BLK_FLUSH, 8), disk, faults)
}

/// Requests and bytes of each operation.
fn done(stats: &DiskStats) -> [(u64, u64); 5] {
    stats.operations.map(|operation| (operation.requests, operation.bytes))
}

fn ranges(driver: &mut VirtioDriver, kind: u32, ranges: &[(u64, u32)]) -> Option<Used> {
    let bytes = |&(sector, sectors): &(u64, u32)| {
        [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &[0; 4]].concat()
    };
    let list: Vec<_> = ranges.iter().flat_map(bytes).collect();
    driver.header(HEADER, kind, 0);
    driver.write(DATA, &list);
    driver.submit(&[(HEADER, 16, false), (DATA, list.len() as u32, false), (STATUS_BYTE, 1, true)])
}

#[test]
fn each_request_counts_once_whatever_the_host_makes_of_it() {
    let (mut driver, disk, faults) = counted();
    assert_eq!(disk.stats().operations.map(|operation| operation.requests), [0; 5]);
    for sector in 0..3 {
        driver.request(T_IN, sector, 1024);
    }
    driver.request(T_OUT, 0, 512);
    driver.request(T_FLUSH, 0, 0);
    assert_eq!(ranges(&mut driver, T_DISCARD, &[(0, 2), (8, 3)]), used(1, S_OK));
    assert_eq!(ranges(&mut driver, T_WRITE_ZEROES, &[(1, 1), (4, 1)]), used(1, S_OK));
    // These are no requests to the disk.
    driver.request(T_GET_ID, 0, 20);
    driver.request(77, 0, 512);
    let stats = disk.stats();
    assert_eq!(done(&stats), [(3, 3072), (1, 512), (1, 0), (1, 2560), (1, 1024)]);
    assert_eq!((stats.errors, stats.in_flight), ([0; 5], 0));
    for operation in &stats.operations {
        assert_eq!(operation.latency.unwrap().count(), operation.requests);
    }

    assert_eq!(driver.request(T_IN, 63, 1024), used(1, S_IOERR));
    faults.push(Fault::After(0, libc::EIO));
    assert_eq!(driver.request(T_OUT, 0, 512), used(1, S_IOERR));
    faults.push(Fault::After(0, libc::EIO));
    assert_eq!(driver.request(T_FLUSH, 0, 0), used(1, S_IOERR));
    // Lost, without a call of the host.
    assert_eq!(driver.request(T_FLUSH, 0, 0), used(1, S_IOERR));
    disk.stop_handle().stop();
    let stats = disk.stats();
    assert_eq!(done(&stats)[..3], [(4, 3072), (2, 512), (3, 0)]);
    let errors = |kind: ErrorKind| stats.errors[kind as usize];
    assert_eq!(ErrorKind::ALL.map(errors), [1, 0, 1, 2, 0]);
}

#[test]
fn without_timed_there_are_counts_and_no_latencies() {
    let setup = Setup::new();
    let disk =
        Disk::from_image(Image::open(&setup.path, Opening::cached(Access::ReadOnly)).unwrap());
    let blk = Blk::new("virtio0", &disk, &named(""), Tap::default()).unwrap();
    let mut driver = VirtioDriver::new(blk).live(feature::BLK_FLUSH, 8);
    driver.request(T_IN, 0, 512);
    assert_eq!(driver.request(T_OUT, 0, 512), used(1, S_IOERR));
    let stats = disk.stats();
    assert_eq!(done(&stats)[..2], [(1, 512), (1, 0)]);
    assert_eq!(stats.errors[ErrorKind::ReadOnly as usize], 1);
    assert!(stats.operations.iter().all(|operation| operation.latency.is_none()));
}

#[test]
fn a_request_in_flight_is_neither_finished_nor_forgotten() {
    let (blk, _image, held) = holding(8, &named(""));
    let disk = blk.disk().clone();
    let mut driver = VirtioDriver::new(blk).live(feature::BLK_FLUSH, 8);
    assert_eq!(driver.request(T_IN, 0, 512), None);
    let reads = |stats: &DiskStats| stats.operations[OperationKind::Read as usize].requests;
    assert_eq!((reads(&disk.stats()), disk.stats().in_flight), (0, 1));
    held.release_all();
    driver.kick();
    assert_eq!((reads(&disk.stats()), disk.stats().in_flight), (1, 0));
}
