//! More than one queue, queues of any size, and the related registers.

use super::*;
use crate::bus::BusDevice;

fn config(driver: &mut VirtioDriver, offset: u64, width: usize) -> u64 {
    let mut data = vec![0xee; width];
    driver.mmio.read(reg::CONFIG + offset, &mut data);
    data.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Puts a read of one sector into a queue, at descriptors 0 to 2, with a header, data and a status byte that are
/// the queue's own.
fn offer_read(driver: &VirtioDriver, ring: &mut Ring, number: u64, sector: u64) -> (u64, u64) {
    let (header, data, status) =
        (HEADER + 16 * number, DATA + 0x1000 * number, STATUS_BYTE + number);
    driver.header(header, T_IN, sector);
    driver.write(status, &[0xff]);
    ring.chain(&driver.ram, 0, &[(header, 16, false), (data, 512, true), (status, 1, true)]);
    ring.offer(&driver.ram, 0);
    (data, status)
}

#[test]
fn each_queue_has_its_own_doorbell_and_its_own_rings() {
    let (blk, _) = watched(8, &BlkOptions { queues: 3, ..named("") });
    let mut driver = VirtioDriver::new(blk);
    assert_ne!(driver.offered() & feature::BLK_MQ, 0);
    assert_eq!(config(&mut driver, 34, 2), 3);
    assert!(driver.negotiate(feature::VERSION_1 | feature::BLK_MQ));
    let mut rings =
        [(8, 0x4_0000), (64, 0x5_0000), (2, 0x6_0000)].map(|(n, at)| Ring::contiguous(n, at, 4));
    for (index, ring) in (0..).zip(&mut rings) {
        if index != 2 {
            assert!(driver.set_up_ring(index, ring));
        }
    }
    driver.go_live();
    let [one, two, _] = &mut rings;
    let (data_one, status_one) = offer_read(&driver, one, 1, 4);
    let (data_two, status_two) = offer_read(&driver, two, 2, 6);
    driver.kick_queue(1);
    assert_eq!((one.pop(&driver.ram), two.pop(&driver.ram)), (None, Some((0, 513))));
    assert_eq!((driver.bytes(data_two, 512), driver.bytes(status_two, 1)), (vec![7; 512], vec![0]));
    assert_eq!(
        (driver.bytes(data_one, 512), driver.bytes(status_one, 1)),
        (vec![0; 512], vec![0xff])
    );
    assert_eq!(driver.line.take(), 1);
    driver.kick_queue(0);
    assert_eq!((one.pop(&driver.ram), two.pop(&driver.ram)), (Some((0, 513)), None));
    assert_eq!(driver.bytes(data_one, 512), [5; 512]);
    assert_eq!(driver.line.take(), 1);
    // The queue that was not set up is not served.
    driver.kick_queue(2);
    assert_eq!((driver.line.take(), driver.needs_reset()), (0, false));
}

#[test]
fn one_broken_queue_stops_the_device_and_all_its_queues() {
    let (blk, _) = watched(8, &BlkOptions { queues: 2, ..named("") });
    let mut driver = VirtioDriver::new(blk);
    assert!(driver.negotiate(feature::VERSION_1));
    let [mut one, mut two] = [0x4_0000, 0x5_0000].map(|at| Ring::contiguous(8, at, 4));
    assert!(driver.set_up_ring(0, &mut one) && driver.set_up_ring(1, &mut two));
    driver.go_live();
    one.offer(&driver.ram, 8);
    driver.kick_queue(0);
    assert!(driver.needs_reset());
    offer_read(&driver, &mut two, 1, 0);
    driver.kick_queue(1);
    assert_eq!(two.pop(&driver.ram), None);
}

#[test]
fn a_device_with_one_queue_does_not_offer_more() {
    let (blk, _) = watched(8, &named(""));
    let mut driver = VirtioDriver::new(blk);
    assert_eq!((driver.offered() & feature::BLK_MQ, config(&mut driver, 34, 2)), (0, 1));
    driver.set(reg::QUEUE_SEL, 1);
    assert_eq!(driver.get(reg::QUEUE_NUM_MAX), 0);
}

#[test]
fn queues_of_every_size_up_to_1024_serve_a_chain_as_long_as_they_are() {
    for size in (1..=10).map(|n| 1 << n) {
        let (blk, _) = watched(200, &BlkOptions { queue_size: 1024, ..named("") });
        let mut driver = VirtioDriver::new(blk).live(feature::BLK_FLUSH, size);
        assert_eq!(driver.get(reg::QUEUE_NUM_MAX), 1024);
        // 64 bytes a descriptor, each at a place of its own: whole sectors of them, the rest empty.
        let room = size - 2;
        let full = room / 8 * 8;
        let mut parts = vec![(HEADER, 16, false)];
        for n in 0..room {
            let len = if n < full { 64 } else { 0 };
            parts.push((DATA + u64::from(n) * 128, len, true));
        }
        parts.push((STATUS_BYTE, 1, true));
        driver.header(HEADER, T_IN, 1);
        assert_eq!(driver.submit(&parts), used(full * 64 + 1, S_OK), "{size}");
        for n in 0..full {
            let sector = (n / 8 + 2) as u8;
            let expected = [[sector; 64], [0; 64]].concat();
            assert_eq!(driver.bytes(DATA + u64::from(n) * 128, 128), expected, "{size} {n}");
        }
        driver.set(reg::STATUS, 0);
        assert!(driver.negotiate(feature::VERSION_1));
        assert!(!driver.set_up_queue(2048));
    }
}

#[test]
fn the_limits_that_features_tell_of_stand_in_the_configuration_space() {
    let told = [
        // (offset, width, with a queue of 256 and blocks of 512, with a queue of 16 and blocks of 4096)
        (feature::BLK_SIZE_MAX, 8, 4, 4 << 20, 4 << 20),
        (feature::BLK_SEG_MAX, 12, 4, 254, 14),
        (feature::BLK_BLK_SIZE, 20, 4, 512, 4096),
        (feature::BLK_TOPOLOGY, 24, 1, 3, 0),
        (feature::BLK_TOPOLOGY, 26, 2, 8, 1),
        (feature::BLK_CONFIG_WCE, 32, 1, 1, 1),
        (feature::BLK_DISCARD, 36, 4, 1 << 22, 1 << 22),
        (feature::BLK_DISCARD, 40, 4, 32, 32),
        (feature::BLK_DISCARD, 44, 4, 8, 8),
        (feature::BLK_WRITE_ZEROES, 48, 4, 1 << 16, 1 << 16),
        (feature::BLK_WRITE_ZEROES, 52, 4, 4, 4),
        (feature::BLK_WRITE_ZEROES, 56, 1, 1, 1),
    ];
    let small = BlkOptions { queue_size: 16, block_size: 4096, ..named("") };
    for (options, which) in [(named(""), 0), (small, 1)] {
        let (blk, _) = watched(8, &options);
        let mut driver = VirtioDriver::new(blk);
        for (feature, offset, width, a, b) in told {
            assert_ne!(driver.offered() & feature, 0, "{feature:#x}");
            let expected = if which == 0 { a } else { b };
            assert_eq!(config(&mut driver, offset, width), expected, "{offset} of {which}");
        }
        assert_eq!(config(&mut driver, 0, 8), 8);
    }
}

#[test]
fn a_request_of_seg_max_buffers_of_size_max_is_served_and_one_of_too_many_bytes_is_not() {
    // RAM has 1 MiB, so buffers overlap: only their lengths matter.
    let (blk, image) = watched(8, &BlkOptions { queue_size: 1024, ..named("") });
    image.hollow_out();
    let mut driver = VirtioDriver::new(blk).live(feature::BLK_FLUSH, 1024);
    driver.header(HEADER, T_OUT, 0);
    let whole = |n: usize, len: u32| {
        let mut parts = vec![(HEADER, 16, false)];
        parts.extend(vec![(0, len, false); n]);
        parts.push((STATUS_BYTE, 1, true));
        parts
    };
    // 128 MiB and more are refused before the disk gets them, independent of its size.
    let complaints = driver.complaints.clone();
    assert_eq!(driver.submit(&whole(129, 1 << 20)), used(1, S_IOERR));
    assert_eq!(complaints.count(rules::BLK_SIZE), 1);
    assert_eq!(driver.submit(&whole(128, 1 << 20)), used(1, S_IOERR));
    assert_eq!((complaints.count(rules::BLK_SIZE), complaints.count(rules::BLK_RANGE)), (1, 1));
    assert!(image.log().is_empty());
    assert_eq!(driver.submit(&whole(8, 512)), used(1, S_OK));
}

#[test]
fn options_out_of_their_range_make_no_device() {
    let refused = |options: BlkOptions| {
        let image = WatchedImage::new(&[0; 4096]);
        let disk = image.disk();
        Blk::new("v", &disk, &options, Tap::default()).map(drop)
    };
    for queues in [0, 17, u16::MAX] {
        let error = refused(BlkOptions { queues, ..named("") });
        assert_eq!(error, Err(BlkError::Queues { queues }));
    }
    for size in [0, 1, 2, 3, 1023, 2048, 0x8000] {
        let error = refused(BlkOptions { queue_size: size, ..named("") });
        assert_eq!(error, Err(BlkError::QueueSize { size }));
    }
    for size in [0, 1, 511, 1024, 8192] {
        let error = refused(BlkOptions { block_size: size, ..named("") });
        assert_eq!(error, Err(BlkError::BlockSize { size }));
    }
    for (queues, queue_size, block_size) in [(1, 4, 512), (16, 1024, 4096)] {
        assert_eq!(refused(BlkOptions { queues, queue_size, block_size, ..named("") }), Ok(()));
    }
}

#[test]
fn with_blocks_of_4096_the_rest_of_the_image_is_out_of_reach() {
    // 20 sectors: two blocks and a half.
    let (blk, image) = watched(20, &BlkOptions { block_size: 4096, ..named("") });
    let mut driver = VirtioDriver::new(blk).live(feature::BLK_BLK_SIZE, 8);
    assert_eq!(config(&mut driver, 0, 8), 16);
    assert_eq!(driver.request(T_IN, 15, 512), used(513, S_OK));
    for (sector, len) in [(16, 512), (19, 512), (15, 1024), (8, 8192)] {
        assert_eq!(driver.request(T_IN, sector, len), used(1, S_IOERR), "{sector} {len}");
        assert_eq!(driver.request(T_OUT, sector, len), used(1, S_IOERR), "{sector} {len}");
    }
    // A sector is still what requests count in.
    assert_eq!(driver.request(T_OUT, 1, 512), used(1, S_OK));
    assert_eq!(image.bytes()[10240 - 512..], [20; 512]);
    let image = WatchedImage::new(&[0; 4095]);
    let disk = image.disk();
    let options = BlkOptions { block_size: 4096, ..named("") };
    let error = Blk::new("v", &disk, &options, Tap::default()).map(drop).unwrap_err();
    assert!(matches!(error, BlkError::TooSmall { size: 4095, block_size: 4096, .. }), "{error}");
}

#[test]
fn a_ragged_end_is_said_once_and_a_whole_disk_says_nothing() {
    let lines = |sectors, block_size| {
        LogLines::of(|| {
            let (blk, _) = watched(sectors, &BlkOptions { block_size, ..named("") });
            let mut driver = VirtioDriver::new(blk).live(0, 8);
            for _ in 0..10 {
                driver.request(T_IN, 0, 512);
            }
        })
    };
    assert_eq!((lines(20, 4096), lines(20, 512), lines(16, 4096)), (1, 0, 0));
}
