//! The device status field (virtio 1.2, 2.1), and what hangs on it: reset, features, going live.

use std::sync::atomic::Ordering;

use super::setup::Session;
use super::{Mmio, Version};
use crate::virtio::device::Activation;
use crate::virtio::rules;
use crate::virtio::spec::status::{
    ACKNOWLEDGE, DEVICE_NEEDS_RESET, DRIVER, DRIVER_BITS, DRIVER_OK, FEATURES_OK, NAMES,
};
use crate::virtio::spec::{bit_names, feature};

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
                format_args!("Status {value:#x} has bits that do not exist: {unknown:#x}; ignored"),
            );
        }
        if old & !value != 0 {
            self.breach(
                rules::STATUS_CLEARED,
                format_args!(
                    "Status {value:#x} would clear {}, which only a reset (0) may; they stay set",
                    bit_names(old & !value, &NAMES)
                ),
            );
        }
        let new = value & DRIVER_BITS & !old;
        self.notifier.add_status(new & !(FEATURES_OK | DRIVER_OK));
        if new & FEATURES_OK != 0 && self.settle_features(session) {
            self.device.features_settled(self.accepted(session));
            self.notifier.add_status(FEATURES_OK);
        }
        if new & DRIVER_OK != 0 {
            self.go_live(session);
        }
    }

    /// Whether the driver's features can be used (2.2.1, 3.1.1 step 6).
    fn settle_features(&self, session: &Session) -> bool {
        let in_order = self.follows("FEATURES_OK", ACKNOWLEDGE | DRIVER);
        let features = session.driver_features;
        let extra = features & !self.offered();
        if extra != 0 {
            self.complaints.say(
                rules::FEATURES_SUBSET,
                format_args!(
                    "features were accepted that were not offered: {}; FEATURES_OK stays 0",
                    bit_names(extra, &feature::NAMES)
                ),
            );
            return false;
        }
        if self.options.version == Version::Modern && features & feature::VERSION_1 == 0 {
            let fate =
                if self.is_strict() { "FEATURES_OK stays 0" } else { "borne, as if it had been" };
            self.complaints
                .say(rules::VERSION_1, format_args!("VERSION_1 (bit 32) was not accepted; {fate}"));
            return !self.is_strict();
        }
        in_order || !self.is_strict()
    }

    fn go_live(&self, session: &Session) {
        let needed = match self.options.version {
            Version::Modern => ACKNOWLEDGE | DRIVER | FEATURES_OK,
            Version::Legacy => ACKNOWLEDGE | DRIVER,
        };
        if !self.follows("DRIVER_OK", needed) && self.is_strict() {
            return;
        }
        if self.options.version == Version::Modern && !self.has(FEATURES_OK) {
            self.device.features_settled(self.accepted(session));
        }
        let queues: Vec<_> = session
            .queues
            .iter()
            .map(|q| if q.ready { self.make_queue(session, q).ok() } else { None })
            .collect();
        let any = queues.iter().any(Option::is_some);
        self.device.activate(Activation {
            features: self.accepted(session),
            queues,
            notifier: self.notifier.clone(),
        });
        // Only now: a doorbell of another vCPU takes no lock, and looks at this bit first.
        self.notifier.add_status(DRIVER_OK);
        self.used.store(true, Ordering::Release);
        if !any {
            self.breach(
                rules::NO_QUEUE,
                format_args!("DRIVER_OK was set with no queue ready: no request can be made"),
            );
        }
        if let Some(taken_over) = &self.options.taken_over {
            taken_over.wake();
        }
    }

    /// Whether the bits that must be set before `step` are.
    fn follows(&self, step: &str, bits: u32) -> bool {
        let missing = bits & !self.notifier.status();
        if missing != 0 {
            let fate = if self.is_strict() { "refused" } else { "borne" };
            self.breach(
                rules::STATUS_ORDER,
                format_args!("{step} was set without {}; {fate}", bit_names(missing, &NAMES)),
            );
        }
        missing == 0
    }
}
