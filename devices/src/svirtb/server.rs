//! Serves a doorbell: the entries from tail to head, in order, up to the end or the first bad one.
//!
//! **Durability.** svirtb has no flush command, so entries before tail must be on stable storage: a batch with writes
//! is flushed once after its last entry, before tail is published. If the flush fails, tail stays at the batch's first
//! write, because later entries may be lost.
//!
//! **Limits.** The guest waits in its register write until its entries are finished. The time is up to the guest: 4096
//! entries of 1 MiB are legal, and a limit could not distinguish them from an attack. But the VMM never waits so long:
//! [`crate::block::Stop`] ends the batch between two entries and between two pieces of one, so after at most [`PIECE`]
//! bytes of I/O and the flush. If the disk has limits ([`crate::block::Limits`]), the write also waits for tokens, in steps
//! of at most 100 ms, and ends early in the same way; a pause of the machine does not wait for them.
//!
//! **A full host.** If the disk has a [`crate::block::FullAlarm`], a write that finds the host's disk full stays in the
//! ring: the doorbell ends, tail stays at the entry, and the alarm pauses the machine before the guest sees it. The
//! device continues from tail when there is room.

use std::fmt;
use std::io;

use super::entry::{Command, Entry, EntryError, Plan};
use super::joined::Joined;
use super::ring::{Ring, Settled};
use super::rules;
use crate::block::{BlockError, Disk, Lane, Moment, Operation, OperationKind};
use crate::memory::{Buffers, GuestRam};
use crate::observe::{Event, Outcome, Reporter, RequestInfo, Words};

/// The most bytes in one request to the disk. Larger entries are served in pieces of this size.
const PIECE: u64 = 1 << 20;
/// How often a detected distance is logged: a guest may repeat the handshake any number of times.
const SPACINGS_LOGGED: u32 = 8;

/// The end of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchEnd {
    /// The index after the last entry that is finished and on stable storage.
    pub(super) tail: u32,
    /// The reason.
    pub(super) end: End,
}

/// Why a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All entries are finished.
    Done,
    /// An entry is wrong, or the host failed.
    Failed,
    /// An entry waits for room on the host.
    NoRoom,
}

/// Why an entry is not finished. It was reported already.
enum Unfinished {
    Failed,
    NoRoom,
}

/// The state that survives every reset of the protocol.
#[derive(Debug)]
pub(super) struct Server {
    lane: Lane,
    pub(super) ram: GuestRam,
    pub(super) reporter: Reporter,
    spacings_logged: u32,
    straddling_writes: u64,
}

impl Server {
    pub(super) fn new(disk: &Disk, ram: GuestRam, reporter: Reporter) -> io::Result<Self> {
        let lane = disk.lane()?;
        Ok(Self { lane, ram, reporter, spacings_logged: 0, straddling_writes: 0 })
    }

    /// The number of writes that were stored in part because the disk ended within them.
    pub(super) const fn straddling_writes(&self) -> u64 {
        self.straddling_writes
    }

    /// Serves the entries of `ring` from `tail` up to `head`.
    pub(super) fn serve(&mut self, ring: &mut Ring, tail: u32, head: u32) -> BatchEnd {
        let mut first_write = None;
        let (mut at, mut end) = (tail, End::Done);
        // The number of entries that were not transferred together, and are served one by one.
        let mut alone = 0_usize;
        while at != head {
            if alone == 0
                && let Some(joined) = self.joined(ring, at, head)
            {
                let (after, entries, command) = (joined.after, joined.entries, joined.plan.command);
                if self.transfer(joined) {
                    if command == Command::Write {
                        first_write.get_or_insert(at);
                    }
                    at = after;
                    continue;
                }
                alone = entries;
            }
            alone = alone.saturating_sub(1);
            match self.entry(ring, at) {
                Ok(plan) if plan.command == Command::Write && plan.bytes > 0 => {
                    first_write.get_or_insert(at);
                }
                Ok(_) => {}
                Err(Unfinished::Failed) => {
                    end = End::Failed;
                    break;
                }
                Err(Unfinished::NoRoom) => {
                    end = End::NoRoom;
                    break;
                }
            }
            at = ring.after(at);
        }
        if let Some(first) = first_write
            && let Err(error) = self.flush()
        {
            self.flush_failed(first, &EntryError::Flush(error));
            (at, end) = (first, End::Failed);
        }
        BatchEnd { tail: at, end }
    }

    /// The entries from `at` on that can be transferred together. An observer sees each entry alone.
    fn joined(&self, ring: &Ring, at: u32, head: u32) -> Option<Joined> {
        let disk = self.lane.disk();
        let is_possible = !self.reporter.is_observed() && !disk.is_stopped();
        is_possible.then(|| Joined::find(ring, &self.ram, disk, at, head)).flatten()
    }

    /// Transfers entries together. Returns whether all are finished; otherwise each is tried alone, to find the one that
    /// fails. It is no harm that those before it are transferred twice: the guest waits, and sees only the result.
    fn transfer(&mut self, joined: Joined) -> bool {
        let Joined { plan, buffers, entries, .. } = joined;
        let begun = self.lane.stats().now();
        let is_done = self.run(plan.command, buffers, plan.offset).is_ok();
        if is_done {
            self.count(plan.command, entries as u64, plan.bytes, begun);
        }
        is_done
    }

    /// Counts finished entries.
    fn count(&self, command: Command, entries: u64, bytes: u64, begun: Moment) {
        let kind = match command {
            Command::Read => OperationKind::Read,
            Command::Write => OperationKind::Write,
        };
        let stats = self.lane.stats();
        stats.finished(kind, entries, bytes);
        stats.took(kind, entries, begun, stats.now());
    }

    /// Serves one entry. Returns the transfer.
    fn entry(&mut self, ring: &mut Ring, index: u32) -> Result<Plan, Unfinished> {
        let begun = self.lane.stats().now();
        let (settled, fetched) = ring.fetch(&self.ram, index);
        if let Some(settled) = settled {
            self.report_spacing(&settled);
        }
        let (entry, result) = match fetched {
            Ok(entry) => {
                self.reporter.emit(|| entry.read_event(index, ring.address(index)));
                self.reporter.emit(|| Event::Submitted(request(index, Some(&entry))));
                (Some(entry), self.perform(&entry))
            }
            Err(error) => (None, Err(EntryError::Unreadable(error))),
        };
        if let Err(EntryError::Host(error)) = &result
            && let (Some(full), Some(alarm)) = (error.no_room(), self.lane.disk().full_alarm())
        {
            alarm.raise(self.lane.disk().name(), full);
            return Err(Unfinished::NoRoom);
        }
        let command = entry.and_then(|entry| entry.command());
        match (command, &result) {
            (Some(command), Ok(plan)) => self.count(command, 1, plan.bytes, begun),
            (Some(command), Err(error)) => {
                if let Some(kind) = error.kind() {
                    self.count(command, 1, 0, begun);
                    self.lane.stats().failed(kind);
                }
            }
            (None, _) => {}
        }
        self.reporter.emit(|| Event::Finished {
            request: request(index, entry.as_ref()),
            outcome: outcome(entry.as_ref(), &result),
        });
        match (result, entry) {
            (Ok(plan), Some(entry)) if plan.command == Command::Write => {
                if plan.bytes < entry.size {
                    self.straddled(index, &entry, plan.bytes);
                }
                Ok(plan)
            }
            (Ok(plan), _) => Ok(plan),
            (Err(error), entry) => {
                let entry = Described { ring, index, entry };
                self.complain(index, &entry, &error);
                Err(Unfinished::Failed)
            }
        }
    }

    /// Transfers an entry's bytes, in pieces.
    ///
    /// # Errors
    ///
    /// Why the entry is not finished. Nothing was transferred, unless the host failed or the machine was stopped in
    /// between.
    fn perform(&mut self, entry: &Entry) -> Result<Plan, EntryError> {
        let disk = self.lane.disk();
        if disk.is_stopped() {
            return Err(EntryError::Stopped);
        }
        let plan = entry.plan(&self.ram, disk.size(), disk.read_only())?;
        // Ranges in RAM and on the disk do not overflow.
        let mut rest = Buffers::single(self.ram.clone(), entry.addr, plan.bytes)
            .map_err(EntryError::Buffer)?;
        let mut offset = plan.offset;
        while rest.len() > PIECE {
            let behind = rest.split_off(PIECE);
            self.run(plan.command, rest, offset).map_err(EntryError::of_host)?;
            offset = offset.saturating_add(PIECE);
            rest = behind;
        }
        if !rest.is_empty() {
            self.run(plan.command, rest, offset).map_err(EntryError::of_host)?;
        }
        Ok(plan)
    }

    fn run(&mut self, command: Command, data: Buffers, offset: u64) -> Result<(), BlockError> {
        let operation = match command {
            Command::Read => Operation::Read(data),
            Command::Write => Operation::Write { data, durable: false },
        };
        self.lane.run(operation, offset)
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        let begun = self.lane.stats().now();
        let flushed = self.lane.flush();
        self.lane.stats().flushed(begun, &flushed);
        flushed
    }

    fn flush_failed(&mut self, first: u32, error: &EntryError) {
        let (operation, sector, bytes) = ("flush", 0, 0);
        self.reporter.emit(|| Event::Finished {
            request: RequestInfo { queue: 0, index: first, operation, sector, bytes },
            outcome: Outcome::Failed(Words(error)),
        });
        self.complain(first, &format_args!("entry {first}"), error);
    }

    fn complain(&mut self, tail: u32, entry: &dyn fmt::Display, error: &EntryError) {
        self.reporter.broken(
            error.rule(),
            format_args!("{entry}: {error}; queue_tail stands at {tail}, the status is now RESET"),
        );
    }

    /// Logs the first write that the end of the disk cuts; counts all.
    fn straddled(&mut self, index: u32, entry: &Entry, stored: u64) {
        self.straddling_writes = self.straddling_writes.saturating_add(1);
        if self.straddling_writes == 1 {
            let (size, sector, disk) = (entry.size, entry.sector, self.lane.disk().size());
            self.reporter.broken(
                rules::STRADDLES,
                format_args!(
                    "entry {index}: only the first {stored} of {size} bytes at sector {sector} are \
                     stored, because the disk ends at byte {disk} (the entry succeeds; further ones \
                     are only counted)"
                ),
            );
        }
    }

    fn report_spacing(&mut self, settled: &Settled) {
        self.reporter.emit(|| settled.event());
        if self.spacings_logged < SPACINGS_LOGGED {
            self.spacings_logged += 1;
            let is_last = self.spacings_logged == SPACINGS_LOGGED;
            let last = if is_last { " (not logged again)" } else { "" };
            tracing::info!("{}: {settled}{last}", self.reporter.device());
        }
    }
}

/// An entry in a message. It includes the distance of entries if that matters: most invalid entries come from a driver
/// with another distance.
struct Described<'a> {
    ring: &'a Ring,
    index: u32,
    entry: Option<Entry>,
}

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {}", self.index)?;
        if let Some(entry) = &self.entry {
            let Entry { size, sector, .. } = entry;
            write!(f, " ({}, {size} bytes, sector {sector})", entry.operation())?;
        }
        match self.ring.stride() {
            Some(stride) if self.index > 0 => {
                write!(f, ", with entries {} bytes apart", stride.bytes())
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// An entry as an observer sees it.
fn request(index: u32, entry: Option<&Entry>) -> RequestInfo {
    let (operation, sector, bytes) = match entry {
        Some(entry) => (entry.operation(), entry.sector, entry.size),
        None => ("unreadable", 0, 0),
    };
    RequestInfo { queue: 0, index, operation, sector, bytes }
}

fn outcome<'a>(entry: Option<&Entry>, result: &'a Result<Plan, EntryError>) -> Outcome<'a> {
    let of = entry.map_or(0, |entry| entry.size);
    match result {
        Ok(plan) if plan.bytes == of => Outcome::Done,
        Ok(plan) => Outcome::Cut { done: plan.bytes, of },
        Err(error) => Outcome::Failed(Words(error)),
    }
}
