//! Requests in flight: submitted to the disk, and not answered yet.

use crate::block::{BlockError, Moment, OperationKind};

/// What a driver asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// An operation of the disk.
    Disk(OperationKind),
    /// The disk's id.
    Id,
    /// Something that is refused.
    Refused,
}

impl Asked {
    /// Its name in messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Disk(kind) => kind.name(),
            Self::Id => "get id",
            Self::Refused => "request",
        }
    }
}

/// A driver's request in flight, with everything that its answer needs.
#[derive(Debug)]
pub(super) struct PendingRequest {
    /// The head of its chain.
    pub(super) head: u16,
    /// The status byte's guest-physical address, in RAM.
    pub(super) status: u64,
    pub(super) asked: Asked,
    /// The first sector.
    pub(super) sector: u64,
    /// The bytes of the disk that it covers.
    pub(super) bytes: u64,
    /// When it was taken.
    pub(super) begun: Moment,
    /// The requests to the disk that belong to it and are not completed: a discard has several ranges.
    pub(super) parts: usize,
    /// The bytes done so far.
    pub(super) done: u64,
    /// The first error of a part. Boxed: it is rare, and a request is moved twice.
    pub(super) error: Option<Box<BlockError>>,
}

impl PendingRequest {
    /// A request before its submission.
    pub(super) const fn new(
        head: u16,
        status: u64,
        asked: Asked,
        sector: u64,
        bytes: u64,
        begun: Moment,
    ) -> Self {
        Self { head, status, asked, sector, bytes, begun, parts: 0, done: 0, error: None }
    }
}

/// All requests of a queue in flight. The tag of a request is its index.
#[derive(Debug, Default)]
pub(super) struct PendingRequests {
    slots: Vec<Option<PendingRequest>>,
    /// The indices without a request.
    free: Vec<usize>,
}

impl PendingRequests {
    /// Adds a request. Returns its tag.
    pub(super) fn insert(&mut self, request: PendingRequest) -> u64 {
        let at = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(at) {
            Some(slot) => *slot = Some(request),
            None => self.slots.push(Some(request)),
        }
        at as u64
    }

    /// Completes one part of a request. Returns the request when this was its last part.
    pub(super) fn complete_part(
        &mut self,
        tag: u64,
        done: u64,
        error: Option<BlockError>,
    ) -> Option<PendingRequest> {
        let at = usize::try_from(tag).ok()?;
        let slot = self.slots.get_mut(at)?;
        let request = slot.as_mut()?;
        request.done = request.done.saturating_add(done);
        request.parts = request.parts.saturating_sub(1);
        if request.error.is_none() {
            request.error = error.map(Box::new);
        }
        if request.parts > 0 {
            return None;
        }
        self.free.push(at);
        slot.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_flight(pending: &PendingRequests) -> usize {
        pending.slots.len() - pending.free.len()
    }

    fn request(head: u16, parts: usize) -> PendingRequest {
        let asked = Asked::Disk(OperationKind::Read);
        PendingRequest { parts, ..PendingRequest::new(head, 0, asked, 0, 0, Moment::default()) }
    }

    #[test]
    fn a_tag_is_free_again_when_its_last_part_has_arrived_and_no_earlier() {
        let mut pending = PendingRequests::default();
        let (a, b) = (pending.insert(request(1, 2)), pending.insert(request(2, 1)));
        assert_ne!(a, b);
        assert!(pending.complete_part(a, 10, Some(BlockError::ReadOnly)).is_none());
        assert_eq!(in_flight(&pending), 2);
        assert_eq!(pending.complete_part(b, 5, None).unwrap().head, 2);
        assert!(pending.complete_part(b, 5, None).is_none(), "a completion too many");
        let c = pending.insert(request(3, 1));
        assert_eq!(c, b, "the free place is used first");
        let first = pending.complete_part(a, 20, None).unwrap();
        assert_eq!((first.head, first.done, first.error.is_some()), (1, 30, true));
        assert!(pending.complete_part(c, 0, None).is_some());
        assert_eq!(in_flight(&pending), 0);
        assert!(pending.complete_part(99, 0, None).is_none());
    }
}
