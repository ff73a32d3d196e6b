//! A queue in use, and the answer to a request of it.

use crate::observe::{Outcome, Reporter};
use crate::virtio::chain::Chain;
use crate::virtio::device::Live;
use crate::virtio::queue::SplitQueue;
use crate::virtio::rules;
use crate::virtio::spec::blk;

/// A queue from DRIVER_OK to its reset.
#[derive(Debug)]
pub(super) struct LiveQueue {
    pub(super) live: Live,
    pub(super) queue: SplitQueue,
    /// Whether a chain longer than the queue was reported.
    pub(super) long_reported: bool,
}

impl LiveQueue {
    /// Reports once that `chain` is longer than the queue.
    #[cold]
    pub(super) fn report_long(&mut self, chain: &Chain, queue: u16, reporter: &Reporter) {
        let Chain { head, descriptors, .. } = chain;
        let size = self.queue.size();
        if !std::mem::replace(&mut self.long_reported, true) {
            reporter.broken(
                rules::CHAIN_LENGTH,
                format_args!(
                    "the chain at descriptor {head} of queue {queue} has {descriptors} descriptors, more than the queue \
                     has entries ({size}); served"
                ),
            );
        }
    }

    pub(super) const fn has(&self, feature: u64) -> bool {
        self.live.features & feature != 0
    }
}

/// The answer to a request.
#[derive(Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) status: u8,
    /// The bytes written into the chain's buffers, without the status byte.
    pub(super) written: u64,
    pub(super) outcome: Outcome<'a>,
}

impl Answer<'_> {
    pub(super) const fn ok(written: u64) -> Self {
        Self { status: blk::S_OK, written, outcome: Outcome::Done }
    }
}
