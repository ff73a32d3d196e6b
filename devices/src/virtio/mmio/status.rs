//! The device status field (virtio 1.2, 2.1), and what hangs on it: reset, features, going live.

use super::setup::Session;
use super::{Mmio, Version};
use crate::virtio::device::Activation;
use crate::virtio::rules;
use crate::virtio::spec::status::{
    ACKNOWLEDGE, DEVICE_NEEDS_RESET, DRIVER, DRIVER_BITS, DRIVER_OK, FEATURES_OK, NAMES,
};
use crate::virtio::spec::{bit_names, feature};

impl Mmio {
    pub(super) fn write_status(&mut self, value: u32) {
        if value == 0 {
            // When this returns, the device touches no queue any more.
            self.device.reset();
            self.notifier.reset();
            self.session = Session::new(&*self.device);
            return;
        }
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
        if new & FEATURES_OK != 0 && self.settle_features() {
            self.device.features_settled(self.accepted());
            self.notifier.add_status(FEATURES_OK);
        }
        if new & DRIVER_OK != 0 {
            self.go_live();
        }
    }

    /// Whether the driver's features can be used (2.2.1, 3.1.1 step 6).
    fn settle_features(&mut self) -> bool {
        let in_order = self.follows("FEATURES_OK", ACKNOWLEDGE | DRIVER);
        let features = self.session.driver_features;
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

    fn go_live(&mut self) {
        let needed = match self.options.version {
            Version::Modern => ACKNOWLEDGE | DRIVER | FEATURES_OK,
            Version::Legacy => ACKNOWLEDGE | DRIVER,
        };
        if !self.follows("DRIVER_OK", needed) && self.is_strict() {
            return;
        }
        if self.options.version == Version::Modern && !self.has(FEATURES_OK) {
            self.device.features_settled(self.accepted());
        }
        self.notifier.add_status(DRIVER_OK);
        self.used = true;
        let queues: Vec<_> = self
            .session
            .queues
            .iter()
            .map(|q| if q.ready { self.make_queue(q).ok() } else { None })
            .collect();
        if queues.iter().all(Option::is_none) {
            self.breach(
                rules::NO_QUEUE,
                format_args!("DRIVER_OK was set with no queue ready: no request can be made"),
            );
        }
        self.device.activate(Activation {
            features: self.accepted(),
            queues,
            notifier: self.notifier.clone(),
        });
        if let Some(taken_over) = &self.options.taken_over {
            taken_over.raise();
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
