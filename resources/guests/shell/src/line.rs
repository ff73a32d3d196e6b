//! The line editor: what is typed, echoed and mended until the line ends.

use rt::console::{self, CONTROL_C};
use rt::println;

/// Longer than any command can be: a sector's text, and the words before it.
const MAX: usize = 640;

const BACKSPACE: u8 = 0x08;
const CONTROL_U: u8 = 0x15;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// A line that was typed.
pub(crate) enum Line<'a> {
    /// Its text.
    Text(&'a str),
    /// More than this many bytes.
    TooLong(usize),
    /// Not UTF-8.
    NotText,
}

/// Where in a terminal's escape sequence the input is: arrow keys and their like are passed over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sequence {
    None,
    Escape,
    Parameters,
}

/// Reads lines from the console.
pub(crate) struct Editor {
    bytes: [u8; MAX],
    len: usize,
    too_long: bool,
    /// The last line was ended by a carriage return: a line feed right after it belongs to that line end.
    after_return: bool,
    sequence: Sequence,
}

impl Editor {
    /// An editor with nothing typed yet.
    pub(crate) fn new() -> Editor {
        Editor {
            bytes: [0; MAX],
            len: 0,
            too_long: false,
            after_return: false,
            sequence: Sequence::None,
        }
    }

    /// The next line; sleeps until it is complete. Ctrl-C gives an empty one.
    pub(crate) fn read_line(&mut self) -> Line<'_> {
        self.len = 0;
        self.too_long = false;
        while !self.take(console::wait_for_byte()) {}
        match core::str::from_utf8(&self.bytes[..self.len]) {
            _ if self.too_long => Line::TooLong(MAX),
            Ok(text) => Line::Text(text),
            Err(_) => Line::NotText,
        }
    }

    /// Takes one byte. True where the line is complete.
    fn take(&mut self, byte: u8) -> bool {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        match (self.sequence, byte) {
            (Sequence::Escape, b'[' | b'O') => {
                self.sequence = Sequence::Parameters;
                return false;
            }
            // The byte that ends a sequence.
            (Sequence::Parameters, 0x40..=0x7e) => {
                self.sequence = Sequence::None;
                return false;
            }
            (Sequence::Parameters, 0x20..=0x3f) => return false,
            _ => self.sequence = Sequence::None,
        }
        match byte {
            b'\n' if after_return => {}
            b'\r' | b'\n' => {
                println!();
                return true;
            }
            CONTROL_C => {
                println!("^C");
                self.len = 0;
                self.too_long = false;
                return true;
            }
            ESCAPE => self.sequence = Sequence::Escape,
            BACKSPACE | DELETE => self.erase(),
            CONTROL_U => {
                while self.len > 0 {
                    self.erase();
                }
                self.too_long = false;
            }
            b'\t' => self.put(b' '),
            // Other control characters are no text.
            0..0x20 => {}
            _ => self.put(byte),
        }
        false
    }

    fn put(&mut self, byte: u8) {
        if self.len == MAX {
            self.too_long = true;
            return;
        }
        self.bytes[self.len] = byte;
        self.len += 1;
        console::send(byte);
    }

    /// Takes the last character back: up to four bytes, one column.
    fn erase(&mut self) {
        let is_continuation = |byte: u8| byte & 0xc0 == 0x80;
        if self.len == 0 {
            return;
        }
        self.len -= 1;
        while self.len > 0 && is_continuation(self.bytes[self.len]) {
            self.len -= 1;
        }
        console::send_text(b"\x08 \x08");
    }
}
