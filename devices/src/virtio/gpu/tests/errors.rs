//! Commands that make no sense.

use super::drive::{
    COMMAND, NO_RESOURCE, NO_SCANOUT, OK, PARAMETER, PICTURE, RESPONSE, Tested, UNSPEC, rect,
};
use crate::testing::virtio_driver::RAM_SIZE;
use crate::virtio::rules;
use crate::virtio::spec::feature::GPU_EDID;

#[test]
fn unknown_commands_are_refused() {
    let mut tested = Tested::new();
    for kind in [0, 1, 0xff, 0x108, 0x109, 0x10b, 0x1ff, 0x200, 0x207, 0x302, 0x1100, u32::MAX] {
        assert_eq!(tested.ask(kind, &[0; 8]), UNSPEC, "{kind:#x}");
    }
    assert_eq!(tested.driver.complaints.count(rules::GPU_COMMAND), 12);
    tested.start(0);
    assert_eq!(tested.ask(0x10a, &[0, 0]), UNSPEC);
    tested.start(GPU_EDID);
    assert_eq!(tested.send(&Tested::command(0x10a, &[0, 0]), 2000).len(), 1056);
}

#[test]
fn commands_that_are_too_short_are_refused() {
    let mut tested = Tested::new();
    for (kind, size) in [
        (0x100, 24),
        (0x101, 40),
        (0x102, 32),
        (0x103, 48),
        (0x104, 48),
        (0x105, 56),
        (0x106, 32),
        (0x107, 32),
        (0x10a, 32),
    ] {
        let whole = Tested::command(kind, &[0; 8]);
        let is = |response: Vec<u8>| u32::from_le_bytes(response[..4].try_into().unwrap());
        let before = tested.driver.complaints.count(rules::GPU_LAYOUT);
        assert_eq!(is(tested.send(&whole[..size - 1], 24)), UNSPEC, "{kind:#x}");
        assert_eq!(tested.driver.complaints.count(rules::GPU_LAYOUT), before + 1, "{kind:#x}");
        tested.send(&whole[..size], 2000);
        assert_eq!(tested.driver.complaints.count(rules::GPU_LAYOUT), before + 1, "{kind:#x}");
    }
    assert_eq!(tested.send(&[], 24).len(), 24);
    // More entries than there are bytes.
    assert_eq!(tested.create(1, 1, 4, 4), OK);
    assert_eq!(tested.ask(0x106, &[1, 2, 0, 0, 64, 0]), UNSPEC);
    assert_eq!(tested.ask(0x106, &[1, 65536, 0, 0, 64, 0]), UNSPEC);
    // The same in the right size.
    assert_eq!(tested.ask(0x106, &[1, 1, 0, 0, 64, 0, 9, 9]), OK);
}

#[test]
fn resources_are_what_they_can_be() {
    let mut tested = Tested::new();
    for (command, expected) in [
        ([0, 1, 4, 4], NO_RESOURCE),
        ([1, 0, 4, 4], PARAMETER),
        ([1, 5, 4, 4], PARAMETER),
        ([1, 1, 0, 4], PARAMETER),
        ([1, 1, 4, 0], PARAMETER),
        ([1, 1, 8193, 1], PARAMETER),
        ([1, 1, 1, u32::MAX], PARAMETER),
        ([1, 1, 4, 4], OK),
        ([1, 1, 4, 4], NO_RESOURCE),
        ([u32::MAX, 134, 8192, 1], OK),
    ] {
        assert_eq!(tested.ask(0x101, &command), expected, "{command:?}");
    }
    for kind in [0x102, 0x106, 0x107] {
        assert_eq!(tested.ask(kind, &[2, 0]), NO_RESOURCE, "{kind:#x}");
    }
    assert_eq!(tested.transfer(2, rect(0, 0, 1, 1), 0), NO_RESOURCE);
    assert_eq!((tested.ask(0x102, &[1, 0]), tested.ask(0x102, &[1, 0])), (OK, NO_RESOURCE));
}

#[test]
fn rectangles_stay_within_the_resource() {
    let mut tested = Tested::new();
    tested.resource(1, 1, 8, 4);
    for outside in [
        rect(0, 0, 9, 4),
        rect(0, 0, 8, 5),
        rect(1, 0, 8, 1),
        rect(0, 4, 1, 1),
        rect(9, 0, 0, 0),
        rect(u32::MAX, 0, 1, 1),
        rect(1, 1, u32::MAX, u32::MAX),
        rect(u32::MAX, u32::MAX, u32::MAX, u32::MAX),
        rect(8, 3, u32::MAX - 7, 1),
    ] {
        let answers = [
            tested.transfer(1, outside, 0),
            tested.set_scanout(1, outside),
            tested.flush(1, outside),
        ];
        assert_eq!(answers, [PARAMETER; 3], "{outside:?}");
    }
    assert_eq!(tested.ask(0x103, &[0, 0, 8, 4, 1, 1]), NO_SCANOUT);
    assert_eq!(tested.ask(0x103, &[0, 0, 8, 4, 1, 0]), NO_SCANOUT);
    assert_eq!(tested.picture().0, 32);
}

#[test]
fn a_backing_is_in_ram_and_long_enough() {
    let mut tested = Tested::new();
    assert_eq!(tested.create(1, 1, 8, 4), OK);
    let whole = rect(0, 0, 8, 4);
    assert_eq!(tested.transfer(1, whole, 0), UNSPEC);
    assert_eq!(tested.ask(0x107, &[1, 0]), UNSPEC);
    for (addr, len) in
        [(RAM_SIZE as u64 - 4, 8), (u64::MAX, 1), (u64::MAX - 3, u32::MAX), (1 << 40, 4)]
    {
        assert_eq!(tested.attach(1, &[(PICTURE, 64), (addr, len)]), PARAMETER, "{addr:#x}");
    }
    assert_eq!(tested.attach(1, &[(PICTURE, 100), (PICTURE, 0), (PICTURE, 27)]), OK);
    assert_eq!(tested.attach(1, &[(PICTURE, 128)]), UNSPEC);
    assert_eq!(tested.transfer(1, whole, 0), PARAMETER);
    assert_eq!(tested.transfer(1, rect(0, 0, 7, 4), 0), OK);
    assert_eq!(tested.transfer(1, rect(0, 0, 7, 4), 4), PARAMETER);
    assert_eq!(tested.transfer(1, rect(0, 0, 8, 3), 31), OK);
    assert_eq!(tested.transfer(1, rect(0, 0, 8, 3), 32), PARAMETER);
    for offset in [u64::MAX, u64::MAX - 127, 1 << 63, u64::from(u32::MAX)] {
        assert_eq!(tested.transfer(1, whole, offset), PARAMETER);
        assert_eq!(tested.transfer(1, rect(0, 0, 1, 1), offset), PARAMETER);
    }
    assert_eq!(tested.ask(0x107, &[1, 0]), OK);
    assert_eq!(tested.transfer(1, whole, 0), UNSPEC);
    assert!(tested.driver.complaints.count(rules::GPU_BACKING) > 10);
}

#[test]
fn responses_are_cut_where_there_is_no_room() {
    let mut tested = Tested::new();
    for room in [1, 4, 23, 25, 407] {
        let response = tested.send(&Tested::command(0x100, &[]), room);
        assert_eq!(response.len(), room as usize);
    }
    assert_eq!(tested.driver.complaints.count(rules::GPU_RESPONSE), 5);
    assert_eq!(tested.send(&Tested::command(0x100, &[]), 2048).len(), 408);
    assert_eq!(tested.driver.complaints.count(rules::GPU_RESPONSE), 5);
    // The command is carried out in any case.
    let create = Tested::command(0x101, &[1, 1, 4, 4]);
    tested.driver.write(COMMAND, &create);
    tested.driver.chain(0, &[(COMMAND, 40, false)]);
    tested.driver.offer(0);
    tested.driver.kick();
    assert_eq!(tested.driver.pop(), Some((0, 0)));
    assert_eq!(tested.create(1, 1, 4, 4), NO_RESOURCE);
    // A response in several pieces.
    tested.driver.write(COMMAND, &Tested::command(0x100, &[]));
    let parts = [(COMMAND, 24, false), (RESPONSE, 3, true), (RESPONSE + 8, 500, true)];
    tested.driver.chain(0, &parts);
    tested.driver.offer(0);
    tested.driver.kick();
    assert_eq!(tested.driver.pop(), Some((0, 408)));
    assert_eq!(tested.driver.bytes(RESPONSE, 3), [1, 0x11, 0]);
    assert_eq!(tested.driver.bytes(RESPONSE + 8, 1), [0]);
}

#[test]
fn flawed_chains_are_returned_and_broken_rings_need_a_reset() {
    let mut tested = Tested::new();
    tested.driver.chain(0, &[(RESPONSE, 24, true), (COMMAND, 24, false)]);
    tested.driver.offer(0);
    tested.driver.chain(2, &[(u64::MAX - 8, 24, false), (RESPONSE, 24, true)]);
    tested.driver.offer(2);
    tested.driver.kick();
    assert_eq!((tested.driver.pop(), tested.driver.pop()), (Some((0, 0)), Some((2, 0))));
    assert_eq!(tested.driver.complaints.count(rules::FRAMING), 2);
    tested.driver.desc(0, COMMAND, 24, 3, 200);
    tested.driver.offer(0);
    tested.driver.kick();
    assert!(tested.driver.needs_reset());
    tested.start(0);
    assert_eq!(tested.create(1, 1, 4, 4), OK);
}
