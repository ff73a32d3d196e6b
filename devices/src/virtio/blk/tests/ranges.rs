//! Discard and write zeroes (virtio 1.4, 5.2.6): lists of ranges, carried out completely or not at all.

use std::os::unix::fs::MetadataExt;

use super::*;
use blk::{T_DISCARD, T_WRITE_ZEROES};

const BOTH: [u32; 2] = [T_DISCARD, T_WRITE_ZEROES];

/// The bytes of ranges of (sector, sectors, flags).
fn list(ranges: &[(u64, u32, u32)]) -> Vec<u8> {
    let bytes = |&(sector, sectors, flags): &(u64, u32, u32)| {
        let mut bytes = sector.to_le_bytes().to_vec();
        bytes.extend(sectors.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes
    };
    ranges.iter().flat_map(bytes).collect()
}

fn submit_bytes(driver: &mut VirtioDriver, kind: u32, bytes: &[u8]) -> Option<Used> {
    driver.header(HEADER, kind, 0);
    driver.write(DATA, bytes);
    let data = (DATA, bytes.len() as u32, false);
    driver.submit(&[(HEADER, 16, false), data, (STATUS_BYTE, 1, true)])
}

fn submit(driver: &mut VirtioDriver, kind: u32, ranges: &[(u64, u32, u32)]) -> Option<Used> {
    submit_bytes(driver, kind, &list(ranges))
}

#[test]
fn all_ranges_are_served_in_order() {
    for kind in BOTH {
        let (blk, image) = watched(40, &named(""));
        let mut driver = VirtioDriver::new(blk).live(feature::BLK_FLUSH, 8);
        let mut expected = image.bytes();
        assert_eq!(
            submit(&mut driver, kind, &[(3, 2, 0), (39, 1, 0), (0, 1, 0), (7, 0, 0)]),
            used(1, S_OK)
        );
        for sectors in [3..5, 39..40, 0..1] {
            expected[sectors.start * 512..sectors.end * 512].fill(0);
        }
        assert_eq!(image.bytes(), expected);
        let what = if kind == T_DISCARD { "discard" } else { "zero" };
        let log = ["1024 at 1536", "512 at 19968", "512 at 0", "0 at 3584"];
        assert_eq!(image.log(), log.map(|part| format!("{what} {part}")));
        // As many as the configuration space allows.
        let most: usize = if kind == T_DISCARD { 32 } else { 4 };
        let ranges: Vec<_> = (0..most as u64).map(|n| (n, 1, 0)).collect();
        assert_eq!(submit(&mut driver, kind, &ranges), used(1, S_OK));
        assert_eq!(image.bytes()[..most * 512], vec![0; most * 512]);
        assert_eq!(image.bytes()[most * 512..39 * 512], expected[most * 512..39 * 512]);
    }
}

#[test]
fn a_list_may_be_cut_anywhere() {
    let (blk, image) = watched(8, &named(""));
    let mut driver = VirtioDriver::new(blk).live(feature::BLK_FLUSH, 8);
    driver.header(HEADER, T_WRITE_ZEROES, 0);
    driver.write(HEADER + 16, &list(&[(1, 1, 0), (5, 2, 1)]));
    let parts = [
        (HEADER, 21, false),
        (HEADER + 21, 0, false),
        (HEADER + 21, 26, false),
        (HEADER + 47, 1, false),
        (STATUS_BYTE, 1, true),
    ];
    assert_eq!(driver.submit(&parts), used(1, S_OK));
    assert_eq!(image.log(), ["zero 512 at 512", "zero unmap 1024 at 2560"]);
}

#[test]
fn a_list_with_one_bad_range_touches_nothing() {
    let max = u64::MAX;
    for kind in BOTH {
        let limit = if kind == T_DISCARD { 1 << 22 } else { 1 << 16 };
        let bad = [
            // Past the end, over it, over 64 bits; one sector more than the limit, on whatever disk.
            ((8, 1, 0), S_IOERR),
            ((7, 2, 0), S_IOERR),
            ((max, 1, 0), S_IOERR),
            ((max - 1, 2, 0), S_IOERR),
            ((1 << 55, 1, 0), S_IOERR),
            ((9, 0, 0), S_IOERR),
            ((0, limit + 1, 0), S_IOERR),
            ((0, u32::MAX, 0), S_IOERR),
            // Flags without meaning there (5.2.6.2): UNSUPP.
            ((0, 1, 2), S_UNSUPP),
            ((0, 1, 1 << 31), S_UNSUPP),
            ((0, 1, if kind == T_DISCARD { 1 } else { 3 }), S_UNSUPP),
        ];
        for (range, status) in bad {
            for at in 0..3 {
                let (blk, image) = watched(8, &named(""));
                let mut driver = VirtioDriver::new(blk).live(feature::BLK_FLUSH, 8);
                let mut ranges = vec![(2, 1, 0), (4, 1, 0)];
                ranges.insert(at, range);
                assert_eq!(submit(&mut driver, kind, &ranges), used(1, status), "{kind} {range:?}");
                assert!(image.log().is_empty(), "{kind} {range:?}");
                assert!(!driver.needs_reset());
            }
        }
        // Data that is not a list of ranges.
        let (blk, image) = watched(8, &named(""));
        let mut driver = VirtioDriver::new(blk).live(feature::BLK_FLUSH, 8);
        for len in [0, 1, 15, 17, 31, 33 * 16, 0x1_0000] {
            assert_eq!(submit_bytes(&mut driver, kind, &vec![0; len]), used(1, S_IOERR), "{len}");
        }
        assert!(image.log().is_empty());
    }
}

#[test]
fn a_range_as_long_as_its_limit_is_judged_by_the_disk() {
    for (kind, limit) in [(T_DISCARD, 1 << 22), (T_WRITE_ZEROES, 1 << 16)] {
        let (blk, _) = watched(8, &named(""));
        let mut driver = VirtioDriver::new(blk).live(feature::BLK_FLUSH, 8);
        let complaints = driver.complaints.clone();
        assert_eq!(submit(&mut driver, kind, &[(0, limit, 0)]), used(1, S_IOERR));
        assert_eq!(
            (complaints.count(rules::BLK_RANGE), complaints.count(rules::BLK_RANGES)),
            (1, 0)
        );
        assert_eq!(submit(&mut driver, kind, &[(0, limit + 1, 0)]), used(1, S_IOERR));
        assert_eq!(
            (complaints.count(rules::BLK_RANGE), complaints.count(rules::BLK_RANGES)),
            (1, 1)
        );
    }
}

#[test]
fn a_read_only_disk_offers_neither_and_is_not_changed() {
    let setup = Setup::new();
    let mut driver = setup.driver(Access::ReadOnly);
    let both = feature::BLK_DISCARD | feature::BLK_WRITE_ZEROES;
    assert_eq!(driver.offered() & both, 0);
    assert_eq!(setup.driver(Access::ReadOnly).offered() & feature::BLK_RO, feature::BLK_RO);
    driver.restart(feature::BLK_RO, 8);
    for kind in BOTH {
        for range in [(0, 1, 0), (0, 0, 0)] {
            assert_eq!(submit(&mut driver, kind, &[range]), used(1, S_IOERR));
        }
    }
    assert_eq!(setup.bytes(), Setup::contents());
}

#[test]
fn one_failed_range_fails_the_request_and_it_is_answered_once() {
    let setup = Setup::new();
    for failing in 0..3 {
        let (driver, faults) = setup.faulty();
        let mut driver = driver.live(feature::BLK_FLUSH, 8);
        for n in 0..3 {
            faults.push(if n == failing { Fault::After(0, libc::EIO) } else { Fault::None });
        }
        let ranges = [(0, 1, 0), (1, 1, 0), (2, 1, 0)];
        assert_eq!(submit(&mut driver, T_WRITE_ZEROES, &ranges), used(1, S_IOERR), "{failing}");
        assert_eq!(driver.pop(), None);
    }
}

/// An image of 1 MiB of ones, and how many bytes of the host's storage it takes.
fn full() -> (Setup, impl Fn() -> u64) {
    let setup = Setup::new();
    fs::write(&setup.path, vec![0xff; 1 << 20]).unwrap();
    fs::File::open(&setup.path).unwrap().sync_all().unwrap();
    let path = setup.path.clone();
    (setup, move || fs::metadata(&path).unwrap().blocks() * 512)
}

#[test]
fn what_is_discarded_takes_no_room_on_the_host_any_more() {
    let (setup, room) = full();
    let mut driver = setup.driver(Access::ReadWrite).live(feature::BLK_FLUSH, 8);
    let before = room();
    assert_eq!(submit(&mut driver, T_DISCARD, &[(0, 512, 0), (1024, 256, 0)]), used(1, S_OK));
    assert!(room() <= before - (384 << 10), "{} of {before}", room());
    let bytes = setup.bytes();
    assert_eq!(bytes.len(), 1 << 20);
    assert!(bytes[256 << 10..512 << 10].iter().all(|b| *b == 0xff));
    assert_eq!(driver.request(T_IN, 0, 512), used(513, S_OK));
    assert_eq!(driver.bytes(DATA, 512), [0; 512]);
}

#[test]
fn write_zeroes_frees_room_only_with_unmap_and_makes_zeros_either_way() {
    for unmap in [0, 1] {
        let (setup, room) = full();
        let mut driver = setup.driver(Access::ReadWrite).live(feature::BLK_FLUSH, 8);
        let before = room();
        // With ends in the middle of the host's blocks.
        assert_eq!(submit(&mut driver, T_WRITE_ZEROES, &[(1, 1023, unmap)]), used(1, S_OK));
        let freed = before - room();
        assert!(if unmap == 1 { freed >= 500 << 10 } else { freed == 0 }, "{unmap}: {freed}");
        let bytes = setup.bytes();
        assert!(bytes[..512].iter().chain(&bytes[512 << 10..]).all(|b| *b == 0xff));
        assert!(bytes[512..512 << 10].iter().all(|b| *b == 0));
        assert_eq!(bytes.len(), 1 << 20);
    }
}
