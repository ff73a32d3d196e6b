//! Queues from the transport's side: set up, made ready, notified, stopped, reset.

use std::sync::atomic::Ordering;

use super::registers::Register;
use super::setup::{QueueSetup, Session};
use super::{Mmio, Version};
use crate::virtio::device::Served;
use crate::virtio::queue::{QueueError, RingRules, SplitQueue};
use crate::virtio::rules;
use crate::virtio::spec::feature;
use crate::virtio::spec::ring::LEGACY_ALIGN;
use crate::virtio::spec::status::{DRIVER_OK, FEATURES_OK};

impl Mmio {
    /// Changes the registers of the selected queue, where that is allowed now. False where it is not.
    pub(super) fn set_up_queue(
        &self,
        session: &mut Session,
        register: &'static str,
        change: impl FnOnce(&mut QueueSetup),
    ) -> bool {
        let early = self.options.version == Version::Modern && !self.has(FEATURES_OK);
        let sel = session.queue_sel;
        let (rule, what) = match session.queue_mut() {
            None => (rules::QUEUE_SEL, "which the device does not have"),
            Some(queue) if queue.ready => (rules::QUEUE_LIVE, "which is in use"),
            Some(queue) => {
                change(queue);
                if early {
                    self.breach(
                        rules::QUEUE_EARLY,
                        format_args!("{register} was written for queue {sel} before FEATURES_OK"),
                        "accepted",
                    );
                }
                return true;
            }
        };
        self.breach(
            rule,
            format_args!("{register} was written for queue {sel}, {what}"),
            "ignored",
        );
        false
    }

    /// Whether the selected queue is in use behind the legacy registers.
    pub(super) fn is_legacy_in_use(&self, session: &Session) -> bool {
        self.options.version == Version::Legacy && session.queue().is_some_and(|q| q.ready)
    }

    /// Whether the selected queue would be taken into use for the first time after DRIVER_OK.
    fn comes_late(&self, session: &Session) -> bool {
        let fresh = |queue: &QueueSetup| !queue.ready && !queue.was_reset;
        self.has(DRIVER_OK) && session.queue().is_some_and(fresh)
    }

    /// QueueReady 1. Stopping a queue, with 0, is [`Mmio::retire_queue`].
    pub(super) fn write_queue_ready(&self, session: &mut Session) {
        // To say it twice is not to say more.
        if session.queue().is_some_and(|q| q.ready) && !self.has(DRIVER_OK) {
            return;
        }
        if self.comes_late(session) {
            let sel = session.queue_sel;
            return self.breach(
                rules::QUEUE_LIVE,
                format_args!("QueueReady was written for queue {sel} after DRIVER_OK"),
                "ignored",
            );
        }
        if let Some(Err(error)) = session.queue().map(|q| self.make_queue(session, q)) {
            return self.refuse_queue(session, "QueueReady", &error);
        }
        if self.set_up_queue(session, "QueueReady", |q| q.ready = true) {
            self.start_queue(session);
        }
    }

    /// Legacy (4.2.4): the queue lies from this page on. Stopping it, with 0, is [`Mmio::retire_queue`].
    pub(super) fn write_queue_pfn(&self, session: &mut Session, value: u32) {
        let Some(queue) = session.queue().copied() else {
            self.set_up_queue(session, "QueuePFN", |_| ());
            return;
        };
        let page_size = session.page_size();
        let Some(layout) = queue.legacy_layout(page_size, value) else {
            let align = queue.legacy_align();
            return self.breach(
                rules::QUEUE_LAYOUT,
                format_args!(
                    "QueuePFN {value:#x} is refused and stays 0: with GuestPageSize {page_size} and QueueAlign \
                     {align} it is no address (both are powers of two, set before)"
                ),
                "",
            );
        };
        if let Err(error) = self.make_queue(session, &QueueSetup { layout, ..queue }) {
            return self.refuse_queue(session, "QueuePFN", &error);
        }
        if !queue.ready && self.bends_set_up(session, &queue, value) && self.is_strict() {
            return;
        }
        let set_up = self.set_up_queue(session, "QueuePFN", |q| {
            (q.ready, q.pfn, q.layout) = (true, value, layout);
        });
        if set_up {
            self.start_queue(session);
        }
    }

    /// Legacy: says what a driver that sets a queue up has left out, or does too late, and what is taken instead.
    /// Tutorials teach such drivers, and other devices serve them. Whether there was anything to say.
    fn bends_set_up(&self, session: &Session, queue: &QueueSetup, pfn: u32) -> bool {
        let sel = session.queue_sel;
        let align = match queue.align {
            None => Some("never was written"),
            Some(0) => Some("is 0"),
            Some(_) => None,
        };
        if let Some(align) = align {
            self.breach(
                rules::QUEUE_ALIGN,
                format_args!("QueuePFN was written for queue {sel}, but QueueAlign {align}"),
                &format!("{LEGACY_ALIGN} is taken"),
            );
        }
        let no_page_size = session.guest_page_size.is_none();
        if no_page_size {
            self.breach(
                rules::GUEST_PAGE_SIZE,
                format_args!(
                    "QueuePFN was written for queue {sel}, but GuestPageSize never was written"
                ),
                &format!("{pfn:#x} is taken as an address in bytes"),
            );
        }
        let late = self.comes_late(session);
        if late {
            self.breach(
                rules::NO_QUEUE,
                format_args!("QueuePFN was written for queue {sel} after DRIVER_OK"),
                "served",
            );
        }
        align.is_some() || no_page_size || late
    }

    /// Takes the selected queue out of use: QueueReady 0 (4.2.2.2), QueuePFN 0 (4.2.4) or QueueReset 1 (2.6.1). Waits
    /// for what is in flight on it, without the lock of the set-up registers. What the driver reads next tells it that
    /// this is done.
    pub(super) fn retire_queue(&self, register: Register) {
        let index = {
            let session = self.session();
            if register == Register::QueueReset && session.features() & feature::RING_RESET == 0 {
                return self.breach(
                    rules::QUEUE_RESET,
                    format_args!("QueueReset was written, but RING_RESET was not negotiated"),
                    "ignored",
                );
            }
            if session.queue().is_none() {
                return;
            }
            session.queue_sel
        };
        let stopped = match u16::try_from(index) {
            Ok(index) if self.has(DRIVER_OK) => self.device.stop_queue(index),
            _ => Ok(()),
        };
        let mut session = self.session();
        // Another vCPU may have selected another queue, or reset the device, meanwhile.
        let queue = usize::try_from(index).ok().and_then(|n| session.queues.get_mut(n));
        match (stopped, queue) {
            (Ok(()), Some(queue)) if register == Register::QueueReady => queue.ready = false,
            (Ok(()), Some(queue)) => queue.reset(),
            (Ok(()), None) => {}
            (Err(stuck), _) => {
                self.complaints.say(
                    rules::HOST,
                    format_args!(
                        "queue {index} is not stopped by {}: {stuck}; QueueReady reads 1 until it is",
                        register.name()
                    ),
                );
            }
        }
        self.publish(&session);
    }

    fn refuse_queue(&self, session: &Session, register: &str, error: &QueueError) {
        let sel = session.queue_sel;
        self.breach(
            rules::QUEUE_LAYOUT,
            format_args!("queue {sel} is refused ({register} stays 0): {error}"),
            "",
        );
    }

    /// The queue as the registers describe it, if it can be one.
    pub(super) fn make_queue(
        &self,
        session: &Session,
        setup: &QueueSetup,
    ) -> Result<SplitQueue, QueueError> {
        let has = |feature| session.features() & feature != 0;
        let rules = RingRules {
            event_idx: has(feature::RING_EVENT_IDX),
            notify_on_empty: has(feature::NOTIFY_ON_EMPTY),
            long_chains: !self.is_strict(),
        };
        SplitQueue::new(&self.ram, setup.layout, setup.max, rules)
    }

    /// Gives the selected queue to a device that is live already.
    fn start_queue(&self, session: &mut Session) {
        let Ok(index) = u16::try_from(session.queue_sel) else { return };
        if !self.has(DRIVER_OK) {
            return;
        }
        if !session.active {
            return self.activate(session);
        }
        if let Some(Ok(queue)) = session.queue().map(|q| self.make_queue(session, q)) {
            self.device.start_queue(index, queue);
        }
    }

    /// QueueNotify: serves the queue. Takes no lock of the transport's, so that queues are served side by side.
    pub(super) fn notify(&self, value: u32) {
        if self.notifier.is_reset_needed() {
            return self.say_stopped(value);
        }
        let index = u16::try_from(value).ok();
        let index = index.filter(|&n| usize::from(n) < self.device.queue_max().len());
        let why = match index {
            _ if !self.has(DRIVER_OK) => "before DRIVER_OK",
            None => "but the device has no such queue",
            Some(index) => match self.serve(index) {
                Served::All | Served::Some => return,
                Served::NotLive => "but that queue is not ready",
            },
        };
        self.breach(
            rules::NOTIFY,
            format_args!("QueueNotify was written with queue {value}, {why}"),
            "ignored",
        );
    }

    /// Serves the queues whose doorbell left work undone.
    pub fn service_unfinished(&self) {
        let unfinished = self.unfinished.swap(0, Ordering::AcqRel);
        for index in (0..u16::MAX).take_while(|&n| u32::from(n) < u64::BITS) {
            if unfinished & (1 << index) != 0 {
                self.serve(index);
            }
        }
    }

    /// Serves a queue whose requests the host has finished: for the reader of [`Mmio::wakes`].
    pub fn service_finished(&self, index: u16) {
        self.serve(index);
    }

    pub(super) fn serve(&self, index: u16) -> Served {
        if self.notifier.is_reset_needed() {
            return Served::All;
        }
        let Some(leftover) = &self.options.leftover else {
            return self.serve_here(index);
        };
        let served = self.device.service(index);
        if served == Served::Some {
            self.unfinished.fetch_or(1 << (index % 64), Ordering::AcqRel);
            leftover.wake();
        }
        served
    }

    /// Serves a queue where no other thread goes on with what is left: all that one doorbell can have made available.
    fn serve_here(&self, index: u16) -> Served {
        let most = self.device.queue_max().get(usize::from(index)).copied().unwrap_or(0);
        for _ in 0..most {
            let served = self.device.service(index);
            if served != Served::Some {
                return served;
            }
        }
        Served::Some
    }
}
