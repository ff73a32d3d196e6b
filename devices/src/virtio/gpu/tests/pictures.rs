//! From guest RAM to the screen.

use super::drive::{COMMAND, NO_SCANOUT, OK, PARAMETER, PICTURE, RESPONSE, Tested, rect};
use crate::bus::BusDevice;
use crate::testing::virtio_driver::reg;
use crate::virtio::rules;

/// Different pixels.
fn bytes(count: usize) -> Vec<u8> {
    (0..4 * count).map(|n| (n * 7 % 251) as u8).collect()
}

/// The pixels in bytes of B8G8R8X8.
fn pixels(bytes: &[u8]) -> Vec<u32> {
    let pixel = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes) & 0xff_ffff;
    bytes.as_chunks().0.iter().map(pixel).collect()
}

#[test]
fn a_picture_is_shown_after_transfer_and_flush() {
    let mut tested = Tested::new();
    let whole = rect(0, 0, 8, 4);
    let picture = bytes(32);
    tested.driver.write(PICTURE, &picture);
    tested.resource(3, 2, 8, 4);
    assert_eq!(tested.picture(), (32, 16, vec![0; 512]));
    assert_eq!(tested.set_scanout(3, whole), OK);
    assert_eq!(tested.picture(), (8, 4, vec![0; 32]));
    assert_eq!(tested.transfer(3, whole, 0), OK);
    assert_eq!(tested.picture(), (8, 4, vec![0; 32]));
    assert_eq!(tested.flush(3, whole), OK);
    assert_eq!(tested.picture(), (8, 4, pixels(&picture)));
    assert_eq!((tested.driver.complaints.last(), tested.driver.take_interrupts()), (None, 1));
}

#[test]
fn a_part_is_transferred_from_its_own_place() {
    let mut tested = Tested::new();
    let (whole, part) = (rect(0, 0, 8, 4), rect(2, 1, 3, 2));
    let picture = bytes(32);
    tested.driver.write(PICTURE, &picture);
    tested.resource(1, 2, 8, 4);
    tested.set_scanout(1, whole);
    assert_eq!(tested.transfer(1, part, 4 * (8 + 2)), OK);
    // Only what is flushed is drawn: the second of the two rows.
    assert_eq!(tested.flush(1, rect(0, 2, 8, 2)), OK);
    let mut expected = vec![0; 32];
    expected[18..21].copy_from_slice(&pixels(&picture)[18..21]);
    assert_eq!(tested.picture(), (8, 4, expected.clone()));
    tested.flush(1, whole);
    expected[10..13].copy_from_slice(&pixels(&picture)[10..13]);
    assert_eq!(tested.picture(), (8, 4, expected));
    for empty in [rect(0, 0, 0, 4), rect(8, 4, 0, 0)] {
        assert_eq!((tested.transfer(1, empty, u64::MAX), tested.flush(1, empty)), (OK, OK));
    }
}

#[test]
fn a_backing_is_in_any_number_of_pieces() {
    let mut tested = Tested::new();
    let picture = bytes(32);
    // Last byte first, with holes in between.
    let mut entries = Vec::new();
    for (n, piece) in picture.chunks(13).enumerate() {
        let at = PICTURE + 0x1000 - 20 * n as u64;
        tested.driver.write(at, piece);
        entries.push((at, piece.len() as u32));
    }
    assert_eq!(tested.create(1, 2, 8, 4), OK);
    assert_eq!(tested.attach(1, &entries), OK);
    tested.set_scanout(1, rect(0, 0, 8, 4));
    tested.transfer(1, rect(0, 0, 8, 4), 0);
    tested.flush(1, rect(0, 0, 8, 4));
    assert_eq!(tested.picture().2, pixels(&picture));
    // The entries may be in several buffers, and the backing may be attached again.
    assert_eq!(tested.ask(0x107, &[1, 0]), OK);
    let command = Tested::command(0x106, &[1, 1, PICTURE as u32, 0, 128, 0]);
    tested.driver.write(COMMAND, &command[..37]);
    tested.driver.write(COMMAND + 0x100, &command[37..]);
    let parts = [(COMMAND, 37, false), (COMMAND + 0x100, 11, false), (RESPONSE, 24, true)];
    tested.driver.chain(0, &parts);
    tested.driver.offer(0);
    tested.driver.kick();
    assert_eq!(
        (tested.driver.pop(), tested.driver.bytes(RESPONSE, 2)),
        (Some((0, 24)), vec![0, 0x11])
    );
}

#[test]
fn a_scanout_is_a_part_of_a_resource_and_shows_it_at_once() {
    let mut tested = Tested::new();
    let picture = bytes(64);
    tested.driver.write(PICTURE, &picture);
    tested.resource(1, 2, 8, 8);
    tested.transfer(1, rect(0, 0, 8, 8), 0);
    let part = |at: usize| -> Vec<u32> {
        pixels(&picture)
            .chunks(8)
            .skip(2)
            .take(4)
            .flat_map(|row| row[at..at + 3].to_vec())
            .collect()
    };
    assert_eq!(tested.set_scanout(1, rect(1, 2, 3, 4)), OK);
    assert_eq!(tested.picture(), (3, 4, part(1)));
    assert_eq!(tested.set_scanout(1, rect(4, 2, 3, 4)), OK);
    assert_eq!(tested.picture(), (3, 4, part(4)));
    // A flush beside it changes nothing, one across its edge does.
    tested.driver.write(PICTURE, &[0xff; 256]);
    tested.transfer(1, rect(0, 0, 8, 8), 0);
    tested.flush(1, rect(0, 0, 8, 2));
    tested.flush(1, rect(7, 0, 1, 8));
    // Far from it in one direction, beside it in the other.
    tested.flush(1, rect(0, 0, 8, 1));
    tested.flush(1, rect(0, 0, 1, 8));
    assert_eq!(tested.picture(), (3, 4, part(4)));
    tested.flush(1, rect(0, 5, 5, 3));
    let mut expected = part(4);
    expected[9] = 0xff_ffff;
    assert_eq!(tested.picture(), (3, 4, expected));
    // Off: black, with the size of the display.
    assert_eq!(tested.set_scanout(0, rect(0, 0, 0, 0)), OK);
    assert_eq!(tested.picture(), (32, 16, vec![0; 512]));
    assert_eq!((tested.flush(1, rect(0, 0, 8, 8)), tested.picture().2), (OK, vec![0; 512]));
}

#[test]
fn pages_flip_and_a_removed_resource_shows_nothing() {
    let mut tested = Tested::new();
    let whole = rect(0, 0, 4, 4);
    for (id, byte) in [(1, 0x11), (2, 0x22)] {
        tested.resource(id, 4, 4, 4);
        tested.driver.write(PICTURE, &[byte; 64]);
        assert_eq!(tested.transfer(id, whole, 0), OK);
    }
    tested.set_scanout(1, whole);
    let viewer = tested.gpu.screen().viewer(None);
    viewer.look(|_, picture, _| assert_eq!(picture.pixels(), [0x11_1111; 16]));
    tested.set_scanout(2, whole);
    viewer.look(|damage, picture, _| {
        assert!(!damage.size);
        assert_eq!(picture.pixels(), [0x22_2222; 16]);
    });
    assert_eq!(tested.ask(0x102, &[1, 0]), OK);
    assert!(!viewer.has_damage());
    assert_eq!(tested.ask(0x102, &[2, 0]), OK);
    assert_eq!(tested.picture(), (32, 16, vec![0; 512]));
}

#[test]
fn the_display_has_a_size_which_changes() {
    let mut tested = Tested::new();
    let info = |tested: &mut Tested| tested.send(&Tested::command(0x100, &[]), 408);
    let expected = |width: u32, height: u32| {
        let first = [0x1101, 0, 0, 0, 0, 0, 0, 0, width, height, 1, 0];
        let mut bytes: Vec<_> = first.iter().flat_map(|field: &u32| field.to_le_bytes()).collect();
        bytes.resize(408, 0);
        bytes
    };
    assert_eq!(info(&mut tested), expected(32, 16));
    assert_eq!([0, 4, 8, 12, 16, 20].map(|at| tested.config(at)), [0, 0, 1, 0, 0, 0]);
    tested.driver.take_interrupts();
    let generation = tested.driver.get(reg::CONFIG_GENERATION);
    let resize = |tested: &Tested, width, height| {
        let change = || Ok::<_, ()>(tested.gpu.set_display_size(width, height));
        tested.driver.mmio.reconfigure(change).unwrap();
    };
    resize(&tested, 32, 16);
    assert_eq!((tested.driver.take_interrupts(), tested.config(0)), (0, 0));
    resize(&tested, 48, 40);
    assert_eq!((tested.driver.take_interrupts(), tested.config(0)), (2, 1));
    assert_ne!(tested.driver.get(reg::CONFIG_GENERATION), generation);
    assert_eq!(info(&mut tested), expected(48, 40));
    // Nothing is shown, so the screen follows; later it is the driver's.
    assert_eq!(tested.picture().1, 40);
    tested.driver.mmio.write(reg::CONFIG + 4, &2u32.to_le_bytes());
    assert_eq!(tested.config(0), 1);
    tested.driver.mmio.write(reg::CONFIG + 4, &1u32.to_le_bytes());
    assert_eq!(tested.config(0), 0);
    for (at, bytes) in [(0, 4), (4, 1), (4, 2), (8, 4)] {
        tested.driver.mmio.write(reg::CONFIG + at, &vec![0xff; bytes]);
    }
    assert_eq!(tested.driver.complaints.count(rules::CONFIG_WRITE), 4);
    tested.resource(1, 2, 8, 8);
    tested.set_scanout(1, rect(0, 0, 8, 8));
    resize(&tested, u32::MAX, 0);
    assert_eq!((tested.gpu.display_size(), tested.picture().0), ((4095, 16), 8));
    tested.driver.set(reg::STATUS, 0);
    assert_eq!((tested.config(0), tested.picture().0), (0, 4095));
}

#[test]
fn the_edid_names_the_size() {
    let mut tested = Tested::new();
    let edid = tested.send(&Tested::command(0x10a, &[0, 0]), 1056);
    assert_eq!(
        (edid.len(), &edid[..4], &edid[24..28]),
        (1056, &[4, 0x11, 0, 0][..], &[128, 0, 0, 0][..])
    );
    let sum = edid[32..160].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    assert_eq!((sum, edid[32 + 56], edid[32 + 59]), (0, 32, 16));
    assert!(edid[160..].iter().all(|byte| *byte == 0));
    assert_eq!(tested.ask(0x10a, &[1, 0]), NO_SCANOUT);
    assert_eq!(tested.flush(1, rect(0, 0, 1, 1)), 0x1203);
    assert_eq!(tested.set_scanout(1, rect(0, 0, 1, 1)), 0x1203);
    tested.resource(1, 2, 8, 8);
    assert_eq!(tested.set_scanout(1, rect(0, 0, 0, 1)), PARAMETER);
}
