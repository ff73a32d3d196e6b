//! Serves the requests of a live device: from the queue to the disk, and back.

use std::borrow::Cow;
use std::fmt;

use super::config::Config;
use super::flight::{Flight, Flights};
use super::request::{Ask, Range, Request};
use crate::block::{self, BlockError, Completion, Disk, GrowError, Operation, SECTOR_SIZE};
use crate::complaints::{Complaints, Rule};
use crate::trace::{Event, Tracer};
use crate::virtio::chain::Chain;
use crate::virtio::device::{Activation, Served};
use crate::virtio::interrupt::Notifier;
use crate::virtio::queue::SplitQueue;
use crate::virtio::rules;
use crate::virtio::spec::{blk, feature};

/// What a device has from DRIVER_OK to its reset.
#[derive(Debug)]
pub(super) struct Live {
    features: u64,
    queues: Vec<Option<SplitQueue>>,
    notifier: Notifier,
    flights: Flights,
}

/// What a driver is told about a request.
struct Answer {
    status: u8,
    /// The bytes written into the chain's buffers, without the status byte.
    written: u64,
    outcome: Cow<'static, str>,
}

impl Answer {
    const fn ok(written: u64) -> Self {
        Self { status: blk::S_OK, written, outcome: Cow::Borrowed("ok") }
    }
}

impl Live {
    pub(super) fn new(activation: Activation) -> Self {
        let Activation { features, queues, notifier } = activation;
        Self { features, queues, notifier, flights: Flights::default() }
    }

    pub(super) fn start_queue(&mut self, index: u16, queue: SplitQueue) {
        if let Some(slot) = self.queues.get_mut(usize::from(index)) {
            *slot = Some(queue);
        }
    }

    pub(super) fn stop_queue(&mut self, index: u16) {
        if let Some(slot) = self.queues.get_mut(usize::from(index)) {
            *slot = None;
        }
    }

    const fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    fn queue(&mut self, index: u16) -> Option<&mut SplitQueue> {
        self.queues.get_mut(usize::from(index))?.as_mut()
    }
}

/// What a device has from its making to its end: the disk, and those it speaks to.
#[derive(Debug)]
pub(super) struct Service {
    complaints: Complaints,
    tracer: Tracer,
    disk: Disk,
    id: [u8; blk::ID_SIZE],
    /// Kept so that it need not be made anew for each doorbell.
    completions: Vec<Completion>,
}

impl Service {
    pub(super) const fn new(
        complaints: Complaints,
        tracer: Tracer,
        disk: Disk,
        id: [u8; blk::ID_SIZE],
    ) -> Self {
        Self { complaints, tracer, disk, id, completions: Vec::new() }
    }

    pub(super) const fn complaints(&self) -> &Complaints {
        &self.complaints
    }

    pub(super) const fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), GrowError> {
        self.disk.grow(bytes)
    }

    /// Takes what the driver made available on a queue, as many requests as the queue has entries at most,
    /// answers all that is finished, and interrupts once if the driver wants that.
    pub(super) fn serve(&mut self, live: &mut Live, config: &Config, index: u16) -> Served {
        self.answer_finished(live);
        // A queue that is gone has no work left, not even what a doorbell left undone.
        let Some(mut budget) = live.queue(index).map(|queue| queue.size()) else {
            Self::interrupt(live);
            return Served::All;
        };
        let mut served = Served::All;
        // What broke is told to the driver, and from then on nothing is done but for the reset it asks for.
        while !live.notifier.is_reset_needed() {
            if budget == 0 {
                served = Served::Some;
                break;
            }
            if self.take_one(live, config, index) {
                budget -= 1;
                self.answer_finished(live);
            } else if live.notifier.is_reset_needed()
                || !live.queue(index).is_some_and(SplitQueue::rearm)
            {
                break;
            }
        }
        Self::interrupt(live);
        served
    }

    /// Interrupts once, if the driver of any queue wants that for what was answered.
    fn interrupt(live: &mut Live) {
        let mut interrupt = false;
        for queue in live.queues.iter_mut().flatten() {
            interrupt |= queue.wants_interrupt();
        }
        if interrupt {
            live.notifier.used_buffers();
        }
    }

    /// Waits for all that is in flight, and answers it; what came by a queue that is gone has nobody to be told.
    pub(super) fn settle(&mut self, live: &mut Live) {
        self.answer_finished(live);
        while !live.flights.is_empty() {
            self.disk.wait();
            self.answer_finished(live);
        }
        Self::interrupt(live);
    }

    /// Waits for all that is in flight, and answers nobody: the queues are about to go.
    pub(super) fn drain(&mut self, live: &mut Live) {
        while !live.flights.is_empty() {
            self.disk.wait();
            self.disk.reap(&mut self.completions);
            for Completion { tag, transferred, result } in self.completions.drain(..) {
                live.flights.arrive(tag, transferred, result);
            }
        }
    }

    /// Brings what was answered to stable storage. A failure has nobody to go to but the log: no request asked.
    pub(super) fn flush(&mut self, live: &mut Live) {
        self.settle(live);
        if let Err(error) = self.disk.run(Operation::Flush, 0) {
            let name = self.disk.name();
            self.complaints.say(rules::HOST, format_args!("{name}: a flush failed: {error}"));
        }
    }

    /// Takes the next request off the queue. False where there is none, or the queue is broken.
    fn take_one(&mut self, live: &mut Live, config: &Config, index: u16) -> bool {
        let indirect = live.has(feature::RING_INDIRECT_DESC);
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
            Ok(request) => self.start(live, config, index, request),
            Err(error) => self.break_down(live, index, rules::BLK_LAYOUT, &error),
        }
        true
    }

    /// A queue that can be used no longer: said once, and told to the driver.
    fn break_down(&self, live: &mut Live, queue: u16, rule: Rule, why: &dyn fmt::Display) {
        self.complaints.say(
            rule,
            format_args!("queue {queue} is broken, and the device needs a reset: {why}"),
        );
        live.notifier.needs_reset(true);
    }

    /// Hands a request to the disk, in one part or more, or answers it at once.
    fn start(&mut self, live: &mut Live, config: &Config, queue: u16, request: Request) {
        let Request { head, status, ask } = request;
        let flight =
            |operation, sector, bytes| Flight::new(queue, head, status, operation, sector, bytes);
        // Without FLUSH the driver has no other way to make a write safe (5.2.6.2).
        let durable = !live.has(feature::BLK_FLUSH) || !config.writeback;
        match ask {
            Ok(Ask::Read { sector, data }) => {
                let flight = flight("read", sector, data.len());
                self.submit(live, config, flight, [(sector, Operation::Read(data))]);
            }
            Ok(Ask::Write { sector, data }) => {
                let flight = flight("write", sector, data.len());
                let write = Operation::Write { data, durable };
                self.submit(live, config, flight, [(sector, write)]);
            }
            Ok(Ask::Flush) => {
                self.submit(live, config, flight("flush", 0, 0), [(0, Operation::Flush)]);
            }
            Ok(Ask::Discard(ranges)) => {
                let (sector, bytes) = Range::sum(&ranges);
                let part = |r: Range| (r.sector, Operation::Discard { len: r.bytes() });
                let parts: Vec<_> = ranges.into_iter().map(part).collect();
                self.submit(live, config, flight("discard", sector, bytes), parts);
            }
            Ok(Ask::WriteZeroes(ranges)) => {
                let (sector, bytes) = Range::sum(&ranges);
                let part = |r: Range| {
                    let (len, unmap) = (r.bytes(), r.unmap);
                    (r.sector, Operation::WriteZeroes { len, unmap, durable })
                };
                let parts: Vec<_> = ranges.into_iter().map(part).collect();
                self.submit(live, config, flight("write zeroes", sector, bytes), parts);
            }
            Ok(Ask::GetId { data }) => {
                let written = data.copy_from(&self.id) as u64;
                let flight = flight("get id", 0, data.len());
                self.answer(live, &flight, Answer::ok(written));
            }
            Err(refusal) => {
                self.complaints.say(
                    refusal.rule(),
                    format_args!("the request at descriptor {head}: {refusal}"),
                );
                let status = refusal.status();
                let answer = Answer { status, written: 0, outcome: refusal.to_string().into() };
                self.answer(live, &flight("request", 0, 0), answer);
            }
        }
    }

    /// Hands parts, (first sector, what to do), to the disk: all of them, or none where one leaves it.
    fn submit<P>(&mut self, live: &mut Live, config: &Config, mut flight: Flight, parts: P)
    where
        P: AsRef<[(u64, Operation)]> + IntoIterator<Item = (u64, Operation)>,
    {
        let capacity = config.capacity;
        let outside =
            |(sector, part): &&(u64, Operation)| !is_on_disk(*sector, part.len(), capacity);
        if let Some((sector, part)) = parts.as_ref().iter().find(outside) {
            let outcome = format!(
                "a {} of {} bytes at sector {sector} reaches past the end of the disk, which has {capacity} \
                 sectors",
                flight.operation,
                part.len(),
            );
            self.complaints.say(rules::BLK_RANGE, format_args!("{outcome}"));
            let answer = Answer { status: blk::S_IOERR, written: 0, outcome: outcome.into() };
            return self.answer(live, &flight, answer);
        }
        flight.parts = parts.as_ref().len();
        let tag = live.flights.depart(flight);
        for (sector, operation) in parts {
            // On the disk, so in bytes it fits.
            let offset = sector.saturating_mul(SECTOR_SIZE);
            self.disk.submit(block::Request { tag, operation, offset });
        }
    }

    fn answer_finished(&mut self, live: &mut Live) {
        let mut completions = std::mem::take(&mut self.completions);
        self.disk.reap(&mut completions);
        for Completion { tag, transferred, result } in completions.drain(..) {
            let Some(mut flight) = live.flights.arrive(tag, transferred, result) else { continue };
            let written = if flight.operation == "read" { flight.done } else { 0 };
            let answer = match flight.error.take() {
                None => Answer::ok(written),
                Some(error) => {
                    self.say_failed(&flight, &error);
                    Answer { status: blk::S_IOERR, written, outcome: error.to_string().into() }
                }
            };
            self.answer(live, &flight, answer);
        }
        self.completions = completions;
    }

    fn say_failed(&self, flight: &Flight, error: &BlockError) {
        let Flight { operation, sector, bytes, .. } = flight;
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
    fn answer(&self, live: &mut Live, flight: &Flight, answer: Answer) {
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

/// Whether `len` bytes from `sector` on are on a disk of `capacity` sectors. The image may have a ragged end
/// behind them, which is not the guest's.
fn is_on_disk(sector: u64, len: u64, capacity: u64) -> bool {
    sector.checked_add(len.div_ceil(SECTOR_SIZE)).is_some_and(|end| end <= capacity)
}
