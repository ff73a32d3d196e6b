//! The VNC server: connections and their events, on a thread of its own. No client delays the machine or another client.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use cafevm_devices::display::Screen;
use event_manager::{EventOps, EventSet, Events};
use tracing::{debug, info};

use super::connection::{Connection, End};
use super::desk::{Desk, Resize};
use super::hands::Hands;
use super::rfb::{Scratch, Session};
use crate::config::address::ListenAddress;
use crate::error::HostError;
use crate::runtime::event_loop::{AtExit, EventLoop, Subscriber, failed, unwatch, watch};
use crate::runtime::listener::{Acceptor, Listener};
use crate::runtime::timer::Timer;
use crate::threads::ending::Ending;
use crate::threads::roll::Roll;
use crate::threads::wake::WakeFd;

/// The thread's name in messages.
pub(crate) const NAME: &str = "the display's thread";
/// The most clients at a time. Further ones are refused.
const CLIENTS_MAX: usize = 8;
/// The most connections that are being refused. Further ones wait.
const REFUSED_MAX: usize = 8;

/// Listens at `address`.
///
/// # Errors
///
/// If the host refuses.
pub(crate) fn listen(address: &ListenAddress) -> Result<Listener, HostError> {
    let listener = Listener::at(address)
        .map_err(|source| HostError::Display { address: address.to_string(), source })?;
    info!("--display: VNC at {}", listener.address(address));
    Ok(listener)
}

/// The parts that the server works with.
pub(crate) struct VncServer {
    pub(crate) listener: Listener,
    pub(crate) screen: Screen,
    pub(crate) hands: Hands,
    pub(crate) resize: Resize,
}

impl VncServer {
    /// Starts the thread, which ends with the machine.
    ///
    /// # Errors
    ///
    /// If the host does not provide a resource.
    pub(crate) fn spawn(
        self,
        ending: Arc<Ending>,
        roll: &Arc<Roll>,
    ) -> Result<JoinHandle<Result<(), HostError>>, HostError> {
        let mut events: EventLoop<dyn Subscriber + Send> = EventLoop::new()?;
        events.add(Box::new(AtExit(ending.clone())))?;
        events.add(Box::new(Clients::new(self)?))?;
        let present = roll.enter(NAME.to_owned(), &ending);
        let run = move || {
            // Dropped last.
            let _present = present;
            let mut events = events;
            events.run(&ending)
        };
        let thread = std::thread::Builder::new().name("display".to_owned()).spawn(run);
        thread.map_err(HostError::os("start the thread of the display"))
    }
}

/// The subscriber of all connections.
struct Clients {
    acceptor: Acceptor,
    screen: Screen,
    hands: Hands,
    resize: Resize,
    /// The connections by descriptor, with the events that are watched.
    connections: BTreeMap<RawFd, (Connection, EventSet)>,
    scratch: Scratch,
    /// Woken when the screen changes.
    changed: Arc<WakeFd>,
    /// Expires at the next deadline of a connection.
    timer: Timer,
}

impl Clients {
    fn new(server: VncServer) -> Result<Self, HostError> {
        let VncServer { listener, screen, hands, resize } = server;
        Ok(Self {
            acceptor: Acceptor::new("the VNC server", listener)?,
            screen,
            hands,
            resize,
            connections: BTreeMap::new(),
            scratch: Scratch::default(),
            changed: Arc::new(WakeFd::new()?),
            timer: Timer::new()?,
        })
    }

    /// Accepts connections, up to the limit.
    fn accept(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        while self.has_room() {
            let Some(stream) = self.acceptor.accept()? else { return Ok(()) };
            let clients = self.connections.values().filter(|(client, _)| !client.is_refused);
            let refusal = (clients.count() >= CLIENTS_MAX)
                .then(|| format!("cafevm serves {CLIENTS_MAX} clients at a time, and has as many"));
            let is_refused = refusal.is_some();
            let desk = Desk::new(self.hands.clone(), self.resize.clone());
            let viewer = self.screen.viewer(Some(self.changed.clone()));
            let session = Session::new(desk, &self.screen, viewer, refusal);
            let connection = Connection::new(stream, session, is_refused, Instant::now());
            // The server's version is sent first.
            let (fd, events) = (connection.as_raw_fd(), EventSet::IN | EventSet::OUT);
            ops.add(Events::new(&connection, events)).map_err(failed)?;
            self.connections.insert(fd, (connection, events));
            debug!("--display: a client has connected; there are {}", self.connections.len());
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        let refused = self.connections.values().filter(|(client, _)| client.is_refused).count();
        let clients = self.connections.len() - refused;
        clients < CLIENTS_MAX || refused < REFUSED_MAX
    }

    /// Gives a connection its turn.
    fn serve(&mut self, fd: RawFd, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let Some((connection, watched)) = self.connections.get_mut(&fd) else { return Ok(()) };
        match connection.serve(&mut self.scratch, Instant::now()) {
            Ok(events) if events == *watched => Ok(()),
            Ok(events) => {
                *watched = events;
                ops.modify(Events::new(connection, events)).map_err(failed)
            }
            Err(end) => self.end(fd, &end, ops),
        }
    }

    /// Gives each connection its turn.
    fn serve_all(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let all: Vec<_> = self.connections.keys().copied().collect();
        all.into_iter().try_for_each(|fd| self.serve(fd, ops))
    }

    fn end(&mut self, fd: RawFd, end: &End, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let Some((connection, _)) = self.connections.remove(&fd) else { return Ok(()) };
        debug!("--display: a connection has ended: {end}");
        self.acceptor.freed();
        // Before the close: after it another descriptor may have this number.
        unwatch(ops, &connection)
    }

    /// Registers the next events and the next deadline.
    fn arm(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        self.acceptor.arm(self.has_room(), ops)?;
        let soonest = self.connections.values().filter_map(|(client, _)| client.deadline()).min();
        self.timer.set_at(soonest)
    }
}

impl Subscriber for Clients {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        watch(ops, &*self.changed)?;
        watch(ops, &self.timer)?;
        self.acceptor.begin(ops)
    }

    fn handle(&mut self, event: Events, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let fd = event.fd();
        if self.acceptor.handle(fd)? {
            self.accept(ops)?;
        } else if fd == self.changed.as_raw_fd() {
            self.changed.clear();
            self.serve_all(ops)?;
        } else if fd == self.timer.as_raw_fd() {
            self.serve_all(ops)?;
        } else if event.event_set().intersects(EventSet::HANG_UP | EventSet::ERROR) {
            self.end(fd, &End::Closed, ops)?;
        } else {
            self.serve(fd, ops)?;
        }
        self.arm(ops)
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
