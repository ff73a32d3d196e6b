//! Begins a request: submits it to the disk, or answers it immediately.

use std::sync::atomic::Ordering;

use super::super::live::Answer;
use super::super::pending::{Asked, PendingRequest};
use super::super::request::{BlkRequest, Range, Refusal, RequestKind};
use super::Worker;
use crate::block::{self, ErrorKind, Operation, OperationKind, SECTOR_SIZE};
use crate::observe::{Event, Outcome, Words};
use crate::virtio::rules;
use crate::virtio::spec::{blk, feature};

impl Worker {
    /// Submits a request to the disk, in one or more parts, or answers it immediately. Returns the bytes it moves.
    #[inline]
    pub(super) fn begin(&mut self, request: BlkRequest) -> u64 {
        let BlkRequest { head, status, kind } = request;
        let begun = self.now;
        let asked =
            |asked, sector, bytes| PendingRequest::new(head, status, asked, sector, bytes, begun);
        match kind {
            Ok(RequestKind::Disk { sector, operation }) => {
                let request = asked(Asked::Disk(operation.kind()), sector, operation.len());
                self.submit(request, sector, operation)
            }
            Ok(RequestKind::Discard(ranges)) => {
                let (sector, bytes) = Range::sum(&ranges);
                let request = asked(Asked::Disk(OperationKind::Discard), sector, bytes);
                self.submit_all(request, &ranges, |range| Operation::Discard { len: range.bytes() })
            }
            Ok(RequestKind::WriteZeroes(ranges)) => {
                let (sector, bytes) = Range::sum(&ranges);
                let request = asked(Asked::Disk(OperationKind::WriteZeroes), sector, bytes);
                self.submit_all(request, &ranges, |range| {
                    let (len, unmap) = (range.bytes(), range.unmap);
                    Operation::WriteZeroes { len, unmap, durable: false }
                })
            }
            Ok(RequestKind::GetId { data }) => {
                let written = data.copy_from(&self.shared.id()) as u64;
                self.answer(&asked(Asked::Id, 0, data.len()), Answer::ok(written));
                0
            }
            Err(refusal) => {
                self.refuse(&asked(Asked::Refused, 0, 0), refusal);
                0
            }
        }
    }

    /// Whether each write is durable when it is answered.
    fn writes_through(&self) -> bool {
        // Without FLUSH the driver cannot make a write durable in another way (5.2.6.2).
        let flushes = self.live.as_ref().is_some_and(|live| live.has(feature::BLK_FLUSH));
        !flushes || !self.shared.writeback.load(Ordering::Acquire)
    }

    /// Submits a request of one part to the disk, unless it is outside of it. Returns the bytes that it moves.
    #[inline]
    fn submit(&mut self, request: PendingRequest, sector: u64, operation: Operation) -> u64 {
        if self.refuse_outside(&request, sector, operation.len()) {
            return 0;
        }
        let bytes = request.bytes;
        let tag = self.add(request, 1);
        if self.push(tag, sector, operation) {
            self.finish_batch();
        }
        bytes
    }

    /// The same for a request of several ranges, of which all are submitted, or none.
    fn submit_all(
        &mut self,
        request: PendingRequest,
        ranges: &[Range],
        operation: impl Fn(&Range) -> Operation,
    ) -> u64 {
        let is_outside = |range: &Range| self.refuse_outside(&request, range.sector, range.bytes());
        if ranges.iter().any(is_outside) {
            return 0;
        }
        let bytes = request.bytes;
        let tag = self.add(request, ranges.len());
        let mut ends_batch = false;
        for range in ranges {
            ends_batch |= self.push(tag, range.sector, operation(range));
        }
        if ends_batch {
            self.finish_batch();
        }
        bytes
    }

    /// Adds a request of so many parts to those in flight. Returns its tag.
    #[inline]
    fn add(&mut self, mut request: PendingRequest, parts: usize) -> u64 {
        request.parts = parts;
        self.shared.reporter.emit(|| Event::Submitted(self.seen(&request)));
        self.pending.insert(request)
    }

    /// Submits one part, which is on the disk. Returns whether it ends the batch: if the host cannot make data safe, no
    /// later flush succeeds, so the disk must know before it gets one.
    #[inline]
    fn push(&mut self, tag: u64, sector: u64, mut operation: Operation) -> bool {
        if self.writes_through() {
            operation.harden();
        }
        let is_durable = operation.is_durable();
        // The offset in bytes does not overflow.
        let offset = sector.saturating_mul(SECTOR_SIZE);
        self.lane.push(block::Request { tag, operation, offset });
        is_durable
    }

    /// Answers `request` with an error if the `len` bytes at `sector` are not on the disk. Returns whether it did.
    #[inline]
    fn refuse_outside(&mut self, request: &PendingRequest, sector: u64, len: u64) -> bool {
        let capacity = self.shared.capacity();
        let is_outside = !is_on_disk(sector, len, capacity);
        if is_outside {
            self.report_outside(request, sector, len, capacity);
        }
        is_outside
    }

    #[cold]
    fn report_outside(&mut self, request: &PendingRequest, sector: u64, len: u64, capacity: u64) {
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

    /// Answers a request that asks for nothing that the device can do.
    #[cold]
    fn refuse(&mut self, request: &PendingRequest, refusal: Refusal) {
        let head = request.head;
        self.shared
            .reporter
            .broken(refusal.rule(), format_args!("the request at descriptor {head}: {refusal}"));
        let outcome = Outcome::Failed(Words(&refusal));
        self.answer(request, Answer { status: refusal.status(), written: 0, outcome });
    }
}

/// Whether `len` bytes from `sector` on are within `capacity` sectors. The image may be a little longer, without a
/// whole block.
fn is_on_disk(sector: u64, len: u64, capacity: u64) -> bool {
    sector.checked_add(len.div_ceil(SECTOR_SIZE)).is_some_and(|end| end <= capacity)
}
