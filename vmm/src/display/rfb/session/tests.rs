use std::sync::Arc;

use cafevm_devices::display::CursorImage;
use proptest::prelude::*;

use super::super::encode::Scratch;
use super::*;

use crate::display::test_client::{Client, ClientCursor, Format};

/// Where, on a picture of which size, with which buttons.
type Point = ((u16, u16), (u32, u32), u8);

/// Remembers what the client did.
#[derive(Default)]
struct Seen {
    keys: Vec<(bool, u32, Option<u32>)>,
    points: Vec<Point>,
    sizes: Vec<(u32, u32)>,
}

impl Guest for Seen {
    fn key(&mut self, down: bool, keysym: u32, scancode: Option<u32>) {
        self.keys.push((down, keysym, scancode));
    }

    fn pointer(&mut self, at: (u16, u16), size: (u32, u32), buttons: u8) {
        self.points.push((at, size, buttons));
    }

    fn resize(&mut self, width: u32, height: u32) {
        self.sizes.push((width, height));
    }
}

/// A screen, a session, and a client at its other end.
struct Scene {
    screen: Screen,
    session: Session<Seen>,
    client: Client,
    scratch: Scratch,
}

impl Scene {
    fn new(width: u32, height: u32) -> Self {
        let screen = Screen::default();
        screen.set_size(width, height);
        let session = Session::new(Seen::default(), &screen, screen.viewer(None), None);
        Self { screen, session, client: Client::new(), scratch: Scratch::default() }
    }

    /// After the handshake, with these encodings.
    fn ready(width: u32, height: u32, encodings: &[i32]) -> Self {
        let mut scene = Self::new(width, height);
        scene.send(Client::HELLO);
        scene.send(&Client::encodings(encodings));
        scene
    }

    fn send(&mut self, bytes: &[u8]) {
        self.session.receive(bytes).unwrap();
        self.deliver();
    }

    /// Delivers all that the server sends, in parts.
    fn deliver(&mut self) {
        loop {
            let more = self.session.prepare(&mut self.scratch).unwrap();
            assert!(self.session.output().len() < OUTPUT_ENOUGH + 300_000);
            let part = self.session.output().len().min(5000);
            if !more && part == 0 {
                break;
            }
            let bytes = self.session.output()[..part].to_vec();
            self.client.receive(&bytes);
            self.session.sent(part);
        }
    }

    fn request(&mut self, incremental: bool) {
        let request = self.client.request(incremental);
        self.send(&request);
    }

    /// Draws a rectangle of one colour.
    fn fill(&self, rect: Rect, colour: u32) {
        self.screen.draw(rect, |_, row| row.fill(colour));
    }

    /// Asserts that the client sees the picture.
    fn assert_same(&self) {
        let (format, client) = (self.client.format, &self.client);
        assert!(client.is_complete());
        self.screen.look(|picture, _| {
            let size = (u32::from(client.size.0), u32::from(client.size.1));
            assert_eq!((picture.width(), picture.height()), size);
            for (at, (seen, pixel)) in client.pixels.iter().zip(picture.pixels()).enumerate() {
                assert_eq!(*seen, format.of(*pixel), "pixel {at} of {size:?}, {pixel:#x}");
            }
        });
    }
}

fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
    Rect { x, y, width, height }
}

const ZRLE: i32 = 16;

#[test]
fn a_handshake_byte_by_byte() {
    let mut scene = Scene::new(3, 2);
    for byte in Client::HELLO {
        assert!(!scene.session.is_running());
        scene.send(&[*byte]);
    }
    assert!(scene.session.is_running());
    assert_eq!((scene.client.size, scene.client.name.as_str()), ((3, 2), "cafevm"));
}

#[test]
fn old_versions_have_other_handshakes() {
    let server_init = 24 + "cafevm".len();
    for (version, hello, before) in [
        ("RFB 003.003\n", &[1][..], vec![0, 0, 0, 1]),
        ("RFB 003.007\n", &[1, 1][..], vec![1, 1]),
        ("RFB 003.008\n", &[1, 1][..], vec![1, 1, 0, 0, 0, 0]),
    ] {
        let mut session = Scene::new(1, 1).session;
        session.receive(version.as_bytes()).unwrap();
        session.receive(hello).unwrap();
        assert!(session.is_running());
        let output = session.output();
        assert_eq!(&output[12..12 + before.len()], before, "{version}");
        assert_eq!(output.len(), 12 + before.len() + server_init);
    }
}

#[test]
fn who_does_not_speak_rfb_is_told_nothing() {
    let mut session = Scene::new(1, 1).session;
    let error = session.receive(b"GET / HTTP/1.1\r\n").unwrap_err();
    assert!(matches!(error, SessionError::NotRfb(_)), "{error}");
    assert!(session.is_over());
    assert_eq!(session.output(), VERSION);
    // What follows is ignored.
    session.receive(&[0; 1000]).unwrap();
}

#[test]
fn another_security_type_is_refused() {
    let mut scene = Scene::new(1, 1);
    assert_eq!(scene.session.receive(b"RFB 003.008\n\x02"), Err(SessionError::Security(2)));
    let output = scene.session.output().to_vec();
    scene.client.receive(&output);
    assert!(scene.client.refused.unwrap().contains("None"));
    assert!(scene.session.is_over());
}

#[test]
fn a_refused_client_gets_the_reason() {
    for (version, securities) in [("RFB 003.003\n", &[0; 4][..]), ("RFB 003.008\n", &[0; 1])] {
        let screen = Screen::default();
        let viewer = screen.viewer(None);
        let mut session = Session::new(Seen::default(), &screen, viewer, Some("full".to_owned()));
        session.receive(version.as_bytes()).unwrap();
        assert!(session.is_over());
        let wanted: Vec<u8> = [VERSION, securities, &[0, 0, 0, 4], b"full"].concat();
        assert_eq!(session.output(), wanted);
    }
}

#[test]
fn a_client_sees_what_is_drawn_in_each_encoding() {
    for encoding in [0, ZRLE] {
        let mut scene = Scene::ready(200, 150, &[encoding]);
        scene.request(true);
        scene.assert_same();
        assert_eq!(scene.client.updates, 1);
        // Nothing changes, so nothing is sent.
        scene.request(true);
        assert_eq!(scene.client.updates, 1);
        scene.fill(rect(10, 20, 30, 40), 0x00c0_ffee);
        scene.deliver();
        scene.assert_same();
        assert_eq!((scene.client.updates, scene.client.rectangles), (2, 2 + 1 + 1));
        // Not asked for.
        scene.fill(rect(0, 0, 200, 1), 0x0012_3456);
        scene.deliver();
        assert_eq!(scene.client.updates, 2);
        scene.request(true);
        scene.assert_same();
        // Everything again, though nothing changed.
        scene.client.pixels.fill(0);
        scene.request(false);
        scene.assert_same();
    }
}

#[test]
fn a_thousand_requests_are_one() {
    let mut scene = Scene::ready(64, 64, &[ZRLE]);
    let request = scene.client.request(false).repeat(1000);
    scene.send(&request);
    assert_eq!(scene.client.updates, 1);
}

#[test]
fn the_first_known_encoding_is_used_and_raw_without_any() {
    for (encodings, len) in [
        (&[7, 5, ZRLE, 0][..], 200),
        (&[0, ZRLE], 64 * 64 * 4),
        (&[7], 64 * 64 * 4),
        (&[], 64 * 64 * 4),
    ] {
        let mut scene = Scene::ready(64, 64, encodings);
        scene.session.receive(&scene.client.request(false)).unwrap();
        while scene.session.prepare(&mut scene.scratch).unwrap() {}
        let output = scene.session.output().len();
        assert!(output <= len + 16 && output > len / 8, "{encodings:?}: {output}");
    }
}

/// A client that asks and does not read.
#[test]
fn the_output_does_not_grow_while_nobody_reads() {
    let mut scene = Scene::ready(2048, 2048, &[0]);
    let request = scene.client.request(false);
    for n in 0..100 {
        scene.fill(rect(0, 0, 2048, 2048), n);
        scene.session.receive(&request).unwrap();
        while scene.session.prepare(&mut scene.scratch).unwrap() {}
        let output = scene.session.output().len();
        assert!(output <= OUTPUT_ENOUGH + 1024 * 64 * 4 + 12, "{output}");
    }
    scene.deliver();
    scene.request(true);
    scene.assert_same();
}

#[test]
fn what_changes_in_the_middle_of_an_update_is_in_the_next() {
    let mut scene = Scene::ready(300, 300, &[ZRLE]);
    scene.session.receive(&scene.client.request(false)).unwrap();
    for _ in 0..2 {
        assert!(scene.session.prepare(&mut scene.scratch).unwrap());
    }
    assert!(scene.session.is_updating());
    scene.fill(rect(0, 0, 300, 300), 7);
    // Another format holds from the next update on.
    let format =
        Format { bits: 16, depth: 16, big_endian: true, max: [31, 63, 31], shift: [11, 5, 0] };
    scene.send(&format.message());
    assert!(scene.client.is_complete());
    assert_eq!((scene.client.pixel(0, 0), scene.client.pixel(0, 299)), (0, 7));
    scene.client.format = format;
    scene.request(true);
    scene.assert_same();
}

#[test]
fn a_map_of_colours_comes_before_the_pixels() {
    let mut scene = Scene::ready(4, 4, &[0]);
    scene.fill(rect(0, 0, 4, 4), 0x00ff_00ff);
    let mut mapped = Format::NATIVE.message();
    mapped[4..8].copy_from_slice(&[8, 8, 0, 0]);
    scene.client.format = Format { bits: 8, depth: 8, ..Format::NATIVE };
    scene.send(&mapped);
    scene.request(false);
    assert_eq!(scene.client.map[scene.client.pixel(3, 3) as usize], [0xffff, 0, 0xffff]);
}

#[test]
fn the_size_follows_the_screen_if_the_client_can() {
    for (encodings, sizes) in [(&[-223, ZRLE][..], 1), (&[-308, -223, ZRLE], 4)] {
        let mut scene = Scene::ready(100, 50, encodings);
        scene.request(false);
        scene.screen.set_size(70, 90);
        scene.fill(rect(3, 3, 60, 80), 0x0001_0203);
        scene.request(true);
        assert_eq!(scene.client.size, (70, 90));
        scene.assert_same();
        // The extended one is also sent once at first, and for each request that is not incremental.
        scene.request(false);
        scene.assert_same();
        assert_eq!(scene.client.sizes.len(), sizes, "{:?}", scene.client.sizes);
        assert!(scene.client.sizes.iter().all(|(reason, status, _)| (*reason, *status) == (0, 0)));
    }
}

#[test]
fn a_client_with_a_fixed_size_sees_the_part_that_fits() {
    let mut scene = Scene::ready(100, 100, &[ZRLE]);
    scene.request(true);
    scene.screen.set_size(50, 200);
    scene.fill(rect(0, 0, 50, 200), 5);
    scene.request(true);
    assert_eq!(scene.client.size, (100, 100));
    for (x, y, wanted) in [(0, 0, 5), (49, 99, 5), (50, 0, 0), (99, 99, 0)] {
        assert_eq!(scene.client.pixel(x, y), wanted, "{x}, {y}");
    }
    // What only changes beyond it is not sent.
    let updates = scene.client.updates;
    scene.fill(rect(0, 150, 50, 50), 6);
    scene.request(true);
    assert_eq!(scene.client.updates, updates);
    scene.screen.set_size(20, 20);
    scene.fill(rect(0, 0, 20, 20), 8);
    scene.deliver();
    assert_eq!((scene.client.pixel(19, 19), scene.client.pixel(20, 20)), (8, 0));
}

#[test]
fn a_client_can_ask_for_a_size() {
    let mut scene = Scene::ready(100, 100, &[-308, ZRLE]);
    let ask = |width: u16, height: u16, screens: u8| {
        let mut bytes = vec![251, 0];
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.extend([screens, 0]);
        bytes.extend(vec![0; 16 * usize::from(screens)]);
        bytes
    };
    for ((width, height, screens), status) in [
        ((300, 200, 1), 4),
        ((300, 200, 255), 4),
        ((0, 200, 1), 3),
        ((9000, 200, 1), 3),
        ((300, 200, 0), 3),
    ] {
        scene.send(&ask(width, height, screens));
        assert_eq!(scene.client.sizes.last(), Some(&(1, status, (100, 100))));
    }
    assert_eq!(scene.session.guest.sizes, [(300, 200); 2]);
    // The guest was so fast that the screen has the size before the answer.
    scene.screen.set_size(120, 80);
    scene.send(&ask(120, 80, 1));
    assert_eq!(scene.client.sizes.last(), Some(&(1, 4, (100, 100))));
    scene.request(true);
    assert_eq!(
        (scene.client.size, scene.client.sizes.last()),
        ((120, 80), Some(&(0, 0, (120, 80))))
    );
    scene.assert_same();
    // Many at once get one answer.
    let before = scene.client.sizes.len();
    let flood = ask(5, 5, 1).repeat(1000);
    scene.send(&flood);
    assert_eq!((scene.client.sizes.len(), scene.session.guest.sizes.len()), (before + 1, 4));
    // The guest does it.
    scene.screen.set_size(300, 200);
    scene.request(true);
    assert_eq!(scene.client.size, (300, 200));
    scene.assert_same();
}

#[test]
fn keys_and_pointers_reach_the_guest() {
    let mut scene = Scene::ready(64, 32, &[-258]);
    assert!(scene.client.extended_key);
    scene.send(&[4, 1, 0, 0, 0, 0, 0, 0x61, 4, 0, 0, 0, 0, 0, 0, 0x61]);
    scene.send(&[255, 0, 0, 1, 0, 0, 0xff, 0xe3, 0, 0, 0, 0x9d]);
    assert_eq!(
        scene.session.guest.keys,
        [(true, 0x61, None), (false, 0x61, None), (true, 0xffe3, Some(0x9d))]
    );
    scene.send(&[5, 3, 0, 1, 0xff, 0xff]);
    assert_eq!(scene.session.guest.points, [((1, 0xffff), (64, 32), 3)]);
}

fn arrow(colour: u32) -> Arc<CursorImage> {
    let side = CursorImage::SIDE as usize;
    let mut pixels = vec![0; side * side];
    pixels[0] = colour;
    pixels[side + 1] = colour;
    Arc::new(CursorImage { pixels, hot_x: 1, hot_y: 0 })
}

#[test]
fn a_cursor_is_sent_to_a_client_that_draws_it() {
    let mut scene = Scene::ready(100, 100, &[-239, ZRLE]);
    scene.request(true);
    assert_eq!(scene.client.cursor, Some(ClientCursor::default()));
    scene.screen.set_cursor(Some(arrow(0xff11_2233)));
    scene.screen.move_cursor(50, 50);
    scene.request(true);
    let cursor = scene.client.cursor.clone().unwrap();
    assert_eq!((cursor.hot, cursor.size), ((1, 0), (64, 64)));
    assert_eq!((cursor.pixels[65], cursor.mask[0], cursor.mask[8]), (0x0011_2233, 0x80, 0x40));
    scene.assert_same();
    // It moves: the client knows where.
    let updates = scene.client.updates;
    scene.screen.move_cursor(60, 60);
    scene.request(true);
    assert_eq!(scene.client.updates, updates);
    scene.screen.set_cursor(None);
    scene.deliver();
    assert_eq!(scene.client.cursor, Some(ClientCursor::default()));
}

#[test]
fn a_cursor_is_drawn_for_a_client_that_does_not() {
    let mut scene = Scene::ready(100, 100, &[ZRLE]);
    scene.fill(rect(0, 0, 100, 100), 1);
    scene.screen.set_cursor(Some(arrow(0xff11_2233)));
    scene.screen.move_cursor(50, 50);
    scene.request(true);
    let at = |scene: &Scene, x| (scene.client.pixel(x, 50), scene.client.pixel(x + 1, 51));
    assert_eq!(at(&scene, 50), (0x0011_2233, 0x0011_2233));
    scene.screen.move_cursor(70, 50);
    scene.request(true);
    assert_eq!((at(&scene, 50), at(&scene, 70)), ((1, 1), (0x0011_2233, 0x0011_2233)));
    scene.screen.set_cursor(None);
    scene.request(true);
    scene.assert_same();
    // A client that learns to draw it gets it out of the picture.
    scene.screen.set_cursor(Some(arrow(0xff44_5566)));
    scene.request(true);
    assert_eq!(at(&scene, 70), (0x0044_5566, 0x0044_5566));
    scene.send(&Client::encodings(&[-239, ZRLE]));
    scene.request(true);
    scene.assert_same();
    assert_eq!(scene.client.cursor.as_ref().unwrap().size, (64, 64));
    scene.send(&Client::encodings(&[ZRLE]));
    scene.request(true);
    assert_eq!(at(&scene, 70), (0x0044_5566, 0x0044_5566));
}

#[test]
fn a_screen_without_a_size_is_a_black_pixel() {
    let mut scene = Scene::ready(0, 0, &[-308, ZRLE]);
    assert_eq!(scene.client.size, (1, 1));
    scene.request(false);
    assert_eq!(scene.client.pixels, [0]);
    scene.screen.set_size(8, 8);
    scene.request(true);
    scene.assert_same();
}

fn formats() -> impl Strategy<Value = Format> {
    let format = |bits, depth, max: [u16; 3], shift: [u8; 3]| {
        any::<bool>().prop_map(move |big_endian| Format { bits, depth, big_endian, max, shift })
    };
    prop_oneof![
        format(32, 24, [255; 3], [16, 8, 0]),
        format(32, 24, [255; 3], [0, 8, 16]),
        format(32, 24, [255; 3], [24, 16, 8]),
        format(32, 30, [1023; 3], [20, 10, 0]),
        format(32, 24, [15, 255, 3], [28, 0, 9]),
        format(16, 16, [31, 63, 31], [11, 5, 0]),
        format(16, 15, [31, 31, 31], [10, 5, 0]),
        format(8, 8, [7, 7, 3], [0, 3, 6]),
        format(8, 6, [3, 3, 3], [4, 2, 0]),
    ]
}

/// A rectangle, and how it is filled: the number of colours, and the length of runs.
type Drawing = ((u32, u32, u32, u32), u32, u32, u32);

fn drawings() -> impl Strategy<Value = Vec<Drawing>> {
    let colours = prop_oneof![Just(1_u32), 2..5_u32, 5..20_u32, 100..200_u32, Just(1 << 24)];
    let rect = (0..160_u32, 0..140_u32, 1..180_u32, 1..150_u32);
    prop::collection::vec((rect, colours, 1..700_u32, any::<u32>()), 1..6)
}

fn noise(n: u32) -> u32 {
    let n = (n ^ n >> 16).wrapping_mul(0x7feb_352d);
    let n = (n ^ n >> 15).wrapping_mul(0x846c_a68b);
    n ^ n >> 16
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Any picture, drawn in any order, looks the same at the client in any format and encoding.
    #[test]
    fn every_picture_is_the_same_at_the_client(
        size in (1..170_u32, 1..150_u32),
        format in formats(),
        encoding in prop_oneof![Just(0), Just(ZRLE)],
        drawings in drawings(),
        resize in prop::option::of((1..170_u32, 1..150_u32)),
    ) {
        let mut scene = Scene::ready(size.0, size.1, &[encoding, -308]);
        scene.client.format = format;
        scene.send(&format.message());
        scene.request(false);
        for (n, ((x, y, width, height), colours, run, seed)) in drawings.into_iter().enumerate() {
            if let (2, Some((width, height))) = (n, resize) {
                scene.screen.set_size(width, height);
            }
            scene.screen.draw(rect(x, y, width, height), |number, row| {
                for (pixel, column) in row.iter_mut().zip(0..) {
                    let at = (number * width + column) / run;
                    *pixel = noise(noise(seed ^ at) % colours) & 0x00ff_ffff;
                }
            });
            scene.request(true);
            scene.assert_same();
        }
    }

    /// Any bytes: no panic, and no output beyond the bound.
    #[test]
    fn no_bytes_are_too_bad(bytes in prop::collection::vec(any::<u8>(), 0..300), hello: bool) {
        let mut scene = Scene::new(10, 10);
        if hello {
            scene.send(Client::HELLO);
        }
        let _ended = scene.session.receive(&bytes);
        for _ in 0..1000 {
            if !scene.session.prepare(&mut scene.scratch).unwrap() {
                break;
            }
        }
        prop_assert!(scene.session.output().len() < OUTPUT_ENOUGH + 300_000);
    }
}
