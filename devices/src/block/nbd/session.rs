//! The requests of all lanes, from their submission to their completion: which messages are sent, in which order, and
//! what a reply means. It knows no socket and no clock.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::handshake::Export;
use super::kept::{self, Entry, EntryContent, Kept};
use super::piece::{Content, Edge, Piece, Purpose};
use super::wire::{Body, Command, Head, WireError, command_flag, export_flag, readable};
use crate::block::slots::Slots;
use crate::block::{BlockError, Completion, Operation, Request};
use crate::memory::Buffers;

/// The most pieces that are sent and not answered.
const WINDOW: usize = 512;
/// The most bytes of a piece that moves data.
const MOST_DATA: u32 = 4 << 20;
/// The most bytes of a piece that moves none: a server may carry it out as one long write.
const MOST_BARE: u64 = 64 << 20;
/// The errors of the protocol ("Error values") that are not those of Linux by number, or have a meaning here.
const ESHUTDOWN: u32 = 108;

/// The server broke the protocol: the connection cannot be used any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("a reply has the cookie {0:#x}, which no request in flight has")]
    Cookie(u64),
    #[error("a reply with data answers a {0:?}, which has none")]
    NoRead(Command),
    #[error("a read is answered by a simple reply, although structured replies were agreed on")]
    NotStructured,
    #[error("a structured reply came, although none were agreed on")]
    NotSimple,
    #[error(
        "a chunk has {len} bytes at {offset}, which are not within the read of {read:?} or came before"
    )]
    Outside { offset: u64, len: u32, read: Range<u64> },
    #[error("a read of {len} bytes ended after {received} bytes, without an error")]
    Short { len: u32, received: u64 },
    #[error("the server is being shut down")]
    ShuttingDown,
}

/// Data of a reply that follows its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Payload {
    /// The piece.
    pub(super) slot: usize,
    /// The next byte within the piece.
    pub(super) at: u32,
    /// The bytes that are left.
    pub(super) left: u32,
    /// Whether the reply ends with it.
    pub(super) is_last: bool,
}

/// The place for the data of a reply.
pub(super) enum Sink<'a> {
    /// The guest's buffers, after this many bytes.
    Guest(&'a Buffers, u64),
    /// Memory of the host.
    Host(&'a mut [u8]),
}

/// The bytes that follow a piece's header.
pub(super) enum Source<'a> {
    /// Nothing.
    None,
    /// The guest's buffers, after this many bytes.
    Guest(&'a Buffers, u64),
    /// Memory of the host.
    Host(&'a [u8]),
    /// Zeros.
    Zeros,
}

/// A request of a lane.
#[derive(Debug)]
struct Job {
    lane: usize,
    request: Request,
    /// Jobs are sent again in this order.
    number: u64,
    command: Command,
    flags: u16,
    /// The bytes on the disk; a discard covers whole blocks only.
    range: Range<u64>,
    /// The first byte that no piece was made for.
    next: u64,
    /// The pieces that are not answered.
    pieces: usize,
    /// Whether the flush after a durable change that the server has no FUA for is on its way.
    flushes: bool,
    error: Option<BlockError>,
    /// Whether the link was lost since it was sent first.
    is_repeated: bool,
}

/// The completions of a lane.
#[derive(Debug)]
struct LaneEnd {
    wake: Arc<EventFd>,
    /// Wakes its engine while that watches.
    rouse: Arc<OwnedFd>,
    is_watching: bool,
    done: Vec<Completion>,
    in_flight: usize,
    /// Whether there are completions that nobody was told of.
    is_news: bool,
}

/// The requests of all lanes.
#[derive(Debug)]
pub(super) struct Session {
    export: Export,
    /// Whether a lost link is established again.
    repeats: bool,
    lanes: Vec<LaneEnd>,
    jobs: Slots<Job>,
    /// Jobs of which pieces are left to be sent, in order.
    queue: VecDeque<usize>,
    pieces: Slots<Piece>,
    /// Pieces that are to be sent before any new one.
    again: VecDeque<usize>,
    /// The places that pieces in flight change.
    changing: Vec<(usize, Range<u64>)>,
    kept: Kept,
    /// After a loss, the place of the next kept change that is to be repeated.
    repeat: Option<usize>,
    /// The changes in flight that are repeated.
    repeating: usize,
    flushes_itself: bool,
    /// The error of the first flush that the server could not carry out: data may be lost.
    lost_data: Option<String>,
    /// Why requests are refused at once.
    refusal: Option<Refusal>,
    next_number: u64,
}

/// Why requests are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no connection, for too long.
    NoLink(String),
    /// The machine is being stopped.
    Stopped,
}

impl Refusal {
    fn error(&self, offset: u64) -> BlockError {
        match self {
            Self::NoLink(why) => {
                let source = io::Error::new(io::ErrorKind::NotConnected, why.clone());
                BlockError::Host { offset, source }
            }
            Self::Stopped => BlockError::Stopped,
        }
    }
}

impl Session {
    /// Without requests. If it `repeats`, [`Session::lost`] may be followed by another connection.
    pub(super) fn new(export: Export, repeats: bool) -> Self {
        Self {
            export,
            repeats,
            lanes: Vec::new(),
            jobs: Slots::default(),
            queue: VecDeque::new(),
            pieces: Slots::default(),
            again: VecDeque::new(),
            changing: Vec::new(),
            kept: Kept::default(),
            repeat: None,
            repeating: 0,
            flushes_itself: false,
            lost_data: None,
            refusal: None,
            next_number: 0,
        }
    }

    /// The export.
    pub(super) const fn export(&self) -> &Export {
        &self.export
    }

    /// There are connections again. The export is at least what it was.
    pub(super) fn found(&mut self, export: &Export) {
        let Export { size, flags, .. } = self.export;
        self.export = Export { size, flags, ..*export };
        self.refusal = None;
    }

    /// Adds a lane, which is told by `wake`, or by `rouse` while it watches. Returns its number.
    pub(super) fn add_lane(&mut self, wake: Arc<EventFd>, rouse: Arc<OwnedFd>) -> usize {
        let (is_watching, is_news) = (false, false);
        let (done, in_flight) = (Vec::new(), 0);
        self.lanes.push(LaneEnd { wake, rouse, is_watching, done, in_flight, is_news });
        self.lanes.len() - 1
    }

    /// The engine of a lane begins to watch, or ends.
    pub(super) fn watches(&mut self, lane: usize, is_watching: bool) {
        if let Some(end) = self.lanes.get_mut(lane) {
            end.is_watching = is_watching;
        }
    }

    /// Has the engines that watch look again: the sockets are other ones.
    pub(super) fn rouse(&self) {
        for end in self.lanes.iter().filter(|end| end.is_watching) {
            signal(&end.rouse);
        }
    }

    /// Tells a lane by this descriptor from now on.
    pub(super) fn wake_by(&mut self, lane: usize, wake: &Arc<EventFd>) {
        if let Some(end) = self.lanes.get_mut(lane) {
            end.wake = wake.clone();
        }
    }

    /// The number of requests of a lane that are not completed.
    pub(super) fn in_flight(&self, lane: usize) -> usize {
        self.lanes.get(lane).map_or(0, |end| end.in_flight)
    }

    /// Whether a lane has completions.
    pub(super) fn has_done(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|end| !end.done.is_empty())
    }

    /// Takes the completions of a lane.
    pub(super) fn take_done(&mut self, lane: usize, done: &mut Vec<Completion>) {
        if let Some(end) = self.lanes.get_mut(lane) {
            end.is_news = false;
            done.append(&mut end.done);
        }
    }

    /// Tells all lanes with news, except for `own`, whose user looks by itself.
    pub(super) fn tell(&mut self, own: Option<usize>) {
        for (number, end) in self.lanes.iter_mut().enumerate() {
            if !std::mem::take(&mut end.is_news) || own == Some(number) {
                continue;
            }
            if end.is_watching {
                signal(&end.rouse);
            } else {
                // The one possible error is a full counter; the descriptor is readable then, too.
                let _written = end.wake.write(1);
            }
        }
    }

    /// The number of requests that are not completed, of all lanes.
    pub(super) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Whether a request that was sent before a loss is not answered yet.
    pub(super) fn has_repeated(&mut self) -> bool {
        self.jobs.iter_mut().any(|(_, job)| job.is_repeated)
    }

    /// Whether acknowledged changes may still be lost.
    pub(super) fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Submits a request, which [`super::super::Disk`] has checked.
    pub(super) fn submit(&mut self, lane: usize, request: Request) {
        if let Some(end) = self.lanes.get_mut(lane) {
            end.in_flight += 1;
        }
        let (offset, len) = (request.offset, request.operation.len());
        let has = |flag| self.export.has(flag);
        let mut range = offset..offset.saturating_add(len);
        let mut flags = 0;
        let command = match &request.operation {
            Operation::Read(_) => Command::Read,
            Operation::Write { .. } => Command::Write,
            Operation::WriteZeroes { unmap, .. } if has(export_flag::SEND_WRITE_ZEROES) => {
                flags = if *unmap { 0 } else { command_flag::NO_HOLE };
                Command::WriteZeroes
            }
            Operation::WriteZeroes { .. } => Command::Write,
            Operation::Discard { .. } if has(export_flag::SEND_TRIM) => {
                // A hint: parts of blocks stay as they are.
                let block = u64::from(self.export.minimum);
                range.start = range.start.next_multiple_of(block);
                range.end -= range.end % block;
                Command::Trim
            }
            Operation::Discard { .. } => {
                range.end = range.start;
                Command::Trim
            }
            Operation::Flush => Command::Flush,
        };
        let is_durable = request.operation.is_durable();
        if is_durable && command != Command::Flush && has(export_flag::SEND_FUA) {
            flags |= command_flag::FUA;
        }
        let is_nothing = match command {
            Command::Flush => !has(export_flag::SEND_FLUSH),
            _ => range.is_empty(),
        };
        let refused = match (&self.refusal, &self.lost_data) {
            (Some(refusal), _) => Some(refusal.error(offset)),
            (None, Some(why)) if is_durable => {
                Some(BlockError::Sync(io::Error::other(why.clone())))
            }
            _ => None,
        };
        let next = range.start;
        let job = self.jobs.insert(Job {
            lane,
            request,
            number: self.next_number,
            command,
            flags,
            range,
            next,
            pieces: 0,
            flushes: false,
            error: refused,
            is_repeated: false,
        });
        self.next_number += 1;
        let is_refused = self.jobs.get(job).is_some_and(|job| job.error.is_some());
        if is_nothing || is_refused {
            self.complete(job);
        } else {
            self.queue.push_back(job);
        }
    }

    /// The number of the next piece that may be sent now; none if nothing is left, or it waits for an answer.
    pub(super) fn cut(&mut self) -> Option<usize> {
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

    fn insert(&mut self, piece: Piece) -> usize {
        let changes = piece.changes().then(|| piece.range());
        let slot = self.pieces.insert(piece);
        if let Some(range) = changes {
            self.changing.push((slot, range));
        }
        self.begin(slot);
        slot
    }

    /// Gives a piece a cookie of its own: that of no earlier piece.
    fn begin(&mut self, slot: usize) {
        let covers = self.kept.end();
        if let Some(piece) = self.pieces.get_mut(slot) {
            piece.cookie = self.next_number << 16 | slot as u64;
            piece.covers = covers;
            self.next_number += 1;
        }
    }

    /// A piece.
    pub(super) fn piece(&self, slot: usize) -> Option<&Piece> {
        self.pieces.get(slot)
    }

    /// The bytes that follow the header of a piece.
    pub(super) fn source(&self, piece: &Piece) -> Source<'_> {
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

    /// Handles the head of a reply. Returns the data that follows it.
    ///
    /// # Errors
    ///
    /// How the server broke the protocol.
    pub(super) fn head(&mut self, head: Head) -> Result<Option<Payload>, Violation> {
        let Head { cookie, is_last, body } = head;
        let slot = slot_of(cookie);
        let structured = self.export.structured;
        let piece = self.pieces.get_mut(slot).filter(|piece| piece.cookie == cookie);
        let piece = piece.ok_or(Violation::Cookie(cookie))?;
        let (command, range) = (piece.command, piece.range());
        let is_read = command == Command::Read;
        match body {
            Body::Simple if !is_read => {}
            Body::Simple if structured => return Err(Violation::NotStructured),
            Body::Simple => {
                piece.received.add(0..piece.len);
                return Ok(Some(Payload { slot, at: 0, left: piece.len, is_last }));
            }
            Body::None if !structured => return Err(Violation::NotSimple),
            Body::None => {}
            Body::Error { error: ESHUTDOWN, .. } => return Err(Violation::ShuttingDown),
            Body::Error { error, text } => {
                piece.error.get_or_insert((error, text));
            }
            Body::Data { .. } | Body::Hole { .. } if !is_read => {
                return Err(Violation::NoRead(command));
            }
            Body::Data { .. } | Body::Hole { .. } if !structured => {
                return Err(Violation::NotSimple);
            }
            Body::Data { offset, len } => {
                let at = within(piece, offset, len).ok_or(Violation::Outside {
                    offset,
                    len,
                    read: range,
                })?;
                return Ok(Some(Payload { slot, at, left: len, is_last }));
            }
            Body::Hole { offset, len } => {
                let at = within(piece, offset, len).ok_or(Violation::Outside {
                    offset,
                    len,
                    read: range,
                })?;
                self.zero(slot, at, len);
            }
        }
        self.chunk_ends(slot, is_last)?;
        Ok(None)
    }

    /// The place for the next `payload.left` bytes.
    pub(super) fn sink(&mut self, payload: Payload) -> Option<Sink<'_>> {
        let piece = self.pieces.get_mut(payload.slot)?;
        match &mut piece.content {
            Content::Guest(skip) => {
                let Purpose::Job(job) = piece.purpose else { return None };
                let buffers = self.jobs.get(job)?.request.operation.data()?;
                Some(Sink::Guest(buffers, skip.saturating_add(payload.at.into())))
            }
            Content::Block(edge) => {
                let from = payload.at as usize;
                edge.block.get_mut(from..from + payload.left as usize).map(Sink::Host)
            }
            Content::None | Content::Zeros | Content::Kept(_) => None,
        }
    }

    /// Fills a hole.
    fn zero(&mut self, slot: usize, at: u32, len: u32) {
        const ZEROS: [u8; 4096] = [0; 4096];
        match self.sink(Payload { slot, at, left: len, is_last: false }) {
            Some(Sink::Guest(buffers, skip)) => {
                let mut part = buffers.part(skip, len.into());
                while !part.is_empty() {
                    let rest = part.split_off(ZEROS.len() as u64);
                    part.copy_from(&ZEROS);
                    part = rest;
                }
            }
            Some(Sink::Host(block)) => block.fill(0),
            None => {}
        }
    }

    /// Handles the end of a chunk.
    ///
    /// # Errors
    ///
    /// If it was the last one of a read that is not complete.
    pub(super) fn chunk_ends(&mut self, slot: usize, is_last: bool) -> Result<(), Violation> {
        if !is_last {
            return Ok(());
        }
        let Some(piece) = self.pieces.get_mut(slot) else { return Ok(()) };
        let (len, received) = (piece.len, piece.received.bytes());
        if piece.command == Command::Read && piece.error.is_none() && received != u64::from(len) {
            return Err(Violation::Short { len, received });
        }
        match piece.error.take() {
            None => self.succeeded(slot),
            Some((error, text)) => {
                let source = host_error(error, &readable(&text));
                self.failed(slot, source);
            }
        }
        Ok(())
    }

    fn succeeded(&mut self, slot: usize) {
        let Some(piece) = self.pieces.get_mut(slot) else { return };
        let purpose = piece.purpose;
        let job = match purpose {
            Purpose::Job(job) => self.jobs.get(job),
            Purpose::Repeat | Purpose::OwnFlush => None,
        };
        if let (Content::Block(edge), Command::Read, Some(job)) =
            (&mut piece.content, piece.command, job)
        {
            let data = job.request.operation.data();
            let part = edge.block.get_mut(edge.part.clone()).unwrap_or_default();
            let guest = data.map(|data| data.part(edge.skip, part.len() as u64));
            match guest {
                Some(guest) if edge.writes => drop(guest.copy_to(part)),
                Some(guest) => drop(guest.copy_from(part)),
                None => part.fill(0),
            }
            if edge.writes {
                piece.command = Command::Write;
                piece.flags = job.flags & command_flag::FUA;
                self.begin(slot);
                return self.again.push_back(slot);
            }
        }
        let Some(piece) = self.remove(slot) else { return };
        if piece.command == Command::Flush {
            self.kept.forget_until(piece.covers);
        }
        match purpose {
            Purpose::Repeat => self.repeating = self.repeating.saturating_sub(1),
            Purpose::OwnFlush => self.flushes_itself = false,
            Purpose::Job(job) => {
                self.keep(&piece, job);
                self.piece_ends(job, None);
            }
        }
    }

    fn failed(&mut self, slot: usize, source: io::Error) {
        let Some(piece) = self.remove(slot) else { return };
        let is_flush = piece.command == Command::Flush;
        if is_flush {
            self.lost_data.get_or_insert(source.to_string());
        }
        match piece.purpose {
            // The change was acknowledged once, and the server does not take it again.
            Purpose::Repeat => {
                self.repeating = self.repeating.saturating_sub(1);
                self.lost_data.get_or_insert(source.to_string());
            }
            Purpose::OwnFlush => {
                self.flushes_itself = false;
                self.kept.forget_until(piece.covers);
            }
            Purpose::Job(job) => {
                let error = match is_flush {
                    true => BlockError::Sync(source),
                    false => BlockError::Host { offset: piece.offset, source },
                };
                self.piece_ends(job, Some(error));
            }
        }
    }

    fn remove(&mut self, slot: usize) -> Option<Piece> {
        let piece = self.pieces.remove(slot)?;
        if piece.changes() {
            self.changing.retain(|(other, _)| *other != slot);
        }
        Some(piece)
    }

    /// Keeps a change that was acknowledged, if it may be lost. One that is on stable storage is kept, too, where older
    /// ones are: if they are repeated, it must be repeated after them.
    fn keep(&mut self, piece: &Piece, job: usize) {
        let is_stable = piece.flags & command_flag::FUA != 0 && self.kept.is_empty();
        let can_flush = self.export.has(export_flag::SEND_FLUSH);
        if !piece.changes() || is_stable || !can_flush || !self.repeats || self.lost_data.is_some()
        {
            return;
        }
        let content = match (piece.command, &piece.content) {
            (Command::Write, Content::Guest(skip)) => {
                let mut bytes = self.kept.memory(piece.len as usize);
                let data = self.jobs.get(job).and_then(|job| job.request.operation.data());
                if let Some(data) = data {
                    data.part(*skip, piece.len.into()).copy_to(&mut bytes);
                }
                EntryContent::Bytes(bytes)
            }
            (Command::Write, Content::Block(edge)) => EntryContent::Bytes(edge.block.clone()),
            (Command::Write, _) => EntryContent::Bytes(vec![0; piece.len as usize]),
            (command, _) => EntryContent::Command(command, piece.flags & command_flag::NO_HOLE),
        };
        self.kept.push(Entry { offset: piece.offset, len: piece.len, content });
    }

    /// Handles the end of a piece of a job.
    fn piece_ends(&mut self, number: usize, error: Option<BlockError>) {
        let can_flush = self.export.has(export_flag::SEND_FLUSH);
        let Some(job) = self.jobs.get_mut(number) else { return };
        job.pieces = job.pieces.saturating_sub(1);
        if let Some(error) = error {
            job.error.get_or_insert(error);
            if job.next < job.range.end {
                job.next = job.range.end;
                self.queue.retain(|other| *other != number);
            }
        }
        if job.pieces > 0 || job.next < job.range.end {
            return;
        }
        let is_change = job.command != Command::Flush && job.request.operation.is_durable();
        let needs_flush = is_change && job.flags & command_flag::FUA == 0 && can_flush;
        if job.error.is_none() && needs_flush && !job.flushes {
            job.flushes = true;
            return self.queue.push_front(number);
        }
        self.complete(number);
    }

    fn complete(&mut self, number: usize) {
        let Some(Job { lane, request, error, .. }) = self.jobs.remove(number) else { return };
        let Some(end) = self.lanes.get_mut(lane) else { return };
        let transferred = if error.is_none() { request.operation.len() } else { 0 };
        let result = error.map_or(Ok(()), Err);
        end.done.push(Completion { request, transferred, result });
        end.in_flight = end.in_flight.saturating_sub(1);
        end.is_news = true;
    }

    /// All connections are lost: nothing is in flight any more. What was not answered is sent again when there are new
    /// ones, after the kept changes.
    pub(super) fn lost(&mut self) {
        self.pieces = Slots::default();
        self.again.clear();
        self.changing.clear();
        (self.repeating, self.flushes_itself) = (0, false);
        self.repeat = Some(0);
        let mut order = Vec::with_capacity(self.jobs.len());
        for (number, job) in self.jobs.iter_mut() {
            job.is_repeated |= job.pieces > 0 || job.next > job.range.start;
            (job.next, job.pieces, job.flushes, job.error) = (job.range.start, 0, false, None);
            order.push((job.number, number));
        }
        order.sort_unstable();
        self.queue = order.into_iter().map(|(_, number)| number).collect();
    }

    /// After a loss: fails the requests that wait; with `repeated_only` those that were sent before. Kept changes stay.
    pub(super) fn fail(&mut self, refusal: &Refusal, repeated_only: bool) {
        let fails = |job: &Job| job.is_repeated || !repeated_only;
        let waiting: Vec<_> =
            self.jobs.iter_mut().filter(|(_, job)| fails(job)).map(|(number, _)| number).collect();
        for number in waiting {
            if let Some(job) = self.jobs.get_mut(number) {
                job.error = Some(refusal.error(job.request.offset));
            }
            self.complete(number);
        }
        self.queue.retain(|number| self.jobs.get(*number).is_some());
    }

    /// Refuses new requests from now on, or accepts them again.
    pub(super) fn refuse(&mut self, refusal: Option<Refusal>) {
        self.refusal = refusal;
    }

    /// Whether it refuses requests.
    pub(super) const fn refuses(&self) -> bool {
        self.refusal.is_some()
    }

    /// A flush for what is kept, without a request.
    pub(super) fn flush_kept(&mut self) {
        if self.has_kept() && !self.flushes_itself {
            self.flushes_itself = true;
            let slot = self.insert(Piece::new(Command::Flush, 0, &(0..0), Purpose::OwnFlush));
            self.again.push_back(slot);
        }
    }

    /// The number of pieces that are not answered.
    pub(super) fn unanswered(&self) -> usize {
        self.pieces.len()
    }
}

impl Piece {
    /// Whether it changes the disk, now or after its block was read.
    fn changes(&self) -> bool {
        match (&self.content, self.command) {
            (Content::Block(edge), _) => edge.writes,
            (_, Command::Write | Command::Trim | Command::WriteZeroes) => true,
            (_, Command::Read | Command::Flush | Command::Disconnect) => false,
        }
    }
}

/// The place of a chunk within its read, if it is all new.
fn within(piece: &mut Piece, offset: u64, len: u32) -> Option<u32> {
    let at = u32::try_from(offset.checked_sub(piece.offset)?).ok()?;
    let end = at.checked_add(len).filter(|end| *end <= piece.len)?;
    piece.received.add(at..end).then_some(at)
}

/// The slot of a cookie: its lowest 16 bits.
fn slot_of(cookie: u64) -> usize {
    usize::try_from(cookie & 0xffff).unwrap_or(usize::MAX)
}

/// Makes an event descriptor readable.
pub(super) fn signal(descriptor: &OwnedFd) {
    // The one possible error is a full counter; the descriptor is readable then, too.
    let _written = rustix::io::write(descriptor, &1u64.to_ne_bytes());
}

/// An error of the server as one of the host, which has the same numbers.
fn host_error(error: u32, text: &str) -> io::Error {
    const KNOWN: [i32; 7] = [
        libc::EPERM,
        libc::EIO,
        libc::ENOMEM,
        libc::EINVAL,
        libc::ENOSPC,
        libc::EOVERFLOW,
        libc::EOPNOTSUPP,
    ];
    let known = KNOWN.into_iter().find(|known| u32::try_from(*known) == Ok(error));
    let kind = io::Error::from_raw_os_error(known.unwrap_or(libc::EIO));
    let says = if text.is_empty() { String::new() } else { format!(": {text}") };
    match known {
        Some(_) => io::Error::new(kind.kind(), format!("the server failed: {kind}{says}")),
        None => io::Error::new(kind.kind(), format!("the server failed with error {error}{says}")),
    }
}
