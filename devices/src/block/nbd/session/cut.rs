//! Which piece is sent next.

use std::ops::Range;

use super::{Job, Session};
use crate::block::Operation;
use crate::block::nbd::kept::{self, Entry, EntryContent};
use crate::block::nbd::piece::{Content, Edge, Piece, Purpose};
use crate::block::nbd::wire::Command;
use crate::memory::Buffers;

/// The most pieces that are sent and not answered.
const WINDOW: usize = 512;
/// The most bytes of a piece that moves data.
const MOST_DATA: u32 = 4 << 20;
/// The most bytes of a piece that moves none: a server may carry it out as one long write.
const MOST_BARE: u64 = 64 << 20;
/// The bytes that follow a piece's header.
pub(in crate::block::nbd) enum Source<'a> {
    /// Nothing.
    None,
    /// The guest's buffers, after this many bytes.
    Guest(&'a Buffers, u64),
    /// Memory of the host.
    Host(&'a [u8]),
    /// Zeros.
    Zeros,
}

impl Session {
    /// The number of the next piece that may be sent now; none if nothing is left, or it waits for an answer.
    pub(in crate::block::nbd) fn cut(&mut self) -> Option<usize> {
        if let Some(slot) = self.again.pop_front() {
            return Some(slot);
        }
        if self.pieces.len() >= WINDOW {
            return None;
        }
        if let Some(at) = self.repeat {
            return match self.kept.get(at) {
                Some(_) => self.cut_repeated(at),
                // Nothing else goes before the last of them is answered.
                None if self.repeating > 0 => None,
                None => {
                    self.repeat = None;
                    self.cut()
                }
            };
        }
        if self.kept.bytes() > kept::FLUSH_ABOVE && !self.flushes_itself {
            self.flushes_itself = true;
            let piece = Piece::new(Command::Flush, 0, &(0..0), Purpose::OwnFlush);
            return Some(self.insert(piece));
        }
        let number = *self.queue.front()?;
        let job = self.jobs.get(number)?;
        let piece = self.next_of(number, job);
        if self.must_wait(&piece) {
            return None;
        }
        let job = self.jobs.get_mut(number)?;
        job.pieces += 1;
        if piece.command != Command::Flush {
            job.next = match &piece.content {
                Content::Block(edge) => job.next + edge.part.len() as u64,
                _ => piece.range().end,
            };
        }
        if piece.command == Command::Flush || job.next >= job.range.end {
            self.queue.pop_front();
        }
        Some(self.insert(piece))
    }

    /// The next piece of a job.
    fn next_of(&self, number: usize, job: &Job) -> Piece {
        let purpose = Purpose::Job(number);
        if job.flushes || job.command == Command::Flush {
            return Piece::new(Command::Flush, 0, &(0..0), purpose);
        }
        let block = u64::from(self.export.minimum);
        let (at, end) = (job.next, job.range.end);
        let skip = at - job.request.offset;
        let first = at - at % block;
        if first < at || end - at < block {
            let part = at - first..(end - first).min(block);
            // Both are at most 64 KiB.
            let part =
                usize::try_from(part.start).unwrap_or(0)..usize::try_from(part.end).unwrap_or(0);
            let writes = job.command != Command::Read;
            let edge = Edge { block: vec![0; self.export.minimum as usize], part, skip, writes };
            let mut piece = Piece::new(Command::Read, 0, &(first..first + block), purpose);
            piece.content = Content::Block(Box::new(edge));
            return piece;
        }
        let most = match job.command {
            Command::Read | Command::Write => u64::from(self.export.maximum.min(MOST_DATA)),
            _ => MOST_BARE,
        };
        let len = (end - at).min(most.max(block)) / block * block;
        let mut piece = Piece::new(job.command, job.flags, &(at..at + len), purpose);
        piece.content = match (&job.request.operation, job.command) {
            (Operation::WriteZeroes { .. }, Command::Write) => Content::Zeros,
            (_, Command::Read | Command::Write) => Content::Guest(skip),
            _ => Content::None,
        };
        piece
    }

    /// Whether a piece must wait for the answer of another one.
    fn must_wait(&self, piece: &Piece) -> bool {
        let range = piece.range();
        piece.changes() && (self.kept.bytes() > kept::MOST || self.is_changing(&range))
    }

    /// Whether a piece in flight changes a byte of the range.
    fn is_changing(&self, range: &Range<u64>) -> bool {
        self.changing.iter().any(|(_, other)| other.start < range.end && range.start < other.end)
    }

    fn cut_repeated(&mut self, at: usize) -> Option<usize> {
        let Entry { offset, len, content } = self.kept.get(at)?;
        let range = *offset..offset.saturating_add((*len).into());
        if self.is_changing(&range) {
            return None;
        }
        let (command, flags, content) = match content {
            EntryContent::Bytes(_) => (Command::Write, 0, Content::Kept(at)),
            EntryContent::Command(command, flags) => (*command, *flags, Content::None),
        };
        let mut piece = Piece::new(command, flags, &range, Purpose::Repeat);
        piece.content = content;
        self.repeat = Some(at + 1);
        self.repeating += 1;
        Some(self.insert(piece))
    }

    pub(super) fn insert(&mut self, piece: Piece) -> usize {
        let changes = piece.changes().then(|| piece.range());
        let slot = self.pieces.insert(piece);
        if let Some(range) = changes {
            self.changing.push((slot, range));
        }
        self.begin(slot);
        slot
    }

    /// Gives a piece a cookie of its own: that of no earlier piece.
    pub(super) fn begin(&mut self, slot: usize) {
        let covers = self.kept.end();
        if let Some(piece) = self.pieces.get_mut(slot) {
            piece.cookie = self.next_number << 16 | slot as u64;
            piece.covers = covers;
            self.next_number += 1;
        }
    }

    /// A piece.
    pub(in crate::block::nbd) fn piece(&self, slot: usize) -> Option<&Piece> {
        self.pieces.get(slot)
    }

    /// The bytes that follow the header of a piece.
    pub(in crate::block::nbd) fn source(&self, piece: &Piece) -> Source<'_> {
        if piece.command != Command::Write {
            return Source::None;
        }
        // The piece belongs to the session.
        let Some(piece) = self.pieces.get(slot_of(piece.cookie)) else { return Source::None };
        match &piece.content {
            Content::Block(edge) => Source::Host(&edge.block),
            Content::Zeros => Source::Zeros,
            Content::Guest(skip) => match self.buffers(piece.purpose) {
                Some(buffers) => Source::Guest(buffers, *skip),
                None => Source::None,
            },
            Content::Kept(at) => match self.kept.get(*at) {
                Some(Entry { content: EntryContent::Bytes(bytes), .. }) => Source::Host(bytes),
                _ => Source::None,
            },
            Content::None => Source::None,
        }
    }

    fn buffers(&self, purpose: Purpose) -> Option<&Buffers> {
        match purpose {
            Purpose::Job(job) => self.jobs.get(job)?.request.operation.data(),
            Purpose::Repeat | Purpose::OwnFlush => None,
        }
    }
}

impl Piece {
    /// Whether it changes the disk, now or after its block was read.
    pub(super) fn changes(&self) -> bool {
        match (&self.content, self.command) {
            (Content::Block(edge), _) => edge.writes,
            (_, Command::Write | Command::Trim | Command::WriteZeroes) => true,
            (_, Command::Read | Command::Flush | Command::Disconnect) => false,
        }
    }
}

/// The slot of a cookie: its lowest 16 bits.
pub(super) fn slot_of(cookie: u64) -> usize {
    usize::try_from(cookie & 0xffff).unwrap_or(usize::MAX)
}
