//! A queue whose requests finish inside [`VirtioDevice::service`](super::device::VirtioDevice::service): for devices that
//! wait for nothing on the host.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::chain::{Chain, ChainError};
use super::device::{Live, ServiceResult};
use super::queue::{Progress, SplitQueue};
use super::rules;
use super::spec::feature;
use crate::memory::GuestRam;
use crate::observe::{Event, Reporter, Rule};
use crate::stuck::Stuck;
use crate::turn::Turn;

/// How long a reset waits for a thread that services the queue. A call of `service` takes much less.
const QUIET_WITHIN: Duration = Duration::from_secs(5);

/// One queue of a device. `S` is what the device keeps for it while it runs; each start begins with the default.
#[derive(Debug)]
pub(super) struct InlineQueue<S = ()> {
    index: u16,
    reporter: Reporter,
    live: Turn<Option<LiveQueue<S>>>,
    /// Whether new requests are held.
    held: AtomicBool,
}

#[derive(Debug)]
struct LiveQueue<S> {
    live: Live,
    queue: SplitQueue,
    state: S,
}

/// A broken queue: the rule that the driver broke, and how.
pub(super) struct Broken {
    rule: Rule,
    why: Box<dyn fmt::Display>,
}

impl Broken {
    fn new(rule: Rule, why: impl fmt::Display + 'static) -> Self {
        Self { rule, why: Box::new(why) }
    }
}

/// What the device did for a chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The bytes that it wrote into the chain's buffers.
    pub(super) written: u32,
    /// The work, in bytes moved.
    pub(super) work: u64,
}

impl<S: Default> InlineQueue<S> {
    /// Queue `index` of a device that reports through `reporter`. It does not run yet.
    pub(super) fn new(index: u16, reporter: Reporter) -> Self {
        Self { index, reporter, live: Turn::new(None), held: AtomicBool::new(false) }
    }

    /// Starts the queue.
    pub(super) fn start(&self, queue: SplitQueue, live: Live) {
        let queue = LiveQueue { live, queue, state: S::default() };
        if let Err(stuck) = self.set(Some(queue)) {
            let index = self.index;
            self.reporter
                .broken(rules::HOST, format_args!("queue {index} is not started: {stuck}"));
        }
    }

    /// Stops the queue: afterwards nothing accesses it.
    ///
    /// # Errors
    ///
    /// If a thread does not finish its service of the queue.
    pub(super) fn stop(&self) -> Result<(), Stuck> {
        self.set(None)
    }

    /// Changes the queue, after the thread that services it has finished.
    fn set(&self, queue: Option<LiveQueue<S>>) -> Result<(), Stuck> {
        self.live.take_within(QUIET_WITHIN, |live| *live = queue).ok_or_else(|| self.stuck())
    }

    fn stuck(&self) -> Stuck {
        Stuck {
            name: self.reporter.device().to_string(),
            requests: format!("a request of queue {}", self.index),
            limit: QUIET_WITHIN,
        }
    }

    /// Takes no new chains from now on.
    pub(super) fn hold(&self) {
        self.held.store(true, Ordering::Release);
    }

    /// Waits until no thread services the queue.
    ///
    /// # Errors
    ///
    /// If a thread does not finish its service of the queue.
    pub(super) fn quiesce(&self) -> Result<(), Stuck> {
        self.live.take_within(QUIET_WITHIN, |_| ()).ok_or_else(|| self.stuck())
    }

    /// Ends [`InlineQueue::hold`].
    pub(super) fn release(&self) {
        self.held.store(false, Ordering::Release);
    }

    /// See [`VirtioDevice::progress`](super::device::VirtioDevice::progress).
    pub(super) fn progress(&self) -> Option<(Progress, bool)> {
        let of = |live: &mut Option<LiveQueue<S>>| live.as_ref().map(|live| live.queue.progress());
        let (progress, noted) = self.live.take(of)?;
        Some((progress?, noted))
    }

    /// Calls `serve`, which takes chains and answers them, if the queue runs and no other thread services it at this
    /// moment. Then publishes the answers, and interrupts the driver at most once. A queue that `serve` finds broken
    /// needs a reset of the device.
    pub(super) fn service(
        &self,
        serve: impl FnOnce(&mut Serving<'_, S>) -> Result<ServiceResult, Broken>,
    ) -> ServiceResult {
        let service = |live: &mut Option<LiveQueue<S>>| {
            let Some(live) = live else { return ServiceResult::NotRunning };
            let mut serving = Serving { owner: self, live };
            let result = serve(&mut serving).unwrap_or_else(|Broken { rule, why }| {
                let index = self.index;
                self.reporter.broken(
                    rule,
                    format_args!("queue {index} is broken, and the device needs a reset: {why}"),
                );
                serving.live.live.notifier.needs_reset();
                ServiceResult::Drained
            });
            live.queue.publish();
            live.live.interrupt(&mut live.queue, self.index, &self.reporter);
            result
        };
        match self.live.take(service) {
            // Another thread arrived in the meantime, and its request may have been missed.
            Some((ServiceResult::Drained, true)) => ServiceResult::MoreWork,
            Some((result, _)) => result,
            // The thread that services the queue checks it again.
            None => ServiceResult::Drained,
        }
    }
}

/// A queue while a thread services it.
pub(super) struct Serving<'a, S> {
    owner: &'a InlineQueue<S>,
    live: &'a mut LiveQueue<S>,
}

impl<S> Serving<'_, S> {
    /// The entries of the queue.
    pub(super) const fn size(&self) -> u16 {
        self.live.queue.size()
    }

    /// Guest RAM.
    pub(super) const fn ram(&self) -> &GuestRam {
        self.live.queue.ram()
    }

    /// What the device keeps for the queue.
    pub(super) const fn state(&mut self) -> &mut S {
        &mut self.live.state
    }

    /// The features that the driver accepted.
    pub(super) const fn features(&self) -> u64 {
        self.live.live.features
    }

    /// Whether the device takes and answers no chains at this moment: it is held, or needs a reset.
    pub(super) fn is_stopped(&self) -> bool {
        self.owner.held.load(Ordering::Acquire) || self.live.live.notifier.is_reset_needed()
    }

    /// Takes the next chain. None if there is none, or the queue is held. With EVENT_IDX the driver then rings for the
    /// next one.
    ///
    /// # Errors
    ///
    /// If the queue is broken.
    pub(super) fn take(&mut self) -> Result<Option<Chain>, Broken> {
        let (index, reporter) = (self.owner.index, &self.owner.reporter);
        if self.is_stopped() {
            return Ok(None);
        }
        let head = loop {
            match self.live.queue.pop() {
                Ok(Some(head)) => break head,
                Ok(None) if self.live.queue.rearm() => {}
                Ok(None) => return Ok(None),
                Err(error) => return Err(Broken::new(rules::AVAIL_INDEX, error)),
            }
        };
        reporter.emit(|| self.live.queue.taken_event(index, head));
        let indirect = self.features() & feature::RING_INDIRECT_DESC != 0;
        let observe = |descriptor| reporter.emit(|| Event::Descriptor { queue: index, descriptor });
        let mut chain = Chain::default();
        chain.walk(&self.live.queue, head, indirect, observe).map_err(|error| {
            let too_long = matches!(error, ChainError::TooLong { .. });
            Broken::new(if too_long { rules::CHAIN_LENGTH } else { rules::CHAIN }, error)
        })?;
        Ok(Some(chain))
    }

    /// Returns the chain at `head`, in which the device wrote `written` bytes.
    pub(super) fn give_back(&mut self, head: u16, written: u32) {
        let queue = self.owner.index;
        let entry = self.live.queue.push(head, written);
        self.owner.reporter.emit(|| Event::ChainReturned { queue, head, written, entry });
    }

    /// Answers chains, at most as many as the queue has entries, until `work_max` bytes were moved or there is no more.
    ///
    /// # Errors
    ///
    /// If the queue is broken.
    pub(super) fn answer_each(
        &mut self,
        work_max: u64,
        mut answer: impl FnMut(&Chain, &GuestRam, u64) -> Answer,
    ) -> Result<ServiceResult, Broken> {
        let mut work = 0u64;
        for _ in 0..self.size() {
            let Some(chain) = self.take()? else { return Ok(ServiceResult::Drained) };
            let answer = answer(&chain, self.ram(), self.features());
            self.give_back(chain.head, answer.written);
            work = work.saturating_add(answer.work);
            if work >= work_max {
                break;
            }
        }
        let queue = &mut self.live.queue;
        let more = queue.has_available() || queue.rearm();
        Ok(if more && !self.is_stopped() {
            ServiceResult::MoreWork
        } else {
            ServiceResult::Drained
        })
    }
}
