//! The control socket: who connects, and who is waited for. None of them can hold the machine up.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use event_manager::{EventOps, EventSet, Events};
use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use tracing::warn;

use super::Operator;
use super::client::Client;
use crate::error::HostError;
use crate::runtime::event_loop::{Subscriber, failed, unwatch, watch};
use crate::runtime::messages::{Answer, Ticket};
use crate::runtime::timer::Timer;
use crate::threads::mailbox::Inbox;

/// The most connections at a time; further ones wait.
const CLIENTS_MAX: usize = 8;
/// How soon connections are taken again after the host had no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// A socket that listens; its file is removed with it.
pub(crate) struct Listener {
    path: PathBuf,
    socket: UnixListener,
}

impl Listener {
    /// Listens at `path`, for this user only. What a machine that was killed left there is replaced.
    ///
    /// # Errors
    ///
    /// Where something else is there, or the host does not give a socket.
    pub(crate) fn at(path: &Path) -> Result<Self, HostError> {
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
        Ok(Self { path: path.to_owned(), socket: socket.into() })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _removed = fs::remove_file(&self.path);
    }
}

/// Serves the control socket.
pub(crate) struct ControlSocket<'a> {
    listener: Listener,
    listens: bool,
    /// By descriptor; with the events that are waited for, none where the other side is closed.
    clients: BTreeMap<RawFd, (Client, Option<EventSet>)>,
    operator: Operator<'a>,
    /// Answers that come later.
    answers: Inbox<(Ticket, Answer)>,
    /// Expires when the host may have descriptors again.
    accept_again: Timer,
    out_of_descriptors: bool,
    /// That was said since the last connection.
    told: bool,
    /// Expires when a client has waited long enough for an answer.
    patience: Timer,
}

impl<'a> ControlSocket<'a> {
    /// Serves those who connect. Answers that the operator's tickets wait for come by `answers`.
    ///
    /// # Errors
    ///
    /// Where the host gives no timer.
    pub(crate) fn new(
        listener: Listener,
        operator: Operator<'a>,
        answers: Inbox<(Ticket, Answer)>,
    ) -> Result<Self, HostError> {
        Ok(Self {
            listener,
            listens: false,
            clients: BTreeMap::new(),
            operator,
            answers,
            accept_again: Timer::new()?,
            out_of_descriptors: false,
            told: false,
            patience: Timer::new()?,
        })
    }

    /// Takes connections, as many as there may be.
    fn accept(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        while self.clients.len() < CLIENTS_MAX {
            let stream = match self.listener.socket.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_of_one_client(&error) => continue,
                Err(error) => {
                    if !std::mem::replace(&mut self.told, true) {
                        warn!(
                            "the control socket cannot take a connection: {error}; tried again when another connection \
                         ends, or after {} s",
                            ACCEPT_AGAIN.as_secs()
                        );
                    }
                    self.out_of_descriptors = true;
                    return self.accept_again.set(Some(ACCEPT_AGAIN));
                }
            };
            if stream.set_nonblocking(true).is_ok() {
                let (fd, events) = (stream.as_raw_fd(), EventSet::IN);
                ops.add(Events::new(&stream, events)).map_err(failed)?;
                self.clients.insert(fd, (Client::new(stream), Some(events)));
            }
        }
        Ok(())
    }

    /// Serves a client, and sees to it that it is served again.
    fn handle_client(&mut self, fd: RawFd, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let Some((client, waits_for)) = self.clients.get_mut(&fd) else { return Ok(()) };
        loop {
            match (client.handle(&mut self.operator), &mut *waits_for) {
                (Err(_over), _) => return self.drop_client(fd, ops),
                (Ok(events), Some(now)) if events == *now => return Ok(()),
                (Ok(events), Some(now)) => {
                    *now = events;
                    return ops.modify(Events::new(&client.stream, events)).map_err(failed);
                }
                // Its end is closed, so all that it sent is there.
                (Ok(_), None) if client.deadline().is_some() => return Ok(()),
                (Ok(_), None) => {}
            }
        }
    }

    /// The other side is closed. What it has sent is done; answers are dropped.
    fn hang_up(&mut self, fd: RawFd, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        if let Some((client, waits_for)) = self.clients.get_mut(&fd) {
            client.hang_up();
            // It would be ready for ever.
            if waits_for.take().is_some() {
                unwatch(ops, &client.stream)?;
            }
        }
        self.handle_client(fd, ops)
    }

    fn drop_client(&mut self, fd: RawFd, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let Some((client, watched)) = self.clients.remove(&fd) else { return Ok(()) };
        self.out_of_descriptors = false;
        // Before it is closed, as the descriptor's number is free then.
        watched.map_or(Ok(()), |_| unwatch(ops, &client.stream))
    }

    /// Hands answers that came later to those who wait for them.
    fn answer(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let answers: Vec<_> = self.answers.take().collect();
        for (ticket, answer) in answers {
            let mut clients = self.clients.iter_mut();
            // A client that has gone, or lost its patience, takes no answer.
            let fd = clients
                .find_map(|(fd, (client, _))| client.take_answer(ticket, &answer).then_some(*fd));
            if let Some(fd) = fd {
                self.handle_client(fd, ops)?;
            }
        }
        Ok(())
    }

    fn lose_patience(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let now = Instant::now();
        let waiting: Vec<_> = self.clients.keys().copied().collect();
        for fd in waiting {
            if let Some((client, _)) = self.clients.get_mut(&fd) {
                client.lose_patience(&self.operator, now);
            }
            self.handle_client(fd, ops)?;
        }
        Ok(())
    }

    /// Waits for what is to be waited for next.
    fn arm(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let listens = self.clients.len() < CLIENTS_MAX && !self.out_of_descriptors;
        if listens != self.listens {
            self.listens = listens;
            if listens {
                watch(ops, &self.listener.socket)?;
            } else {
                unwatch(ops, &self.listener.socket)?;
            }
        }
        let soonest = self.clients.values().filter_map(|(client, _)| client.deadline()).min();
        self.patience.set(soonest.map(|until| until.saturating_duration_since(Instant::now())))
    }
}

impl Subscriber for ControlSocket<'_> {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        watch(ops, &self.answers)?;
        watch(ops, &self.accept_again)?;
        watch(ops, &self.patience)?;
        self.arm(ops)
    }

    fn handle(&mut self, event: Events, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let fd = event.fd();
        if fd == self.listener.socket.as_raw_fd() {
            self.accept(ops)?;
        } else if fd == self.answers.as_raw_fd() {
            self.answer(ops)?;
        } else if fd == self.accept_again.as_raw_fd() {
            self.accept_again.set(None)?;
            self.out_of_descriptors = false;
        } else if fd == self.patience.as_raw_fd() {
            self.lose_patience(ops)?;
        } else if event.event_set().intersects(EventSet::HANG_UP | EventSet::ERROR) {
            self.hang_up(fd, ops)?;
        } else {
            self.handle_client(fd, ops)?;
        }
        self.arm(ops)
    }
}

/// Whether an error of `accept` subscribers the connection that was to be taken, and not the socket.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
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

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
