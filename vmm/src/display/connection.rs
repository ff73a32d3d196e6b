//! A VNC client's connection: bytes between its socket and its session. Nothing here blocks.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use event_manager::EventSet;

use super::desk::Desk;
use super::rfb::{Scratch, Session, SessionError};
use crate::runtime::listener::Stream;

/// How long a handshake may take, and the sending of the last bytes.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The time from one update to the next. Between two, changes become one.
const FRAME: Duration = Duration::from_millis(16);
/// The most bytes that are read before other clients get their turn.
const READ_MAX: usize = 16 << 10;
/// The most rectangles that are encoded before other clients get their turn.
const ENCODE_MAX: usize = 4;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("the client has closed the connection")]
    Closed,
    #[error("all is said")]
    Over,
    #[error("the client did not finish its handshake within {} s", HANDSHAKE.as_secs())]
    Late,
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A connection.
pub(super) struct Connection {
    stream: Stream,
    session: Session<Desk>,
    /// The begin of the handshake.
    since: Instant,
    /// The begin of the next update, at the earliest.
    next_update: Instant,
    /// Why the session is over.
    error: Option<SessionError>,
    /// It does not count as one of the clients.
    pub(super) is_refused: bool,
}

impl Connection {
    /// A connection that was made `now`.
    pub(super) const fn new(
        stream: Stream,
        session: Session<Desk>,
        is_refused: bool,
        now: Instant,
    ) -> Self {
        Self { stream, session, since: now, next_update: now, error: None, is_refused }
    }

    /// The time at which [`Connection::serve`] has something to do, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if !self.session.is_running() {
            return Some(self.since + HANDSHAKE);
        }
        (self.session.is_due() && !self.session.is_updating()).then_some(self.next_update)
    }

    /// Reads and sends what can be without waiting, within one turn. Returns the events to wait for.
    ///
    /// # Errors
    ///
    /// Why the connection ends.
    pub(super) fn serve(&mut self, scratch: &mut Scratch, now: Instant) -> Result<EventSet, End> {
        if !self.session.is_running() && now.saturating_duration_since(self.since) >= HANDSHAKE {
            return Err(End::Late);
        }
        self.receive(now)?;
        let wait = if self.session.is_over() { EventSet::empty() } else { EventSet::IN };
        for _ in 0..ENCODE_MAX {
            if !self.send()? {
                return Ok(wait | EventSet::OUT);
            }
            if self.session.is_over() {
                return Err(self.error.take().map_or(End::Over, End::Session));
            }
            if !self.session.is_updating() {
                if !self.session.is_due() || now < self.next_update {
                    return Ok(wait);
                }
                self.next_update = now + FRAME;
            }
            if !self.session.prepare(scratch)? {
                return Ok(wait);
            }
        }
        Ok(wait | EventSet::OUT)
    }

    fn receive(&mut self, now: Instant) -> Result<(), End> {
        let mut bytes = [0; 4096];
        for _ in 0..READ_MAX / bytes.len() {
            if self.session.is_over() {
                break;
            }
            match self.stream.read(&mut bytes) {
                // Half a connection is of no use: the client could not ask for anything.
                Ok(0) => return Err(End::Closed),
                Ok(count) => {
                    let received = self.session.receive(bytes.get(..count).unwrap_or_default());
                    if self.session.is_over() {
                        (self.error, self.since) = (received.err(), now);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends as much as the host takes. Returns whether that was all.
    fn send(&mut self) -> io::Result<bool> {
        while !self.session.output().is_empty() {
            match self.stream.write(self.session.output()) {
                Ok(count) => self.session.sent(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}
