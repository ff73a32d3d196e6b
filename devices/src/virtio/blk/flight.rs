//! Requests in flight: what has been handed to the disk, and where its answer goes.

use crate::block::BlockError;

/// A driver's request in flight: all that its answer needs.
#[derive(Debug)]
pub(super) struct Flight {
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
        head: u16,
        status: u64,
        operation: &'static str,
        sector: u64,
        bytes: u64,
    ) -> Self {
        Self { head, status, operation, sector, bytes, parts: 0, done: 0, error: None }
    }
}

/// All requests of a queue in flight. A request's tag is its place here.
#[derive(Debug, Default)]
pub(super) struct Flights {
    slots: Vec<Option<Flight>>,
    /// The slots without a flight.
    free: Vec<usize>,
}

impl Flights {
    /// Takes a request up; its tag.
    pub(super) fn depart(&mut self, flight: Flight) -> u64 {
        let at = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(at) {
            Some(slot) => *slot = Some(flight),
            None => self.slots.push(Some(flight)),
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
        let at = usize::try_from(tag).ok()?;
        let slot = self.slots.get_mut(at)?;
        let flight = slot.as_mut()?;
        flight.done = flight.done.saturating_add(done);
        flight.parts = flight.parts.saturating_sub(1);
        if flight.error.is_none() {
            flight.error = result.err();
        }
        if flight.parts > 0 {
            return None;
        }
        self.free.push(at);
        slot.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_flight(flights: &Flights) -> usize {
        flights.slots.len() - flights.free.len()
    }

    fn flight(head: u16, parts: usize) -> Flight {
        Flight { parts, ..Flight::new(head, 0, "read", 0, 0) }
    }

    #[test]
    fn a_tag_is_free_again_when_its_last_part_has_arrived_and_no_earlier() {
        let mut flights = Flights::default();
        let (a, b) = (flights.depart(flight(1, 2)), flights.depart(flight(2, 1)));
        assert_ne!(a, b);
        assert!(flights.arrive(a, 10, Err(BlockError::ReadOnly)).is_none());
        assert_eq!(in_flight(&flights), 2);
        assert_eq!(flights.arrive(b, 5, Ok(())).unwrap().head, 2);
        assert!(flights.arrive(b, 5, Ok(())).is_none(), "a completion too many");
        let c = flights.depart(flight(3, 1));
        assert_eq!(c, b, "the free place is used first");
        let first = flights.arrive(a, 20, Ok(())).unwrap();
        assert_eq!((first.head, first.done, first.error.is_some()), (1, 30, true));
        assert!(flights.arrive(c, 0, Ok(())).is_some());
        assert_eq!(in_flight(&flights), 0);
        assert!(flights.arrive(99, 0, Ok(())).is_none());
    }
}
