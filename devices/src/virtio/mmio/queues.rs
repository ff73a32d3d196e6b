//! Queues from the transport's side: set up, made ready, notified, stopped, reset.

use super::setup::QueueSetup;
use super::{Mmio, Version};
use crate::virtio::device::Served;
use crate::virtio::queue::{QueueError, SplitQueue};
use crate::virtio::rules;
use crate::virtio::spec::feature;
use crate::virtio::spec::status::{DRIVER_OK, FEATURES_OK};

impl Mmio {
    /// Changes the registers of the selected queue, where that is allowed now. False where it is not.
    pub(super) fn set_up_queue(
        &mut self,
        register: &'static str,
        change: impl FnOnce(&mut QueueSetup),
    ) -> bool {
        let live = self.has(DRIVER_OK);
        let early = self.options.version == Version::Modern && !self.has(FEATURES_OK);
        let sel = self.session.queue_sel;
        let (rule, what) = match self.session.queue_mut() {
            None => (rules::QUEUE_SEL, "which the device does not have; ignored"),
            Some(queue) if queue.ready => (rules::QUEUE_LIVE, "which is in use; ignored"),
            Some(queue) if live && !queue.was_reset => {
                (rules::QUEUE_LIVE, "after DRIVER_OK; ignored")
            }
            Some(queue) => {
                change(queue);
                if early {
                    self.breach(
                        rules::QUEUE_EARLY,
                        format_args!(
                            "{register} was written for queue {sel} before FEATURES_OK; accepted"
                        ),
                    );
                }
                return true;
            }
        };
        self.breach(rule, format_args!("{register} was written for queue {sel}, {what}"));
        false
    }

    pub(super) fn write_queue_ready(&mut self, value: u32) {
        if value == 0 {
            // The driver stops the queue (4.2.2.2); what it reads next tells it that this is done.
            self.stop_queue();
            if let Some(queue) = self.session.queue_mut() {
                queue.ready = false;
            }
            return;
        }
        // To say it twice is not to say more.
        if self.session.queue().is_some_and(|q| q.ready) && !self.has(DRIVER_OK) {
            return;
        }
        if let Some(Err(error)) = self.session.queue().map(|q| self.make_queue(q)) {
            return self.refuse_queue("QueueReady", &error);
        }
        if self.set_up_queue("QueueReady", |q| q.ready = true) {
            self.start_queue();
        }
    }

    /// Legacy (4.2.4): the queue lies from this page on, or is stopped with 0.
    pub(super) fn write_queue_pfn(&mut self, value: u32) {
        if value == 0 {
            self.stop_queue();
            if let Some(queue) = self.session.queue_mut() {
                queue.reset();
            }
            return;
        }
        let page_size = self.session.guest_page_size;
        let Some(queue) = self.session.queue().copied() else {
            self.set_up_queue("QueuePFN", |_| ());
            return;
        };
        let Some(layout) = queue.legacy_layout(page_size, value) else {
            let align = queue.align;
            return self.breach(
                rules::QUEUE_LAYOUT,
                format_args!(
                    "QueuePFN {value:#x} is refused and stays 0: with GuestPageSize {page_size} and QueueAlign \
                     {align} it is no address (both are powers of two, set before)"
                ),
            );
        };
        if let Err(error) = self.make_queue(&QueueSetup { layout, ..queue }) {
            return self.refuse_queue("QueuePFN", &error);
        }
        let set_up = self.set_up_queue("QueuePFN", |q| {
            (q.ready, q.pfn, q.layout) = (true, value, layout);
        });
        if set_up {
            self.start_queue();
        }
    }

    /// Resets the selected queue by itself (2.6.1).
    pub(super) fn write_queue_reset(&mut self, value: u32) {
        if self.accepted() & feature::RING_RESET == 0 {
            return self.breach(
                rules::QUEUE_RESET,
                format_args!("QueueReset was written, but RING_RESET was not negotiated; ignored"),
            );
        }
        if value == 1 {
            self.stop_queue();
            if let Some(queue) = self.session.queue_mut() {
                queue.reset();
            }
        }
    }

    fn refuse_queue(&self, register: &str, error: &QueueError) {
        let sel = self.session.queue_sel;
        self.breach(
            rules::QUEUE_LAYOUT,
            format_args!("queue {sel} is refused ({register} stays 0): {error}"),
        );
    }

    /// The queue as the registers describe it, if it can be one.
    pub(super) fn make_queue(&self, setup: &QueueSetup) -> Result<SplitQueue, QueueError> {
        let event_idx = self.accepted() & feature::RING_EVENT_IDX != 0;
        SplitQueue::new(self.ram.clone(), setup.layout, setup.max, event_idx)
    }

    /// Gives the selected queue to a device that is live already.
    fn start_queue(&mut self) {
        let Ok(index) = u16::try_from(self.session.queue_sel) else { return };
        if !self.has(DRIVER_OK) {
            return;
        }
        if let Some(Ok(queue)) = self.session.queue().map(|q| self.make_queue(q)) {
            self.device.start_queue(index, queue);
        }
    }

    /// Takes the selected queue away from a live device.
    fn stop_queue(&mut self) {
        if let Ok(index) = u16::try_from(self.session.queue_sel)
            && self.has(DRIVER_OK)
        {
            self.device.stop_queue(index);
        }
    }

    pub(super) fn notify(&mut self, value: u32) {
        let setup = usize::try_from(value).ok().and_then(|n| self.session.queues.get(n));
        let why = match (setup, u16::try_from(value)) {
            _ if !self.has(DRIVER_OK) => "before DRIVER_OK",
            (Some(setup), Ok(index)) if setup.ready => return self.serve(index),
            (Some(_), _) => "but that queue is not ready",
            (None, _) => "but the device has no such queue",
        };
        self.breach(
            rules::NOTIFY,
            format_args!("QueueNotify was written with queue {value}, {why}; ignored"),
        );
    }

    /// Serves the queues whose doorbell left work undone.
    pub fn service_unfinished(&mut self) {
        for index in std::mem::take(&mut self.session.unfinished) {
            self.serve(index);
        }
    }

    fn serve(&mut self, index: u16) {
        if self.notifier.is_reset_needed() {
            return;
        }
        if self.device.service(index) == Served::Some
            && let Some(helper) = &self.options.helper
        {
            if !self.session.unfinished.contains(&index) {
                self.session.unfinished.push(index);
            }
            helper.raise();
        }
    }
}
