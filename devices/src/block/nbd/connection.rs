//! One connection: sends pieces, many with one call, and takes replies apart, many from one call.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::handshake::transport;
use super::session::{Payload, Session, Sink, Source, Violation};
use super::stream::Stream;
use super::wire::{Head, LONGEST_HEAD, REQUEST_LEN};
use crate::memory::{Gather, Scatter};

/// The memory for replies. Data of a long read is received to its place, not here.
const BUFFER: usize = 64 << 10;
/// A read of so many bytes is long.
const LONG: u32 = 16 << 10;
/// The bytes of a call beside the data of a long read: the next head.
const BESIDE_LONG: usize = 64;
/// The most bytes that are made ready to be sent.
const SEND_AHEAD: usize = 512 << 10;
/// The most bytes of one call of [`Connection::send`] and [`Connection::receive`]: others want the session, too.
const TURN: usize = 1 << 20;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the server closed the connection")]
    Closed,
    #[error("{}", transport(.0))]
    Io(#[from] io::Error),
    #[error("the server broke the NBD protocol: {0}")]
    Violation(#[from] Violation),
}

/// A connection in the phase of transmission.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    /// Pieces that are not sent as a whole, in order.
    unsent: VecDeque<usize>,
    /// Their bytes.
    unsent_bytes: usize,
    /// The bytes of the first of them that are sent.
    sent: usize,
    buffer: Box<[u8]>,
    /// What is in the buffer.
    filled: std::ops::Range<usize>,
    /// The data that is being received.
    payload: Option<Payload>,
    /// The room that the next call has in the buffer.
    room: usize,
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            sent: 0,
            buffer: vec![0; BUFFER].into(),
            filled: 0..0,
            payload: None,
            room: BUFFER,
        }
    }

    /// The socket.
    pub(super) const fn socket(&self) -> &Arc<OwnedFd> {
        self.stream.socket()
    }

    /// The connection itself, for the end.
    pub(super) const fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Whether it has something to send that the socket does not take yet.
    pub(super) fn is_behind(&self) -> bool {
        !self.unsent.is_empty() || self.stream.is_behind()
    }

    /// Whether it can be given another piece.
    pub(super) const fn takes_more(&self) -> bool {
        self.unsent_bytes < SEND_AHEAD
    }

    /// Takes a piece to send.
    pub(super) fn push(&mut self, slot: usize, session: &Session) {
        self.unsent.push_back(slot);
        self.unsent_bytes += session.piece(slot).map_or(0, |piece| bytes_of(piece.payload()));
    }

    /// Sends what the socket takes. Returns whether everything is sent.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    pub(super) fn send(&mut self, session: &Session) -> Result<bool, Broken> {
        self.stream.push()?;
        let mut turn = 0;
        while !self.unsent.is_empty() && turn < TURN {
            match self.send_once(session) {
                Ok(count) => turn += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(!self.is_behind())
    }

    fn send_once(&mut self, session: &Session) -> io::Result<usize> {
        let pieces = || self.unsent.iter().filter_map(|slot| session.piece(*slot));
        let headers: Vec<_> = pieces().map(|piece| piece.header().encode()).collect();
        let mut parts = Gather::default();
        let mut skip = self.sent;
        for (piece, header) in pieces().zip(&headers) {
            let rest = header.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(REQUEST_LEN);
            if !parts.host(rest) {
                break;
            }
            let len = piece.payload() as usize;
            let fits = match session.source(piece) {
                Source::None => true,
                Source::Guest(buffers, from) => {
                    parts.guest(buffers, from + skip as u64, (len - skip) as u64)
                }
                Source::Host(bytes) => parts.host(bytes.get(skip..).unwrap_or_default()),
                Source::Zeros => {
                    let mut left = len - skip;
                    let mut fits = true;
                    while left > 0 && fits {
                        let now = left.min(ZEROS.len());
                        fits = parts.host(ZEROS.get(..now).unwrap_or_default());
                        left -= now;
                    }
                    fits
                }
            };
            skip = 0;
            if !fits {
                break;
            }
        }
        let count = self.stream.send(&parts)?;
        drop(parts);
        self.advance(count, session);
        Ok(count)
    }

    /// Counts sent bytes.
    fn advance(&mut self, count: usize, session: &Session) {
        self.sent += count;
        while let Some(slot) = self.unsent.front() {
            let len = session.piece(*slot).map_or(0, |piece| bytes_of(piece.payload()));
            if self.sent < len {
                return;
            }
            self.sent -= len;
            self.unsent_bytes = self.unsent_bytes.saturating_sub(len);
            self.unsent.pop_front();
        }
    }

    /// Receives what is there, and hands it to the session. Returns whether there may be more now.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    pub(super) fn receive(&mut self, session: &mut Session) -> Result<bool, Broken> {
        let mut turn = 0;
        while turn < TURN {
            match self.receive_once(session) {
                Ok((count, more)) => {
                    turn += count;
                    self.parse(session)?;
                    if !more {
                        return Ok(false);
                    }
                }
                Err(Broken::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(false);
                }
                Err(Broken::Io(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Fills the place of the data that is being received, and then the buffer.
    fn receive_once(&mut self, session: &mut Session) -> Result<(usize, bool), Broken> {
        let mut places = Scatter::default();
        let mut fits = true;
        if let Some(payload) = self.payload {
            fits = match session.sink(payload) {
                Some(Sink::Guest(buffers, skip)) => {
                    places.guest(buffers, skip, payload.left.into())
                }
                Some(Sink::Host(bytes)) => places.host(bytes),
                None => true,
            };
        }
        // Fewer than the data that is left where that has more parts than one call takes.
        let direct = places.len();
        let end = (self.filled.end + self.room).min(self.buffer.len());
        if fits {
            places.host(self.buffer.get_mut(self.filled.end..end).unwrap_or_default());
        }
        let (count, more) = self.stream.receive(&mut places)?;
        drop(places);
        if count == 0 {
            return Err(Broken::Closed);
        }
        let to_place = count.min(direct);
        self.filled.end += count - to_place;
        if let Some(payload) = &mut self.payload {
            let moved = u32::try_from(to_place).unwrap_or(u32::MAX);
            payload.at = payload.at.saturating_add(moved);
            payload.left = payload.left.saturating_sub(moved);
        }
        Ok((count, more))
    }

    /// Takes what is in the buffer apart.
    fn parse(&mut self, session: &mut Session) -> Result<(), Broken> {
        loop {
            if let Some(payload) = &mut self.payload {
                let buffered = self.buffer.get(self.filled.clone()).unwrap_or_default();
                let count = buffered.len().min(payload.left as usize);
                let bytes = buffered.get(..count).unwrap_or_default();
                match session.sink(*payload) {
                    Some(Sink::Guest(buffers, skip)) => {
                        buffers.part(skip, count as u64).copy_from(bytes);
                    }
                    Some(Sink::Host(place)) => {
                        place.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
                    }
                    None => {}
                }
                self.filled.start += count;
                let moved = u32::try_from(count).unwrap_or(u32::MAX);
                payload.at = payload.at.saturating_add(moved);
                payload.left = payload.left.saturating_sub(moved);
                if payload.left > 0 {
                    break;
                }
                let Payload { slot, is_last, .. } = *payload;
                self.payload = None;
                session.chunk_ends(slot, is_last)?;
            }
            let bytes = self.buffer.get(self.filled.clone()).unwrap_or_default();
            let Some((head, len)) = Head::decode(bytes).map_err(Violation::from)? else { break };
            self.filled.start += len;
            self.payload = session.head(head)?;
            let is_long = self.payload.is_some_and(|payload| payload.left >= LONG);
            self.room = if is_long { BESIDE_LONG } else { BUFFER };
        }
        if self.filled.is_empty() {
            self.filled = 0..0;
        } else if self.buffer.len() - self.filled.start < LONGEST_HEAD {
            self.buffer.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
        }
        Ok(())
    }
}

/// The bytes of a message with so many bytes of data.
const fn bytes_of(payload: u32) -> usize {
    REQUEST_LEN + payload as usize
}
