//! What is on its way to the disk, and where its answer goes.

use crate::block::BlockError;

/// A driver's request on its way: all that its answer needs.
#[derive(Debug)]
pub(super) struct Flight {
    /// The queue it came by.
    pub(super) queue: u16,
    /// By what its chain is given back.
    pub(super) head: u16,
    /// The status byte's guest-physical address, in RAM.
    pub(super) status: u64,
    /// "read", "write", ...
    pub(super) operation: &'static str,
    /// The first sector.
    pub(super) sector: u64,
    /// The bytes of the disk it covers.
    pub(super) bytes: u64,
    /// The requests to the disk that it became and that are not completed: a discard has several ranges.
    pub(super) parts: usize,
    /// The bytes done so far.
    pub(super) done: u64,
    /// The first error of a part.
    pub(super) error: Option<BlockError>,
}

impl Flight {
    /// A request that is about to leave.
    pub(super) const fn new(
        queue: u16,
        head: u16,
        status: u64,
        operation: &'static str,
        sector: u64,
        bytes: u64,
    ) -> Self {
        Self { queue, head, status, operation, sector, bytes, parts: 0, done: 0, error: None }
    }
}

/// All that is on its way. A request's tag is its place here.
#[derive(Debug, Default)]
pub(super) struct Flights(Vec<Option<Flight>>);

impl Flights {
    /// Takes a request up; its tag.
    pub(super) fn depart(&mut self, flight: Flight) -> u64 {
        let free = self.0.iter().position(Option::is_none);
        let at = free.unwrap_or(self.0.len());
        match self.0.get_mut(at) {
            Some(slot) => *slot = Some(flight),
            None => self.0.push(Some(flight)),
        }
        at as u64
    }

    /// One part of the request is completed; the request, where that was the last one.
    pub(super) fn arrive(
        &mut self,
        tag: u64,
        done: u64,
        result: Result<(), BlockError>,
    ) -> Option<Flight> {
        let slot = self.0.get_mut(usize::try_from(tag).ok()?)?;
        let flight = slot.as_mut()?;
        flight.done = flight.done.saturating_add(done);
        flight.parts = flight.parts.saturating_sub(1);
        if flight.error.is_none() {
            flight.error = result.err();
        }
        if flight.parts == 0 { slot.take() } else { None }
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}
