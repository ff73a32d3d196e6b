//! What the thread of a link does: it watches the sockets, connects again after a loss, and says farewell at the end.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Link, Shared};
use crate::block::nbd::open::{ATTEMPT, OpenError};
use crate::block::nbd::session::Refusal;
use crate::block::nbd::wire::{Command, RequestHeader};
use crate::memory::Gather;

/// How often the thread looks whether the disk is stopped.
const LOOK: Duration = Duration::from_millis(500);
/// The pauses between attempts to connect: the first one, doubled each time, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// An attempt to connect may take so long, even if the limit for requests ends before.
const SHORTEST: Duration = Duration::from_secs(1);
/// How long the requests in flight are waited for when the disk is stopped, and the last flush.
const FAREWELL: Duration = Duration::from_secs(1);
/// The most often that a loss is logged: some at once, then one in this time.
const LOGGED_AT_ONCE: u32 = 5;
const LOGGED_EVERY: Duration = Duration::from_secs(60);

impl Shared {
    pub(super) fn run(&self) {
        let mut failures = 0;
        while !self.is_over() {
            // With reconnect=0 the link is never established again.
            let gives_up = self.target.options.reconnect.is_zero();
            if gives_up || self.restore(&mut failures) {
                self.wait(LOOK);
                self.lock().check_loss();
            } else {
                let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE);
                self.wait(pause);
            }
        }
        self.say_farewell();
    }

    /// Waits for the requests in flight, flushes, and ends the connections; all within a limit.
    fn say_farewell(&self) {
        let quiet = |link: &Link| link.connections.is_empty() || link.session.jobs() == 0;
        self.settle(quiet);
        let mut link = self.lock();
        if !link.connections.is_empty() {
            link.session.flush_kept();
            self.pump(&mut link, None);
            drop(link);
            self.settle(|link| link.connections.is_empty() || link.session.unanswered() == 0);
            link = self.lock();
        }
        // The others have sent a part of a request.
        for connection in link.connections.iter_mut().filter(|one| !one.is_behind()) {
            let (flags, command, cookie, offset, len) = (0, Command::Disconnect, 0, 0, 0);
            let header = RequestHeader { flags, command, cookie, offset, len }.encode();
            let mut parts = Gather::default();
            parts.host(&header);
            // The server sees the end of the connection in any case.
            let _sent = connection.stream().send(&parts);
        }
        link.connections.clear();
        link.generation += 1;
        link.session.lost();
        link.session.fail(&Refusal::Stopped, false);
        link.session.refuse(Some(Refusal::Stopped));
        link.session.tell(None);
    }

    fn settle(&self, is_settled: impl Fn(&Link) -> bool) {
        let until = Instant::now() + FAREWELL;
        loop {
            {
                let mut link = self.lock();
                self.pump(&mut link, None);
                if is_settled(&link) {
                    return;
                }
                link.is_armed = true;
                link.interest(&self.epoll, true);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.wait(left.min(LOOK));
        }
    }

    /// Connects again, if there is no connection. Returns whether there is one.
    fn restore(&self, failures: &mut u32) -> bool {
        let (since, earlier) = {
            let link = self.lock();
            if !link.connections.is_empty() {
                return true;
            }
            (link.lost_at.unwrap_or_else(Instant::now), *link.session.export())
        };
        let limit = self.target.options.reconnect;
        let left = limit.saturating_sub(since.elapsed());
        let attempt = if left.is_zero() { ATTEMPT } else { ATTEMPT.min(left.max(SHORTEST)) };
        let outcome = self.target.connect(attempt, &|| self.is_over(), Some(&earlier));
        let mut guard = self.lock();
        let link = &mut *guard;
        let error = match outcome {
            Ok((connections, export)) => match link.install(connections, &self.epoll) {
                Ok(()) => {
                    *failures = 0;
                    self.reconnects.fetch_add(1, Ordering::Relaxed);
                    link.session.found(&export);
                    if link.logged.is_open {
                        link.logged.is_open = false;
                        let seconds = since.elapsed().as_secs_f64();
                        let uri = &self.target.options.uri;
                        tracing::warn!("{uri}: connected again after {seconds:.1} s");
                    }
                    self.pump(link, None);
                    link.session.rouse();
                    self.arm(link);
                    return true;
                }
                Err(error) => OpenError::Host(error),
            },
            Err(error) => error,
        };
        if self.is_over() {
            return false;
        }
        *failures += 1;
        if *failures == 1 && link.logged.is_open {
            tracing::warn!("{}: cannot connect again yet: {error}", self.target.options.uri);
        }
        link.reason = match link.lost_by.as_str() {
            "" => error.to_string(),
            lost_by => format!("{error}; it was lost because {lost_by}"),
        };
        if since.elapsed() >= limit {
            if !link.session.refuses() {
                tracing::error!(
                    "{}: no connection for {} s ({error}): requests fail until there is one",
                    self.target.options.uri,
                    limit.as_secs()
                );
            }
            self.give_up(link);
        }
        false
    }
}

/// Limits the lines about losses.
#[derive(Debug, Default)]
pub(super) struct Logged {
    lines: u32,
    last: Option<Instant>,
    omitted: u32,
    /// Whether the last loss was logged.
    pub(super) is_open: bool,
}

impl Logged {
    pub(super) fn may(&mut self, now: Instant) -> bool {
        let is_due = self.last.is_none_or(|last| now.duration_since(last) >= LOGGED_EVERY);
        self.is_open = self.lines < LOGGED_AT_ONCE || is_due;
        if self.is_open {
            self.lines += 1;
            self.last = Some(now);
        } else {
            self.omitted += 1;
        }
        self.is_open
    }

    pub(super) fn omitted(&mut self) -> String {
        match std::mem::take(&mut self.omitted) {
            0 => String::new(),
            omitted => format!(" (and {omitted} times before that were not logged)"),
        }
    }
}
