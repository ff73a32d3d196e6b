//! Limits, fences, pauses, resets.

use super::super::GpuOptions;
use super::drive::{COMMAND, OK, OUT_OF_MEMORY, PICTURE, RESPONSE, Tested, rect};
use crate::bus::BusDevice;
use crate::observe::Tap;
use crate::testing::virtio_driver::reg;
use crate::virtio::rules;
use crate::virtio::spec::feature::GPU_EDID;

#[test]
fn pictures_have_a_limit_in_all() {
    let mut tested = Tested::new();
    assert_eq!(tested.create(1, 1, 128, 64), OK);
    assert_eq!(tested.create(2, 1, 128, 65), OUT_OF_MEMORY);
    assert_eq!(tested.create(2, 1, 8192, 8192), OUT_OF_MEMORY);
    assert_eq!(tested.create(2, 1, 128, 64), OK);
    assert_eq!(tested.create(3, 1, 1, 1), OUT_OF_MEMORY);
    assert_eq!(tested.ask(0x102, &[1, 0]), OK);
    assert_eq!(tested.create(3, 1, 1, 1), OK);
    assert_eq!(tested.driver.complaints.count(rules::GPU_MEMORY), 3);
}

#[test]
fn resources_and_entries_have_a_limit() {
    let mut tested = Tested::new();
    for id in 1..=4096 {
        assert_eq!(tested.create(id, 1, 1, 1), OK);
    }
    assert_eq!(tested.create(4097, 1, 1, 1), OUT_OF_MEMORY);
    assert_eq!(tested.ask(0x106, &[1, 65537]), OUT_OF_MEMORY);
    assert_eq!(tested.ask(0x106, &[1, u32::MAX]), OUT_OF_MEMORY);
    // 64 KiB of entries that do not continue each other.
    let entries = 4096;
    for n in 0..entries {
        let entry = [PICTURE + 8 * (n % 2), 4].map(u64::to_le_bytes).concat();
        tested.driver.write(PICTURE + 16 * n, &entry);
    }
    let attach = |tested: &mut Tested, id: u32| {
        tested.driver.write(COMMAND, &Tested::command(0x106, &[id, entries as u32]));
        let parts =
            [(COMMAND, 32, false), (PICTURE, 16 * entries as u32, false), (RESPONSE, 24, true)];
        tested.driver.chain(0, &parts);
        tested.driver.offer(0);
        tested.driver.kick();
        assert_eq!(tested.driver.pop(), Some((0, 24)));
        u32::from_le_bytes(tested.driver.bytes(RESPONSE, 4).try_into().unwrap())
    };
    let answers: Vec<_> = (1..=66).map(|id| attach(&mut tested, id)).collect();
    assert_eq!((&answers[..64], &answers[64..]), (&[OK; 64][..], &[OUT_OF_MEMORY; 2][..]));
    // A backing that is taken away, and one that goes with its resource, make room for another one each.
    assert_eq!(tested.ask(0x107, &[7, 0]), OK);
    assert_eq!(tested.ask(0x102, &[8, 0]), OK);
    assert_eq!([65, 66, 67].map(|id| attach(&mut tested, id)), [OK, OK, OUT_OF_MEMORY]);
}

#[test]
fn a_doorbell_attaches_a_limited_number_of_entries() {
    let mut tested = Tested::new();
    assert_eq!(tested.create(1, 1, 1, 1), OK);
    // A list of 1 MiB: the same 64 KiB again and again, and all entries of no length.
    tested.driver.write(PICTURE, &[0; 1 << 16]);
    tested.driver.write(COMMAND, &Tested::command(0x106, &[1, 1 << 16]));
    tested.driver.write(COMMAND + 0x100, &Tested::command(0x107, &[1, 0]));
    let (table, list) = (COMMAND + 0x1000, [(PICTURE, 1 << 16, false); 16]);
    let parts = [&[(COMMAND, 32, false)], &list[..], &[(RESPONSE, 24, true)]].concat();
    tested.driver.indirect(0, table, &parts);
    tested.driver.chain(2, &[(COMMAND + 0x100, 32, false), (RESPONSE + 0x100, 24, true)]);
    for head in [0, 2].repeat(8) {
        tested.driver.offer(head);
    }
    tested.driver.kick();
    // 2 MiB of work each: of the 16 commands all but the last, which takes a backing away.
    let answered = std::iter::from_fn(|| tested.driver.pop()).count();
    assert_eq!((answered, tested.leftover.take()), (15, 1));
    assert_eq!(tested.driver.bytes(RESPONSE, 4), OK.to_le_bytes());
    tested.driver.mmio.service_unfinished();
    assert_eq!(tested.driver.pop(), Some((2, 24)));
    assert_eq!(tested.driver.bytes(RESPONSE + 0x100, 4), OK.to_le_bytes());
}

#[test]
fn a_doorbell_moves_a_limited_number_of_bytes() {
    let options = GpuOptions { max_host_memory: 64 << 20, ..GpuOptions::default() };
    let mut tested = Tested::with(&options, Tap::default());
    // 8 MiB each; the backing is the same page many times.
    assert_eq!(tested.create(1, 1, 2048, 1024), OK);
    assert_eq!(tested.attach(1, &[(PICTURE, 0x4_0000); 32]), OK);
    let (x, y) = (2048, 1024);
    tested.driver.write(COMMAND, &Tested::command(0x105, &[0, 0, x, y, 0, 0, 1, 0]));
    for n in 0..8 {
        tested.driver.chain(2 * n, &[(COMMAND, 56, false), (RESPONSE, 24, true)]);
        tested.driver.offer(2 * n);
    }
    tested.leftover.take();
    tested.driver.kick();
    let answered = |tested: &mut Tested| std::iter::from_fn(|| tested.driver.pop()).count();
    assert_eq!((answered(&mut tested), tested.leftover.take()), (2, 1));
    tested.driver.mmio.service_unfinished();
    assert_eq!((answered(&mut tested), tested.leftover.take()), (2, 1));
    for _ in 0..2 {
        tested.driver.mmio.service_unfinished();
    }
    assert_eq!(answered(&mut tested), 4);
    tested.leftover.take();
    tested.driver.mmio.service_unfinished();
    assert_eq!((answered(&mut tested), tested.leftover.take()), (0, 0));
}

#[test]
fn a_fence_comes_back() {
    let mut tested = Tested::new();
    let command = |flags: u32| {
        let header = [0x102, flags, 0x5566_7788, 0x1122_3344, 77, 0xdead, 9, 0];
        header.iter().flat_map(|field: &u32| field.to_le_bytes()).collect::<Vec<_>>()
    };
    let expected = [0x1203, 1, 0x5566_7788, 0x1122_3344, 77, 0].map(u32::to_le_bytes).concat();
    assert_eq!(tested.send(&command(1), 24), expected);
    assert_eq!(tested.send(&command(u32::MAX), 24), expected);
    assert_eq!(tested.send(&command(2), 24)[4..], [0; 20]);
}

#[test]
fn nothing_is_drawn_while_it_is_held() {
    let mut tested = Tested::new();
    tested.resource(1, 2, 4, 4);
    tested.driver.mmio.hold();
    tested.driver.mmio.quiesce().unwrap();
    tested.driver.write(COMMAND, &Tested::command(0x103, &[0, 0, 4, 4, 0, 1]));
    tested.driver.chain(0, &[(COMMAND, 48, false), (RESPONSE, 24, true)]);
    tested.driver.offer(0);
    tested.driver.kick();
    assert_eq!((tested.driver.pop(), tested.picture().0), (None, 32));
    tested.driver.mmio.release();
    assert_eq!((tested.driver.pop(), tested.picture().0), (Some((0, 24)), 4));
}

#[test]
fn a_reset_forgets_everything() {
    let mut tested = Tested::new();
    assert_eq!(tested.driver.get(reg::DEVICE_ID), 16);
    tested.resource(1, 1, 64, 64);
    tested.set_scanout(1, rect(0, 0, 64, 64));
    tested.ask_cursor(0x300, &[0, 3, 4, 0, 1, 0, 0, 0]);
    tested.driver.mmio.write(reg::STATUS, &[0; 4]);
    assert_eq!(tested.picture(), (32, 16, vec![0; 512]));
    tested.gpu.screen().look(|_, cursor| assert_eq!((cursor.x, cursor.image.is_none()), (0, true)));
    // Nothing is shown, so the screen follows the display.
    assert!(tested.gpu.set_display_size(40, 20));
    assert_eq!(tested.picture().0, 40);
    tested.start(GPU_EDID);
    for id in 1..=4 {
        assert_eq!(tested.create(id, 1, 64, 64), OK);
    }
}

#[test]
fn an_idle_cursor_queue_is_nothing_left_undone() {
    let mut tested = Tested::new();
    tested.resource(1, 1, 8, 8);
    tested.driver.take_interrupts();
    let waiting = tested.driver.mmio.waiting().unwrap();
    assert!(!waiting.is_outstanding, "{waiting:?}");
}
