//! Brings a queue to rest: before it stops, before a pause or a resize, and before a flush of the device itself.

use std::time::Instant;

use super::Worker;
use crate::block::BlockError;
use crate::stuck::Stuck;

impl Worker {
    /// Stops the queue. Completions of a stopped queue are dropped.
    ///
    /// # Errors
    ///
    /// If the host does not finish the requests in flight.
    pub(in super::super) fn stop(&mut self, until: Instant) -> Result<(), Stuck> {
        if let Some(mut live) = self.live.take() {
            live.queue.leave();
        }
        // Requests that wait for the limits, or for room, never reached the disk.
        while let Some(request) = self.lane.drop_held() {
            self.pending.complete_part(request.tag, 0, None);
        }
        let done = self.settle(until);
        for request in std::mem::take(&mut self.waiting) {
            self.pending.complete_part(request.tag, 0, None);
        }
        done
    }

    /// The same as [`Worker::settle`], but first starts the requests that wait for the limits of the disk.
    ///
    /// # Errors
    ///
    /// If the host does not finish by then.
    pub(in super::super) fn finish_all(&mut self, until: Instant) -> Result<(), Stuck> {
        self.lane.start_held();
        self.settle(until)
    }

    /// The same as [`Worker::settle`]. Requests that are kept become durable.
    ///
    /// # Errors
    ///
    /// If the host does not finish by then.
    pub(in super::super) fn harden(&mut self, until: Instant) -> Result<(), Stuck> {
        self.lane.harden_held();
        self.waiting.iter_mut().for_each(|request| request.operation.harden());
        self.settle(until)
    }

    /// Waits until the host has nothing in flight, and answers the finished requests. Requests that wait for room, or for
    /// the limits of the disk, are kept.
    ///
    /// # Errors
    ///
    /// If the host does not finish by then.
    fn settle(&mut self, until: Instant) -> Result<(), Stuck> {
        self.finish_batch();
        while self.lane.in_flight() > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.interrupt();
                let requests =
                    format!("{} requests of queue {}", self.lane.in_flight(), self.index);
                return Err(self.shared.stuck(requests));
            }
            self.lane.wait_started(left);
            self.answer_started();
        }
        self.interrupt();
        Ok(())
    }

    /// Flushes everything that the workers of the device have answered.
    ///
    /// # Errors
    ///
    /// If the host does not finish the requests in flight. The inner error is that of the flush.
    pub(in super::super) fn flush(
        &mut self,
        until: Instant,
    ) -> Result<Result<(), BlockError>, Stuck> {
        self.settle(until)?;
        let begun = self.lane.stats().now();
        let flushed = self.lane.flush();
        self.lane.stats().flushed(begun, &flushed);
        Ok(flushed)
    }
}
