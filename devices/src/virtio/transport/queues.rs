//! Queues from the transport's side: set-up, start, service, stop.

use std::sync::atomic::Ordering;

use super::{Core, QueueSetup, Setup, Version};
use crate::irq::Wake;
use crate::observe::{Event, Place, Rule};
use crate::stuck::Stuck;
use crate::virtio::device::{PollResult, ServiceResult};
use crate::virtio::queue::{QueueError, QueueLayout, RingRules, SplitQueue};
use crate::virtio::spec::feature;
use crate::virtio::spec::status::DRIVER_OK;

/// Why the set-up of a queue cannot change now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::virtio) enum QueueRefused {
    /// The device has no such queue.
    Missing,
    /// The queue is ready.
    InUse,
}

/// The result of a doorbell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::virtio) enum Doorbell {
    /// The queue was serviced.
    Serviced,
    /// The device needs a reset. For the first doorbell since then: the rule that the driver broke, where that was the
    /// reason.
    NeedsReset(Option<Option<Rule>>),
    /// It arrived before DRIVER_OK.
    Early,
    /// The device has no such queue.
    Missing,
    /// The driver has not made the queue ready.
    NotReady,
}

impl<R> Setup<R> {
    /// Changes the set-up of a queue that is not ready.
    pub(in crate::virtio) fn change_queue(
        &mut self,
        index: u32,
        change: impl FnOnce(&mut QueueSetup),
    ) -> Result<(), QueueRefused> {
        match self.queue_mut(index) {
            None => Err(QueueRefused::Missing),
            Some(queue) if queue.ready => Err(QueueRefused::InUse),
            Some(queue) => {
                change(queue);
                Ok(())
            }
        }
    }
}

impl<R: Default> Core<R> {
    /// Whether this queue would become ready for the first time after DRIVER_OK.
    pub(in crate::virtio) fn comes_late(&self, setup: &Setup<R>, index: u32) -> bool {
        let fresh = |queue: &QueueSetup| !queue.ready && !queue.was_reset;
        self.has(DRIVER_OK) && setup.queue(index).is_some_and(fresh)
    }

    /// Creates the queue of this set-up.
    pub(in crate::virtio) fn make_queue(
        &self,
        setup: &Setup<R>,
        queue: &QueueSetup,
    ) -> Result<SplitQueue, QueueError> {
        let has = |feature| setup.features() & feature != 0;
        let rules = RingRules {
            event_idx: has(feature::RING_EVENT_IDX),
            notify_on_empty: has(feature::NOTIFY_ON_EMPTY),
            long_chains: !self.is_strict(),
        };
        SplitQueue::new(&self.ram, queue.layout, queue.max, rules)
    }

    /// A queue has become ready: passes it to the device, if that is live.
    pub(in crate::virtio) fn start_queue(&self, setup: &mut Setup<R>, index: u32) {
        if let Some(QueueSetup { layout, .. }) = setup.queue(index) {
            self.reporter.emit(|| {
                let QueueLayout { size, desc, avail, used } = *layout;
                let place = Place::Split { desc, avail, used };
                Event::QueueReady { queue: index, size, place }
            });
        }
        if !self.has(DRIVER_OK) {
            return;
        }
        if !setup.active {
            return self.activate(setup);
        }
        let queue = setup.queue(index).map(|q| self.make_queue(setup, q));
        if let (Some(Ok(queue)), Ok(index)) = (queue, u16::try_from(index)) {
            self.device.start_queue(index, queue, self.live(setup));
        }
    }

    /// Stops a queue of a live device. Waits for requests in flight, so the lock of the set-up must not be held.
    ///
    /// # Errors
    ///
    /// If the host does not finish the requests in flight.
    pub(in crate::virtio) fn stop_queue(&self, index: u32) -> Result<(), Stuck> {
        if let Ok(number) = u16::try_from(index)
            && self.has(DRIVER_OK)
        {
            self.device.stop_queue(number)?;
        }
        self.reporter.emit(|| Event::QueueStopped { queue: index });
        Ok(())
    }

    /// Services the queue of a doorbell. Takes no lock of the transport, so that queues are serviced in parallel.
    pub(in crate::virtio) fn ring(&self, value: u32) -> Doorbell {
        self.reporter.emit(|| Event::Notified { queue: value });
        if self.signals.is_reset_needed() {
            return Doorbell::NeedsReset(self.stopped.first_ignored());
        }
        if !self.has(DRIVER_OK) {
            return Doorbell::Early;
        }
        let index = u16::try_from(value).ok();
        let index = index.filter(|&n| usize::from(n) < self.device.queue_max().len());
        match index.map(|index| self.service(index)) {
            None => Doorbell::Missing,
            Some(ServiceResult::Drained | ServiceResult::MoreWork) => Doorbell::Serviced,
            Some(ServiceResult::NotRunning) => Doorbell::NotReady,
        }
    }

    /// Services the queues whose doorbell left work.
    pub(in crate::virtio) fn service_unfinished(&self) {
        let unfinished = self.unfinished.swap(0, Ordering::AcqRel);
        for index in (0..u16::MAX).take_while(|&n| u32::from(n) < u64::BITS) {
            if unfinished & (1 << index) != 0 {
                self.service(index);
            }
        }
    }

    /// Services all queues of a live device: doorbells may have arrived while it was held.
    pub(in crate::virtio) fn service_all(&self) {
        if self.has(DRIVER_OK) {
            for (index, _) in (0u16..).zip(self.device.queue_max()) {
                self.service(index);
            }
        }
    }

    /// Services a queue.
    pub(in crate::virtio) fn service(&self, index: u16) -> ServiceResult {
        if self.signals.is_reset_needed() {
            return ServiceResult::Drained;
        }
        let Some(leftover) = &self.options.leftover else {
            return self.service_here(index);
        };
        let result = self.device.service(index);
        if result == ServiceResult::MoreWork {
            self.leave(index, &**leftover);
        }
        result
    }

    /// Services a queue without a doorbell.
    pub(in crate::virtio) fn poll(&self, index: u16) -> PollResult {
        if self.signals.is_reset_needed() {
            return PollResult::NotRunning;
        }
        self.device.poll(index)
    }

    /// Leaves a queue to another thread, where there is one; else services it.
    pub(in crate::virtio) fn service_later(&self, index: u16) {
        match &self.options.leftover {
            Some(leftover) => self.leave(index, &**leftover),
            None => {
                self.service(index);
            }
        }
    }

    fn leave(&self, index: u16, leftover: &dyn Wake) {
        self.unfinished.fetch_or(1 << (index % 64), Ordering::AcqRel);
        leftover.wake();
    }

    /// Services a queue if no other thread continues with the rest: everything that one doorbell can have made
    /// available.
    fn service_here(&self, index: u16) -> ServiceResult {
        let most = self.device.queue_max().get(usize::from(index)).copied().unwrap_or(0);
        for _ in 0..most {
            let result = self.device.service(index);
            if result != ServiceResult::MoreWork {
                return result;
            }
        }
        ServiceResult::MoreWork
    }

    /// Interrupts a live driver: the configuration space has changed.
    pub(in crate::virtio) fn config_changed(&self) {
        if self.has(DRIVER_OK) {
            self.signals.config_changed();
        }
    }

    /// Whether the driver uses the legacy interface.
    pub(in crate::virtio) fn is_legacy(&self) -> bool {
        self.options.version == Version::Legacy
    }
}
