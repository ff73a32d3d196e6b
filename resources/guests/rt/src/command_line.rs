//! The words of the kernel command line, and the devices it names.

use crate::boot_info;

/// The words of `line`: separated by blanks, but not by those within double quotes.
pub fn words(line: &str) -> Words<'_> {
    Words { rest: line }
}

/// What [`words`] gives.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        // Byte by byte: a blank and a quote are no part of a longer character.
        let text = self.rest.trim_ascii_start();
        let mut quoted = false;
        let end = text.bytes().position(|byte| {
            quoted ^= byte == b'"';
            byte.is_ascii_whitespace() && !quoted
        });
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }
}

/// The value of the first `name=VALUE` on the kernel command line, without the quotes of `name="VALUE"` or
/// `"name=VALUE"`.
pub fn value(name: &str) -> Option<&'static str> {
    words(boot_info::get().command_line()).find_map(|word| value_of(word, name))
}

/// The value of the first `name=NUMBER` on the kernel command line; `None` also where it is no number.
pub fn number(name: &str) -> Option<u64> {
    parse_number(value(name)?)
}

fn value_of<'a>(word: &'a str, name: &str) -> Option<&'a str> {
    let bare = word.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(word);
    let value = bare.strip_prefix(name)?.strip_prefix('=')?;
    Some(value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(value))
}

/// A number: decimal, or hexadecimal after `0x`.
pub fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // from_str_radix takes a sign; a number here has none.
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16).ok()
        }
        None if text.starts_with(|c: char| c.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

/// A number of bytes: a number, and K or M for units of 1024 or 1024 * 1024.
fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        _ => (text, 0),
    };
    parse_number(digits)?.checked_mul(1 << shift)
}

/// A virtio-mmio device as the command line names it: `virtio_mmio.device=SIZE@BASE:LINE`, as for Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioSlot {
    /// Bytes of registers.
    pub size: u64,
    /// Guest-physical address of the registers.
    pub base: u64,
    /// Its interrupt line (GSI).
    pub line: u8,
}

/// The virtio-mmio devices on the kernel command line, in its order. Words that do not parse are left out.
pub fn virtio_slots() -> impl Iterator<Item = VirtioSlot> {
    words(boot_info::get().command_line())
        .filter_map(|word| parse_slot(value_of(word, "virtio_mmio.device")?))
}

fn parse_slot(text: &str) -> Option<VirtioSlot> {
    let (size, rest) = text.split_once('@')?;
    let mut rest = rest.split(':');
    let base = parse_size(rest.next()?)?;
    let line = u8::try_from(parse_number(rest.next()?)?).ok()?;
    Some(VirtioSlot { size: parse_size(size)?, base, line })
}
