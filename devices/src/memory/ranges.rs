//! Checked ranges of guest RAM, without a handle on it: a descriptor chain while it is parsed.

use smallvec::SmallVec;

use super::{Buffers, GuestRam, OutOfRam};

/// The most buffers of usual requests in each direction.
const RANGES_INLINE: usize = 2;

/// A checked range of guest RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Usual requests have few, and need no allocation.
    list: SmallVec<[GuestRange; RANGES_INLINE]>,
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
        if len > 0 {
            self.list.push(GuestRange { addr, len });
            self.len = total;
        }
        Ok(())
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
        self.list.clear();
        self.len = 0;
    }

    /// The ranges as buffers in `ram`, against which they were checked.
    pub fn in_ram(self, ram: GuestRam) -> Buffers {
        Buffers::of(ram, self)
    }

    /// Removes all ranges. Returns them as buffers in `ram`, against which they were checked. Copies them, which is
    /// faster than a move of the whole list for the one or two ranges of most requests, and keeps the list's memory.
    #[inline]
    pub fn take_buffers(&mut self, ram: &GuestRam) -> Buffers {
        let buffers = Self { list: SmallVec::from_slice(&self.list), len: self.len };
        self.clear();
        buffers.in_ram(ram.clone())
    }

    pub(super) fn list(&self) -> &[GuestRange] {
        &self.list
    }

    /// Takes the first 16 bytes, which are read once from `ram`, as two little-endian words; none if there are fewer.
    #[inline]
    pub fn take_words(&mut self, ram: &GuestRam) -> Option<[u64; 2]> {
        const LEN: u64 = 16;
        let first = self.list.first_mut()?;
        if first.len < LEN {
            return self.take_split(ram);
        }
        // Each range was checked to be in RAM.
        let words = ram.read_words(first.addr).ok()?;
        *first = GuestRange { addr: first.addr + LEN, len: first.len - LEN };
        self.len -= LEN;
        if first.len == 0 {
            self.list.remove(0);
        }
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
        std::mem::replace(self, rest).in_ram(ram.clone()).copy_to(&mut bytes);
        Some(super::words(bytes))
    }

    /// Truncates to the first `len` bytes. Shorter ranges do not change.
    pub fn truncate(&mut self, len: u64) {
        while self.len > len
            && let Some(last) = self.list.last_mut()
        {
            let cut = last.len.min(self.len - len);
            last.len -= cut;
            self.len -= cut;
            if last.len == 0 {
                self.list.pop();
            }
        }
    }

    /// The `len` bytes after the first `skip`; fewer if there are no more.
    #[must_use]
    pub fn part(&self, skip: u64, len: u64) -> Self {
        let mut part = Self::default();
        let (mut skip, mut left) = (skip, len);
        for &GuestRange { addr, len } in &self.list {
            let past = len.min(skip);
            let here = (len - past).min(left);
            (skip, left) = (skip - past, left - here);
            if here > 0 {
                part.list.push(GuestRange { addr: addr + past, len: here });
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
        let mut left = at;
        let mut whole = 0;
        while let Some(rest) = self.list.get(whole).and_then(|s| left.checked_sub(s.len)) {
            (whole, left) = (whole + 1, rest);
        }
        let mut tail = Self::default();
        tail.list.extend(self.list.drain(whole..));
        if let Some(first) = tail.list.first_mut().filter(|_| left > 0) {
            self.list.push(GuestRange { addr: first.addr, len: left });
            *first = GuestRange { addr: first.addr + left, len: first.len - left };
        }
        tail.len = self.len.saturating_sub(at);
        self.len -= tail.len;
        tail
    }
}
