//! Legacy drivers from tutorials, register by register: a lenient device serves those that violate rules, with a
//! warning; a strict one refuses them.

use super::legacy::request;
use super::*;
use crate::observe::Rule;
use crate::testing::{CountingLine, Ring, WatchedImage};
use crate::virtio::blk::{self, Blk};
use crate::virtio::spec::blk::{T_IN, T_OUT};

/// Where the queue lies, in bytes and in pages of 4096.
const PLACE: u32 = 0x4_0000;
const PAGE: u32 = 0x40;

/// A disk of 8 sectors, each filled with its number plus 1, as a machine has it: EVENT_IDX is offered.
fn disk(policy: Policy) -> (VirtioDriver, WatchedImage) {
    let bytes: Vec<_> = (0..8).flat_map(|n| [n + 1; 512]).collect();
    let image = WatchedImage::new(&bytes);
    let blk =
        Blk::new("virtio0", &image.disk(), &blk::BlkOptions::default(), Tap::default()).unwrap();
    let leftover: Option<Arc<dyn Wake>> = Some(Arc::new(CountingLine::default()));
    let options =
        MmioOptions { version: Version::Legacy, policy, leftover, ..MmioOptions::default() };
    (VirtioDriver::with(blk, options), image)
}

type Writes = &'static [(u64, u32)];

/// 1000-lines OS, before December 2025.
const THOUSAND_OLD: Writes = &[
    (reg::STATUS, 0),
    (reg::STATUS, 1),
    (reg::STATUS, 3),
    (reg::STATUS, 11),
    (reg::QUEUE_SEL, 0),
    (reg::QUEUE_NUM, 16),
    (reg::QUEUE_ALIGN, 0),
    (reg::QUEUE_PFN, PLACE),
    (reg::STATUS, 4),
];

/// 1000-lines OS, since December 2025.
const THOUSAND_NEW: Writes = &[
    (reg::STATUS, 0),
    (reg::STATUS, 1),
    (reg::STATUS, 3),
    (reg::GUEST_PAGE_SIZE, 4096),
    (reg::QUEUE_SEL, 0),
    (reg::QUEUE_NUM, 16),
    (reg::QUEUE_PFN, PAGE),
    (reg::STATUS, 4),
];

/// xv6-riscv, up to 2021. The features are those that it knows.
const XV6: Writes = &[
    (reg::STATUS, 1),
    (reg::STATUS, 3),
    (reg::DRIVER_FEATURES, 0x100_0200),
    (reg::STATUS, 11),
    (reg::STATUS, 15),
    (reg::GUEST_PAGE_SIZE, 4096),
    (reg::QUEUE_SEL, 0),
    (reg::QUEUE_NUM, 16),
    (reg::QUEUE_PFN, PAGE),
];

/// osblog, which accepts EVENT_IDX and NOTIFY_ON_EMPTY among others.
const OSBLOG: Writes = &[
    (reg::STATUS, 0),
    (reg::STATUS, 1),
    (reg::STATUS, 5),
    (reg::DRIVER_FEATURES, 0x3100_0200),
    (reg::STATUS, 13),
    (reg::QUEUE_NUM, 16),
    (reg::QUEUE_SEL, 0),
    (reg::GUEST_PAGE_SIZE, 4096),
    (reg::QUEUE_PFN, PAGE),
    (reg::STATUS, 13),
];

/// Each driver, with the rules that it breaks, each reported once.
const DRIVERS: [(&str, Writes, &[Rule]); 4] = [
    (
        "1000 lines, old",
        THOUSAND_OLD,
        &[rules::QUEUE_ALIGN, rules::GUEST_PAGE_SIZE, rules::STATUS_CLEARED],
    ),
    ("1000 lines, new", THOUSAND_NEW, &[rules::QUEUE_ALIGN, rules::STATUS_CLEARED]),
    ("xv6", XV6, &[rules::QUEUE_ALIGN, rules::NO_QUEUE]),
    ("osblog", OSBLOG, &[rules::QUEUE_ALIGN, rules::NO_QUEUE]),
];

fn play(d: &mut VirtioDriver, writes: Writes) {
    for (register, value) in writes {
        d.set(*register, *value);
    }
}

#[test]
fn drivers_that_tutorials_teach_are_served_and_told_what_they_bend() {
    for (name, writes, bent) in DRIVERS {
        let (mut d, image) = disk(Policy::Lenient);
        let mut ring = Ring::contiguous(16, PLACE.into(), 4096);
        play(&mut d, writes);
        assert_eq!(d.get(reg::QUEUE_PFN), writes.iter().find(|w| w.0 == reg::QUEUE_PFN).unwrap().1);
        for rule in bent {
            assert_eq!(d.complaints.count(rule), 1, "{name}: {rule}");
        }
        for round in 0..40 {
            let kind = if round % 2 == 0 { T_OUT } else { T_IN };
            assert!(request(&mut d, &mut ring, kind, round % 8), "{name} {round}");
            // One interrupt for one request, also where the driver does not acknowledge it.
            assert_eq!(d.line.take(), 1, "{name} {round}");
        }
        assert_eq!((d.needs_reset(), image.bytes()[512]), (false, 2), "{name}");
        // And again, from a reset on.
        d.set(reg::STATUS, 0);
        let mut ring = Ring::contiguous(16, PLACE.into(), 4096);
        ring.clear(&d.ram);
        play(&mut d, writes);
        assert!(request(&mut d, &mut ring, T_IN, 7), "{name}");
    }
}

#[test]
fn a_strict_device_takes_no_request_of_a_driver_that_bends_the_rules() {
    for (name, writes, bent) in DRIVERS {
        let (mut d, image) = disk(Policy::Strict);
        let mut ring = Ring::contiguous(16, PLACE.into(), 4096);
        play(&mut d, writes);
        assert!(d.needs_reset(), "{name}");
        assert!(bent.iter().any(|rule| d.complaints.count(rule) > 0), "{name}");
        assert_eq!(d.get(reg::QUEUE_PFN), 0, "{name}");
        image.log();
        assert!(!request(&mut d, &mut ring, T_OUT, 1), "{name}");
        assert_eq!(image.log(), [""; 0], "{name}");
    }
}

/// A legacy handshake without the steps in `skip`. Returns whether the queue was accepted.
fn without(d: &mut VirtioDriver, skip: u64, pfn: u32) -> bool {
    for (register, value) in [
        (reg::STATUS, 0),
        (reg::STATUS, 1),
        (reg::STATUS, 3),
        (reg::GUEST_PAGE_SIZE, 4096),
        (reg::QUEUE_NUM, 16),
        (reg::QUEUE_ALIGN, 4096),
        (reg::QUEUE_PFN, pfn),
    ] {
        if register != skip {
            d.set(register, value);
        }
    }
    d.get(reg::QUEUE_PFN) == pfn
}

#[test]
fn each_register_that_was_left_out_is_one_line_that_says_what_stands_for_it() {
    for (skip, pfn, rule, said) in [
        (
            reg::QUEUE_ALIGN,
            PAGE,
            rules::QUEUE_ALIGN,
            "QueuePFN was written for queue 0, but QueueAlign never was written; 4096 is used",
        ),
        (
            reg::GUEST_PAGE_SIZE,
            PLACE,
            rules::GUEST_PAGE_SIZE,
            "QueuePFN was written for queue 0, but GuestPageSize never was written; 0x40000 is used as an address in \
             bytes",
        ),
    ] {
        let (mut d, _) = disk(Policy::Lenient);
        assert!(without(&mut d, skip, pfn));
        assert_eq!(d.complaints.last().unwrap(), format!("virtio0: {said} [{rule}]"));
        d.go_live();
        let mut ring = Ring::contiguous(16, PLACE.into(), 4096);
        assert!(request(&mut d, &mut ring, T_IN, 3));
        assert_eq!(d.complaints.count(rule), 1);

        let (mut d, _) = disk(Policy::Strict);
        assert!(!without(&mut d, skip, pfn));
        assert_eq!(
            (d.get(reg::QUEUE_PFN), d.needs_reset(), d.complaints.count(rule)),
            (0, true, 1)
        );
    }
    // A QueueAlign of 0 has the same meaning as a missing one.
    let (mut d, _) = disk(Policy::Lenient);
    d.negotiate_legacy(0, 4096);
    let mut ring = Ring::contiguous(16, PLACE.into(), 4096);
    assert!(d.set_up_legacy(0, &mut ring, 0, PAGE));
    assert_eq!(
        d.complaints.last().unwrap(),
        format!(
            "virtio0: QueuePFN was written for queue 0, but QueueAlign is 0; 4096 is used [{}]",
            rules::QUEUE_ALIGN
        )
    );
    // A page size of 0 is neither, and an address in bytes must be aligned as any other.
    for (page, pfn) in [(Some(0), PAGE), (None, PLACE + 8), (None, u32::MAX)] {
        let (mut d, _) = disk(Policy::Lenient);
        if let Some(page) = page {
            d.set(reg::GUEST_PAGE_SIZE, page);
        }
        d.set(reg::QUEUE_NUM, 16);
        d.set(reg::QUEUE_ALIGN, 4096);
        d.set(reg::QUEUE_PFN, pfn);
        assert_eq!((d.get(reg::QUEUE_PFN), d.complaints.count(rules::QUEUE_LAYOUT)), (0, 1));
    }
}

#[test]
fn queues_that_come_after_driver_ok_are_served_each_once() {
    let (mut d, log) = {
        let (d, log, _) =
            probe_with(MmioOptions { version: Version::Legacy, ..MmioOptions::default() });
        (d, log)
    };
    d.negotiate_legacy(1 << 9, 4096);
    d.set(reg::STATUS, 7);
    assert_eq!((d.get(reg::STATUS), d.complaints.last()), (7, None));
    d.kick();
    assert_eq!(d.complaints.count(rules::NOTIFY), 1, "there is no queue to serve");
    assert_eq!(told(&log), ["reset"]);
    for (index, size, now) in [(1, 4, "activate 0x200 [None, Some(4)]"), (0, 8, "start 0 8")] {
        let mut ring = Ring::contiguous(size, 0x4_0000 + 0x4000 * u64::from(index), 4096);
        assert!(d.set_up_legacy(index, &mut ring, 4096, PAGE + 4 * index));
        assert_eq!(told(&log), [now]);
        assert_eq!(d.complaints.count(rules::NO_QUEUE), 2 - u64::from(index));
        d.kick_queue(index);
        assert_eq!(told(&log), [format!("service {index}")]);
        // In use, it does not move.
        d.set(reg::QUEUE_NUM, 2);
        d.set(reg::QUEUE_PFN, PAGE + 1);
        assert_eq!((d.get(reg::QUEUE_PFN), told(&log)), (PAGE + 4 * index, vec![]));
    }
    let said = format!(
        "probe: QueuePFN was written for queue 0 after DRIVER_OK; served [{}]",
        rules::NO_QUEUE
    );
    d.set(reg::STATUS, 0);
    d.set(reg::STATUS, 7);
    let mut ring = Ring::contiguous(8, 0x4_0000, 4096);
    d.set(reg::GUEST_PAGE_SIZE, 4096);
    assert!(d.set_up_legacy(0, &mut ring, 4096, PAGE));
    assert_eq!(d.complaints.last().unwrap(), said);
}

#[test]
fn the_layout_of_version_2_takes_no_queue_after_driver_ok() {
    let (mut d, log, complaints) = probe();
    assert!(d.negotiate(feature::VERSION_1));
    d.go_live();
    assert_eq!(complaints.count(rules::NO_QUEUE), 1);
    assert!(!d.set_up_queue(8));
    assert_eq!(told(&log), ["reset", "activate 0x100000000 [None, None]"]);
    // One line: before QueueReady nothing is wrong.
    assert_eq!(complaints.count(rules::QUEUE_LIVE), 1);
}

#[test]
fn features_that_come_after_driver_ok_count_until_a_queue_is_there() {
    let (mut d, log, complaints) =
        probe_with(MmioOptions { version: Version::Legacy, ..MmioOptions::default() });
    for status in [1, 5] {
        d.set(reg::STATUS, status);
    }
    d.set(reg::DRIVER_FEATURES, 1 << 9);
    d.set(reg::STATUS, 13);
    assert_eq!(d.get(reg::STATUS), 13);
    d.set(reg::GUEST_PAGE_SIZE, 4096);
    let mut ring = Ring::contiguous(8, 0x4_0000, 4096);
    assert!(d.set_up_legacy(0, &mut ring, 4096, PAGE));
    assert_eq!(told(&log), ["activate 0x200 [Some(8), None]"]);
    assert_eq!(complaints.count(rules::FEATURES_SETTLED), 0);
    d.set(reg::DRIVER_FEATURES, 0);
    assert_eq!(complaints.count(rules::FEATURES_SETTLED), 1);
}

#[test]
fn notify_on_empty_is_offered_to_legacy_drivers_alone() {
    let (mut d, _) = disk(Policy::Lenient);
    assert_ne!(d.offered() & 1 << 24, 0);
    let (mut d, ..) = probe();
    assert_eq!(d.offered() & 1 << 24, 0);
}
