//! The device status field (2.1), and what depends on it: reset, features, going live.

use std::sync::atomic::Ordering;

use super::{Core, QueueSetup, Setup, Version};
use crate::virtio::device::{Activation, Live};
use crate::virtio::rules;
use crate::virtio::spec::bit_names;
use crate::virtio::spec::status::{
    ACKNOWLEDGE, DEVICE_NEEDS_RESET, DRIVER, DRIVER_BITS, DRIVER_OK, FEATURES_OK, NAMES,
};

impl<R: Default> Core<R> {
    /// Whether a driver ever set DRIVER_OK.
    pub(in crate::virtio) fn was_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    /// Resets the device. Waits for what is in flight, without the lock of the set-up: other vCPUs' accesses go on.
    /// `publish` makes the new set-up visible to the driver. When the status reads 0, the device touches no queue any
    /// more (2.4.1).
    pub(in crate::virtio) fn reset(&self, publish: impl FnOnce(&Setup<R>)) {
        {
            let mut setup = self.setup();
            if setup.resetting {
                // Another vCPU's reset goes on. The status reads non-zero until that is done.
                return;
            }
            setup.resetting = true;
        }
        let done = self.device.reset();
        let mut setup = self.setup();
        match done {
            Ok(()) => {
                self.unfinished.store(0, Ordering::Release);
                self.stopped.clear();
                *setup = Setup::new(&*self.device);
                publish(&setup);
                self.signals.reset();
            }
            Err(stuck) => {
                setup.resetting = false;
                self.signals.add_status(DEVICE_NEEDS_RESET);
                self.reporter.broken(
                    rules::HOST,
                    format_args!(
                        "the reset is not finished: {stuck}; Status reads non-zero until a later reset succeeds"
                    ),
                );
            }
        }
    }

    /// Takes a write of the status that is no reset.
    pub(in crate::virtio) fn write_status(&self, setup: &mut Setup<R>, value: u32) {
        let old = self.status() & DRIVER_BITS;
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
        self.signals.add_status(new & !(FEATURES_OK | DRIVER_OK));
        if new & FEATURES_OK != 0 && self.can_settle(setup) {
            self.decide_features(setup);
            self.signals.add_status(FEATURES_OK);
        }
        if new & DRIVER_OK != 0 {
            self.go_live(setup);
        }
    }

    fn go_live(&self, setup: &mut Setup<R>) {
        let needed = match self.options.version {
            Version::Modern => ACKNOWLEDGE | DRIVER | FEATURES_OK,
            Version::Legacy => ACKNOWLEDGE | DRIVER,
        };
        if !self.follows("DRIVER_OK", needed) && self.is_strict() {
            return;
        }
        let any = setup.queues.iter().any(|queue| queue.ready);
        // Some legacy drivers set their queues up after DRIVER_OK, and some their features.
        let later = self.options.version == Version::Legacy && !any && !self.is_strict();
        if !later {
            self.activate(setup);
        }
        // Only now: a doorbell of another vCPU takes no lock, and looks at this bit first.
        self.signals.add_status(DRIVER_OK);
        self.used.store(true, Ordering::Release);
        if !any && !later {
            self.breach(
                rules::NO_QUEUE,
                format_args!("DRIVER_OK was set with no queue ready: no request can be made"),
                "",
            );
        }
        if let Some(driver_ok) = &self.options.driver_ok {
            driver_ok.wake();
        }
    }

    /// Hands the device its queues.
    pub(super) fn activate(&self, setup: &mut Setup<R>) {
        self.decide_features(setup);
        setup.active = true;
        let make = |queue: &QueueSetup| self.make_queue(setup, queue).ok();
        let queues = setup.queues.iter().map(|q| if q.ready { make(q) } else { None }).collect();
        self.device.activate(Activation { live: self.live(setup), queues });
    }

    /// What each live queue gets.
    pub(super) fn live(&self, setup: &Setup<R>) -> Live {
        Live { features: setup.features(), notifier: self.signals.clone() }
    }

    /// Whether the bits that must be set before `step` are set.
    pub(super) fn follows(&self, step: &str, bits: u32) -> bool {
        let missing = bits & !self.status();
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
