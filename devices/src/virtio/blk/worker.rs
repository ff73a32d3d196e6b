//! Serves the requests of a live device: from the queue to the disk, and back.

use std::borrow::Cow;
use std::fmt;

use super::request::{Ask, Request};
use crate::block::{self, BlockError, Completion, Disk, Operation, SECTOR_SIZE};
use crate::complaints::{Complaints, Rule};
use crate::memory::Buffers;
use crate::trace::{Event, Tracer};
use crate::virtio::chain::Chain;
use crate::virtio::device::Activation;
use crate::virtio::interrupt::Notifier;
use crate::virtio::queue::SplitQueue;
use crate::virtio::rules;
use crate::virtio::spec::{blk, feature};

/// What a device has from DRIVER_OK to its reset.
#[derive(Debug)]
pub(super) struct Live {
    queues: Vec<Option<SplitQueue>>,
    notifier: Notifier,
    /// Whether a write is on stable storage before it is answered: the driver cannot flush (5.2.6.2).
    write_through: bool,
    /// Whether chains may go through indirect tables.
    indirect: bool,
    /// Set with DEVICE_NEEDS_RESET: no more work until then.
    broken: bool,
    /// What the disk has not finished yet; a request's tag is its place here.
    in_flight: Vec<Option<InFlight>>,
}

/// A request on its way: all that its answer needs.
#[derive(Debug)]
struct InFlight {
    queue: u16,
    head: u16,
    status: u64,
    operation: &'static str,
    sector: u64,
    bytes: u64,
}

/// What a driver is told about a request.
struct Answer {
    status: u8,
    /// The bytes written into the chain's buffers, without the status byte.
    written: u64,
    outcome: Cow<'static, str>,
}

impl Answer {
    fn ok(written: u64) -> Self {
        Self { status: blk::S_OK, written, outcome: Cow::Borrowed("ok") }
    }
}

impl Live {
    pub(super) fn new(activation: Activation) -> Self {
        let Activation { features, queues, notifier } = activation;
        Self {
            queues,
            notifier,
            write_through: features & feature::BLK_FLUSH == 0,
            indirect: features & feature::RING_INDIRECT_DESC != 0,
            broken: false,
            in_flight: Vec::new(),
        }
    }

    /// Lets go of one queue.
    pub(super) fn forget(&mut self, queue: u16) {
        if let Some(slot) = self.queues.get_mut(usize::from(queue)) {
            *slot = None;
        }
    }

    fn queue(&mut self, index: u16) -> Option<&mut SplitQueue> {
        self.queues.get_mut(usize::from(index))?.as_mut()
    }

    /// Gives a request a tag.
    fn depart(&mut self, request: InFlight) -> u64 {
        let free = self.in_flight.iter().position(Option::is_none);
        let at = free.unwrap_or(self.in_flight.len());
        match self.in_flight.get_mut(at) {
            Some(slot) => *slot = Some(request),
            None => self.in_flight.push(Some(request)),
        }
        at as u64
    }

    fn arrive(&mut self, tag: u64) -> Option<InFlight> {
        self.in_flight.get_mut(usize::try_from(tag).ok()?)?.take()
    }

    fn is_idle(&self) -> bool {
        self.in_flight.iter().all(Option::is_none)
    }
}

/// What a device has from its making to its end: the disk, and those it speaks to.
#[derive(Debug)]
pub(super) struct Service {
    complaints: Complaints,
    tracer: Tracer,
    disk: Disk,
    /// In sectors.
    capacity: u64,
    id: [u8; blk::ID_SIZE],
    /// Kept so that it need not be made anew for each doorbell.
    completions: Vec<Completion>,
}

impl Service {
    pub(super) const fn new(
        complaints: Complaints,
        tracer: Tracer,
        disk: Disk,
        capacity: u64,
        id: [u8; blk::ID_SIZE],
    ) -> Self {
        Self { complaints, tracer, disk, capacity, id, completions: Vec::new() }
    }

    pub(super) const fn complaints(&self) -> &Complaints {
        &self.complaints
    }

    pub(super) const fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Takes what the driver made available on a queue, as many requests as the queue has entries at most,
    /// answers all that is finished, and interrupts once if the driver wants that.
    pub(super) fn serve(&mut self, live: &mut Live, index: u16) {
        let Some(size) = live.queue(index).map(|queue| queue.size()) else { return };
        for _ in 0..size {
            if live.broken || !self.take_one(live, index) {
                break;
            }
            self.answer_finished(live);
        }
        if live.queue(index).is_some_and(SplitQueue::wants_interrupt) {
            live.notifier.used_buffers();
        }
    }

    /// Waits for all that is in flight, and answers nobody: the queues are about to go.
    pub(super) fn drain(&mut self, live: &mut Live) {
        while !live.is_idle() {
            self.disk.wait();
            self.disk.reap(&mut self.completions);
            for completion in self.completions.drain(..) {
                live.arrive(completion.tag);
            }
        }
    }

    /// Takes the next request off the queue. False where there is none, or the queue is broken.
    fn take_one(&mut self, live: &mut Live, index: u16) -> bool {
        let indirect = live.indirect;
        let Some(queue) = live.queue(index) else { return false };
        let head = match queue.pop() {
            Ok(Some(head)) => head,
            Ok(None) => return false,
            Err(error) => {
                self.break_down(live, index, rules::AVAIL_INDEX, &error);
                return false;
            }
        };
        let parsed = match Chain::walk(queue, head, indirect) {
            Ok(chain) => Request::parse(chain, queue.ram()),
            Err(error) => {
                self.break_down(live, index, rules::CHAIN, &error);
                return false;
            }
        };
        match parsed {
            Ok(request) => self.start(live, index, request),
            Err(error) => self.break_down(live, index, rules::BLK_LAYOUT, &error),
        }
        true
    }

    /// A queue that can be used no longer: said once, and told to the driver.
    fn break_down(&self, live: &mut Live, queue: u16, rule: Rule, why: &dyn fmt::Display) {
        live.broken = true;
        self.complaints.say(
            rule,
            format_args!("queue {queue} is broken, and the device needs a reset: {why}"),
        );
        live.notifier.needs_reset();
    }

    fn start(&mut self, live: &mut Live, queue: u16, request: Request) {
        let Request { head, status, ask } = request;
        let flight =
            |operation, sector, bytes| InFlight { queue, head, status, operation, sector, bytes };
        let (flight, operation, buffers) = match ask {
            Ok(Ask::Read { sector, data }) => {
                (flight("read", sector, data.len()), Operation::Read, data)
            }
            Ok(Ask::Write { sector, data }) => {
                let durable = live.write_through;
                (flight("write", sector, data.len()), Operation::Write { durable }, data)
            }
            Ok(Ask::Flush) => {
                let Some(queue) = live.queue(queue) else { return };
                let nothing = Buffers::new(queue.ram().clone());
                (flight("flush", 0, 0), Operation::Flush, nothing)
            }
            Ok(Ask::GetId { data }) => {
                let written = data.copy_from(&self.id) as u64;
                let flight = flight("get id", 0, data.len());
                return self.answer(live, &flight, Answer::ok(written));
            }
            Err(refusal) => {
                self.complaints.say(
                    refusal.rule(),
                    format_args!("the request at descriptor {head}: {refusal}"),
                );
                let status = refusal.status();
                let answer = Answer { status, written: 0, outcome: refusal.to_string().into() };
                return self.answer(live, &flight("request", 0, 0), answer);
            }
        };
        match self.offset(&flight) {
            Some(offset) => {
                let tag = live.depart(flight);
                self.disk.submit(block::Request { tag, operation, offset, buffers });
            }
            None => {
                let InFlight { operation, sector, bytes, .. } = flight;
                let outcome = format!(
                    "a {operation} of {bytes} bytes at sector {sector} reaches past the end of the disk, which has {} sectors",
                    self.capacity
                );
                self.complaints.say(rules::BLK_RANGE, format_args!("{outcome}"));
                self.answer(
                    live,
                    &flight,
                    Answer { status: blk::S_IOERR, written: 0, outcome: outcome.into() },
                );
            }
        }
    }

    /// Where on the disk a request begins, in bytes; none where it leaves the disk. The disk may have a ragged
    /// end behind its last sector, which is not the guest's.
    fn offset(&self, flight: &InFlight) -> Option<u64> {
        let end = flight.sector.checked_add(flight.bytes.div_ceil(SECTOR_SIZE))?;
        if end > self.capacity {
            return None;
        }
        flight.sector.checked_mul(SECTOR_SIZE)
    }

    fn answer_finished(&mut self, live: &mut Live) {
        let mut completions = std::mem::take(&mut self.completions);
        self.disk.reap(&mut completions);
        for Completion { tag, transferred, result } in completions.drain(..) {
            let Some(flight) = live.arrive(tag) else { continue };
            let written = if flight.operation == "read" { transferred } else { 0 };
            let answer = match result {
                Ok(()) => Answer::ok(written),
                Err(error) => {
                    self.say_failed(&flight, &error);
                    Answer { status: blk::S_IOERR, written, outcome: error.to_string().into() }
                }
            };
            self.answer(live, &flight, answer);
        }
        self.completions = completions;
    }

    fn say_failed(&self, flight: &InFlight, error: &BlockError) {
        let InFlight { operation, sector, bytes, .. } = flight;
        let rule = match error {
            BlockError::OutOfRange { .. } => rules::BLK_RANGE,
            BlockError::ReadOnly => rules::BLK_READ_ONLY,
            BlockError::Host { .. } => rules::HOST,
        };
        let name = self.disk.name();
        self.complaints.say(
            rule,
            format_args!(
                "{name}: a {operation} of {bytes} bytes at sector {sector} failed: {error}"
            ),
        );
    }

    /// Writes the status byte, gives the chain back, and lets an observer know.
    fn answer(&self, live: &mut Live, flight: &InFlight, answer: Answer) {
        let Answer { status, written, outcome } = answer;
        if let Some(queue) = live.queue(flight.queue) {
            // Its place was checked to be in RAM.
            let in_ram = queue.ram().write(flight.status, &[status]);
            debug_assert!(in_ram.is_ok());
            // A request's data is bounded far below 4 GiB.
            queue.push(flight.head, u32::try_from(written + 1).unwrap_or(u32::MAX));
        }
        self.tracer.emit(|| Event::Request {
            device: self.complaints.device().clone(),
            index: flight.head.into(),
            operation: flight.operation,
            sector: flight.sector,
            bytes: flight.bytes,
            outcome: outcome.into_owned(),
        });
    }
}
