//! Answers finished requests: the status byte, the used ring, and the log.

use std::mem;
use std::sync::atomic::Ordering;

use super::super::live::{Answer, LiveQueue};
use super::super::pending::{Asked, PendingRequest};
use super::super::shared::hold;
use super::Worker;
use crate::block::{BlockError, Completion, OperationKind};
use crate::observe::{self, Event, Outcome, Words};
use crate::virtio::rules;
use crate::virtio::spec::blk;

impl Worker {
    /// Answers the requests that the host has finished, and publishes their answers. Starts requests that waited for the
    /// limits of the disk.
    pub(super) fn answer_finished(&mut self) {
        self.lane.start_due();
        self.answer_started();
    }

    /// The same, but starts nothing.
    pub(super) fn answer_started(&mut self) {
        let mut completions = mem::take(&mut self.completions);
        self.lane.reap_started(&mut completions);
        // The end of a batch, and the begin of the next one.
        self.now = self.lane.stats().now();
        for Completion { request, transferred, result } in &mut completions {
            if let (Err(error), Some(_)) = (&*result, &self.live)
                && let Some(error) = error.no_room()
                && let Some(alarm) = self.shared.disk.full_alarm()
            {
                // No new requests are taken before the retry, so the order is kept.
                self.shared.hold.fetch_or(hold::FULL, Ordering::AcqRel);
                alarm.raise(self.shared.disk.name(), error);
                self.waiting.push_back(request.clone());
                continue;
            }
            let error = mem::replace(result, Ok(())).err();
            let arrived = self.pending.complete_part(request.tag, *transferred, error);
            let Some(mut request) = arrived else { continue };
            let is_read = request.asked == Asked::Disk(OperationKind::Read);
            let written = if is_read { request.done } else { 0 };
            self.count(&request);
            match request.error.take() {
                None => self.answer(&request, Answer::ok(written)),
                Some(error) => {
                    self.lane.stats().failed((&*error).into());
                    self.report_failure(&request, &error);
                    let outcome = Outcome::Failed(Words(&*error));
                    self.answer(&request, Answer { status: blk::S_IOERR, written, outcome });
                }
            }
        }
        completions.clear();
        self.completions = completions;
        if let Some(live) = &mut self.live {
            live.queue.publish();
        }
    }

    /// Counts a finished request.
    pub(super) fn count(&self, request: &PendingRequest) {
        if let Asked::Disk(kind) = request.asked {
            let stats = self.lane.stats();
            stats.finished(kind, 1, request.done);
            stats.took(kind, 1, request.begun, self.now);
        }
    }

    fn report_failure(&self, request: &PendingRequest, error: &BlockError) {
        let PendingRequest { asked, sector, bytes, .. } = request;
        let operation = asked.name();
        let rule = match error {
            BlockError::OutOfRange { .. } => rules::BLK_RANGE,
            BlockError::ReadOnly => rules::BLK_READ_ONLY,
            BlockError::Host { .. } | BlockError::Sync(_) | BlockError::Lost(_) => rules::HOST,
            // The machine has ended.
            BlockError::Stopped => return,
        };
        let name = self.shared.disk.name();
        self.shared.reporter.broken(
            rule,
            format_args!(
                "{name}: a {operation} of {bytes} bytes at sector {sector} failed: {error}"
            ),
        );
    }

    /// Writes the status byte and returns the chain.
    pub(super) fn answer(&mut self, request: &PendingRequest, answer: Answer<'_>) {
        let Answer { status, written, outcome } = answer;
        let reporter = &self.shared.reporter;
        reporter.emit(|| Event::Finished { request: self.seen(request), outcome });
        if let Some(LiveQueue { queue, .. }) = &mut self.live {
            // The address was checked to be in RAM.
            let in_ram = queue.ram().write_byte(request.status, status);
            debug_assert!(in_ram.is_ok());
            // The data of a request is limited far below 4 GiB.
            let written = u32::try_from(written + 1).unwrap_or(u32::MAX);
            let entry = queue.push(request.head, written);
            let (queue, head) = (self.index, request.head);
            reporter.emit(|| Event::ChainReturned { queue, head, written, entry });
        }
    }

    /// A request as an observer sees it.
    pub(super) fn seen(&self, request: &PendingRequest) -> observe::RequestInfo {
        let PendingRequest { head, asked, sector, bytes, .. } = *request;
        let operation = asked.name();
        observe::RequestInfo { queue: self.index, index: head.into(), operation, sector, bytes }
    }
}
