//! The device status field (virtio 1.2, 2.1), and what hangs on it: reset, features, going live.

use std::sync::atomic::Ordering;

use super::setup::{QueueSetup, Session};
use super::{Mmio, Version};
use crate::virtio::device::Activation;
use crate::virtio::rules;
use crate::virtio::spec::bit_names;
use crate::virtio::spec::status::{
    ACKNOWLEDGE, DEVICE_NEEDS_RESET, DRIVER, DRIVER_BITS, DRIVER_OK, FEATURES_OK, NAMES,
};

impl Mmio {
    /// Resets the device. Waits for what is in flight, without the lock of the set-up registers: other vCPUs' accesses
    /// go on. When Status reads 0, the device touches no queue any more (2.4.1).
    pub(super) fn reset(&self) {
        {
            let mut session = self.session();
            if session.resetting {
                // Another vCPU's reset goes on; Status reads non-zero until that is done.
                return;
            }
            session.resetting = true;
        }
        let done = self.device.reset();
        let mut session = self.session();
        match done {
            Ok(()) => {
                self.notifier.reset();
                self.unfinished.store(0, Ordering::Release);
                self.stopped.clear();
                *session = Session::new(&*self.device);
            }
            Err(stuck) => {
                session.resetting = false;
                self.notifier.needs_reset(false);
                self.complaints.say(
                    rules::HOST,
                    format_args!(
                        "the reset is not finished: {stuck}; Status reads non-zero until a later reset succeeds"
                    ),
                );
            }
        }
        self.publish(&session);
    }

    /// Takes a write of Status that is no reset.
    pub(super) fn write_status(&self, session: &mut Session, value: u32) {
        let old = self.notifier.status() & DRIVER_BITS;
        let unknown = value & !(DRIVER_BITS | DEVICE_NEEDS_RESET);
        if unknown != 0 {
            self.breach(
                rules::STATUS_BITS,
                format_args!("Status {value:#x} has bits that do not exist: {unknown:#x}"),
                "ignored",
            );
        }
        if old & !value != 0 {
            self.breach(
                rules::STATUS_CLEARED,
                format_args!(
                    "Status {value:#x} would clear {}, which only a reset (0) may",
                    bit_names(old & !value, &NAMES)
                ),
                "they stay set",
            );
        }
        let new = value & DRIVER_BITS & !old;
        self.notifier.add_status(new & !(FEATURES_OK | DRIVER_OK));
        if new & FEATURES_OK != 0 && self.settle_features(session) {
            self.decide_features(session);
            self.notifier.add_status(FEATURES_OK);
        }
        if new & DRIVER_OK != 0 {
            self.go_live(session);
        }
    }

    fn go_live(&self, session: &mut Session) {
        let needed = match self.options.version {
            Version::Modern => ACKNOWLEDGE | DRIVER | FEATURES_OK,
            Version::Legacy => ACKNOWLEDGE | DRIVER,
        };
        if !self.follows("DRIVER_OK", needed) && self.is_strict() {
            return;
        }
        let any = session.queues.iter().any(|queue| queue.ready);
        // Some legacy drivers set their queues up after DRIVER_OK, and some their features.
        let later = self.options.version == Version::Legacy && !any && !self.is_strict();
        if !later {
            self.activate(session);
        }
        // Only now: a doorbell of another vCPU takes no lock, and looks at this bit first.
        self.notifier.add_status(DRIVER_OK);
        self.used.store(true, Ordering::Release);
        if !any && !later {
            self.breach(
                rules::NO_QUEUE,
                format_args!("DRIVER_OK was set with no queue ready: no request can be made"),
                "",
            );
        }
        if let Some(taken_over) = &self.options.taken_over {
            taken_over.wake();
        }
    }

    /// Hands the device what was set up.
    pub(super) fn activate(&self, session: &mut Session) {
        self.decide_features(session);
        session.active = true;
        let make = |queue: &QueueSetup| self.make_queue(session, queue).ok();
        let queues = session.queues.iter().map(|q| if q.ready { make(q) } else { None }).collect();
        let features = session.features();
        let notifier = self.notifier.clone();
        self.device.activate(Activation { features, queues, notifier });
    }

    /// Whether the bits that must be set before `step` are.
    pub(super) fn follows(&self, step: &str, bits: u32) -> bool {
        let missing = bits & !self.notifier.status();
        if missing != 0 {
            self.breach(
                rules::STATUS_ORDER,
                format_args!("{step} was set without {}", bit_names(missing, &NAMES)),
                "accepted",
            );
        }
        missing == 0
    }
}
