//! The lines that were typed before.

/// The bytes of a line: longer than any command can be, a sector's text and the words before it.
pub(crate) const MAX: usize = 640;
/// How many lines are kept.
const LINES: usize = 16;
/// One more holds the line that was being typed before an earlier one was recalled.
const TYPED: usize = LINES;

/// Earlier lines, in a ring.
pub(crate) struct History {
    lines: [([u8; MAX], usize); LINES + 1],
    /// Lines ever added.
    added: usize,
    /// How many lines back the one on display is; 0 for the one being typed.
    back: usize,
}

impl History {
    pub(crate) const fn new() -> History {
        History { lines: [([0; MAX], 0); LINES + 1], added: 0, back: 0 }
    }

    /// Begins at the line that is being typed.
    pub(crate) const fn rewind(&mut self) {
        self.back = 0;
    }

    /// Keeps a line, unless it is blank or the same as the last one.
    pub(crate) fn add(&mut self, line: &[u8]) {
        let last = self.added.checked_sub(1).map(|n| self.lines[n % LINES]);
        let same = last.is_some_and(|(bytes, len)| bytes[..len] == *line);
        if !line.trim_ascii().is_empty() && !same {
            self.put(self.added % LINES, line);
            self.added += 1;
        }
    }

    /// The index of the line before the one on display, which is `now`; none where there is none.
    pub(crate) fn earlier(&mut self, now: &[u8]) -> Option<usize> {
        if self.back == self.added.min(LINES) {
            return None;
        }
        if self.back == 0 {
            self.put(TYPED, now);
        }
        self.back += 1;
        Some((self.added - self.back) % LINES)
    }

    /// The index of the line after the one on display; none where there is none.
    pub(crate) fn later(&mut self, _: &[u8]) -> Option<usize> {
        self.back = self.back.checked_sub(1)?;
        Some(if self.back == 0 { TYPED } else { (self.added - self.back) % LINES })
    }

    /// A line, and how many of its bytes count.
    pub(crate) const fn line(&self, index: usize) -> ([u8; MAX], usize) {
        self.lines[index]
    }

    fn put(&mut self, index: usize, line: &[u8]) {
        let (bytes, len) = &mut self.lines[index];
        bytes[..line.len()].copy_from_slice(line);
        *len = line.len();
    }
}
