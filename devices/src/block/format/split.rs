//! Reads from both stores, and the purpose of each request to a store.

use crate::block::{BlockError, Completion, Operation, Request};
use crate::memory::Buffers;

/// The most parts of one read that are in flight at a time, so that a read of scattered sectors needs no memory for
/// each of them.
const WINDOW: usize = 64;

/// The purpose of a request to a store.
#[derive(Debug)]
pub(super) enum Part {
    /// A whole request of the disk, forwarded with another tag.
    Whole {
        /// Its own tag.
        tag: u64,
        /// Its own offset.
        offset: u64,
        /// Whether it asked to be durable.
        durable: bool,
    },
    /// A discard, submitted as zeros.
    Discard(Request),
    /// A part of a read: the index of the read among the splits, and the number of bytes before the part.
    Of {
        /// The index.
        split: usize,
        /// The bytes before the part.
        at: u64,
    },
}

/// A read that is carried out in parts.
#[derive(Debug)]
pub(super) struct Split {
    request: Request,
    /// The bytes submitted so far.
    handed: u64,
    /// The number of parts in flight.
    left: usize,
    /// The first byte, relative to the request, that could not be read, and the reason.
    failed: Option<(u64, BlockError)>,
}

impl Split {
    pub(super) const fn new(request: Request) -> Self {
        Self { request, handed: 0, left: 0, failed: None }
    }

    /// The bytes before the next part, its first byte on the disk, and the bytes left from there; none if no part can
    /// be submitted now.
    pub(super) fn next(&self) -> Option<(u64, u64, u64)> {
        let rest = self.request.operation.len() - self.handed;
        let open = rest > 0 && self.left < WINDOW && self.failed.is_none();
        open.then(|| (self.handed, self.request.offset + self.handed, rest))
    }

    /// Takes the buffers of the next `len` bytes, which then count as submitted.
    pub(super) fn take(&mut self, len: u64) -> Option<Buffers> {
        let Operation::Read(data) = &self.request.operation else { return None };
        let part = data.part(self.handed, len);
        self.handed += len;
        self.left += 1;
        Some(part)
    }

    /// Completes the part after the first `at` bytes.
    pub(super) fn arrive(&mut self, at: u64, part: Completion) {
        self.left = self.left.saturating_sub(1);
        if let Err(error) = part.result {
            self.fail(at + part.transferred, error);
        }
    }

    /// Records that the byte at `at` cannot be read.
    pub(super) fn fail(&mut self, at: u64, mut error: BlockError) {
        // The store's error has the store's own offset.
        if let BlockError::Host { offset, .. } = &mut error {
            *offset = self.request.offset + at;
        }
        if self.failed.as_ref().is_none_or(|(first, _)| at < *first) {
            self.failed = Some((at, error));
        }
    }

    /// Whether nothing of it is in flight, and nothing more will be submitted.
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
