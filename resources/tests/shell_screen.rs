//! The parts of the shell's screen that need no machine: its text, its glyphs, its keyboard.

#[path = "../guests/shell/src/font.rs"]
mod font;
#[path = "../guests/shell/src/keyboard.rs"]
mod keyboard;
#[path = "../guests/shell/src/terminal.rs"]
mod terminal;

use std::collections::HashSet;

use font::{HEIGHT, WIDTH, glyph};
use keyboard::Keyboard;
use terminal::{COLUMNS_MAX, ROWS_MAX, Terminal};

/// What has been painted: the rows that the host has, and where the cursor is on the screen.
struct Picture {
    rows: Vec<Vec<u8>>,
    cursor: (usize, usize),
    /// Cells painted so far.
    painted: usize,
}

impl Picture {
    fn new(terminal: &Terminal) -> Self {
        let rows = vec![vec![b' '; terminal.size().0]; terminal.picture_rows()];
        Self { rows, cursor: (0, 0), painted: 0 }
    }

    fn paint(&mut self, terminal: &mut Terminal) {
        let mut cursor = None;
        terminal.paint(|piece| {
            let row = &mut self.rows[piece.row];
            for (n, cell) in piece.cells.iter().enumerate() {
                row[piece.column + n] = if *cell == 0 { b' ' } else { *cell };
            }
            if let Some(at) = piece.cursor {
                cursor = Some((piece.row, piece.column + at));
            }
            self.painted += piece.cells.len();
        });
        if let Some((row, column)) = cursor {
            self.cursor = (row - terminal.top_row(), column);
        }
    }

    /// The rows that are seen, and the one below them.
    fn seen(&self, terminal: &Terminal) -> Vec<String> {
        let (top, rows) = (terminal.top_row(), terminal.size().1);
        let rows = self.rows[top..top + rows + 1].iter();
        rows.map(|row| String::from_utf8_lossy(row).trim_end().to_owned()).collect()
    }
}

/// A fresh one: it is too large for a test's stack.
fn terminal() -> Box<Terminal> {
    let mut terminal = Box::new(const { Terminal::new() });
    terminal.resize(20, 5, 14);
    terminal
}

/// The last lines of `text` on `rows` rows, and a blank one.
fn wanted(text: &str, columns: usize, rows: usize) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for character in text.chars() {
        if character != '\n' {
            line.push(character);
        }
        if character == '\n' || line.len() == columns {
            lines.push(std::mem::take(&mut line));
        }
    }
    lines.push(line);
    let first = lines.len().saturating_sub(rows);
    let mut lines: Vec<_> = lines[first..].iter().map(|line| line.trim_end().to_owned()).collect();
    lines.resize(rows + 1, String::new());
    lines
}

#[test]
fn lines_wrap_and_scroll() {
    let mut terminal = terminal();
    let mut picture = Picture::new(&terminal);
    let mut text = String::new();
    let mut random = 1_u32;
    for n in 0..2000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Up to three wrapped lines at once, and often many of them between two paintings.
        let piece = format!("{n} {}\n", "x".repeat((random >> 16) as usize % 50));
        text += &piece;
        terminal.write(piece.as_bytes());
        if random >> 8 & 3 == 0 {
            picture.paint(&mut terminal);
            assert_eq!(picture.seen(&terminal), wanted(&text, 20, 5), "after {n} lines");
        }
    }
}

#[test]
fn only_what_changes_is_painted() {
    let mut terminal = terminal();
    let mut picture = Picture::new(&terminal);
    terminal.write(b"abc\ndef");
    picture.paint(&mut terminal);
    assert_eq!(picture.cursor, (1, 3));
    picture.painted = 0;
    picture.paint(&mut terminal);
    assert_eq!(picture.painted, 0);
    // The character, and the cursor after it.
    terminal.write(b"g");
    picture.paint(&mut terminal);
    assert_eq!((picture.painted, picture.cursor), (2, (1, 4)));
    // A thousand lines between two paintings: those that are left, no wider than what was and what is there.
    picture.painted = 0;
    (0..1000).for_each(|_| terminal.write(b"1234\n"));
    picture.paint(&mut terminal);
    assert_eq!(picture.seen(&terminal), ["1234", "1234", "1234", "1234", "", ""]);
    assert!(picture.painted <= 6 * 5, "{} cells", picture.painted);
    // Two lines before them, and the last of 5 rows is the cursor's.
    assert_eq!(terminal.scrolled(), 1001 - 4);
}

#[test]
fn a_line_is_edited_across_its_wrap() {
    let mut terminal = terminal();
    let mut picture = Picture::new(&terminal);
    let mut shows = |terminal: &mut Terminal, lines: &[&str], cursor| {
        picture.paint(terminal);
        let seen = picture.seen(terminal);
        let seen: Vec<_> =
            seen.iter().map(String::as_str).filter(|line| !line.is_empty()).collect();
        assert_eq!((seen.as_slice(), picture.cursor), (lines, cursor));
    };
    // As the line editor of the shell moves: 25 characters, back by 7, one rubbed out, two written.
    terminal.write(b"abcdefghijklmnopqrstuvwxy");
    shows(&mut terminal, &["abcdefghijklmnopqrst", "uvwxy"], (1, 5));
    terminal.write(b"\x08\x08\x08\x08\x08\x08\x08");
    shows(&mut terminal, &["abcdefghijklmnopqrst", "uvwxy"], (0, 18));
    terminal.write(b"\x08 \x08stuvwxy \x08\x08\x08\x08\x08\x08\x08\x08");
    shows(&mut terminal, &["abcdefghijklmnopqstu", "vwxy"], (0, 17));
    terminal.write(b"!!!stuvwxy");
    shows(&mut terminal, &["abcdefghijklmnopq!!!", "stuvwxy"], (1, 7));
    // Not across the end of a line.
    terminal.write(b"\n\x08\x08a\tb\x07\xc3\xa9\xf0\x9f\xa6\x80!");
    shows(&mut terminal, &["abcdefghijklmnopq!!!", "stuvwxy", "a       b\x7f\x7f!"], (2, 12));
}

#[test]
fn another_size_shows_the_last_lines() {
    let mut terminal = terminal();
    let mut text = String::new();
    let sizes =
        [(20, 5), (30, 9), (20, 3), (COLUMNS_MAX, ROWS_MAX), (20, 7), (1, 1), (40, ROWS_MAX)];
    // Shorter than the narrowest: what has wrapped stays so.
    for round in 0..3 {
        for (columns, rows) in sizes {
            terminal.resize(columns, rows, rows + 1 + rows * round);
            let mut picture = Picture::new(&terminal);
            for n in 0..round * 150 {
                if columns > 4 {
                    let line = format!("{n}\n");
                    terminal.write(line.as_bytes());
                    text += &line;
                }
            }
            picture.paint(&mut terminal);
            if columns > 4 {
                assert_eq!(
                    picture.seen(&terminal),
                    wanted(&text, columns, rows),
                    "{columns}x{rows}"
                );
            }
        }
    }
    // Before the first size there is no room for text.
    let mut terminal = Box::new(const { Terminal::new() });
    terminal.write(b"text\n");
    assert_eq!(terminal.scrolled(), 0);
}

#[test]
fn every_character_has_its_own_glyph() {
    let glyphs: HashSet<_> = (b' '..=0x7f).map(glyph).collect();
    assert_eq!(glyphs.len(), 96);
    assert_eq!(glyph(0), &[0; HEIGHT]);
    assert_eq!(glyph(b' '), &[0; HEIGHT]);
    assert_eq!(WIDTH, 8);
    for character in b'!'..=0x7f {
        let glyph = glyph(character);
        // A column and a row at least between two of them.
        assert!(glyph.iter().all(|row| row & 0x81 == 0), "{}", char::from(character));
        assert!(glyph[0] == 0 && glyph[1] == 0, "{}", char::from(character));
        assert!(glyph.iter().any(|row| *row != 0), "{}", char::from(character));
    }
}

/// Presses and lets go of each key; those in `held` stay down meanwhile.
fn typed(keyboard: &mut Keyboard, held: &[u16], keys: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let downs = held.iter().map(|key| (*key, 1));
    let pressed = keys.iter().flat_map(|key| [(*key, 1), (*key, 0)]);
    let ups = held.iter().map(|key| (*key, 0));
    for (key, value) in downs.chain(pressed).chain(ups) {
        bytes.extend(keyboard.take(key, value).iter().flat_map(|bytes| bytes.as_slice().to_vec()));
    }
    bytes
}

#[test]
fn keys_of_a_us_keyboard_send_what_a_terminal_sends() {
    const KEY_H: u16 = 35;
    const KEY_1: u16 = 2;
    const KEY_C: u16 = 46;
    let mut keyboard = Keyboard::new();
    let rows: [(std::ops::RangeInclusive<u16>, &str, &str); 4] = [
        (2..=13, "1234567890-=", "!@#$%^&*()_+"),
        (16..=27, "qwertyuiop[]", "QWERTYUIOP{}"),
        (30..=41, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
        (43..=53, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    ];
    for (keys, plain, shifted) in rows {
        let keys: Vec<_> = keys.collect();
        assert_eq!(typed(&mut keyboard, &[], &keys), plain.as_bytes());
        assert_eq!(typed(&mut keyboard, &[42], &keys), shifted.as_bytes());
        assert_eq!(typed(&mut keyboard, &[54], &keys), shifted.as_bytes());
    }
    assert_eq!(typed(&mut keyboard, &[], &[57, 28, 15, 14]), b" \r\t\x7f");
    assert_eq!(typed(&mut keyboard, &[], &[103, 108, 106, 105]), b"\x1b[A\x1b[B\x1b[C\x1b[D");
    assert_eq!(typed(&mut keyboard, &[], &[102, 107, 111]), b"\x1b[H\x1b[F\x1b[3~");
    assert_eq!(typed(&mut keyboard, &[], &[71, 76, 82, 83, 55, 98, 74, 78, 96]), b"750.*/-+\r");
    // Control with a letter; with what has no such byte, and with alt, nothing.
    assert_eq!(typed(&mut keyboard, &[29], &[KEY_C, KEY_1, KEY_H]), b"\x03\x08");
    assert_eq!(typed(&mut keyboard, &[97], &[30]), b"\x01");
    assert_eq!(typed(&mut keyboard, &[56], &[KEY_H]), b"");
    // Caps lock is for letters, and shift undoes it.
    assert_eq!(typed(&mut keyboard, &[], &[58, KEY_H, KEY_1]), b"H1");
    assert!(keyboard.caps_lock());
    assert_eq!(typed(&mut keyboard, &[42], &[KEY_H, KEY_1]), b"h!");
    assert_eq!(typed(&mut keyboard, &[], &[58, KEY_H]), b"h");
    // Held, a key repeats; caps lock does not.
    assert_eq!(keyboard.take(KEY_H, 2).unwrap().as_slice(), b"h");
    assert_eq!(keyboard.take(58, 2), None);
    assert!(!keyboard.caps_lock());
    // Keys that send nothing here, and codes of no key.
    for code in [0, 1, 59, 69, 99, 104, 110, 125, 0x110, u16::MAX] {
        assert_eq!(typed(&mut keyboard, &[], &[code]), b"", "{code}");
    }
}
