//! From the bytes that a terminal sends to the keys that were pressed.

/// A key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// A byte of text.
    Text(u8),
    Enter,
    Tab,
    Backspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    /// Another control character.
    Control(u8),
}

/// Where in a terminal's escape sequence the input is (ECMA-48, 5.4).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sequence {
    None,
    Escape,
    /// The first parameter so far.
    Parameters(u8),
}

/// Puts keys together.
pub(crate) struct Keys {
    /// The last byte was a carriage return: a line feed right after it belongs to that line end.
    after_return: bool,
    sequence: Sequence,
}

const ESCAPE: u8 = 0x1b;

impl Keys {
    pub(crate) const fn new() -> Keys {
        Keys { after_return: false, sequence: Sequence::None }
    }

    /// Takes one byte. None where it completes no key.
    pub(crate) fn take(&mut self, byte: u8) -> Option<Key> {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        match (self.sequence, byte) {
            (Sequence::Escape, b'[' | b'O') => {
                self.sequence = Sequence::Parameters(0);
                return None;
            }
            (Sequence::Parameters(first), b'0'..=b'9') => {
                let first = first.saturating_mul(10).saturating_add(byte - b'0');
                self.sequence = Sequence::Parameters(first);
                return None;
            }
            (Sequence::Parameters(_), 0x20..=0x3f) => return None,
            // The byte that ends a sequence.
            (Sequence::Parameters(first), 0x40..=0x7e) => {
                self.sequence = Sequence::None;
                return named(first, byte);
            }
            _ => self.sequence = Sequence::None,
        }
        Some(match byte {
            b'\n' if after_return => return None,
            b'\r' | b'\n' => Key::Enter,
            b'\t' => Key::Tab,
            ESCAPE => {
                self.sequence = Sequence::Escape;
                return None;
            }
            0x08 | 0x7f => Key::Backspace,
            // Ctrl-A, B, E, F, N, P.
            0x01 => Key::Home,
            0x02 => Key::Left,
            0x05 => Key::End,
            0x06 => Key::Right,
            0x0e => Key::Down,
            0x10 => Key::Up,
            0..0x20 => Key::Control(byte),
            _ => Key::Text(byte),
        })
    }
}

/// The key whose sequence has this parameter and end; none for keys that mean nothing here.
const fn named(parameter: u8, end: u8) -> Option<Key> {
    Some(match (parameter, end) {
        (_, b'A') => Key::Up,
        (_, b'B') => Key::Down,
        (_, b'C') => Key::Right,
        (_, b'D') => Key::Left,
        (_, b'H') | (1 | 7, b'~') => Key::Home,
        (_, b'F') | (4 | 8, b'~') => Key::End,
        (3, b'~') => Key::Delete,
        _ => return None,
    })
}
