//! A VNC client that does anything: for the fuzzer and for the replay of its corpus.
//!
//! The first byte says which: a client that sends any bytes, of which only bounds are known; or one that sends messages as
//! a script says, and that must see what the screen shows.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and makes small numbers"
)]

use std::sync::Arc;

use cafevm::display::rfb::{Guest, OUTPUT_ENOUGH, Scratch, Session};
use cafevm_devices::display::{CursorImage, Rect, Screen};

use crate::client::{Client, Format};

/// The most bytes of one rectangle: pixels of 4 bytes, and what zlib adds.
const RECTANGLE_MAX: usize = 300_000;
/// The sides of the screen are smaller.
const SIDE: u32 = 150;

/// Takes everything.
struct Anything;

impl Guest for Anything {
    fn key(&mut self, _: bool, _: u32, _: Option<u32>) {}
    fn pointer(&mut self, _: (u16, u16), size: (u32, u32), _: u8) {
        assert!(size.0 > 0 && size.1 > 0);
    }
    fn resize(&mut self, width: u32, height: u32) {
        assert!((1..=8192).contains(&width) && (1..=8192).contains(&height));
    }
}

/// Carries a script out.
pub(crate) fn check(script: &[u8]) {
    let Some((first, script)) = script.split_first() else { return };
    let mut scene = Scene::new();
    if first & 1 == 0 {
        scene.any_bytes(first & 2 != 0, script);
    } else {
        scene.messages(script);
    }
}

struct Scene {
    screen: Screen,
    session: Session<Anything>,
    scratch: Scratch,
    client: Client,
}

impl Scene {
    fn new() -> Self {
        let screen = Screen::default();
        screen.set_size(100, 70);
        let session = Session::new(Anything, &screen, screen.viewer(None), None);
        let (scratch, client) = (Scratch::default(), Client::new());
        Self { screen, session, scratch, client }
    }

    /// Any bytes, after a handshake or not; the output is sent in bits, or not at all.
    fn any_bytes(&mut self, hello: bool, script: &[u8]) {
        if hello {
            self.session.receive(Client::HELLO).unwrap();
        }
        for (n, part) in script.chunks(16).enumerate() {
            let was_over = self.session.is_over();
            if self.session.receive(part).is_err() {
                assert!(!was_over && self.session.is_over());
            }
            while self.session.prepare(&mut self.scratch).unwrap() {
                self.check_output();
            }
            self.check_output();
            self.session.sent(self.session.output().len() / (1 + n % 3));
            self.screen.draw(Rect { x: 1, y: n as u32, width: 3, height: 1 }, |_, row| row.fill(1));
        }
    }

    fn check_output(&self) {
        assert!(self.session.output().len() < OUTPUT_ENOUGH + RECTANGLE_MAX);
    }

    /// Messages, drawings, changes of the size and of the cursor.
    fn messages(&mut self, script: &[u8]) {
        self.send(Client::HELLO);
        self.deliver(usize::MAX);
        for op in script.chunks_exact(6) {
            let [kind, a, b, c, d, e] = op else { continue };
            let [a, b, c, d, e] = [a, b, c, d, e].map(|byte| u32::from(*byte));
            match kind % 12 {
                0 | 1 => self.draw(Rect { x: a, y: b, width: c, height: d }, e),
                2 => self.screen.set_size(a % SIDE, b % SIDE),
                3 => self.set_encodings(a as u8),
                4 => self.set_format(a as usize),
                5 => self.request(a & 1 != 0),
                6 => self.deliver((a << 8 | b) as usize),
                7 => self.send(&[251, 0, a as u8, b as u8, c as u8, d as u8, 0, 0]),
                8 => self.set_cursor(a),
                9 => self.screen.move_cursor(a.cast_signed() - 64, b.cast_signed() - 64),
                10 => self.send(&[5, a as u8, b as u8, c as u8, d as u8, e as u8]),
                _ => {
                    let bytes = [a, b, c, d, e].map(|number| number as u8);
                    let [down, sym, sym_low, scan, scan_low] = bytes;
                    self.send(&[255, 0, 0, down, 0, 0, sym, sym_low, 0, 0, scan, scan_low]);
                }
            }
        }
        self.settle();
    }

    fn send(&mut self, bytes: &[u8]) {
        self.session.receive(bytes).unwrap();
    }

    fn request(&mut self, incremental: bool) {
        let request = self.client.request(incremental);
        self.send(&request);
    }

    /// The client gets at most `most` bytes.
    fn deliver(&mut self, mut most: usize) {
        loop {
            let more = self.session.prepare(&mut self.scratch).unwrap();
            self.check_output();
            let part = self.session.output().len().min(most);
            let bytes = self.session.output()[..part].to_vec();
            self.client.receive(&bytes);
            self.session.sent(part);
            most -= part;
            if most == 0 || !more && part == 0 {
                break;
            }
        }
    }

    fn draw(&self, rect: Rect, seed: u32) {
        self.screen.draw(rect, |number, row| {
            for (pixel, column) in row.iter_mut().zip(0..) {
                // From one colour to many, in short runs and long ones.
                let at = number * rect.width + column;
                *pixel = (at / (1 + seed % 7) % (1 + seed)).wrapping_mul(0x0001_0503) & 0x00ff_ffff;
            }
        });
    }

    fn set_encodings(&mut self, bits: u8) {
        let all = [16, -239, -223, -308, -258, 0];
        let encodings: Vec<_> = (0..6).filter(|n| bits >> n & 1 != 0).map(|n| all[n]).collect();
        self.send(&Client::encodings(&encodings));
    }

    /// A format holds from the next update on, so the client waits for the end of this one.
    fn set_format(&mut self, number: usize) {
        self.deliver(usize::MAX);
        let wide =
            Format { bits: 32, depth: 30, max: [1023; 3], shift: [20, 10, 0], ..Format::NATIVE };
        let formats = [
            Format::NATIVE,
            Format { big_endian: true, ..Format::NATIVE },
            Format { shift: [24, 16, 8], ..Format::NATIVE },
            Format { bits: 16, depth: 16, max: [31, 63, 31], shift: [11, 5, 0], ..Format::NATIVE },
            Format { bits: 8, depth: 8, max: [7, 7, 3], shift: [0, 3, 6], ..Format::NATIVE },
            wide,
        ];
        let format = formats[number % formats.len()];
        self.send(&format.message());
        // Nothing of the old format follows, and the whole picture does in the new one.
        self.client.format = format;
        self.request(false);
        self.deliver(usize::MAX);
    }

    fn set_cursor(&mut self, seed: u32) {
        let pixels = || vec![seed << 24 | 0x0012_3456; 64 * 64];
        let image = || CursorImage { pixels: pixels(), hot_x: seed, hot_y: seed / 2 };
        self.screen.set_cursor((seed & 1 != 0).then(|| Arc::new(image())));
    }

    /// In the end the client sees what the screen shows.
    fn settle(&mut self) {
        self.screen.set_cursor(None);
        self.deliver(usize::MAX);
        // The first request may be answered by a size, after which the client knows what to ask for.
        for _ in 0..2 {
            self.request(false);
            self.deliver(usize::MAX);
        }
        assert!(self.client.is_complete());
        let (width, height) = (u32::from(self.client.size.0), u32::from(self.client.size.1));
        self.screen.look(|picture, _| {
            for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                let wanted = picture.row(y, x, 1).first().copied().unwrap_or(0);
                assert_eq!(self.client.pixel(x, y), self.client.format.of(wanted), "{x}, {y}");
            }
        });
    }
}
