//! Connections: sockets that never block, with TLS or without, and the patience of a handshake.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustls::ClientConnection;

use super::uri::Server;
use crate::memory::{Gather, Scatter};

/// How often a step of a connection looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);
/// After this time without an answer of the other host, TCP asks whether it is there, and gives up after as long again.
const DEAD_AFTER: Duration = Duration::from_secs(10);
/// The most bytes in one call of TLS: a record has at most 16 KiB.
const RECORD: usize = 16 << 10;

/// How long the steps of a connection may take together, and whether they are still wanted.
pub(super) struct Patience<'a> {
    pub(super) until: Instant,
    pub(super) is_over: &'a dyn Fn() -> bool,
}

impl Patience<'_> {
    /// Waits until the socket is ready.
    ///
    /// # Errors
    ///
    /// If the time is over, or the disk was stopped or dropped.
    fn wait(&self, socket: BorrowedFd<'_>, flags: PollFlags) -> io::Result<()> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if (self.is_over)() {
                return Err(io::Error::other("the machine is being stopped"));
            }
            let slice = Timespec::try_from(left.min(LOOK)).map_err(io::Error::other)?;
            match poll(&mut [PollFd::from_borrowed_fd(socket, flags)], Some(&slice)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A socket whose calls wait, within the patience: for the handshakes.
pub(super) struct Patient<'a> {
    pub(super) socket: &'a OwnedFd,
    pub(super) patience: &'a Patience<'a>,
}

impl Read for Patient<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut place = Scatter::default();
            place.host(bytes);
            match place.receive(self.socket.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.patience.wait(self.socket.as_fd(), PollFlags::IN)?;
                }
                result => return result,
            }
        }
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut parts = Gather::default();
            parts.host(bytes);
            match parts.send(self.socket.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.patience.wait(self.socket.as_fd(), PollFlags::OUT)?;
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Connects to the server: to the first of its addresses that answers.
///
/// # Errors
///
/// The host's error of the last address.
pub(super) fn connect(server: &Server, patience: &Patience<'_>) -> io::Result<OwnedFd> {
    match server {
        Server::Unix(path) => connect_unix(path, patience),
        Server::Tcp { host, port } => {
            let mut last = io::Error::other("the host name has no address");
            for address in (host.as_str(), *port).to_socket_addrs()? {
                match connect_tcp(address, patience) {
                    Ok(socket) => return Ok(socket),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

fn connect_tcp(address: SocketAddr, patience: &Patience<'_>) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family)?;
    // Requests are small, and each is waited for.
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, DEAD_AFTER)?;
    sockopt::set_tcp_keepintvl(&socket, DEAD_AFTER / 5)?;
    sockopt::set_tcp_keepcnt(&socket, 5)?;
    let millis = u32::try_from((2 * DEAD_AFTER).as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(&socket, millis)?;
    match net::connect(&socket, &address) {
        Ok(()) => return Ok(socket),
        Err(Errno::INPROGRESS | Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    patience.wait(socket.as_fd(), PollFlags::OUT)?;
    sockopt::socket_error(&socket)??;
    Ok(socket)
}

fn connect_unix(path: &Path, patience: &Patience<'_>) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    loop {
        let socket = socket(AddressFamily::UNIX)?;
        match net::connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            // The server's queue of connections is full.
            Err(Errno::AGAIN) => {
                let short = Instant::now() + Duration::from_millis(10);
                let until = short.min(patience.until);
                let pause = Patience { until, ..*patience };
                match pause.wait(socket.as_fd(), PollFlags::empty()) {
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                    // A socket without a connection reports that.
                    Ok(()) => std::thread::sleep(until.saturating_duration_since(Instant::now())),
                    Err(error) => return Err(error),
                }
                if Instant::now() >= patience.until {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(net::socket_with(family, SocketType::STREAM, flags, None)?)
}

/// A connection after its handshakes.
#[derive(Debug)]
pub(super) struct Stream {
    /// Shared with those who poll it.
    socket: Arc<OwnedFd>,
    tls: Option<Box<Tls>>,
}

#[derive(Debug)]
struct Tls {
    connection: ClientConnection,
    /// Bytes on their way between the buffers and TLS.
    record: Vec<u8>,
}

impl Stream {
    /// The connection on `socket`.
    pub(super) fn new(socket: OwnedFd, tls: Option<ClientConnection>) -> Self {
        let tls = tls.map(|connection| Box::new(Tls { connection, record: vec![0; RECORD] }));
        Self { socket: Arc::new(socket), tls }
    }

    /// The socket.
    pub(super) const fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// Sends. Returns the number of bytes that were taken.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if it takes nothing now; otherwise the connection is broken.
    pub(super) fn send(&mut self, parts: &Gather<'_>) -> io::Result<usize> {
        let Some(tls) = self.tls.as_deref_mut() else { return parts.send(self.socket.as_fd()) };
        tls.write(&self.socket)?;
        if tls.connection.wants_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = parts.copy_to(&mut tls.record);
        let bytes = tls.record.get(..count).unwrap_or_default();
        let taken = tls.connection.writer().write(bytes)?;
        tls.write(&self.socket)?;
        Ok(taken)
    }

    /// Whether bytes that were taken are not sent yet: [`Stream::push`] sends them.
    pub(super) fn is_behind(&self) -> bool {
        self.tls.as_deref().is_some_and(|tls| tls.connection.wants_write())
    }

    /// Sends what was taken, as far as that is possible now.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    pub(super) fn push(&mut self) -> io::Result<()> {
        match self.tls.as_deref_mut() {
            Some(tls) => tls.write(&self.socket),
            None => Ok(()),
        }
    }

    /// Receives. Returns the number of bytes, 0 at the end; and whether there may be more now.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if there is nothing now; otherwise the connection is broken.
    pub(super) fn receive(&mut self, places: &mut Scatter<'_>) -> io::Result<(usize, bool)> {
        match self.tls.as_deref_mut() {
            Some(tls) => tls.receive(&self.socket, places).map(|count| (count, true)),
            None => {
                let room = places.len();
                let count = places.receive(self.socket.as_fd())?;
                Ok((count, count == room))
            }
        }
    }
}

impl Tls {
    /// Writes what TLS has, as far as the socket takes it.
    fn write(&mut self, socket: &OwnedFd) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Direct(socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(&mut self, socket: &OwnedFd, places: &mut Scatter<'_>) -> io::Result<usize> {
        loop {
            let most = places.len().min(self.record.len());
            let record = self.record.get_mut(..most).unwrap_or_default();
            match self.connection.reader().read(record) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(count) => return Ok(places.copy_from(record.get(..count).unwrap_or_default())),
                Err(error) => return Err(error),
            }
            if self.connection.read_tls(&mut Direct(socket))? == 0 {
                return Ok(0);
            }
            self.connection.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

/// The calls on a socket as `Read` and `Write`, which do not wait.
struct Direct<'a>(&'a OwnedFd);

impl Read for Direct<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut place = Scatter::default();
        place.host(bytes);
        place.receive(self.0.as_fd())
    }
}

impl Write for Direct<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut parts = Gather::default();
        parts.host(bytes);
        parts.send(self.0.as_fd())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
