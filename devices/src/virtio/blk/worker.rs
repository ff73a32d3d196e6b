//! Services one queue: submits its requests to the disk through the queue's own lane, and answers them.
//!
//! Each queue has a worker, and one thread at a time uses it ([`crate::turn`]), so different queues are serviced in
//! parallel. The state that all workers of a device share is in [`Shared`], without a lock.

mod answers;
mod doorbell;
mod settling;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::batch::Batch;
use super::live::{Answer, LiveQueue};
use super::pending::{Asked, PendingRequest, PendingRequests};
use super::request::{BlkRequest, NoStatus, Range, RequestKind};
use super::shared::Shared;
use crate::block::{
    self, Completion, ErrorKind, Lane, Moment, Operation, OperationKind, SECTOR_SIZE,
};
use crate::observe::{Event, Outcome, Rule, Words};
use crate::virtio::chain::{Chain, ChainError};
use crate::virtio::device::{Live, PollResult, ServiceResult};
use crate::virtio::diagnosis::NoStatusByte;
use crate::virtio::queue::{Progress, SplitQueue};
use crate::virtio::rules;
use crate::virtio::spec::{blk, feature};
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
        let parsed = match chain.walk(&live.queue, head, indirect, observe) {
            Ok(()) => {
                let (descriptors, size) = (chain.descriptors, live.queue.size());
                if descriptors > size && !std::mem::replace(&mut live.long_reported, true) {
                    reporter.broken(
                        rules::CHAIN_LENGTH,
                        format_args!(
                            "the chain at descriptor {head} of queue {queue} has {descriptors} descriptors, more \
                             than the queue has entries ({size}); served"
                        ),
                    );
                }
                BlkRequest::parse(chain, live.queue.ram())
            }
            Err(error) => {
                let rule = match error {
                    ChainError::TooLong { .. } => rules::CHAIN_LENGTH,
                    _ => rules::CHAIN,
                };
                self.break_down(rule, &error);
                return None;
            }
        };
        match parsed {
            Ok(request) => Some(self.begin(request)),
            Err(error @ NoStatus::NoRoom) => {
                let chain = NoStatusByte::examine(&self.live.as_ref()?.queue, head, indirect);
                let why = format_args!("{error}, so no status can be given: {chain}");
                self.break_down(rules::BLK_LAYOUT, &why);
                None
            }
            Err(error) => {
                self.break_down(rules::BLK_LAYOUT, &error);
                None
            }
        }
    }

    /// Reports once that the queue is broken, and sets NEEDS_RESET.
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

    /// Submits a request to the disk, in one or more parts, or answers it immediately. Returns the bytes it moves.
    fn begin(&mut self, request: BlkRequest) -> u64 {
        let BlkRequest { head, status, kind } = request;
        let begun = self.now;
        let asked =
            |asked, sector, bytes| PendingRequest::new(head, status, asked, sector, bytes, begun);
        let request = |kind, sector, bytes| asked(Asked::Disk(kind), sector, bytes);
        // Without FLUSH the driver cannot make a write durable in another way (5.2.6.2).
        let flushes = self.live.as_ref().is_some_and(|live| live.has(feature::BLK_FLUSH));
        let durable = !flushes || !self.shared.writeback.load(Ordering::Acquire);
        match kind {
            Ok(RequestKind::Read { sector, data }) => {
                let request = request(OperationKind::Read, sector, data.len());
                self.submit(request, sector, Operation::Read(data))
            }
            Ok(RequestKind::Write { sector, data }) => {
                let request = request(OperationKind::Write, sector, data.len());
                self.submit(request, sector, Operation::Write { data, durable })
            }
            Ok(RequestKind::Flush) => {
                self.submit(request(OperationKind::Flush, 0, 0), 0, Operation::Flush)
            }
            Ok(RequestKind::Discard(ranges)) => {
                let (sector, bytes) = Range::sum(&ranges);
                let part = |r: Range| (r.sector, Operation::Discard { len: r.bytes() });
                let parts: Vec<_> = ranges.into_iter().map(part).collect();
                self.submit_all(request(OperationKind::Discard, sector, bytes), parts)
            }
            Ok(RequestKind::WriteZeroes(ranges)) => {
                let (sector, bytes) = Range::sum(&ranges);
                let part = |r: Range| {
                    let (len, unmap) = (r.bytes(), r.unmap);
                    (r.sector, Operation::WriteZeroes { len, unmap, durable })
                };
                let parts: Vec<_> = ranges.into_iter().map(part).collect();
                self.submit_all(request(OperationKind::WriteZeroes, sector, bytes), parts)
            }
            Ok(RequestKind::GetId { data }) => {
                let written = data.copy_from(&self.shared.id()) as u64;
                self.answer(&asked(Asked::Id, 0, data.len()), Answer::ok(written));
                0
            }
            Err(refusal) => {
                self.shared.reporter.broken(
                    refusal.rule(),
                    format_args!("the request at descriptor {head}: {refusal}"),
                );
                let status = refusal.status();
                let outcome = Outcome::Failed(Words(&refusal));
                let answer = Answer { status, written: 0, outcome };
                self.answer(&asked(Asked::Refused, 0, 0), answer);
                0
            }
        }
    }

    /// Submits a request of one part to the disk, unless it is outside of it. Returns the bytes that it moves.
    fn submit(&mut self, request: PendingRequest, sector: u64, operation: Operation) -> u64 {
        if self.refuse_outside(&request, sector, operation.len()) {
            return 0;
        }
        let (bytes, ends_batch) = (request.bytes, operation.is_durable());
        let tag = self.add(request, 1);
        self.push(tag, sector, operation);
        if ends_batch {
            // If the host cannot make data safe, no later flush succeeds: the disk must know before it gets one.
            self.finish_batch();
        }
        bytes
    }

    /// The same for a request of several parts (first sector, operation), of which all are submitted, or none.
    fn submit_all(&mut self, request: PendingRequest, parts: Vec<(u64, Operation)>) -> u64 {
        if parts.iter().any(|(sector, part)| self.refuse_outside(&request, *sector, part.len())) {
            return 0;
        }
        let (bytes, ends_batch) = (request.bytes, parts.iter().any(|(_, part)| part.is_durable()));
        let tag = self.add(request, parts.len());
        for (sector, operation) in parts {
            self.push(tag, sector, operation);
        }
        if ends_batch {
            self.finish_batch();
        }
        bytes
    }

    /// Answers `request` with an error if the `len` bytes at `sector` are not on the disk. Returns whether it did.
    #[inline]
    fn refuse_outside(&mut self, request: &PendingRequest, sector: u64, len: u64) -> bool {
        let capacity = self.shared.capacity();
        let is_outside = !is_on_disk(sector, len, capacity);
        if is_outside {
            self.refuse(request, sector, len, capacity);
        }
        is_outside
    }

    #[cold]
    fn refuse(&mut self, request: &PendingRequest, sector: u64, len: u64, capacity: u64) {
        let operation = request.asked.name();
        let outside = format_args!(
            "a {operation} of {len} bytes at sector {sector} reaches past the end of the disk, which has {capacity} \
             sectors{}",
            block::sector_hint(sector, capacity * SECTOR_SIZE)
        );
        self.shared.reporter.broken(rules::BLK_RANGE, outside);
        let outcome = Outcome::Failed(Words(&outside));
        let answer = Answer { status: blk::S_IOERR, written: 0, outcome };
        self.count(request);
        self.lane.stats().failed(ErrorKind::OutOfRange);
        self.answer(request, answer);
    }

    /// Adds a request of so many parts to those in flight. Returns its tag.
    fn add(&mut self, mut request: PendingRequest, parts: usize) -> u64 {
        request.parts = parts;
        self.shared.reporter.emit(|| Event::Submitted(self.seen(&request)));
        self.pending.insert(request)
    }

    /// Submits one part, which is on the disk.
    fn push(&mut self, tag: u64, sector: u64, operation: Operation) {
        // The offset in bytes does not overflow.
        let offset = sector.saturating_mul(SECTOR_SIZE);
        self.lane.push(block::Request { tag, operation, offset });
    }
}

/// Whether `len` bytes from `sector` on are within `capacity` sectors. The image may be a little longer, without a
/// whole block.
fn is_on_disk(sector: u64, len: u64, capacity: u64) -> bool {
    sector.checked_add(len.div_ceil(SECTOR_SIZE)).is_some_and(|end| end <= capacity)
}
