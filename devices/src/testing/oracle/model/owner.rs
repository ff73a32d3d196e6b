//! What a device does when a queue stops, and when its owner resizes or resets it.

use super::{Model, Work};

impl Model {
    /// Waits for the requests of each queue in turn, and answers them.
    fn settle(&mut self) {
        for index in 0..self.queues.len() {
            self.settle_queue(index);
        }
    }

    fn settle_queue(&mut self, index: usize) {
        self.answer_done(index);
        while self.release_of(index) {
            self.tally.awaited += 1;
            self.answer_done(index);
        }
        self.interrupt(index);
    }

    /// Carries out the oldest part of a queue.
    fn release_of(&mut self, index: usize) -> bool {
        let of_queue = |(request, _): &(usize, Work)| self.requests[*request].queue == index;
        let oldest = self.waiting.iter().position(of_queue);
        oldest.is_some_and(|at| self.release(at))
    }

    /// Stops one queue.
    pub(in crate::testing::oracle) fn stop_queue(&mut self, index: usize) {
        if let Some(queue) = self.queues.get_mut(index) {
            *queue = None;
            self.settle_queue(index);
        }
    }

    /// The driver wrote the configuration field `writeback`.
    pub(in crate::testing::oracle) fn switch(&mut self, writeback: bool) {
        let was = std::mem::replace(&mut self.writeback, writeback);
        if was && !writeback && self.active {
            self.settle();
            self.stable.clone_from(&self.image);
        }
        self.serve_all();
    }

    /// The owner resizes the image to this many bytes. Returns whether the configuration changed.
    pub(in crate::testing::oracle) fn resize(&mut self, bytes: usize) -> bool {
        let changed = self.grow(bytes);
        self.serve_all();
        changed
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let live = !self.queues.is_empty();
        if live {
            self.settle();
        }
        if self.machine.read_only || bytes <= self.image.len() {
            return false;
        }
        self.image.resize(bytes, 0);
        self.stable.resize(bytes, 0);
        let (before, block) = (self.capacity, u64::from(self.machine.block_size));
        self.capacity = bytes as u64 / block * (block / 512);
        if live && self.capacity != before {
            self.pending |= 2;
            self.raised[0] += 1;
        }
        self.capacity != before
    }

    /// Resets the device. Parts in flight are carried out, and not answered.
    pub(in crate::testing::oracle) fn reset(&mut self) {
        for index in 0..self.queues.len() {
            while self.release_of(index) {
                self.tally.awaited += 1;
            }
        }
        self.done.clear();
        self.requests.clear();
        self.queues.clear();
        self.active = false;
        self.unfinished.clear();
        (self.needs_reset, self.pending) = (false, 0);
        self.writeback = self.machine.writeback;
    }
}
