//! Services one queue: submits its requests to the disk through the queue's own lane, and answers them.
//!
//! Each queue has a worker, and one thread at a time uses it ([`crate::turn`]), so different queues are serviced in
//! parallel. The state that all workers of a device share is in [`Shared`], without a lock.

mod answers;
mod begin;
mod doorbell;
mod settling;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::batch::Batch;
use super::live::LiveQueue;
use super::pending::PendingRequests;
use super::request::{BlkRequest, NoStatus};
use super::shared::Shared;
use crate::block::{self, Completion, Lane, Moment};
use crate::observe::{Event, Rule};
use crate::virtio::chain::{Chain, ChainError};
use crate::virtio::device::{Live, PollResult, ServiceResult};
use crate::virtio::diagnosis::NoStatusByte;
use crate::virtio::queue::{Progress, SplitQueue};
use crate::virtio::rules;
use crate::virtio::spec::feature;
use doorbell::Doorbell;

/// The most bytes that one call moves. A single request may be longer.
const BYTES_PER_CALL: u64 = 16 << 20;

/// Services one queue.
#[derive(Debug)]
pub(super) struct Worker {
    index: u16,
    shared: Arc<Shared>,
    lane: Lane,
    live: Option<LiveQueue>,
    pending: PendingRequests,
    /// Parts of requests that found the host's disk full, in order. They are retried before new requests are taken.
    waiting: VecDeque<block::Request>,
    /// Reused, to avoid an allocation for each doorbell.
    completions: Vec<Completion>,
    /// Reused for each request.
    chain: Chain,
    /// When finished requests were last answered.
    now: Moment,
}

impl Worker {
    pub(super) fn new(index: u16, shared: Arc<Shared>, lane: Lane) -> Self {
        Self {
            index,
            shared,
            lane,
            live: None,
            pending: PendingRequests::default(),
            waiting: VecDeque::new(),
            completions: Vec::new(),
            chain: Chain::default(),
            now: Moment::default(),
        }
    }

    /// Starts the queue.
    pub(super) fn start(&mut self, queue: SplitQueue, live: Live) {
        self.live = Some(LiveQueue { live, queue, long_reported: false });
    }

    /// Answers finished requests, then takes available ones: at most as many as the queue has entries. Interrupts at
    /// most once, if the driver wants that. Once `retired` is set, no more requests are taken.
    pub(super) fn service(&mut self, retired: &AtomicBool) -> ServiceResult {
        self.serve(retired, Doorbell::On)
    }

    /// The same, and asks the driver not to ring the doorbell.
    pub(super) fn poll(&mut self, retired: &AtomicBool) -> PollResult {
        let before = self.progress();
        match self.serve(retired, Doorbell::Off) {
            ServiceResult::NotRunning => PollResult::NotRunning,
            _ if self.progress() == before => PollResult::Idle,
            _ => PollResult::Worked,
        }
    }

    fn serve(&mut self, retired: &AtomicBool, doorbell: Doorbell) -> ServiceResult {
        let before = self.progress();
        self.answer_finished();
        let Some(mut requests) = self.live.as_ref().map(|live| live.queue.size()) else {
            return ServiceResult::NotRunning;
        };
        if !self.shared.is_held() && !self.waiting.is_empty() {
            self.try_again();
        }
        let mut bytes = BYTES_PER_CALL;
        let mut batch = Batch::default();
        let result = loop {
            // A broken queue was signalled to the driver, and the device does nothing until the reset.
            let ends = retired.load(Ordering::Acquire) || self.shared.disk.is_stopped();
            if ends || self.is_broken() || self.shared.is_held() {
                break ServiceResult::Drained;
            }
            if requests == 0 || bytes == 0 {
                self.finish_batch();
                // Check for more work, so that another thread is not woken for nothing.
                let more = |live: &mut LiveQueue| live.queue.has_available() || doorbell.set(live);
                let more = self.live.as_mut().is_some_and(more);
                break if more { ServiceResult::MoreWork } else { ServiceResult::Drained };
            }
            match self.take_one() {
                Some(taken) => {
                    requests -= 1;
                    bytes = bytes.saturating_sub(taken);
                    if batch.add(taken) {
                        self.finish_batch();
                    }
                }
                None if self.is_broken() => break ServiceResult::Drained,
                None if batch.take() => self.finish_batch(),
                None if !self.live.as_mut().is_some_and(|live| doorbell.set(live)) => {
                    if self.progress() == before {
                        self.report_nothing();
                    }
                    break ServiceResult::Drained;
                }
                None => {}
            }
        };
        self.finish_batch();
        self.interrupt();
        result
    }

    /// Starts all submitted requests, and answers those that are finished then.
    fn finish_batch(&mut self) {
        self.lane.commit();
        self.answer_finished();
    }

    fn is_broken(&self) -> bool {
        self.live.as_ref().is_none_or(|live| live.live.notifier.is_reset_needed())
    }

    /// Interrupts once, if the driver wants that for the answered requests.
    fn interrupt(&mut self) {
        if let Some(live) = &mut self.live {
            live.live.interrupt(&mut live.queue, self.index, &self.shared.reporter);
        }
    }

    /// Reports that no chain is available.
    fn report_nothing(&self) {
        if let Some(live) = &self.live {
            let index = live.queue.progress().taken.into();
            let queue = self.index.into();
            self.shared.reporter.emit(|| Event::NothingAvailable { queue, index });
        }
    }

    /// How far the queue has come; none if it does not run.
    pub(super) fn progress(&self) -> Option<Progress> {
        self.live.as_ref().map(|live| live.queue.progress())
    }

    /// Retries the requests that found the host's disk full.
    fn try_again(&mut self) {
        for request in std::mem::take(&mut self.waiting) {
            self.lane.push(request);
        }
        self.finish_batch();
    }

    /// Takes the next request from the queue. Returns the bytes it moves; none if there is no request, or the queue is
    /// broken.
    fn take_one(&mut self) -> Option<u64> {
        let live = self.live.as_mut()?;
        let indirect = live.has(feature::RING_INDIRECT_DESC);
        let head = match live.queue.pop() {
            Ok(head) => head?,
            Err(error) => {
                self.break_down(rules::AVAIL_INDEX, &error);
                return None;
            }
        };
        let (queue, reporter) = (self.index, &self.shared.reporter);
        reporter.emit(|| live.queue.taken_event(queue, head));
        let observe = |descriptor| reporter.emit(|| Event::Descriptor { queue, descriptor });
        let chain = &mut self.chain;
        if let Err(error) = chain.walk(&live.queue, head, indirect, observe) {
            let rule = match error {
                ChainError::TooLong { .. } => rules::CHAIN_LENGTH,
                _ => rules::CHAIN,
            };
            self.break_down(rule, &error);
            return None;
        }
        if chain.descriptors > live.queue.size() {
            live.report_long(chain, queue, reporter);
        }
        match BlkRequest::parse(chain, live.queue.ram()) {
            Ok(request) => Some(self.begin(request)),
            Err(error) => {
                self.break_layout(error, head, indirect);
                None
            }
        }
    }

    /// Reports a chain at `head` that cannot be answered.
    #[cold]
    fn break_layout(&mut self, error: NoStatus, head: u16, indirect: bool) {
        match (error, &self.live) {
            (NoStatus::NoRoom, Some(live)) => {
                let chain = NoStatusByte::examine(&live.queue, head, indirect);
                let why = format_args!("{error}, so no status can be given: {chain}");
                self.break_down(rules::BLK_LAYOUT, &why);
            }
            _ => self.break_down(rules::BLK_LAYOUT, &error),
        }
    }

    /// Reports once that the queue is broken, and sets NEEDS_RESET.
    #[cold]
    fn break_down(&mut self, rule: Rule, why: &dyn fmt::Display) {
        // Requests before the mistake are answered: after it, the device does nothing until the reset.
        self.finish_batch();
        let queue = self.index;
        self.shared.reporter.broken(
            rule,
            format_args!("queue {queue} is broken, and the device needs a reset: {why}"),
        );
        if let Some(live) = &self.live {
            live.live.notifier.needs_reset();
        }
    }
}
