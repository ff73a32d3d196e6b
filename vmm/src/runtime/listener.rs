//! Sockets that listen, over TCP or with a file, and their connections.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use event_manager::EventOps;
use tracing::warn;

use crate::config::address::ListenAddress;
use crate::error::HostError;
use crate::runtime::event_loop::{unwatch, watch};
use crate::runtime::timer::Timer;
use crate::runtime::unix_socket;

/// The time after which connections are accepted again when the host had no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// A listening socket. No call blocks.
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// Its file is removed with it.
    Unix(unix_socket::Listener),
}

impl Listener {
    /// Listens at `address`.
    ///
    /// # Errors
    ///
    /// If the host refuses.
    pub(crate) fn at(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(listener))
            }
            ListenAddress::Unix(path) => unix_socket::Listener::at(path).map(Self::Unix),
        }
    }

    /// Accepts a connection.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none, or the host's error.
    pub(crate) fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                // Clients wait for each answer.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Stream::Unix(stream))
            }
        }
    }

    /// The address, with the port that the host chose.
    pub(crate) fn address(&self, wanted: &ListenAddress) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| wanted.to_string(), |addr| addr.to_string())
            }
            Self::Unix(_) => wanted.to_string(),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Unix(listener) => listener.socket.as_raw_fd(),
        }
    }
}

/// A connection. No call blocks.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Sends the other side the end of the output.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub(crate) fn end_output(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(to),
            Self::Unix(stream) => stream.read(to),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(from),
            Self::Unix(stream) => stream.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

/// Accepts several connections at a time, in a loop. When the host has no descriptor left, it tries again later.
pub(crate) struct Acceptor {
    /// "the control socket"
    name: &'static str,
    listener: Listener,
    is_watched: bool,
    /// Expires when the host may have descriptors again.
    again: Timer,
    is_out_of_descriptors: bool,
    /// Whether that was logged: only once, as clients may cause it again and again.
    is_logged: bool,
}

impl Acceptor {
    /// Accepts connections of `listener`; `name` is for messages.
    ///
    /// # Errors
    ///
    /// If the host cannot create a timer.
    pub(crate) fn new(name: &'static str, listener: Listener) -> Result<Self, HostError> {
        let (is_watched, is_out_of_descriptors, is_logged) = (false, false, false);
        let again = Timer::new()?;
        Ok(Self { name, listener, is_watched, again, is_out_of_descriptors, is_logged })
    }

    /// Registers its descriptors.
    ///
    /// # Errors
    ///
    /// If the host refuses.
    pub(crate) fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        watch(ops, &self.again)?;
        self.arm(true, ops)
    }

    /// Handles an event of the timer. Returns whether connections may be there; false for an event of another
    /// descriptor.
    ///
    /// # Errors
    ///
    /// If the host refuses.
    pub(crate) fn handle(&mut self, fd: RawFd) -> Result<bool, HostError> {
        if fd == self.again.as_raw_fd() {
            self.again.set(None)?;
            self.is_out_of_descriptors = false;
            return Ok(true);
        }
        Ok(fd == self.listener.as_raw_fd())
    }

    /// Accepts the next connection, if there is one.
    ///
    /// # Errors
    ///
    /// If the host refuses a timer.
    pub(crate) fn accept(&mut self) -> Result<Option<Stream>, HostError> {
        loop {
            match self.listener.accept() {
                Ok(stream) => return Ok(Some(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    if !std::mem::replace(&mut self.is_logged, true) {
                        warn!(
                            "{} cannot accept a connection: {error}; cafevm retries when another connection ends, or \
                             after {} s",
                            self.name,
                            ACCEPT_AGAIN.as_secs()
                        );
                    }
                    self.is_out_of_descriptors = true;
                    self.again.set(Some(ACCEPT_AGAIN))?;
                    return Ok(None);
                }
            }
        }
    }

    /// A connection has ended, so there is a descriptor again.
    pub(crate) const fn freed(&mut self) {
        self.is_out_of_descriptors = false;
    }

    /// Watches for connections if there is room for one.
    ///
    /// # Errors
    ///
    /// If the host refuses.
    pub(crate) fn arm(&mut self, has_room: bool, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let wanted = has_room && !self.is_out_of_descriptors;
        if wanted != std::mem::replace(&mut self.is_watched, wanted) {
            if wanted {
                watch(ops, &self.listener)?;
            } else {
                unwatch(ops, &self.listener)?;
            }
        }
        Ok(())
    }
}

/// Whether an error of `accept` concerns one connection, not the socket.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}
