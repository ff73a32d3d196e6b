//! The queue registers: set-up, start, stop, doorbell.

use super::Mmio;
use super::registers::Register;
use super::state::{Session, selected};
use crate::observe::{Event, Words};
use crate::virtio::queue::QueueError;
use crate::virtio::rules;
use crate::virtio::spec::feature;
use crate::virtio::spec::ring::LEGACY_ALIGN;
use crate::virtio::spec::status::{DRIVER_OK, FEATURES_OK};
use crate::virtio::transport::{Doorbell, QueueRefused, QueueSetup};

impl Mmio {
    /// Changes the registers of the selected queue, if that is allowed now. Returns whether it is.
    pub(super) fn set_up_queue(
        &self,
        setup: &mut Session,
        register: &'static str,
        change: impl FnOnce(&mut QueueSetup),
    ) -> bool {
        let early = !self.core.is_legacy() && !self.core.has(FEATURES_OK);
        let sel = setup.registers.queue_sel;
        let (rule, what) = match setup.change_queue(sel, change) {
            Err(QueueRefused::Missing) => (rules::QUEUE_SEL, "which the device does not have"),
            Err(QueueRefused::InUse) => (rules::QUEUE_LIVE, "which is in use"),
            Ok(()) => {
                if early {
                    self.core.breach(
                        rules::QUEUE_EARLY,
                        format_args!("{register} was written for queue {sel} before FEATURES_OK"),
                        "accepted",
                    );
                }
                return true;
            }
        };
        self.core.breach(
            rule,
            format_args!("{register} was written for queue {sel}, {what}"),
            "ignored",
        );
        false
    }

    /// Whether the selected queue is in use behind the legacy registers.
    pub(super) fn is_legacy_in_use(&self, setup: &Session) -> bool {
        self.core.is_legacy() && selected(setup).is_some_and(|q| q.ready)
    }

    /// Handles a write of 1 to QueueReady. [`Mmio::retire_queue`] handles 0.
    pub(super) fn write_queue_ready(&self, setup: &mut Session) {
        // A second write has no effect.
        if selected(setup).is_some_and(|q| q.ready) && !self.core.has(DRIVER_OK) {
            return;
        }
        let sel = setup.registers.queue_sel;
        if self.core.comes_late(setup, sel) {
            return self.core.breach(
                rules::QUEUE_LIVE,
                format_args!("QueueReady was written for queue {sel} after DRIVER_OK"),
                "ignored",
            );
        }
        if let Some(Err(error)) = selected(setup).map(|q| self.core.make_queue(setup, q)) {
            return self.refuse_queue(setup, "QueueReady", &error);
        }
        if self.set_up_queue(setup, "QueueReady", |q| q.ready = true) {
            self.core.start_queue(setup, sel);
        }
    }

    /// Legacy (4.2.4): handles the page of the queue. [`Mmio::retire_queue`] handles 0.
    pub(super) fn write_queue_pfn(&self, setup: &mut Session, value: u32) {
        let Some(queue) = selected(setup).copied() else {
            self.set_up_queue(setup, "QueuePFN", |_| ());
            return;
        };
        let (page_size, legacy) = (setup.registers.page_size(), setup.registers.legacy());
        let Some(layout) = legacy.layout(queue.layout.size, page_size, value) else {
            let align = legacy.align();
            return self.core.breach(
                rules::QUEUE_LAYOUT,
                format_args!(
                    "QueuePFN {value:#x} is refused and stays 0: with GuestPageSize {page_size} and QueueAlign \
                     {align} it is no address (both are powers of two, set before)"
                ),
                "",
            );
        };
        if let Err(error) = self.core.make_queue(setup, &QueueSetup { layout, ..queue }) {
            return self.refuse_queue(setup, "QueuePFN", &error);
        }
        if !queue.ready && self.bends_set_up(setup, value) && self.core.is_strict() {
            return;
        }
        let taken = self.set_up_queue(setup, "QueuePFN", |q| (q.ready, q.layout) = (true, layout));
        if taken {
            setup.registers.change_legacy(|legacy| legacy.pfn = value);
            self.core.start_queue(setup, setup.registers.queue_sel);
        }
    }

    /// Legacy: reports omissions and late steps of a driver's queue set-up, and the values that are used instead.
    /// Tutorials teach such drivers, and other devices accept them. Returns whether it reported anything.
    fn bends_set_up(&self, setup: &Session, pfn: u32) -> bool {
        let sel = setup.registers.queue_sel;
        let align = match setup.registers.legacy().align {
            None => Some("never was written"),
            Some(0) => Some("is 0"),
            Some(_) => None,
        };
        if let Some(align) = align {
            self.core.breach(
                rules::QUEUE_ALIGN,
                format_args!("QueuePFN was written for queue {sel}, but QueueAlign {align}"),
                &format!("{LEGACY_ALIGN} is used"),
            );
        }
        let no_page_size = setup.registers.guest_page_size.is_none();
        if no_page_size {
            self.core.breach(
                rules::GUEST_PAGE_SIZE,
                format_args!(
                    "QueuePFN was written for queue {sel}, but GuestPageSize never was written"
                ),
                &format!("{pfn:#x} is used as an address in bytes"),
            );
        }
        let late = self.core.comes_late(setup, sel);
        if late {
            self.core.breach(
                rules::NO_QUEUE,
                format_args!("QueuePFN was written for queue {sel} after DRIVER_OK"),
                "served",
            );
        }
        align.is_some() || no_page_size || late
    }

    /// Stops the selected queue: QueueReady 0 (4.2.2.2), QueuePFN 0 (4.2.4) or QueueReset 1 (2.6.1). Waits for requests
    /// in flight, without the lock of the set-up. The next read of the register shows that the queue has stopped.
    pub(super) fn retire_queue(&self, register: Register) {
        let index = {
            let setup = self.core.setup();
            if register == Register::QueueReset && setup.features() & feature::RING_RESET == 0 {
                return self.core.breach(
                    rules::QUEUE_RESET,
                    format_args!("QueueReset was written, but RING_RESET was not negotiated"),
                    "ignored",
                );
            }
            if selected(&setup).is_none() {
                return;
            }
            setup.registers.queue_sel
        };
        let stopped = self.core.stop_queue(index);
        let mut setup = self.core.setup();
        // Another vCPU may have selected another queue, or reset the device, in the meantime.
        match (stopped, setup.queue_mut(index)) {
            (Ok(()), Some(queue)) if register == Register::QueueReady => queue.ready = false,
            (Ok(()), Some(queue)) => {
                queue.reset();
                setup.registers.forget_legacy(index);
            }
            (Ok(()), None) => {}
            (Err(stuck), _) => {
                self.core.reporter().broken(
                    rules::HOST,
                    format_args!(
                        "queue {index} is not stopped by {}: {stuck}; QueueReady reads 1 until it is",
                        register.name()
                    ),
                );
            }
        }
        self.publish(&setup);
    }

    fn refuse_queue(&self, setup: &Session, register: &str, error: &QueueError) {
        let sel = setup.registers.queue_sel;
        self.core.reporter().emit(|| Event::QueueRefused { queue: sel, why: Words(error) });
        self.core.breach(
            rules::QUEUE_LAYOUT,
            format_args!("queue {sel} is refused ({register} stays 0): {error}"),
            "",
        );
    }

    /// QueueNotify: services the queue.
    pub(super) fn notify(&self, value: u32) {
        let why = match self.core.ring(value) {
            Doorbell::Serviced | Doorbell::NeedsReset(None) => return,
            Doorbell::NeedsReset(Some(rule)) => {
                let after = rule.map(|rule| format!(" since this rule was broken: {rule}"));
                return self.core.reporter().broken(
                    rules::NEEDS_RESET,
                    format_args!(
                        "QueueNotify was written with queue {value}, but the device needs a reset{}; ignored",
                        after.unwrap_or_default()
                    ),
                );
            }
            Doorbell::Early => "before DRIVER_OK",
            Doorbell::Missing => "but the device has no such queue",
            Doorbell::NotReady => "but that queue is not ready",
        };
        self.core.breach(
            rules::NOTIFY,
            format_args!("QueueNotify was written with queue {value}, {why}"),
            "ignored",
        );
    }
}
