//! The line editor: what is typed, echoed and corrected until the line ends.
//!
//! | keys | do |
//! |---|---|
//! | left, right, Ctrl-B, Ctrl-F; home, end, Ctrl-A, Ctrl-E | move |
//! | backspace, delete; Ctrl-W, Ctrl-U, Ctrl-K | delete a character; the word before, everything before, everything behind |
//! | up, down, Ctrl-P, Ctrl-N | earlier lines |
//! | tab | completes a command's name |
//! | Ctrl-C | drops the line |
//! | Ctrl-D | on an empty line, the end of the input; otherwise ends the line |
//!
//! (On a terminal, Ctrl-A is the first of cafevm's own keys: Ctrl-A Ctrl-A sends it.)

use rt::console::{self, CONTROL_C};
use rt::println;

use crate::history::{History, MAX};
use crate::keys::{Key, Keys};
use crate::screen;

/// A line that was typed.
pub(crate) enum Line<'a> {
    /// Its text.
    Text(&'a str),
    /// More than this many bytes.
    TooLong(usize),
    /// Not UTF-8.
    NotText,
    /// There are no more lines.
    End,
}

/// Reads lines from the console.
pub(crate) struct Editor {
    bytes: [u8; MAX],
    len: usize,
    /// Where the next byte goes: at most `len`, between two characters.
    cursor: usize,
    too_long: bool,
    keys: Keys,
    history: History,
    prompt: &'static str,
    names: &'static [&'static str],
}

enum Step {
    /// The line goes on.
    More,
    Done,
    End,
}

impl Editor {
    /// An editor with nothing typed yet. Tab completes the first word of a line to one of `names`.
    pub(crate) fn new(prompt: &'static str, names: &'static [&'static str]) -> Editor {
        Editor {
            bytes: [0; MAX],
            len: 0,
            cursor: 0,
            too_long: false,
            keys: Keys::new(),
            history: History::new(),
            prompt,
            names,
        }
    }

    /// The next line; sleeps until it is complete. Ctrl-C gives an empty one.
    pub(crate) fn read_line(&mut self) -> Line<'_> {
        (self.len, self.cursor, self.too_long) = (0, 0, false);
        self.history.rewind();
        loop {
            match self.take(screen::wait_for_byte()) {
                Step::More => {}
                Step::Done => break,
                Step::End => return Line::End,
            }
        }
        if !self.too_long {
            self.history.add(&self.bytes[..self.len]);
        }
        match core::str::from_utf8(&self.bytes[..self.len]) {
            _ if self.too_long => Line::TooLong(MAX),
            Ok(text) => Line::Text(text),
            Err(_) => Line::NotText,
        }
    }

    fn take(&mut self, byte: u8) -> Step {
        let Some(key) = self.keys.take(byte) else { return Step::More };
        match key {
            Key::Enter => {
                self.move_to(self.len);
                println!();
                return Step::Done;
            }
            Key::Control(CONTROL_C) => {
                self.move_to(self.len);
                println!("^C");
                (self.len, self.cursor, self.too_long) = (0, 0, false);
                return Step::Done;
            }
            Key::Control(CONTROL_D) => {
                println!();
                return if self.len == 0 { Step::End } else { Step::Done };
            }
            Key::Text(byte) => self.insert(&[byte]),
            Key::Tab => self.complete(),
            Key::Backspace => self.delete(self.before(self.cursor), self.cursor),
            Key::Delete => self.delete(self.cursor, self.behind(self.cursor)),
            Key::Left => self.move_to(self.before(self.cursor)),
            Key::Right => self.move_to(self.behind(self.cursor)),
            Key::Home => self.move_to(0),
            Key::End => self.move_to(self.len),
            Key::Up => self.recall(History::earlier),
            Key::Down => self.recall(History::later),
            Key::Control(CONTROL_U) => {
                self.delete(0, self.cursor);
                self.too_long = false;
            }
            Key::Control(CONTROL_K) => self.delete(self.cursor, self.len),
            Key::Control(CONTROL_W) => self.delete(self.word_before(), self.cursor),
            // Other control characters are no text.
            Key::Control(_) => {}
        }
        Step::More
    }

    fn insert(&mut self, text: &[u8]) {
        for &byte in text {
            if self.len == MAX {
                self.too_long = true;
                return;
            }
            self.bytes.copy_within(self.cursor..self.len, self.cursor + 1);
            self.bytes[self.cursor] = byte;
            (self.len, self.cursor) = (self.len + 1, self.cursor + 1);
            console::send(byte);
        }
        self.show_rest(0);
    }

    /// Deletes the bytes from `from` to `to`, which lie on either side of the cursor or at it.
    fn delete(&mut self, from: usize, to: usize) {
        let gone = columns(&self.bytes[from..to]);
        self.move_to(to);
        for _ in 0..gone {
            console::send_text(b"\x08 \x08");
        }
        self.bytes.copy_within(to..self.len, from);
        (self.len, self.cursor) = (self.len - (to - from), from);
        self.show_rest(gone);
    }

    /// Shows what stands behind the cursor once more, then `gone` blanks over what stood there, and comes back.
    fn show_rest(&self, gone: usize) {
        let rest = &self.bytes[self.cursor..self.len];
        if rest.is_empty() {
            return;
        }
        console::send_text(rest);
        (0..gone).for_each(|_| console::send(b' '));
        (0..columns(rest) + gone).for_each(|_| console::send(BACKSPACE));
    }

    fn move_to(&mut self, to: usize) {
        if to < self.cursor {
            (0..columns(&self.bytes[to..self.cursor])).for_each(|_| console::send(BACKSPACE));
        } else {
            console::send_text(&self.bytes[self.cursor..to]);
        }
        self.cursor = to;
    }

    fn recall(&mut self, which: fn(&mut History, &[u8]) -> Option<usize>) {
        let Some(index) = which(&mut self.history, &self.bytes[..self.len]) else { return };
        self.move_to(self.len);
        self.delete(0, self.len);
        self.too_long = false;
        let (line, len) = self.history.line(index);
        self.insert(&line[..len]);
    }

    /// Completes a command's name, or lists those that are possible. Behind the first word, a tab is a space.
    fn complete(&mut self) {
        let typed = &self.bytes[..self.cursor];
        if self.cursor != self.len || typed.is_empty() || typed.contains(&b' ') {
            return self.insert(b" ");
        }
        let mut found =
            self.names.iter().map(|name| name.as_bytes()).filter(|name| name.starts_with(typed));
        let Some(first) = found.next() else { return };
        let common = found.clone().fold(first.len(), |common, name| {
            first.iter().zip(name).take(common).take_while(|(a, b)| a == b).count()
        });
        let one = found.next().is_none();
        if common > self.len {
            self.insert(&first[self.len..common]);
        } else if !one {
            self.list();
        }
        if one {
            self.insert(b" ");
        }
    }

    /// Lists the names that begin with what is typed, then shows the line again.
    fn list(&self) {
        println!();
        let typed = &self.bytes[..self.len];
        for name in self.names.iter().filter(|name| name.as_bytes().starts_with(typed)) {
            console::send_text(name.as_bytes());
            console::send(b' ');
        }
        println!();
        console::send_text(self.prompt.as_bytes());
        console::send_text(typed);
    }

    /// Where the character before `at` begins.
    fn before(&self, at: usize) -> usize {
        let begins = |&n: &usize| !is_continuation(self.bytes[n]);
        (0..at).rev().find(begins).unwrap_or(0)
    }

    /// Where the character at `at` ends.
    fn behind(&self, at: usize) -> usize {
        let begins = |&n: &usize| !is_continuation(self.bytes[n]);
        (at..self.len).skip(1).find(begins).unwrap_or(self.len)
    }

    /// Where the word before the cursor begins.
    fn word_before(&self) -> usize {
        let before = self.bytes[..self.cursor].trim_ascii_end();
        before.iter().rposition(|byte| *byte == b' ').map_or(0, |space| space + 1)
    }
}

const CONTROL_D: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const CONTROL_K: u8 = 0x0b;
const CONTROL_U: u8 = 0x15;
const CONTROL_W: u8 = 0x17;

const fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// The columns that a text takes: one a character.
fn columns(text: &[u8]) -> usize {
    text.iter().filter(|byte| !is_continuation(**byte)).count()
}
