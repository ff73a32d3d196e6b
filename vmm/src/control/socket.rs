//! The control socket: connections and their events. No client can block the machine.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;

use event_manager::{EventOps, EventSet, Events};

use super::Operator;
use super::client::Client;
use crate::error::HostError;
use crate::runtime::event_loop::{Subscriber, failed, unwatch, watch};
use crate::runtime::listener::{Acceptor, Listener};
use crate::runtime::messages::{Answer, Ticket};
use crate::runtime::timer::Timer;
use crate::threads::mailbox::Inbox;

/// The most connections at a time; further ones wait.
const CLIENTS_MAX: usize = 8;

/// The subscriber of the control socket.
pub(crate) struct ControlSocket<'a> {
    acceptor: Acceptor,
    /// The clients by descriptor, with the events that are watched; none if the other side is closed.
    clients: BTreeMap<RawFd, (Client, Option<EventSet>)>,
    operator: Operator<'a>,
    /// Answers that arrive later.
    answers: Inbox<(Ticket, Answer)>,
    /// Expires at the next deadline of a client.
    patience: Timer,
}

impl<'a> ControlSocket<'a> {
    /// Handles connections. Late answers to the operator's tickets arrive in `answers`.
    ///
    /// # Errors
    ///
    /// If the host cannot create a timer.
    pub(crate) fn new(
        listener: Listener,
        operator: Operator<'a>,
        answers: Inbox<(Ticket, Answer)>,
    ) -> Result<Self, HostError> {
        Ok(Self {
            acceptor: Acceptor::new("the control socket", listener)?,
            clients: BTreeMap::new(),
            operator,
            answers,
            patience: Timer::new()?,
        })
    }

    /// Accepts connections, up to the limit.
    fn accept(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        while self.clients.len() < CLIENTS_MAX {
            let Some(stream) = self.acceptor.accept()? else { return Ok(()) };
            let (fd, events) = (stream.as_raw_fd(), EventSet::IN);
            ops.add(Events::new(&stream, events)).map_err(failed)?;
            self.clients.insert(fd, (Client::new(stream), Some(events)));
        }
        Ok(())
    }

    /// Handles a client's events, and registers the next ones.
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
                // The client has closed its side, so all its input is there.
                (Ok(_), None) if client.is_waiting() => return Ok(()),
                (Ok(_), None) => {}
            }
        }
    }

    /// The other side is closed. Its messages were carried out; answers are dropped.
    fn hang_up(&mut self, fd: RawFd, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        if let Some((client, waits_for)) = self.clients.get_mut(&fd) {
            client.hang_up();
            // Otherwise epoll would report it forever.
            if waits_for.take().is_some() {
                unwatch(ops, &client.stream)?;
            }
        }
        self.handle_client(fd, ops)
    }

    fn drop_client(&mut self, fd: RawFd, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let Some((client, watched)) = self.clients.remove(&fd) else { return Ok(()) };
        self.acceptor.freed();
        // Before the close: after it another descriptor may have this number.
        watched.map_or(Ok(()), |_| unwatch(ops, &client.stream))
    }

    /// Passes late answers to the clients that wait for them.
    fn answer(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let answers: Vec<_> = self.answers.take().collect();
        for (ticket, answer) in answers {
            let mut clients = self.clients.iter_mut();
            // A client that has gone, or whose deadline has passed, gets no answer.
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

    /// Registers the next events and deadlines.
    fn arm(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        self.acceptor.arm(self.clients.len() < CLIENTS_MAX, ops)?;
        let soonest = self.clients.values().filter_map(|(client, _)| client.deadline()).min();
        self.patience.set_at(soonest)
    }
}

impl Subscriber for ControlSocket<'_> {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        watch(ops, &self.answers)?;
        watch(ops, &self.patience)?;
        self.acceptor.begin(ops)
    }

    fn handle(&mut self, event: Events, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let fd = event.fd();
        if self.acceptor.handle(fd)? {
            self.accept(ops)?;
        } else if fd == self.answers.as_raw_fd() {
            self.answer(ops)?;
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

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
