//! The requests of all lanes, from their submission to their completion. It knows no socket and no clock.
//!
//! | question | file |
//! |---|---|
//! | Which piece is sent next, and which must wait? | `session/cut.rs` |
//! | What does a reply mean, and what is a violation? | `session/reply.rs` |
//! | How are lanes woken for their completions? | `session/lanes.rs` |

mod cut;
mod lanes;
mod reply;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use self::lanes::LaneEnd;
use super::handshake::Export;
use super::kept::Kept;
use super::piece::{Piece, Purpose};
use super::wire::{Command, command_flag, export_flag};
use crate::block::slots::Slots;
use crate::block::{BlockError, Completion, Operation, Request};

pub(super) use cut::Source;
pub(super) use lanes::signal;
pub(super) use reply::{Payload, Sink, Violation};

/// A request of a lane.
#[derive(Debug)]
struct Job {
    lane: usize,
    request: Request,
    /// Jobs are sent again in this order.
    number: u64,
    command: Command,
    flags: u16,
    /// The bytes on the disk; a discard covers whole blocks only.
    range: Range<u64>,
    /// The first byte that no piece was made for.
    next: u64,
    /// The pieces that are not answered.
    pieces: usize,
    /// Whether the flush after a durable change that the server has no FUA for is on its way.
    flushes: bool,
    error: Option<BlockError>,
    /// Whether the link was lost since it was sent first.
    is_repeated: bool,
}

/// The requests of all lanes.
#[derive(Debug)]
pub(super) struct Session {
    export: Export,
    /// Whether a lost link is established again.
    repeats: bool,
    lanes: Vec<LaneEnd>,
    jobs: Slots<Job>,
    /// Jobs of which pieces are left to be sent, in order.
    queue: VecDeque<usize>,
    pieces: Slots<Piece>,
    /// Pieces that are to be sent before any new one.
    again: VecDeque<usize>,
    /// The places that pieces in flight change.
    changing: Vec<(usize, Range<u64>)>,
    kept: Kept,
    /// After a loss, the place of the next kept change that is to be repeated.
    repeat: Option<usize>,
    /// The changes in flight that are repeated.
    repeating: usize,
    flushes_itself: bool,
    /// The error of the first flush that the server could not carry out: data may be lost.
    lost_data: Option<String>,
    /// Why requests are refused at once.
    refusal: Option<Refusal>,
    next_number: u64,
}

/// Why requests are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no connection, for too long.
    NoLink(String),
    /// The machine is being stopped.
    Stopped,
}

impl Refusal {
    fn error(&self, offset: u64) -> BlockError {
        match self {
            Self::NoLink(why) => {
                let source = io::Error::new(io::ErrorKind::NotConnected, why.clone());
                BlockError::Host { offset, source }
            }
            Self::Stopped => BlockError::Stopped,
        }
    }
}

impl Session {
    /// Without requests. If it `repeats`, [`Session::lost`] may be followed by another connection.
    pub(super) fn new(export: Export, repeats: bool) -> Self {
        Self {
            export,
            repeats,
            lanes: Vec::new(),
            jobs: Slots::default(),
            queue: VecDeque::new(),
            pieces: Slots::default(),
            again: VecDeque::new(),
            changing: Vec::new(),
            kept: Kept::default(),
            repeat: None,
            repeating: 0,
            flushes_itself: false,
            lost_data: None,
            refusal: None,
            next_number: 0,
        }
    }

    /// The export.
    pub(super) const fn export(&self) -> &Export {
        &self.export
    }

    /// There are connections again. The export is at least what it was.
    pub(super) fn found(&mut self, export: &Export) {
        let Export { size, flags, .. } = self.export;
        self.export = Export { size, flags, ..*export };
        self.refusal = None;
    }

    /// The number of requests that are not completed, of all lanes.
    pub(super) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Whether a request that was sent before a loss is not answered yet.
    pub(super) fn has_repeated(&mut self) -> bool {
        self.jobs.iter_mut().any(|(_, job)| job.is_repeated)
    }

    /// Whether acknowledged changes may still be lost.
    pub(super) fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Submits a request, which [`super::super::Disk`] has checked.
    pub(super) fn submit(&mut self, lane: usize, request: Request) {
        if let Some(end) = self.lanes.get_mut(lane) {
            end.in_flight += 1;
        }
        let (offset, len) = (request.offset, request.operation.len());
        let has = |flag| self.export.has(flag);
        let mut range = offset..offset.saturating_add(len);
        let mut flags = 0;
        let command = match &request.operation {
            Operation::Read(_) => Command::Read,
            Operation::Write { .. } => Command::Write,
            Operation::WriteZeroes { unmap, .. } if has(export_flag::SEND_WRITE_ZEROES) => {
                flags = if *unmap { 0 } else { command_flag::NO_HOLE };
                Command::WriteZeroes
            }
            Operation::WriteZeroes { .. } => Command::Write,
            Operation::Discard { .. } if has(export_flag::SEND_TRIM) => {
                // A hint: parts of blocks stay as they are.
                let block = u64::from(self.export.minimum);
                range.start = range.start.next_multiple_of(block);
                range.end -= range.end % block;
                Command::Trim
            }
            Operation::Discard { .. } => {
                range.end = range.start;
                Command::Trim
            }
            Operation::Flush => Command::Flush,
        };
        let is_durable = request.operation.is_durable();
        if is_durable && command != Command::Flush && has(export_flag::SEND_FUA) {
            flags |= command_flag::FUA;
        }
        let is_nothing = match command {
            Command::Flush => !has(export_flag::SEND_FLUSH),
            _ => range.is_empty(),
        };
        let refused = match (&self.refusal, &self.lost_data) {
            (Some(refusal), _) => Some(refusal.error(offset)),
            (None, Some(why)) if is_durable => {
                Some(BlockError::Sync(io::Error::other(why.clone())))
            }
            _ => None,
        };
        let next = range.start;
        let job = self.jobs.insert(Job {
            lane,
            request,
            number: self.next_number,
            command,
            flags,
            range,
            next,
            pieces: 0,
            flushes: false,
            error: refused,
            is_repeated: false,
        });
        self.next_number += 1;
        let is_refused = self.jobs.get(job).is_some_and(|job| job.error.is_some());
        if is_nothing || is_refused {
            self.complete(job);
        } else {
            self.queue.push_back(job);
        }
    }

    /// Handles the end of a piece of a job.
    fn piece_ends(&mut self, number: usize, error: Option<BlockError>) {
        let can_flush = self.export.has(export_flag::SEND_FLUSH);
        let Some(job) = self.jobs.get_mut(number) else { return };
        job.pieces = job.pieces.saturating_sub(1);
        if let Some(error) = error {
            job.error.get_or_insert(error);
            if job.next < job.range.end {
                job.next = job.range.end;
                self.queue.retain(|other| *other != number);
            }
        }
        if job.pieces > 0 || job.next < job.range.end {
            return;
        }
        let is_change = job.command != Command::Flush && job.request.operation.is_durable();
        let needs_flush = is_change && job.flags & command_flag::FUA == 0 && can_flush;
        if job.error.is_none() && needs_flush && !job.flushes {
            job.flushes = true;
            return self.queue.push_front(number);
        }
        self.complete(number);
    }

    fn complete(&mut self, number: usize) {
        let Some(Job { lane, request, error, .. }) = self.jobs.remove(number) else { return };
        let Some(end) = self.lanes.get_mut(lane) else { return };
        let transferred = if error.is_none() { request.operation.len() } else { 0 };
        let result = error.map_or(Ok(()), Err);
        end.in_flight = end.in_flight.saturating_sub(1);
        if !end.is_gone {
            end.done.push(Completion { request, transferred, result });
            end.is_news = true;
        }
    }

    /// All connections are lost: nothing is in flight any more. What was not answered is sent again when there are new
    /// ones, after the kept changes.
    pub(super) fn lost(&mut self) {
        self.pieces = Slots::default();
        self.again.clear();
        self.changing.clear();
        (self.repeating, self.flushes_itself) = (0, false);
        self.repeat = Some(0);
        let mut order = Vec::with_capacity(self.jobs.len());
        for (number, job) in self.jobs.iter_mut() {
            job.is_repeated |= job.pieces > 0 || job.next > job.range.start;
            (job.next, job.pieces, job.flushes, job.error) = (job.range.start, 0, false, None);
            order.push((job.number, number));
        }
        order.sort_unstable();
        self.queue = order.into_iter().map(|(_, number)| number).collect();
    }

    /// After a loss: fails the requests that wait; with `repeated_only` those that were sent before. Kept changes stay.
    pub(super) fn fail(&mut self, refusal: &Refusal, repeated_only: bool) {
        let fails = |job: &Job| job.is_repeated || !repeated_only;
        let waiting: Vec<_> =
            self.jobs.iter_mut().filter(|(_, job)| fails(job)).map(|(number, _)| number).collect();
        for number in waiting {
            if let Some(job) = self.jobs.get_mut(number) {
                job.error = Some(refusal.error(job.request.offset));
            }
            self.complete(number);
        }
        self.queue.retain(|number| self.jobs.get(*number).is_some());
    }

    /// Refuses new requests from now on, or accepts them again.
    pub(super) fn refuse(&mut self, refusal: Option<Refusal>) {
        self.refusal = refusal;
    }

    /// Whether it refuses requests.
    pub(super) const fn refuses(&self) -> bool {
        self.refusal.is_some()
    }

    /// A flush for what is kept, without a request.
    pub(super) fn flush_kept(&mut self) {
        if self.has_kept() && !self.flushes_itself {
            self.flushes_itself = true;
            let slot = self.insert(Piece::new(Command::Flush, 0, &(0..0), Purpose::OwnFlush));
            self.again.push_back(slot);
        }
    }

    /// The number of pieces that are not answered.
    pub(super) fn unanswered(&self) -> usize {
        self.pieces.len()
    }
}
