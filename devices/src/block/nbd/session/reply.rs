//! What a reply means.

use std::io;
use std::ops::Range;

use super::Session;
use super::cut::slot_of;
use crate::block::BlockError;
use crate::block::nbd::kept::{Entry, EntryContent};
use crate::block::nbd::piece::{Content, Piece, Purpose};
use crate::block::nbd::wire::{
    Body, Command, Head, WireError, command_flag, export_flag, readable,
};
use crate::memory::Buffers;

/// The error of a server that is being shut down ("Error values").
const ESHUTDOWN: u32 = 108;
/// The most errors in the chunks of one reply.
const MOST_ERRORS: u32 = 64;

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
    #[error("a reply has more than {MOST_ERRORS} errors")]
    Errors,
    #[error("the server is being shut down")]
    ShuttingDown,
}

/// Data of a reply that follows its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::block::nbd) struct Payload {
    /// The piece.
    pub(in crate::block::nbd) slot: usize,
    /// The next byte within the piece.
    pub(in crate::block::nbd) at: u32,
    /// The bytes that are left.
    pub(in crate::block::nbd) left: u32,
    /// Whether the reply ends with it.
    pub(in crate::block::nbd) is_last: bool,
}

/// The place for the data of a reply.
pub(in crate::block::nbd) enum Sink<'a> {
    /// The guest's buffers, after this many bytes.
    Guest(&'a Buffers, u64),
    /// Memory of the host.
    Host(&'a mut [u8]),
}

impl Session {
    /// Handles the head of a reply. Returns the data that follows it.
    ///
    /// # Errors
    ///
    /// How the server broke the protocol.
    pub(in crate::block::nbd) fn head(&mut self, head: Head) -> Result<Option<Payload>, Violation> {
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
            Body::Error { .. } if piece.errors >= MOST_ERRORS => return Err(Violation::Errors),
            Body::Error { error, text } => {
                piece.errors += 1;
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
    pub(in crate::block::nbd) fn sink(&mut self, payload: Payload) -> Option<Sink<'_>> {
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
    pub(in crate::block::nbd) fn chunk_ends(
        &mut self,
        slot: usize,
        is_last: bool,
    ) -> Result<(), Violation> {
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
}

/// The place of a chunk within its read, if it is all new.
fn within(piece: &mut Piece, offset: u64, len: u32) -> Option<u32> {
    let at = u32::try_from(offset.checked_sub(piece.offset)?).ok()?;
    let end = at.checked_add(len).filter(|end| *end <= piece.len)?;
    piece.received.add(at..end).then_some(at)
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
