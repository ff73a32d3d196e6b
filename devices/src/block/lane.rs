//! One user's access to a disk, with its own requests.

use std::sync::Arc;
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use super::limit::Held;
use super::{BlockError, Completion, Disk, Engine, LaneStats, Operation, Request};

/// How often [`Lane::run`] checks whether the machine is being stopped.
const LOOK: Duration = Duration::from_millis(100);

/// One user's access to a [`Disk`], with its own requests and its own engine.
#[derive(Debug)]
pub struct Lane {
    disk: Disk,
    engine: Box<dyn Engine>,
    /// What the lane has done, for [`Disk::stats`]. The lane counts its requests in flight; its user counts finished
    /// requests of the guest, of which one may be several of the lane.
    stats: Arc<LaneStats>,
    /// Requests that wait for the limits of the disk.
    held: Held,
    /// Completions of refused requests, which never reached the engine.
    refused: Vec<Completion>,
    /// Reused by [`Lane::run`].
    done: Vec<Completion>,
}

impl Lane {
    pub(super) fn new(disk: Disk, engine: Box<dyn Engine>, stats: Arc<LaneStats>) -> Self {
        let (held, refused, done) = <_>::default();
        Self { disk, engine, stats, held, refused, done }
    }

    /// The disk.
    pub const fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Submits a request. [`Lane::reap`] returns its completion, also if it is refused. The engine may start it only at
    /// [`Lane::commit`], and later if the limits of the disk say so.
    #[inline]
    pub fn push(&mut self, request: Request) {
        if self.disk.limiter().is_on() {
            return self.push_limited(request);
        }
        self.submit(request);
    }

    /// Submits a request to the engine, or holds it.
    #[cold]
    fn push_limited(&mut self, request: Request) {
        if let Some(request) = self.held.admit(self.disk.limiter(), request) {
            self.submit(request);
        }
    }

    /// Submits a request to the engine, whatever the limits say.
    fn submit(&mut self, request: Request) {
        match self.disk.check(&request) {
            Ok(()) => {
                self.stats.set_in_flight(self.in_flight() + 1);
                if request.operation.changes() {
                    self.disk.watched().before_change(request.offset, request.operation.len());
                }
                self.engine.push(request);
            }
            Err(error) => {
                self.refused.push(Completion { request, transferred: 0, result: Err(error) });
            }
        }
    }

    /// Starts all submitted requests.
    pub fn commit(&mut self) {
        self.engine.commit();
    }

    /// Starts held requests whose time has come, and appends all available completions to `done`. Never waits.
    pub fn reap(&mut self, done: &mut Vec<Completion>) {
        self.start_due();
        self.reap_started(done);
    }

    /// Appends all available completions to `done`, and starts nothing.
    #[inline]
    pub(crate) fn reap_started(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.refused);
        let before = done.len();
        self.engine.reap(done);
        let fresh = done.get_mut(before..).unwrap_or_default();
        if fresh.is_empty() {
            return;
        }
        let left = self.in_flight().saturating_sub(fresh.len());
        self.stats.set_in_flight(left);
        for completion in &*fresh {
            if let Err(BlockError::Sync(error)) = &completion.result {
                self.disk.lose(error.to_string());
            }
        }
        let Some(why) = self.disk.lost() else { return };
        // The host reports a failure once: to a request that was in flight at the same time as these.
        for completion in fresh {
            if completion.result.is_ok() && completion.request.operation.is_durable() {
                completion.result = Err(BlockError::Lost(why.to_owned()));
            }
        }
    }

    /// Starts the held requests whose time has come, and asks to be serviced when the next one's comes.
    #[inline]
    pub(crate) fn start_due(&mut self) {
        if !self.held.is_empty() {
            self.start_held_if_due();
        }
    }

    #[cold]
    fn start_held_if_due(&mut self) {
        let mut is_started = false;
        while let Some(request) = self.held.next_due(self.disk.limiter()) {
            self.submit(request);
            is_started = true;
        }
        if is_started {
            self.engine.commit();
        }
        self.stats.set_delayed(self.held.len());
        if let (Some(due), Some(pace)) = (self.held.due(), self.disk.limiter().pace()) {
            pace.wake_at(due);
        }
    }

    /// Starts all held requests, whether or not their time has come.
    pub fn start_held(&mut self) {
        while let Some(request) = self.held.pop() {
            self.submit(request);
        }
        self.engine.commit();
        self.stats.set_delayed(0);
    }

    /// Takes a held request, which will not be carried out; none if nothing is held.
    pub fn drop_held(&mut self) -> Option<Request> {
        let request = self.held.drop_next(self.disk.limiter());
        self.stats.set_delayed(self.held.len());
        request
    }

    /// Makes the held writes durable: they are answered only when they are on stable storage.
    pub fn harden_held(&mut self) {
        self.held.harden();
    }

    /// Waits until there may be a completion, nothing is in flight or held, or `limit` has passed.
    pub fn wait(&mut self, limit: Duration) {
        if !self.refused.is_empty() {
            return;
        }
        match (self.held.due(), self.disk.limiter().pace()) {
            (Some(due), Some(pace)) => {
                let limit = limit.min(due.saturating_duration_since(pace.now()));
                if self.in_flight() > 0 { self.engine.wait(limit) } else { pace.sleep(limit) }
            }
            _ => self.wait_started(limit),
        }
    }

    /// Waits until there may be a completion, nothing is in flight, or `limit` has passed, whatever is held.
    pub(crate) fn wait_started(&mut self, limit: Duration) {
        if self.refused.is_empty() {
            self.engine.wait(limit);
        }
    }

    /// The number of requests in the engine.
    pub fn in_flight(&self) -> usize {
        self.stats.in_flight()
    }

    /// Counts finished requests.
    pub(crate) fn stats(&self) -> &LaneStats {
        &self.stats
    }

    /// The descriptor that becomes readable when there may be completions; none if `push` completes all requests.
    pub fn wake(&self) -> Option<Arc<EventFd>> {
        self.engine.wake()
    }

    /// Carries out one request and waits for it, as long as the limits of the disk say. For callers without other
    /// requests on this lane.
    ///
    /// # Errors
    ///
    /// Why the request failed.
    pub fn run(&mut self, operation: Operation, offset: u64) -> Result<(), BlockError> {
        self.push(Request { tag: 0, operation, offset });
        self.commit();
        self.finish(Self::reap, Self::wait)
    }

    /// Flushes and waits for it. The limits of the disk do not delay it. For callers without other requests in the engine;
    /// held ones stay held.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub fn flush(&mut self) -> Result<(), BlockError> {
        let operation = Operation::Flush;
        if self.disk.limiter().is_on() {
            self.disk.limiter().charge(&operation);
        }
        self.submit(Request { tag: 0, operation, offset: 0 });
        self.commit();
        self.finish(Self::reap_started, Self::wait_started)
    }

    /// Waits for the only request that was submitted.
    fn finish(
        &mut self,
        reap: impl Fn(&mut Self, &mut Vec<Completion>),
        wait: impl Fn(&mut Self, Duration),
    ) -> Result<(), BlockError> {
        let mut done = std::mem::take(&mut self.done);
        let result = loop {
            reap(self, &mut done);
            match done.pop() {
                Some(completion) => break completion.result,
                // The request stays in the engine, or held; the lane gets no other one.
                None if self.disk.is_stopped() => break Err(BlockError::Stopped),
                None => wait(self, LOOK),
            }
        };
        self.done = done;
        result
    }
}
