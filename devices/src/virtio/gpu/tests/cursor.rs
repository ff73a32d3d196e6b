//! The cursor queue.

use super::drive::{COMMAND, OK, PICTURE, RESPONSE, Tested, UNSPEC, rect};
use crate::virtio::rules;

const UPDATE: u32 = 0x300;
const MOVE: u32 = 0x301;

#[test]
fn the_cursor_has_a_picture_and_moves() {
    let mut tested = Tested::new();
    let bytes: Vec<_> = (0..64 * 64 * 4u32).map(|n| (n % 241) as u8).collect();
    tested.driver.write(PICTURE, &bytes);
    tested.resource(5, 1, 64, 64);
    assert_eq!(tested.transfer(5, rect(0, 0, 64, 64), 0), OK);
    tested.ask_cursor(UPDATE, &[0, 20, 10, 0, 5, 3, 4, 0]);
    let screen = tested.gpu.screen();
    screen.look(|_, cursor| {
        let image = cursor.image.as_ref().unwrap();
        let first = u32::from_le_bytes(bytes[..4].try_into().unwrap());
        assert_eq!((image.pixels.len(), image.pixels[0]), (4096, first));
        assert_eq!((image.hot_x, image.hot_y, cursor.x, cursor.y), (3, 4, 20, 10));
    });
    // As Linux does at the upper edge.
    tested.ask_cursor(MOVE, &[0, 7, u32::MAX, 0, 99, 99, 99, 0]);
    screen.look(|_, cursor| {
        assert_eq!((cursor.x, cursor.y, cursor.image.is_some()), (7, -1, true));
    });
    // What was copied stays when the resource goes.
    assert_eq!(tested.ask(0x102, &[5, 0]), OK);
    screen.look(|_, cursor| assert!(cursor.image.is_some()));
    tested.ask_cursor(UPDATE, &[0, 8, 9, 0, 0, 0, 0, 0]);
    screen.look(|_, cursor| assert_eq!((cursor.x, cursor.y, cursor.image.is_none()), (8, 9, true)));
    assert_eq!(tested.driver.complaints.last(), None);
}

#[test]
fn wrong_cursor_commands_change_nothing() {
    let mut tested = Tested::new();
    tested.resource(1, 1, 64, 63);
    for (fields, rule) in [
        // Not 64x64, no such resource, no such scanout.
        ([0, 1, 1, 0, 1, 0, 0, 0], rules::GPU_RESOURCE),
        ([0, 1, 1, 0, 2, 0, 0, 0], rules::GPU_RESOURCE),
        ([1, 1, 1, 0, 0, 0, 0, 0], rules::GPU_RANGE),
    ] {
        let before = tested.driver.complaints.count(rule);
        tested.ask_cursor(UPDATE, &fields);
        assert_eq!(tested.driver.complaints.count(rule), before + 1);
    }
    // Without their last field.
    for kind in [UPDATE, MOVE] {
        let before = tested.driver.complaints.count(rules::GPU_LAYOUT);
        tested.ask_cursor(kind, &[0, 1, 1, 0, 0, 0, 0]);
        assert_eq!(tested.driver.complaints.count(rules::GPU_LAYOUT), before + 1);
    }
    tested.ask_cursor(MOVE, &[1, 1, 1, 0, 0, 0, 0, 0]);
    tested.gpu.screen().look(|_, cursor| assert_eq!((cursor.x, cursor.y), (0, 0)));
    // A hot spot is within the picture.
    assert_eq!(tested.create(2, 2, 64, 64), 0x1100);
    tested.ask_cursor(UPDATE, &[0, 1, 1, 0, 2, 64, u32::MAX, 0]);
    tested.gpu.screen().look(|_, cursor| {
        let image = cursor.image.as_ref().unwrap();
        assert_eq!((image.hot_x, image.hot_y, image.pixels[9]), (63, 63, 0xff00_0000));
    });
}

#[test]
fn each_command_has_its_queue() {
    let mut tested = Tested::new();
    assert_eq!(tested.ask(MOVE, &[0, 7, 7, 0, 0, 0, 0, 0]), UNSPEC);
    tested.ask_cursor(0x101, &[1, 1, 8, 8]);
    assert_eq!(tested.driver.complaints.count(rules::GPU_COMMAND), 2);
    tested.gpu.screen().look(|_, cursor| assert_eq!(cursor.x, 0));
    assert_eq!(tested.ask(0x102, &[1, 0]), 0x1203);
    // With room for a response there is one.
    let ram = tested.driver.ram.clone();
    tested.driver.write(COMMAND, &Tested::command(MOVE, &[0, 7, 7, 0, 0, 0, 0, 0]));
    tested.cursor.chain(&ram, 0, &[(COMMAND, 56, false), (RESPONSE, 24, true)]);
    tested.cursor.offer(&ram, 0);
    tested.driver.kick_queue(1);
    assert_eq!(tested.cursor.pop(&ram), Some((0, 24)));
    assert_eq!(tested.driver.bytes(RESPONSE, 4), [0, 0x11, 0, 0]);
}
