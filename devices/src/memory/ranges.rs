//! Checked ranges of guest RAM, without a handle on it: a descriptor chain while it is parsed.

use std::mem;

use super::{Buffers, GuestRam, OutOfRam};

/// A checked range of guest RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct GuestRange {
    pub(super) addr: u64,
    pub(super) len: u64,
}

/// Ranges of guest RAM, in order, each checked when it was added.
///
/// They keep no handle on RAM: counting handles for each part of a chain costs more than the check.
/// [`Ranges::in_ram`] adds it.
#[derive(Debug, Clone, Default)]
pub struct Ranges {
    /// The first range; empty if there is none. The data of many requests is one range: it needs no list, and little
    /// to move.
    first: GuestRange,
    /// The others, none of them empty.
    others: Vec<GuestRange>,
    /// The sum of the lengths.
    len: u64,
}

impl Ranges {
    /// Adds the `len` bytes at `addr`.
    ///
    /// # Errors
    ///
    /// If they are not completely in `ram`, or the sum of all lengths exceeds 64 bits.
    #[inline]
    pub fn push(&mut self, ram: &GuestRam, addr: u64, len: u64) -> Result<(), OutOfRam> {
        ram.check(addr, len)?;
        let total = self.len.checked_add(len).ok_or(OutOfRam { addr, len })?;
        self.add(GuestRange { addr, len });
        self.len = total;
        Ok(())
    }

    /// Adds a range, but not its length to the sum.
    #[inline]
    fn add(&mut self, range: GuestRange) {
        if self.first.len == 0 {
            self.first = range;
        } else if range.len > 0 {
            self.others.push(range);
        }
    }

    /// The sum of the lengths.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Removes all ranges, and keeps their memory for the next ones.
    pub fn clear(&mut self) {
        self.first = GuestRange::default();
        self.others.clear();
        self.len = 0;
    }

    /// The ranges as buffers in `ram`, against which they were checked.
    pub fn in_ram(self, ram: GuestRam) -> Buffers {
        Buffers::of(ram, self)
    }

    /// Removes all ranges. Returns them as buffers in `ram`, against which they were checked.
    #[inline]
    pub fn take_buffers(&mut self, ram: &GuestRam) -> Buffers {
        // An empty list stays, with its memory.
        let others = if self.others.is_empty() { Vec::new() } else { mem::take(&mut self.others) };
        let taken =
            Self { first: mem::take(&mut self.first), others, len: mem::take(&mut self.len) };
        taken.in_ram(ram.clone())
    }

    /// The number of ranges.
    pub(super) const fn count(&self) -> usize {
        if self.is_empty() { 0 } else { 1 + self.others.len() }
    }

    /// The range, if there is exactly one.
    #[inline]
    pub(super) fn single(&self) -> Option<GuestRange> {
        (self.count() == 1).then_some(self.first)
    }

    /// All ranges.
    pub(super) fn iter(&self) -> impl Iterator<Item = GuestRange> {
        let first = (!self.is_empty()).then_some(self.first);
        first.into_iter().chain(self.others.iter().copied())
    }

    /// Takes the first 16 bytes, which are read once from `ram`, as two little-endian words; none if there are fewer.
    #[inline]
    pub fn take_words(&mut self, ram: &GuestRam) -> Option<[u64; 2]> {
        const LEN: u64 = 16;
        let GuestRange { addr, len } = self.first;
        let Some(rest) = len.checked_sub(LEN) else { return self.take_split(ram) };
        // Each range was checked to be in RAM.
        let words = ram.read_words(addr).ok()?;
        self.len -= LEN;
        self.first = if rest > 0 {
            GuestRange { addr: addr + LEN, len: rest }
        } else if self.others.is_empty() {
            GuestRange::default()
        } else {
            self.others.remove(0)
        };
        Some(words)
    }

    /// [`Ranges::take_words`] for bytes in several ranges.
    #[cold]
    fn take_split(&mut self, ram: &GuestRam) -> Option<[u64; 2]> {
        let mut bytes = [0; 16];
        if self.len < bytes.len() as u64 {
            return None;
        }
        let rest = self.split_off(bytes.len() as u64);
        mem::replace(self, rest).in_ram(ram.clone()).copy_to(&mut bytes);
        Some(super::words(bytes))
    }

    /// Truncates to the first `len` bytes. Shorter ranges do not change.
    #[inline]
    pub fn truncate(&mut self, len: u64) {
        while self.len > len {
            let last = self.others.last_mut().unwrap_or(&mut self.first);
            let cut = last.len.min(self.len - len);
            last.len -= cut;
            self.len -= cut;
            if last.len == 0 {
                self.others.pop();
            }
        }
    }

    /// The `len` bytes after the first `skip`; fewer if there are no more.
    #[must_use]
    pub fn part(&self, skip: u64, len: u64) -> Self {
        let mut part = Self::default();
        let (mut skip, mut left) = (skip, len);
        for GuestRange { addr, len } in self.iter() {
            let past = len.min(skip);
            let here = (len - past).min(left);
            (skip, left) = (skip - past, left - here);
            if here > 0 {
                part.add(GuestRange { addr: addr + past, len: here });
                part.len += here;
            }
            if left == 0 {
                break;
            }
        }
        part
    }

    /// Splits off all bytes from `at` on.
    pub fn split_off(&mut self, at: u64) -> Self {
        let tail = self.part(at, u64::MAX);
        self.truncate(at);
        tail
    }
}
