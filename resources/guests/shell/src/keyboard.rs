//! From the keys of a keyboard with the US layout to the bytes that a terminal would send for them.

/// Values of a key event (Linux's input layer): it is let go; pressed (1) and repeated (2) are the same here.
pub(crate) const RELEASED: u32 = 0;

// Codes of keys in Linux's input layer.
const LEFT_CTRL: u16 = 29;
const LEFT_SHIFT: u16 = 42;
const RIGHT_SHIFT: u16 = 54;
const LEFT_ALT: u16 = 56;
const CAPS_LOCK: u16 = 58;
const RIGHT_CTRL: u16 = 97;
const RIGHT_ALT: u16 = 100;

/// What the keys 0 to 57 send, 0 for nothing; without and with shift.
const PLAIN: &[u8; 58] =
    b"\0\x001234567890-=\x7f\tqwertyuiop[]\r\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 ";
const SHIFTED: &[u8; 58] =
    b"\0\0!@#$%^&*()_+\x7f\tQWERTYUIOP{}\r\0ASDFGHJKL:\"~\0|ZXCVBNM<>?\0*\0 ";
/// The keys 71 to 83: the block at the right, which sends numbers here.
const FIRST_OF_BLOCK: u16 = 71;
const BLOCK: &[u8; 13] = b"789-456+1230.";

/// What the keys of a keyboard that are held mean for the next one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keyboard {
    /// Bits: left, right.
    shift: u8,
    ctrl: u8,
    alt: u8,
    caps_lock: bool,
}

/// The bytes that a key sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes {
    bytes: [u8; 4],
    len: usize,
}

impl Bytes {
    /// They.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn of(bytes: &[u8]) -> Bytes {
        let mut all = [0; 4];
        all[..bytes.len()].copy_from_slice(bytes);
        Bytes { bytes: all, len: bytes.len() }
    }
}

impl Keyboard {
    /// No key is held.
    pub(crate) const fn new() -> Keyboard {
        Keyboard { shift: 0, ctrl: 0, alt: 0, caps_lock: false }
    }

    /// Whether caps lock is on.
    pub(crate) fn caps_lock(&self) -> bool {
        self.caps_lock
    }

    /// Takes a key event: the key's code and its value. Returns what is to be sent.
    pub(crate) fn take(&mut self, code: u16, value: u32) -> Option<Bytes> {
        let down = value != RELEASED;
        let hold = |held: &mut u8, bit: u8| *held = if down { *held | bit } else { *held & !bit };
        match code {
            LEFT_SHIFT => hold(&mut self.shift, 1),
            RIGHT_SHIFT => hold(&mut self.shift, 2),
            LEFT_CTRL => hold(&mut self.ctrl, 1),
            RIGHT_CTRL => hold(&mut self.ctrl, 2),
            LEFT_ALT => hold(&mut self.alt, 1),
            RIGHT_ALT => hold(&mut self.alt, 2),
            // Once each time, however long it is held.
            CAPS_LOCK => self.caps_lock ^= value == 1,
            _ if down => return self.press(code),
            _ => {}
        }
        None
    }

    fn press(&self, code: u16) -> Option<Bytes> {
        if self.alt != 0 {
            return None;
        }
        if let Some(&plain) = PLAIN.get(usize::from(code)) {
            let letter = plain.is_ascii_alphabetic();
            if self.ctrl != 0 {
                return letter.then(|| Bytes::of(&[plain & 0x1f]));
            }
            let shifted = (self.shift != 0) ^ (letter && self.caps_lock);
            let byte = if shifted { SHIFTED[usize::from(code)] } else { plain };
            return (byte != 0).then(|| Bytes::of(&[byte]));
        }
        let in_block = code.checked_sub(FIRST_OF_BLOCK).map(usize::from);
        if let Some(&byte) = in_block.and_then(|n| BLOCK.get(n)) {
            return Some(Bytes::of(&[byte]));
        }
        Some(Bytes::of(match code {
            86 => {
                if self.shift == 0 {
                    b"\\"
                } else {
                    b"|"
                }
            }
            96 => b"\r",
            98 => b"/",
            102 => b"\x1b[H",
            103 => b"\x1b[A",
            105 => b"\x1b[D",
            106 => b"\x1b[C",
            107 => b"\x1b[F",
            108 => b"\x1b[B",
            111 => b"\x1b[3~",
            _ => return None,
        }))
    }
}
