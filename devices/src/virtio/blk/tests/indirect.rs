//! Indirect tables of descriptors (virtio 1.4, 2.7.5.3), through the whole device.

use super::*;
use crate::testing::virtio_ring::write_chain;
use crate::virtio::mmio::Policy;
use crate::virtio::spec::ring::{DESC_INDIRECT, DESC_NEXT, DESC_WRITE};

const TABLE: u64 = 0x2_0000;
const INDIRECT: u64 = feature::BLK_FLUSH | feature::RING_INDIRECT_DESC;
const PARTS: [(u64, u32, bool); 3] =
    [(HEADER, 16, false), (DATA, 512, true), (STATUS_BYTE, 1, true)];

/// A read of one sector in so many descriptors: all but the first two and the last are empty.
fn long(descriptors: usize) -> Vec<(u64, u32, bool)> {
    let mut parts = vec![(DATA, 0, true); descriptors - 3];
    parts.splice(..0, PARTS[..2].iter().copied());
    parts.push(PARTS[2]);
    parts
}

/// Offers descriptor 0, which points to a table of `len` bytes, with these flags.
fn submit_table(driver: &mut VirtioDriver, len: u32, flags: u16) -> Option<Used> {
    driver.write(STATUS_BYTE, &[0xff]);
    driver.desc(0, TABLE, len, flags, 1);
    driver.offer(0);
    driver.kick();
    let (head, len) = driver.pop()?;
    Some(Used { head, len, status: driver.status_byte() })
}

#[test]
fn a_table_holds_a_whole_request_behind_one_descriptor() {
    let setup = Setup::new();
    let mut driver = setup.driver(Access::ReadWrite).live(INDIRECT, 4);
    driver.header(HEADER, T_IN, 2);
    write_chain(&driver.ram, TABLE, 0, &PARTS);
    assert_eq!(submit_table(&mut driver, 48, DESC_INDIRECT), used(513, S_OK));
    assert_eq!(driver.bytes(DATA, 513), [&[3; 512][..], &[0]].concat());
    // The WRITE flag of the descriptor that points to the table means nothing (2.7.5.3.2).
    driver.header(HEADER, T_IN, 3);
    assert_eq!(submit_table(&mut driver, 48, DESC_INDIRECT | DESC_WRITE), used(513, S_OK));
    assert_eq!(driver.bytes(DATA, 512), [4; 512]);
    // Each descriptor of a queue can be a request of its own.
    for head in [3, 1, 2, 0] {
        let table = TABLE + 64 * u64::from(head);
        driver.indirect(head, table, &PARTS);
        driver.offer(head);
    }
    driver.kick();
    let heads = [(); 5].map(|()| driver.pop());
    assert_eq!(heads, [Some((3, 513)), Some((1, 513)), Some((2, 513)), Some((0, 513)), None]);
}

#[test]
fn plain_descriptors_may_come_before_the_table() {
    let setup = Setup::new();
    let mut driver = setup.driver(Access::ReadWrite).live(INDIRECT, 4);
    driver.header(HEADER, T_IN, 5);
    driver.write(STATUS_BYTE, &[0xff]);
    driver.desc(0, HEADER, 16, DESC_NEXT, 2);
    // The table's own chain does not go in order.
    driver.write_desc(TABLE, DATA, 512, DESC_NEXT | DESC_WRITE, 2);
    driver.write_desc(TABLE + 16, 0, 0, DESC_NEXT, 0);
    driver.write_desc(TABLE + 32, STATUS_BYTE, 1, DESC_WRITE, 0);
    driver.desc(2, TABLE, 48, DESC_INDIRECT, 0);
    driver.offer(0);
    driver.kick();
    assert_eq!((driver.pop(), driver.status_byte()), (Some((0, 513)), S_OK));
    assert_eq!(driver.bytes(DATA, 512), [6; 512]);
}

#[test]
fn a_table_that_is_none_stops_the_device_until_a_reset() {
    let broken: [(&str, u32, u16, fn(&VirtioDriver)); 9] = [
        ("no entries", 0, DESC_INDIRECT, |_| ()),
        ("half an entry less", 40, DESC_INDIRECT, |_| ()),
        ("a byte more", 49, DESC_INDIRECT, |_| ()),
        ("NEXT behind the table", 48, DESC_INDIRECT | DESC_NEXT, |_| ()),
        ("a table in a table", 48, DESC_INDIRECT, |d| {
            write_chain(&d.ram, TABLE + 0x100, 0, &PARTS);
            d.write_desc(TABLE, TABLE + 0x100, 48, DESC_INDIRECT, 0);
        }),
        ("next outside the table", 48, DESC_INDIRECT, |d| {
            d.write_desc(TABLE + 16, DATA, 512, DESC_NEXT | DESC_WRITE, 3);
        }),
        ("a circle", 48, DESC_INDIRECT, |d| {
            d.write_desc(TABLE + 32, STATUS_BYTE, 1, DESC_NEXT | DESC_WRITE, 1);
        }),
        ("longer than any queue can be", 16 * 257, DESC_INDIRECT, |d| {
            write_chain(&d.ram, TABLE, 0, &long(257));
        }),
        ("past the end of RAM", 0x10_0000, DESC_INDIRECT, |_| ()),
    ];
    for (name, len, flags, break_it) in broken {
        let setup = Setup::new();
        let mut driver = setup.driver(Access::ReadWrite).live(INDIRECT, 4);
        driver.header(HEADER, T_IN, 0);
        write_chain(&driver.ram, TABLE, 0, &PARTS);
        break_it(&driver);
        assert_eq!(submit_table(&mut driver, len, flags), None, "{name}");
        assert!(driver.needs_reset(), "{name}");
        assert_eq!(driver.take_interrupts(), mmio::INTERRUPT_CONFIG, "{name}");
        driver.restart(INDIRECT, 4);
        write_chain(&driver.ram, TABLE, 0, &PARTS);
        assert_eq!(submit_table(&mut driver, 48, DESC_INDIRECT), used(513, S_OK), "{name}");
    }
}

#[test]
fn a_table_wherever_it_lies_is_checked_as_a_whole() {
    // The whole table counts, not only the entries that the chain goes through.
    let (end, last) = (1 << 20, (1 << 20) - 48);
    for (at, fits) in [
        (last, true),
        (last + 16, false),
        (end, false),
        (u64::MAX - 15, false),
        (u64::MAX - 47, false),
    ] {
        let setup = Setup::new();
        let mut driver = setup.driver(Access::ReadWrite).live(INDIRECT, 4);
        driver.header(HEADER, T_IN, 0);
        driver.write(STATUS_BYTE, &[0xff]);
        if at < end {
            // A chain of one descriptor: its only mistake is the missing status byte.
            driver.write_desc(at, HEADER, 16, 0, 0);
        }
        if fits {
            write_chain(&driver.ram, at, 0, &PARTS);
        }
        driver.desc(0, at, 48, DESC_INDIRECT, 0);
        driver.offer(0);
        let complaints = driver.complaints.clone();
        driver.kick();
        assert_eq!(driver.pop().is_some(), fits, "{at:#x}");
        assert_eq!(complaints.count(rules::CHAIN), u64::from(!fits), "{at:#x}");
    }
}

#[test]
fn without_the_feature_no_table_is_looked_at() {
    let setup = Setup::new();
    let mut driver = setup.driver(Access::ReadWrite).live(feature::BLK_FLUSH, 4);
    driver.header(HEADER, T_IN, 0);
    write_chain(&driver.ram, TABLE, 0, &PARTS);
    assert_eq!(submit_table(&mut driver, 48, DESC_INDIRECT), None);
    assert!(driver.needs_reset());
    assert_eq!(driver.bytes(DATA, 512), [0; 512]);
}

#[test]
fn a_table_of_no_bytes_is_not_read_even_where_a_good_descriptor_stands_there() {
    let setup = Setup::new();
    for (len, answer) in [(16, Some((0, 1))), (0, None)] {
        let mut driver = setup.driver(Access::ReadWrite).live(INDIRECT, 4);
        driver.header(HEADER, T_FLUSH, 0);
        driver.desc(0, HEADER, 16, DESC_NEXT, 1);
        driver.desc(1, TABLE, len, DESC_INDIRECT, 0);
        driver.write_desc(TABLE, STATUS_BYTE, 1, DESC_WRITE, 0);
        driver.offer(0);
        driver.kick();
        assert_eq!((driver.pop(), driver.needs_reset()), (answer, answer.is_none()));
    }
}

#[test]
fn a_table_longer_than_the_queue_is_served_up_to_queue_num_max_and_told_once() {
    let setup = Setup::new();
    let mut driver = setup.driver(Access::ReadWrite).live(INDIRECT, 4);
    driver.header(HEADER, T_IN, 2);
    for (descriptors, told) in [(4, 0), (5, 1), (256, 1), (5, 1)] {
        write_chain(&driver.ram, TABLE, 0, &long(descriptors));
        let len = 16 * descriptors as u32;
        assert_eq!(submit_table(&mut driver, len, DESC_INDIRECT), used(513, S_OK), "{descriptors}");
        assert_eq!(driver.bytes(DATA, 512), [3; 512]);
        assert_eq!(driver.complaints.count(rules::CHAIN_LENGTH), told, "{descriptors}");
    }
    let said = "virtio0: the chain at descriptor 0 of queue 0 has 5 descriptors, more than the queue has entries (4); \
                served";
    assert_eq!(driver.complaints.last().unwrap(), format!("{said} [{}]", rules::CHAIN_LENGTH));
    // What stands before the table counts.
    driver.desc(0, HEADER, 16, DESC_NEXT, 1);
    write_chain(&driver.ram, TABLE, 0, &long(257)[1..]);
    driver.desc(1, TABLE, 16 * 256, DESC_INDIRECT, 0);
    driver.offer(0);
    driver.kick();
    assert_eq!((driver.pop(), driver.needs_reset()), (None, true));
    assert_eq!(driver.complaints.count(rules::CHAIN_LENGTH), 2);
    // Each new set-up of the queue is reported.
    driver.restart(INDIRECT, 4);
    write_chain(&driver.ram, TABLE, 0, &long(5));
    assert_eq!(submit_table(&mut driver, 80, DESC_INDIRECT), used(513, S_OK));
    assert_eq!(driver.complaints.count(rules::CHAIN_LENGTH), 3);
}

#[test]
fn a_strict_device_refuses_a_table_longer_than_the_queue() {
    let (blk, _) = watched(8, &named(""));
    let options = MmioOptions { policy: Policy::Strict, ..MmioOptions::default() };
    let mut driver = VirtioDriver::with(blk, options).live(INDIRECT, 4);
    driver.header(HEADER, T_IN, 2);
    write_chain(&driver.ram, TABLE, 0, &long(5));
    assert_eq!(submit_table(&mut driver, 80, DESC_INDIRECT), None);
    assert_eq!((driver.needs_reset(), driver.complaints.count(rules::CHAIN_LENGTH)), (true, 1));
}
