//! The engine of a lane.
//!
//! **Who waits.** A server on the same machine answers within microseconds, and to let another thread take the answer
//! costs more than that. So a commit watches for its answers itself for a short time, as the synchronous engine does.
//! What has not come by then is left to [`super::NbdLink::run`]. A lane whose answers rarely come in time gives up the
//! habit, and tries again now and then.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smallvec::SmallVec;
use vmm_sys_util::eventfd::EventFd;

use super::link::{Link, Shared, clear};
use crate::block::{Completion, Engine, Request};

/// How long a commit watches for the next answer.
const LINGER: Duration = Duration::from_micros(200);
/// How long it looks again and again, without sleep, as long as there is another processor for the server: to wake a
/// thread on a processor that has gone idle takes longer than many an answer.
const SPIN: Duration = Duration::from_micros(100);
/// How long a commit watches in all.
const LINGER_LONGEST: Duration = Duration::from_millis(2);
/// After so many commits in a row without an answer in time, only one in [`SELDOM`] watches.
const PATIENCE: u32 = 8;
const SELDOM: u32 = 64;

/// Serves one lane.
#[derive(Debug)]
pub(super) struct NbdEngine {
    shared: Arc<Shared>,
    /// The number of the lane in the session.
    lane: usize,
    wake: Arc<EventFd>,
    /// Wakes this engine while it watches.
    rouse: Arc<OwnedFd>,
    pushed: Vec<Request>,
    generation: u64,
    sockets: Vec<Arc<OwnedFd>>,
    /// [`SPIN`], or nothing on a single processor.
    spin: Duration,
    /// Commits in a row that watched in vain, or did not watch.
    in_vain: u32,
}

/// What a lane watches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Any completion.
    Any,
    /// All of them.
    All,
}

impl NbdEngine {
    pub(super) fn new(shared: Arc<Shared>, wake: Arc<EventFd>, rouse: Arc<OwnedFd>) -> Self {
        let lane = shared.lock().session.add_lane(wake.clone(), rouse.clone());
        let (pushed, sockets) = (Vec::new(), Vec::new());
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let spin = if processors > 1 { SPIN } else { Duration::ZERO };
        Self { shared, lane, wake, rouse, pushed, generation: 0, sockets, spin, in_vain: 0 }
    }

    /// Watches the sockets until what is wanted is there, or the time is over: `limit` in all, and `each` without a
    /// completion.
    fn watch(&mut self, until: Until, limit: Duration, each: Duration) {
        let shared = self.shared.clone();
        let mut link = shared.lock();
        shared.begin_watch(&mut link);
        link.session.watches(self.lane, true);
        let begin = Instant::now();
        let (mut last, mut count) = (begin, link.session.in_flight(self.lane));
        while !self.is_satisfied(until, &link) {
            let now = Instant::now();
            let left = link.session.in_flight(self.lane);
            if left != count {
                (last, count) = (now, left);
            }
            let rest = limit.saturating_sub(now.duration_since(begin));
            let rest = rest.min(each.saturating_sub(now.duration_since(last)));
            if rest.is_zero() {
                break;
            }
            let is_behind = link.is_behind();
            link.sockets(&mut self.generation, &mut self.sockets);
            drop(link);
            if now.duration_since(last) < self.spin {
                thread::yield_now();
            } else {
                self.poll(is_behind, rest);
            }
            link = shared.lock();
            shared.pump(&mut link, Some(self.lane));
        }
        link.session.watches(self.lane, false);
        shared.end_watch(&mut link);
    }

    fn is_satisfied(&self, until: Until, link: &Link) -> bool {
        let in_flight = link.session.in_flight(self.lane);
        in_flight == 0 || until == Until::Any && link.session.has_done(self.lane)
    }

    fn poll(&self, is_behind: bool, limit: Duration) {
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, is_behind);
        let mut fds: SmallVec<[_; 4]> = SmallVec::new();
        fds.push(PollFd::from_borrowed_fd(self.rouse.as_fd(), PollFlags::IN));
        fds.extend(self.sockets.iter().map(|s| PollFd::from_borrowed_fd(s.as_fd(), flags)));
        let Ok(limit) = Timespec::try_from(limit) else { return };
        // Interrupted or not: the caller looks again.
        let _ready = poll(&mut fds, Some(&limit));
        let is_roused = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        if is_roused {
            clear(&self.rouse);
        }
    }

    /// Whether this commit watches for its answers.
    fn lingers(&self) -> bool {
        self.in_vain < PATIENCE || self.in_vain.is_multiple_of(SELDOM)
    }
}

impl Drop for NbdEngine {
    /// What is in flight is finished later, and dropped then: the server does not reach the guest's memory.
    fn drop(&mut self) {
        self.shared.lock().session.remove_lane(self.lane);
    }
}

impl Engine for NbdEngine {
    fn push(&mut self, request: Request) {
        self.pushed.push(request);
    }

    fn commit(&mut self) {
        if self.pushed.is_empty() {
            return;
        }
        let lingers = self.lingers();
        {
            let shared = &self.shared;
            let mut link = shared.lock();
            for request in self.pushed.drain(..) {
                link.session.submit(self.lane, request);
            }
            shared.send(&mut link, Some(self.lane));
            if !lingers || !link.is_up() {
                self.in_vain = self.in_vain.wrapping_add(1);
                return shared.arm(&mut link);
            }
        }
        self.watch(Until::All, LINGER_LONGEST, LINGER);
        let link = self.shared.lock();
        let is_in_vain = link.session.in_flight(self.lane) > 0 && !link.session.has_done(self.lane);
        self.in_vain = if is_in_vain { self.in_vain.wrapping_add(1) } else { 0 };
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        self.shared.lock().session.take_done(self.lane, done);
    }

    fn wait(&mut self, limit: Duration) {
        self.watch(Until::Any, limit, limit);
    }

    fn wake(&self) -> Option<Arc<EventFd>> {
        Some(self.wake.clone())
    }

    fn wake_by(&mut self, wake: &Arc<EventFd>) {
        self.wake = wake.clone();
        self.shared.lock().session.wake_by(self.lane, wake);
    }
}
