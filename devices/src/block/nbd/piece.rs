//! A piece of a request: what one message of the protocol moves.

use std::ops::Range;

use smallvec::SmallVec;

use super::wire::{Command, RequestHeader};

/// The most ranges of a read that were received apart from each other. A server may answer in any order, but has no
/// reason to answer in crumbs.
const MOST_RANGES: usize = 1024;

/// One message to the server, and what is known of its reply.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) cookie: u64,
    pub(super) command: Command,
    pub(super) flags: u16,
    /// The first byte on the disk.
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) content: Content,
    pub(super) purpose: Purpose,
    /// What was received of a read.
    pub(super) received: Received,
    /// The error of a chunk before the last one.
    pub(super) error: Option<(u32, Vec<u8>)>,
    /// The number of chunks with an error.
    pub(super) errors: u32,
    /// For a flush: the kept changes before this number are covered by it.
    pub(super) covers: u64,
}

/// Where the bytes of a piece are.
#[derive(Debug)]
pub(super) enum Content {
    /// It moves none.
    None,
    /// In the buffers of its request, after this many bytes.
    Guest(u64),
    /// In a whole block of the server, of which the request covers a part.
    Block(Box<Edge>),
    /// They are all 0.
    Zeros,
    /// In the entry at this place of the kept changes.
    Kept(usize),
}

/// A block of the server that a request covers in part.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) block: Vec<u8>,
    /// The part, within the block.
    pub(super) part: Range<usize>,
    /// The place of the part in the buffers of the request.
    pub(super) skip: u64,
    /// Whether the block is only read in order to write it.
    pub(super) writes: bool,
}

/// Why a piece is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// For the job of this number.
    Job(usize),
    /// To repeat a change after the link was lost.
    Repeat,
    /// To keep less.
    OwnFlush,
}

impl Piece {
    /// A piece without bytes, which has no cookie yet.
    pub(super) fn new(command: Command, flags: u16, range: &Range<u64>, purpose: Purpose) -> Self {
        Self {
            cookie: 0,
            command,
            flags,
            offset: range.start,
            len: u32::try_from(range.end - range.start).unwrap_or(u32::MAX),
            content: Content::None,
            purpose,
            received: Received::default(),
            error: None,
            errors: 0,
            covers: 0,
        }
    }

    /// Its header.
    pub(super) const fn header(&self) -> RequestHeader {
        let Self { cookie, command, flags, offset, len, .. } = *self;
        RequestHeader { flags, command, cookie, offset, len }
    }

    /// The bytes on the disk.
    pub(super) const fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.len as u64)
    }

    /// The bytes that follow its header.
    pub(super) const fn payload(&self) -> u32 {
        match self.command {
            Command::Write => self.len,
            _ => 0,
        }
    }
}

/// Which bytes of a read were received: ranges within it, in order, apart from each other.
#[derive(Debug, Default)]
pub(super) struct Received(SmallVec<[Range<u32>; 1]>);

impl Received {
    /// Adds a range. Returns whether it is new as a whole, and not one too many.
    pub(super) fn add(&mut self, range: Range<u32>) -> bool {
        if range.is_empty() {
            return false;
        }
        let at = self.0.partition_point(|known| known.end < range.start);
        // Those that the range touches or overlaps.
        let touched = self.0.iter().skip(at).take_while(|known| known.start <= range.end).count();
        let near = self.0.get(at..at + touched).unwrap_or_default();
        if near.iter().any(|known| known.start < range.end && range.start < known.end) {
            return false;
        }
        let begin = near.first().map_or(range.start, |known| known.start.min(range.start));
        let end = near.last().map_or(range.end, |known| known.end.max(range.end));
        self.0.drain(at..at + touched);
        self.0.insert(at, begin..end);
        self.0.len() <= MOST_RANGES
    }

    /// The number of bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|range| u64::from(range.end - range.start)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_received_is_counted_once() {
        let mut received = Received::default();
        assert!(received.add(10..20) && received.add(30..40) && received.add(0..5));
        assert_eq!(received.bytes(), 25);
        for overlapping in [0..1, 4..6, 19..30, 10..20, 0..100, 39..41, 5..31] {
            assert!(!received.add(overlapping.clone()), "{overlapping:?}");
        }
        assert!(!received.add(7..7));
        assert!(received.add(20..30) && received.add(5..10));
        assert_eq!((received.bytes(), received.0.len()), (40, 1));
    }

    #[test]
    fn crumbs_are_limited() {
        let mut received = Received::default();
        let taken = (0..10_000).step_by(2).take_while(|at| received.add(*at..at + 1)).count();
        assert_eq!(taken, MOST_RANGES);
    }
}
