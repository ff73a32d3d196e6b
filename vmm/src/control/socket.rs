//! The control socket's connections: lines in, lines out, none of which can hold the machine up.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use super::Controlled;
use crate::error::HostError;

/// The most connections at a time; further ones wait.
const CLIENTS_MAX: usize = 8;
/// The most bytes of a line, and of answers that a client does not read.
const LINE_MAX: usize = 16 << 10;

/// A listening control socket; its file is removed with it.
pub(crate) struct ControlSocket {
    path: PathBuf,
    listener: UnixListener,
    clients: Vec<Client>,
}

struct Client {
    stream: UnixStream,
    line: Vec<u8>,
    answers: VecDeque<u8>,
}

impl ControlSocket {
    /// Listens at `path`, for this user only. What a machine that was killed left there is replaced.
    ///
    /// # Errors
    ///
    /// Where something else is there, or the host does not give a socket.
    pub(crate) fn listen(path: &Path) -> Result<Self, HostError> {
        let failed = |source: io::Error| HostError::Control { path: path.to_owned(), source };
        remove_stale(path).map_err(failed)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let make = || {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            // The file gets the socket's mode, so that it is nobody else's at any moment.
            fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
            bind(&socket, &SocketAddrUnix::new(path)?)?;
            listen(&socket, 8)?;
            Ok::<_, rustix::io::Errno>(socket)
        };
        let socket = make().map_err(|errno| failed(errno.into()))?;
        Ok(Self { path: path.to_owned(), listener: socket.into(), clients: Vec::new() })
    }

    /// What to poll for.
    pub(crate) fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let accepting = self.clients.len() < CLIENTS_MAX;
        let listener: Option<BorrowedFd<'_>> = accepting.then(|| self.listener.as_fd());
        let listener = listener.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let clients = self.clients.iter().map(|client| {
            let waits = if client.answers.is_empty() { PollFlags::IN } else { PollFlags::OUT };
            PollFd::new(&client.stream, waits)
        });
        clients.chain(listener)
    }

    /// Takes what connections have to say and answers it. Never waits.
    pub(crate) fn serve(&mut self, controlled: &mut Controlled) {
        while self.clients.len() < CLIENTS_MAX {
            let Ok((stream, _)) = self.listener.accept() else { break };
            if stream.set_nonblocking(true).is_ok() {
                self.clients.push(Client { stream, line: Vec::new(), answers: VecDeque::new() });
            }
        }
        self.clients.retain_mut(|client| client.serve(controlled).is_ok());
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _removed = fs::remove_file(&self.path);
    }
}

impl Client {
    /// An error ends the connection.
    fn serve(&mut self, controlled: &mut Controlled) -> io::Result<()> {
        loop {
            self.send()?;
            if !self.answers.is_empty() {
                return Ok(()); // It must read first.
            }
            let mut bytes = [0; 4096];
            let count = match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            for byte in bytes.get(..count).unwrap_or_default() {
                self.take(*byte, controlled)?;
            }
        }
    }

    fn take(&mut self, byte: u8, controlled: &mut Controlled) -> io::Result<()> {
        if byte != b'\n' {
            self.line.push(byte);
            return if self.line.len() > LINE_MAX {
                Err(io::ErrorKind::InvalidData.into())
            } else {
                Ok(())
            };
        }
        let line = std::mem::take(&mut self.line);
        if !line.trim_ascii().is_empty() {
            self.answers.extend(controlled.answer(&line).into_bytes());
            self.answers.push_back(b'\n');
        }
        if self.answers.len() > LINE_MAX { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) }
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.answers.is_empty() {
            match self.stream.write(self.answers.as_slices().0) {
                Ok(count) => drop(self.answers.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Removes a socket that nobody listens at.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another machine listens there")),
        },
        Ok(_) => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file is there that is no socket"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
