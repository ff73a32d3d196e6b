//! Shares one terminal between log lines and the guest's output.
//!
//! A log line begins on a new line. If the guest's current line is short, such as a prompt with typed text, it is
//! erased, the log line takes its place, and the guest's line is repeated below. If it cannot be repeated (it is long,
//! or has escape sequences), the log line begins on the next line, and the guest's line continues after it.
//!
//! A writer holds the lock while it waits for the terminal. Only the two writing threads take the lock, and both wait
//! for the same reader.

use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::fstat;
use rustix::stdio::{stderr, stdout};
use rustix::termios::isatty;

static LINE: Mutex<Line> = Mutex::new(Line::new());

/// Whether standard output and standard error are one terminal.
pub(crate) fn is_shared() -> bool {
    static SHARED: OnceLock<bool> = OnceLock::new();
    *SHARED.get_or_init(|| {
        let device = |file: BorrowedFd<'static>| {
            let terminal = Some(file).filter(|file| isatty(file));
            terminal.and_then(|file| fstat(file).ok()).map(|stat| stat.st_rdev)
        };
        device(stdout()).is_some_and(|out| device(stderr()) == Some(out))
    })
}

/// The guest's last line; locked while anything is written to the shared terminal.
pub(crate) fn lock() -> MutexGuard<'static, Line> {
    LINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A longer line may be wider than the terminal, so that it cannot be erased completely.
const MOST: usize = 79;
/// Erases the rest of the line.
const ERASE: &[u8] = b"\x1b[K";

/// The content of the guest's last line, as far as it is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// It has unknown content.
    open: bool,
    /// Its whole content is `text`.
    known: bool,
    text: Vec<u8>,
    /// The column of the next byte.
    cursor: usize,
    /// The number of bytes of [`ERASE`] that arrived.
    erase: usize,
}

impl Line {
    const fn new() -> Self {
        Self { open: false, known: true, text: Vec::new(), cursor: 0, erase: 0 }
    }

    /// Takes the guest's output.
    pub(crate) fn guest_wrote(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.take(byte);
        }
    }

    fn take(&mut self, byte: u8) {
        if byte == b'\n' {
            *self = Self::new();
            return;
        }
        self.open = true;
        if ERASE.get(self.erase) == Some(&byte) {
            self.erase += 1;
            if self.erase == ERASE.len() {
                self.erase = 0;
                self.text.truncate(self.cursor);
            }
            return;
        }
        // Another escape sequence starts.
        self.known &= self.erase == 0;
        self.erase = 0;
        match byte {
            b'\r' => self.cursor = 0,
            0x08 => self.cursor = self.cursor.saturating_sub(1),
            0x07 => {}
            b' '..=b'~' if self.cursor < MOST => {
                match self.text.get_mut(self.cursor) {
                    Some(there) => *there = byte,
                    None => self.text.push(byte),
                }
                self.cursor += 1;
            }
            _ => self.known = false,
        }
    }

    /// The bytes to write before log lines. `ansi`: the terminal supports escape sequences.
    pub(crate) fn before_log(&self, ansi: bool) -> &'static [u8] {
        match (self.open, self.known && ansi) {
            (false, _) => b"",
            (true, true) => b"\r\x1b[K",
            (true, false) => b"\n",
        }
    }

    /// The bytes to write after log lines.
    pub(crate) fn after_log(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if self.open && self.known {
            text.extend(&self.text);
            text.resize(text.len() + self.text.len().saturating_sub(self.cursor), 0x08);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(guest: &[u8]) -> (&'static str, String) {
        let mut line = Line::new();
        line.guest_wrote(guest);
        let before = std::str::from_utf8(line.before_log(true)).unwrap();
        (before, String::from_utf8(line.after_log()).unwrap())
    }

    #[test]
    fn a_line_that_has_ended_is_left_alone() {
        for guest in [&b""[..], b"ready\r\n", b"\x1b[1mbold\n", &[b'x'; 200], b"\xff"] {
            let ended = [guest, b"\n"].concat();
            assert_eq!(around(&ended), ("", String::new()), "{guest:?}");
        }
    }

    #[test]
    fn a_short_line_is_repeated_as_it_stands() {
        let again = |text: &str| ("\r\x1b[K", text.to_owned());
        assert_eq!(around(b"ok\r\ncafevm> wri"), again("cafevm> wri"));
        assert_eq!(around(b"> writ\x08 \x08"), again("> wri \x08"), "a key was taken back");
        assert_eq!(around(b"> abc\r> x\x1b[K"), again("> x"), "a line editor drew it anew");
        assert_eq!(around(b"> abc\x08\x08"), again("> abc\x08\x08"), "the cursor stands within");
        assert_eq!(around(b"50%\r"), again("50%\x08\x08\x08"));
    }

    #[test]
    fn a_line_that_is_not_known_is_continued_below() {
        for guest in [&[b'x'; 80][..], b"\x1b[1m> ", b"\xc3\xa4", b"a\tb", b"\x1b[2K"] {
            assert_eq!(around(guest), ("\n", String::new()), "{guest:?}");
        }
    }

    #[test]
    fn a_terminal_without_escape_sequences_gets_none() {
        let mut line = Line::new();
        line.guest_wrote(b"> ");
        assert_eq!((line.before_log(false), line.after_log()), (&b"\n"[..], b"> ".to_vec()));
    }
}
