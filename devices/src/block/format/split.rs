//! Reads that lie in both stores, and what each request to a store is a part of.

use crate::block::{BlockError, Completion, Operation, Request};
use crate::memory::Buffers;

/// The most parts of one read that are with the stores at a time, so that a read of scattered sectors takes no memory
/// for each of them.
const WINDOW: usize = 64;

/// What a request to a store is for.
#[derive(Debug)]
pub(super) enum Part {
    /// A whole request of the disk's, sent on under another tag.
    Whole {
        /// Its own tag.
        tag: u64,
        /// Its own offset.
        offset: u64,
        /// Whether it asked to be durable.
        durable: bool,
    },
    /// A discard, which went as zeros.
    Discard(Request),
    /// Some bytes of a read: its place among the splits, and how many of its bytes lie before.
    Of {
        /// The place.
        split: usize,
        /// The bytes before.
        at: u64,
    },
}

/// A read that is done in parts.
#[derive(Debug)]
pub(super) struct Split {
    request: Request,
    /// The bytes handed to the stores so far.
    handed: u64,
    /// The parts that are with the stores.
    left: usize,
    /// The first byte, counted from the request's, that could not be read, and why.
    failed: Option<(u64, BlockError)>,
}

impl Split {
    pub(super) const fn new(request: Request) -> Self {
        Self { request, handed: 0, left: 0, failed: None }
    }

    /// How many bytes precede the next part, its first byte on the disk, and how many are left from there on; none where
    /// no part can be handed over now.
    pub(super) fn next(&self) -> Option<(u64, u64, u64)> {
        let rest = self.request.operation.len() - self.handed;
        let open = rest > 0 && self.left < WINDOW && self.failed.is_none();
        open.then(|| (self.handed, self.request.offset + self.handed, rest))
    }

    /// The buffers of the next `len` bytes, which count as handed over.
    pub(super) fn take(&mut self, len: u64) -> Option<Buffers> {
        let Operation::Read(data) = &self.request.operation else { return None };
        let part = data.part(self.handed, len);
        self.handed += len;
        self.left += 1;
        Some(part)
    }

    /// The part behind `at` bytes is completed.
    pub(super) fn arrive(&mut self, at: u64, part: Completion) {
        self.left = self.left.saturating_sub(1);
        if let Err(error) = part.result {
            self.fail(at + part.transferred, error);
        }
    }

    /// The byte `at` bytes behind the first one cannot be read.
    pub(super) fn fail(&mut self, at: u64, mut error: BlockError) {
        // The store counts by its own offsets.
        if let BlockError::Host { offset, .. } = &mut error {
            *offset = self.request.offset + at;
        }
        if self.failed.as_ref().is_none_or(|(first, _)| at < *first) {
            self.failed = Some((at, error));
        }
    }

    /// Whether nothing of it is with the stores, and nothing will be.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0 && self.next().is_none()
    }

    pub(super) fn into_completion(self) -> Completion {
        let len = self.request.operation.len();
        let (transferred, result) = match self.failed {
            None => (len, Ok(())),
            Some((at, error)) => (at, Err(error)),
        };
        Completion { request: self.request, transferred, result }
    }
}

/// Things with a number each, which is free again when they are taken out.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub(super) fn insert(&mut self, thing: T) -> usize {
        let at = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(at) {
            Some(slot) => *slot = Some(thing),
            None => self.slots.push(Some(thing)),
        }
        at
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.slots.get_mut(at)?.as_mut()
    }

    pub(super) fn remove(&mut self, at: usize) -> Option<T> {
        let thing = self.slots.get_mut(at)?.take()?;
        self.free.push(at);
        Some(thing)
    }
}
