//! Bytes as hexadecimal numbers and as text, the way `hexdump -C` prints a file.

use rt::console;
use rt::dma::Dma;

const LINE: usize = 16;
const DIGITS: &[u8; 16] = b"0123456789abcdef";
/// Offset, 16 numbers in two groups, the text between bars.
const COLUMNS: usize = 78;
/// Where what follows the offset begins.
const OFFSET: usize = 8;
/// Where the numbers begin.
const NUMBERS: usize = 10;
/// Where the text begins.
const TEXT: usize = 61;

/// Prints stretches of bytes, one after the other. Lines that repeat become one `*`.
pub(crate) struct Dump {
    offset: u64,
    last: Option<[u8; LINE]>,
    starred: bool,
}

impl Dump {
    /// A dump that begins at byte `offset` of the disk.
    pub(crate) fn new(offset: u64) -> Dump {
        Dump { offset, last: None, starred: false }
    }

    /// Prints the first `len` bytes of `memory`. All but the last stretch are whole lines. False where Ctrl-C came.
    pub(crate) fn print(&mut self, memory: Dma, len: usize) -> bool {
        let mut at = 0;
        while at < len {
            let count = LINE.min(len - at);
            let mut bytes = [0; LINE];
            memory.get(at, &mut bytes[..count]);
            self.line(&bytes, count);
            at += count;
            if console::take_break() {
                return false;
            }
        }
        true
    }

    /// Prints the offset after the last byte, as `hexdump` does: where the lines above end is seen by it.
    pub(crate) fn end(&self) {
        send_offset(self.offset);
        console::send(b'\r');
        console::send(b'\n');
    }

    fn line(&mut self, bytes: &[u8; LINE], count: usize) {
        let offset = self.offset;
        self.offset += count as u64;
        if count == LINE && self.last.as_ref() == Some(bytes) {
            if !self.starred {
                console::send_text(b"*\n");
            }
            self.starred = true;
            return;
        }
        self.last = Some(*bytes);
        self.starred = false;
        send_offset(offset);
        let mut text = [b' '; COLUMNS + 1];
        for (index, &byte) in bytes[..count].iter().enumerate() {
            // A wider gap in the middle.
            let column = NUMBERS + 3 * index + usize::from(index >= LINE / 2);
            text[column] = DIGITS[usize::from(byte >> 4)];
            text[column + 1] = DIGITS[usize::from(byte & 0xf)];
            text[TEXT + index] = if matches!(byte, b' '..=b'~') { byte } else { b'.' };
        }
        text[TEXT - 1] = b'|';
        text[TEXT + count] = b'|';
        text[TEXT + count + 1] = b'\n';
        console::send_text(&text[OFFSET..TEXT + count + 2]);
    }
}

/// Sends eight digits, and as many more as it takes.
fn send_offset(offset: u64) {
    let digits = if offset >> 32 == 0 { OFFSET } else { 16 };
    for place in (0..digits).rev() {
        console::send(DIGITS[(offset >> (4 * place) & 0xf) as usize]);
    }
}
