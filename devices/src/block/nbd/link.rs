//! The link: the session and its connections, the threads that serve them, and what happens when they are lost.
//!
//! No thread belongs to a connection. The thread that has the lock sends what can be sent and receives what is there:
//!
//! - a lane at its commit, and while it waits ([`super::engine`]);
//! - [`NbdLink::run`], on a thread of the VMM, for everything that is answered while no lane watches: for this, the
//!   sockets are armed in an epoll set. The same thread connects again after a loss.

mod watch;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::net::{Shutdown, shutdown};

use self::watch::Logged;
use super::connection::{Broken, Connection};
use super::open::{ATTEMPT, NbdError, OpenError, Target};
use super::session::{self, Refusal, Session};
use super::uri::NbdUri;
use crate::block::Stop;

/// The data of the descriptor that wakes the thread, among the numbers of the connections.
const KICK: u64 = u64::MAX;

/// What all lanes of a disk, its storage and its thread share.
pub(super) struct Shared {
    pub(super) target: Target,
    link: Mutex<Link>,
    epoll: OwnedFd,
    kick: OwnedFd,
    stop: OnceLock<Stop>,
    is_closed: AtomicBool,
    reconnects: AtomicU64,
}

/// The session and its connections.
pub(super) struct Link {
    pub(super) session: Session,
    connections: Vec<Connection>,
    /// The connection that gets the next piece.
    next: usize,
    /// Counts the sets of connections.
    generation: u64,
    /// The lanes that watch the sockets.
    watching: usize,
    /// Whether replies wake the thread.
    is_armed: bool,
    /// Since when there are no connections, or requests that were in flight then are not answered.
    lost_at: Option<Instant>,
    /// Why the connections were lost, and why there are no new ones.
    reason: String,
    /// The first of the two.
    lost_by: String,
    logged: Logged,
}

impl Shared {
    /// Connects for the first time.
    pub(super) fn open(target: Target) -> Result<Self, NbdError> {
        let connected = target.connect(ATTEMPT, &|| false, None);
        let (connections, export) = connected.map_err(|why| target.error(why))?;
        let host = |error: io::Error| target.error(OpenError::Host(error));
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| host(e.into()))?;
        let kick = descriptor().map_err(host)?;
        epoll::add(&epoll, &kick, epoll::EventData::new_u64(KICK), epoll::EventFlags::IN)
            .map_err(|error| host(error.into()))?;
        let mut link = Link {
            session: Session::new(export, !target.options.reconnect.is_zero()),
            connections: Vec::new(),
            next: 0,
            generation: 0,
            watching: 0,
            is_armed: false,
            lost_at: None,
            reason: String::new(),
            lost_by: String::new(),
            logged: Logged::default(),
        };
        link.install(connections, &epoll).map_err(host)?;
        Ok(Self {
            target,
            link: Mutex::new(link),
            epoll,
            kick,
            stop: OnceLock::new(),
            is_closed: AtomicBool::new(false),
            reconnects: AtomicU64::new(0),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle that stops the disk, which the first lane brings.
    pub(super) fn stopped_by(&self, stop: &Stop) {
        let _known = self.stop.set(stop.clone());
    }

    /// How often the link was established again.
    pub(super) fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    /// The disk was dropped.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.wake_thread();
    }

    fn wake_thread(&self) {
        session::signal(&self.kick);
    }

    /// Whether the disk was stopped or dropped.
    fn is_over(&self) -> bool {
        self.is_closed.load(Ordering::Acquire) || self.stop.get().is_some_and(Stop::is_stopped)
    }

    /// Sends what can be sent, then receives what is there, until neither is possible. Tells all lanes but `own`.
    pub(super) fn pump(&self, link: &mut Link, own: Option<usize>) {
        if let Err(broken) = link.exchange() {
            self.lose(link, &broken);
        }
        link.session.tell(own);
    }

    /// Sends what can be sent.
    pub(super) fn send(&self, link: &mut Link, own: Option<usize>) {
        if let Err(broken) = link.send() {
            self.lose(link, &broken);
        }
        link.session.tell(own);
    }

    /// A lane watches the sockets itself now.
    pub(super) fn begin_watch(&self, link: &mut Link) {
        link.watching += 1;
        if std::mem::take(&mut link.is_armed) {
            link.interest(&self.epoll, false);
        }
    }

    /// A lane no longer watches the sockets.
    pub(super) fn end_watch(&self, link: &mut Link) {
        link.watching = link.watching.saturating_sub(1);
        self.arm(link);
    }

    /// Makes the thread watch the sockets, if no lane does and there is something to wait for.
    pub(super) fn arm(&self, link: &mut Link) {
        let is_idle = link.session.unanswered() == 0 && !link.is_behind();
        if link.watching == 0 && !link.is_armed && !is_idle {
            link.is_armed = true;
            link.interest(&self.epoll, true);
        }
    }

    /// Gives up all connections.
    fn lose(&self, link: &mut Link, broken: &Broken) {
        for connection in link.connections.drain(..) {
            let socket = connection.socket();
            let _removed = epoll::delete(&self.epoll, socket);
            // Those who poll it see that.
            let _ended = shutdown(socket, Shutdown::Both);
        }
        link.generation += 1;
        link.is_armed = false;
        if !link.session.has_repeated() {
            // An earlier loss is over.
            link.lost_at = None;
        }
        link.lost_by = broken.to_string();
        link.reason.clone_from(&link.lost_by);
        link.session.lost();
        let now = Instant::now();
        let since = *link.lost_at.get_or_insert(now);
        let limit = self.target.options.reconnect;
        if limit.is_zero() {
            tracing::error!(
                "{}: the connection is lost ({}); all requests fail from now on (reconnect=0)",
                self.target.options.uri,
                link.reason
            );
            self.give_up(link);
        } else {
            // Requests that cost the server each of its connections are not sent for ever.
            if now.duration_since(since) > limit {
                let refusal = self.refusal(link);
                link.session.fail(&refusal, true);
                link.lost_at = Some(now);
            }
            if link.logged.may(now) {
                tracing::warn!(
                    "{}: the connection is lost ({}); requests wait at most {} s for another one{}",
                    self.target.options.uri,
                    link.reason,
                    limit.as_secs(),
                    link.logged.omitted(),
                );
            }
        }
        self.wake_thread();
    }

    fn refusal(&self, link: &Link) -> Refusal {
        let (uri, seconds) = (&self.target.options.uri, self.target.options.reconnect.as_secs());
        let reason = &link.reason;
        Refusal::NoLink(format!("{uri}: no connection within {seconds} s (reconnect=): {reason}"))
    }

    /// Fails all requests, and new ones until there is a connection.
    fn give_up(&self, link: &mut Link) {
        let refusal = self.refusal(link);
        link.session.fail(&refusal, false);
        link.session.refuse(Some(refusal));
        link.session.tell(None);
    }

    /// Waits for an event of the sockets or for a wake-up, at most this long.
    fn wait(&self, limit: Duration) {
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }; 8];
        let Ok(limit) = Timespec::try_from(limit) else { return };
        let Ok(count) = epoll::wait(&self.epoll, events.as_mut_slice(), Some(&limit)) else {
            return;
        };
        let mut is_kicked = false;
        let mut has_news = false;
        for event in events.iter().take(count) {
            match event.data.u64() {
                KICK => is_kicked = true,
                _ => has_news = true,
            }
        }
        if is_kicked {
            clear(&self.kick);
        }
        if has_news {
            let mut link = self.lock();
            self.pump(&mut link, None);
            link.is_armed = false;
            if link.watching > 0 || link.session.unanswered() == 0 {
                link.interest(&self.epoll, false);
            } else {
                self.arm(&mut link);
            }
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Link {
    /// Uses these connections from now on.
    fn install(&mut self, connections: Vec<Connection>, epoll: &OwnedFd) -> io::Result<()> {
        for (number, connection) in (0..).zip(&connections) {
            let data = epoll::EventData::new_u64(number);
            epoll::add(epoll, connection.socket(), data, quiet_interest())?;
        }
        self.connections = connections;
        self.generation += 1;
        self.is_armed = false;
        Ok(())
    }

    /// Has the epoll set report replies, or only the end of a connection.
    fn interest(&self, epoll: &OwnedFd, replies: bool) {
        for (number, connection) in (0..).zip(&self.connections) {
            let mut flags = quiet_interest();
            flags.set(epoll::EventFlags::IN, replies);
            flags.set(epoll::EventFlags::OUT, replies && connection.is_behind());
            let data = epoll::EventData::new_u64(number);
            if let Err(error) = epoll::modify(epoll, connection.socket(), data, flags) {
                tracing::error!("epoll does not take the socket of an NBD server: {error}");
            }
        }
    }

    /// The sockets, if they are not those of `generation`.
    pub(super) fn sockets(&self, generation: &mut u64, sockets: &mut Vec<Arc<OwnedFd>>) {
        if *generation != self.generation {
            *generation = self.generation;
            sockets.clear();
            sockets.extend(self.connections.iter().map(|connection| connection.socket().clone()));
        }
    }

    /// Whether there are connections.
    pub(super) fn is_up(&self) -> bool {
        !self.connections.is_empty()
    }

    /// Whether a socket must take more before something else can happen.
    pub(super) fn is_behind(&self) -> bool {
        self.connections.iter().any(Connection::is_behind)
    }

    /// After a loss: whether all that waited is answered.
    fn check_loss(&mut self) {
        if self.lost_at.is_some() && self.is_up() && !self.session.has_repeated() {
            self.lost_at = None;
        }
    }

    /// Sends until there is nothing to send, or the sockets take no more. Returns whether anything was handed out.
    fn send(&mut self) -> Result<(), Broken> {
        loop {
            let mut has_new = false;
            for _ in 0..self.connections.len() {
                self.next = (self.next + 1) % self.connections.len();
                let Some(connection) = self.connections.get_mut(self.next) else { continue };
                // A connection gets a whole turn, so that pieces share a call.
                while connection.takes_more()
                    && let Some(slot) = self.session.cut()
                {
                    connection.push(slot, &self.session);
                    has_new = true;
                }
                if connection.is_behind() {
                    connection.send(&self.session)?;
                }
            }
            if !has_new {
                return Ok(());
            }
        }
    }

    fn exchange(&mut self) -> Result<(), Broken> {
        loop {
            self.send()?;
            let mut more = false;
            for connection in &mut self.connections {
                more |= connection.receive(&mut self.session)?;
            }
            if !more {
                // Answers may allow to send more.
                return self.send();
            }
        }
    }
}

/// An event descriptor.
pub(super) fn descriptor() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Makes an event descriptor unreadable.
pub(super) fn clear(descriptor: &OwnedFd) {
    // Another thread may have read it.
    let _count = rustix::io::read(descriptor, &mut [0u8; 8]);
}

/// The end of a connection, reported once.
fn quiet_interest() -> epoll::EventFlags {
    epoll::EventFlags::RDHUP | epoll::EventFlags::ONESHOT
}

/// Looks after the connections of a disk.
#[derive(Debug, Clone)]
pub struct NbdLink(pub(super) Arc<Shared>);

impl NbdLink {
    /// Receives replies for which no lane waits, and connects again after a loss, until the disk is stopped or dropped.
    /// For a thread of its own.
    pub fn run(&self) {
        self.0.run();
    }

    /// The URI of the server.
    pub fn uri(&self) -> &NbdUri {
        &self.0.target.options.uri
    }

    /// Has [`NbdLink::run`] look at once whether the disk is stopped.
    pub fn wake(&self) {
        self.0.wake_thread();
    }
}
