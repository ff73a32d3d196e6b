//! The legacy transport (virtio 1.4, 4.2.4): version 1 of the registers, and queues laid out by page (2.7.2).

use super::*;
use crate::testing::virtio_driver::{DATA, HEADER, STATUS_BYTE};
use crate::testing::{Ring, WatchedImage};
use crate::virtio::blk::{self, Blk};
use crate::virtio::spec::blk::{T_IN, T_OUT};

fn options() -> MmioOptions {
    MmioOptions { version: Version::Legacy, ..MmioOptions::default() }
}

fn legacy_probe() -> (VirtioDriver, Log) {
    let (log, reporter) = (Log::default(), Reporter::new("probe", Tap::default()));
    let device = Probe { reporter, log: log.clone(), live: Mutex::default() };
    (VirtioDriver::with(device, options()), log)
}

/// A disk of 8 sectors, each filled with its number plus 1.
fn disk() -> (VirtioDriver, WatchedImage) {
    let bytes: Vec<_> = (0..8).flat_map(|n| [n + 1; 512]).collect();
    let image = WatchedImage::new(&bytes);
    let disk = image.disk();
    let blk = Blk::new("virtio0", &disk, &blk::BlkOptions::default(), Tap::default()).unwrap();
    (VirtioDriver::with(blk, options()), image)
}

/// Puts a request of one sector into a ring, and rings; whether it was answered well.
pub(super) fn request(driver: &mut VirtioDriver, ring: &mut Ring, kind: u32, sector: u64) -> bool {
    driver.header(HEADER, kind, sector);
    driver.write(STATUS_BYTE, &[0xff]);
    let data = (DATA, 512, kind == T_IN);
    ring.chain(&driver.ram, 0, &[(HEADER, 16, false), data, (STATUS_BYTE, 1, true)]);
    ring.offer(&driver.ram, 0);
    driver.kick();
    let len = if kind == T_IN { 513 } else { 1 };
    ring.pop(&driver.ram) == Some((0, len)) && driver.status_byte() == 0
}

#[test]
fn a_fresh_legacy_device_reads_as_the_specification_says() {
    let (mut d, _) = legacy_probe();
    let expected = [
        (reg::MAGIC_VALUE, 0x7472_6976),
        (reg::VERSION, 1),
        (reg::DEVICE_ID, 2),
        (reg::VENDOR_ID, 0x554d_4551),
        (reg::DEVICE_FEATURES, 1 << 9 | 1 << 24),
        (reg::QUEUE_NUM_MAX, 256),
    ];
    for offset in (0..0x100).step_by(4) {
        let value = expected.iter().find(|(at, _)| *at == offset).map_or(0, |(_, v)| *v);
        assert_eq!(d.get(offset), value, "{offset:#x}");
    }
    // 32 features, and no more.
    assert_eq!(d.offered(), feature::BLK_FLUSH | 1 << 24);
}

#[test]
fn the_modern_registers_are_not_there() {
    let (mut d, log) = legacy_probe();
    let complaints = d.complaints.clone();
    let modern = [
        reg::QUEUE_READY,
        reg::QUEUE_DESC,
        reg::QUEUE_DESC + 4,
        reg::QUEUE_DRIVER,
        reg::QUEUE_DRIVER + 4,
        reg::QUEUE_DEVICE,
        reg::QUEUE_DEVICE + 4,
        0xac,
        0xb0,
        0xb4,
        0xb8,
        0xbc,
        reg::QUEUE_RESET,
        reg::CONFIG_GENERATION,
    ];
    for (n, register) in (1..).zip(modern) {
        d.set(register, 1);
        assert_eq!(d.get(register), 0, "{register:#x}");
        assert_eq!(complaints.count(rules::LEGACY), 2 * n);
    }
    assert_eq!(told(&log), [""; 0]);
}

#[test]
fn a_queue_lies_where_its_page_begins_with_the_used_ring_aligned() {
    // (page size, alignment, entries): the layouts of 2.7.2, from a byte to 64 KiB.
    for (page, align, size) in [
        (4096, 4096, 256),
        (4096, 4096, 8),
        (4096, 4, 8),
        (4096, 16384, 16),
        (4096, 65536, 4),
        (512, 512, 4),
        (16, 64, 128),
        (65536, 4096, 64),
    ] {
        let (mut d, _) = disk();
        let at = 0x4_0000;
        let mut ring = Ring::contiguous(size, at, align.into());
        d.negotiate_legacy(0, page);
        assert!(d.set_up_legacy(0, &mut ring, align, at as u32 / page), "{page} {align} {size}");
        d.set(reg::STATUS, 7);
        for sector in 0..5 {
            assert!(request(&mut d, &mut ring, T_IN, sector), "{page} {align} {size}");
            assert_eq!(d.bytes(DATA, 512), [sector as u8 + 1; 512]);
        }
        assert_eq!(d.get(reg::STATUS), 7);
    }
}

#[test]
fn what_is_no_page_or_no_alignment_is_refused_and_reads_0() {
    let refused = [
        // (page size, alignment, entries, page)
        (0, 4096, 8, 64),
        (4095, 4096, 8, 64),
        (4096, 3, 8, 64),
        (4096, 4096, 0, 64),
        (4096, 4096, 3, 64),
        (4096, 4096, 512, 64),
        (4096, 4096, 0x1_0008, 64),
        // At the end of RAM and behind it; over 32 bits, over 64 bits where the used ring is aligned.
        (4096, 4096, 8, 255),
        (4096, 4096, 8, 256),
        (4096, 4096, 8, u32::MAX),
        (1 << 31, 4096, 8, u32::MAX),
        (4096, 1 << 31, 8, 64),
        (1 << 31, 1 << 31, 8, u32::MAX),
        // A used ring of odd alignment, a table that is not aligned to 16 bytes.
        (4096, 1, 2, 64),
        (8, 4096, 8, 0x8001),
    ];
    for (page, align, size, pfn) in refused {
        let (mut d, log) = legacy_probe();
        let complaints = d.complaints.clone();
        d.negotiate_legacy(0, page);
        d.set(reg::QUEUE_NUM, size);
        d.set(reg::QUEUE_ALIGN, align);
        d.set(reg::QUEUE_PFN, pfn);
        let what = format!("{page} {align} {size} {pfn:#x}");
        assert_eq!(d.get(reg::QUEUE_PFN), 0, "{what}");
        assert_eq!(complaints.count(rules::QUEUE_LAYOUT), 1, "{what}");
        d.set(reg::STATUS, 7);
        d.kick();
        assert_eq!(told(&log), ["reset"], "{what}");
    }
}

#[test]
fn the_page_size_and_alignment_must_come_first() {
    let (mut d, _) = legacy_probe();
    d.set(reg::QUEUE_NUM, 8);
    d.set(reg::GUEST_PAGE_SIZE, 0);
    d.set(reg::QUEUE_PFN, 64);
    assert_eq!(d.get(reg::QUEUE_PFN), 0);
    d.set(reg::GUEST_PAGE_SIZE, 4096);
    d.set(reg::QUEUE_ALIGN, 3);
    d.set(reg::QUEUE_PFN, 64);
    assert_eq!(d.get(reg::QUEUE_PFN), 0);
    d.set(reg::QUEUE_ALIGN, 4096);
    d.set(reg::QUEUE_PFN, 64);
    assert_eq!(d.get(reg::QUEUE_PFN), 64);
    // Each queue has its own page, and a reset forgets them.
    d.set(reg::QUEUE_SEL, 1);
    assert_eq!(d.get(reg::QUEUE_PFN), 0);
    d.set(reg::STATUS, 0);
    assert_eq!(d.get(reg::QUEUE_PFN), 0);
    d.set(reg::QUEUE_NUM, 8);
    d.set(reg::QUEUE_ALIGN, 4096);
    d.set(reg::QUEUE_PFN, 64);
    assert_eq!(d.get(reg::QUEUE_PFN), 64);
    assert_eq!(d.complaints.count(rules::GUEST_PAGE_SIZE), 1, "the page size outlived the reset");
}

#[test]
fn page_0_stops_a_queue_that_can_then_be_set_up_elsewhere() {
    let (mut d, image) = disk();
    let mut ring = Ring::contiguous(8, 0x4_0000, 4096);
    d.negotiate_legacy(0, 4096);
    assert!(d.set_up_legacy(0, &mut ring, 4096, 0x40));
    d.set(reg::STATUS, 7);
    assert!(request(&mut d, &mut ring, T_OUT, 1));
    d.set(reg::QUEUE_PFN, 0);
    assert_eq!(d.get(reg::QUEUE_PFN), 0);
    image.log();
    assert!(!request(&mut d, &mut ring, T_OUT, 2));
    assert!(image.log().is_empty());
    let mut new = Ring::contiguous(16, 0x6_0000, 4096);
    assert!(d.set_up_legacy(0, &mut new, 4096, 0x60));
    assert!(request(&mut d, &mut new, T_OUT, 3));
    assert!(!request(&mut d, &mut ring, T_OUT, 2));
}

#[test]
fn a_queue_that_is_given_up_is_cleared_register_by_register() {
    let (mut d, _) = disk();
    let mut ring = Ring::contiguous(8, 0x4_0000, 4096);
    d.negotiate_legacy(0, 4096);
    assert!(d.set_up_legacy(0, &mut ring, 4096, 0x40));
    d.set(reg::STATUS, 7);
    // As rCore's driver does it. Until QueuePFN is 0, the queue works as before.
    d.set(reg::QUEUE_NUM, 0);
    d.set(reg::QUEUE_ALIGN, 0);
    assert!(request(&mut d, &mut ring, T_IN, 1));
    d.set(reg::QUEUE_PFN, 0);
    assert_eq!((d.get(reg::QUEUE_PFN), d.complaints.last()), (0, None));
    assert!(!request(&mut d, &mut ring, T_IN, 1));
}

#[test]
fn a_queue_in_use_does_not_move() {
    let (mut d, _) = disk();
    let mut ring = Ring::contiguous(8, 0x4_0000, 4096);
    d.negotiate_legacy(0, 4096);
    assert!(d.set_up_legacy(0, &mut ring, 4096, 0x40));
    for live in [false, true] {
        if live {
            d.set(reg::STATUS, 7);
        }
        d.set(reg::GUEST_PAGE_SIZE, 512);
        d.set(reg::QUEUE_NUM, 4);
        d.set(reg::QUEUE_ALIGN, 4);
        d.set(reg::QUEUE_PFN, 0x60);
        assert_eq!(d.get(reg::QUEUE_PFN), 0x40);
    }
    assert!(request(&mut d, &mut ring, T_IN, 1));
}

#[test]
fn features_are_settled_without_features_ok_and_version_1_is_not_missed() {
    let (mut d, log) = legacy_probe();
    let complaints = d.complaints.clone();
    let mut ring = Ring::contiguous(8, 0x4_0000, 4096);
    d.negotiate_legacy(1 << 9, 4096);
    assert!(d.set_up_legacy(0, &mut ring, 4096, 0x40));
    d.set(reg::STATUS, 7);
    assert_eq!(told(&log), ["reset", "activate 0x200 [Some(8), None]"]);
    assert_eq!(complaints.last(), None);
    // What was not offered counts as not accepted.
    d.negotiate_legacy(1 << 9 | 1 << 29 | 1, 4096);
    assert!(d.set_up_legacy(0, &mut ring, 4096, 0x40));
    d.set(reg::STATUS, 7);
    assert_eq!(told(&log), ["reset", "activate 0x200 [Some(8), None]"]);
}

#[test]
fn a_strict_legacy_device_is_content_with_a_good_driver() {
    let bytes = WatchedImage::new(&[1; 512]);
    let disk = bytes.disk();
    let blk = Blk::new("virtio0", &disk, &blk::BlkOptions::default(), Tap::default()).unwrap();
    let options = MmioOptions { policy: Policy::Strict, ..options() };
    let mut d = VirtioDriver::with(blk, options);
    let mut ring = Ring::contiguous(8, 0x4_0000, 4096);
    d.negotiate_legacy(1 << 9, 4096);
    assert!(d.set_up_legacy(0, &mut ring, 4096, 0x40));
    d.set(reg::STATUS, 7);
    assert!(request(&mut d, &mut ring, T_IN, 0));
    assert_eq!(d.complaints.last(), None);
    // And not with one that takes the modern way.
    d.set(reg::QUEUE_READY, 1);
    assert!(d.needs_reset());
}
