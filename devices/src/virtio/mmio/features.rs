//! Which features there are, and which the driver has: decided once, by FEATURES_OK, or by DRIVER_OK where there was
//! none.

use super::setup::Session;
use super::{Mmio, Version};
use crate::virtio::rules;
use crate::virtio::spec::status::{ACKNOWLEDGE, DRIVER, FEATURES_OK};
use crate::virtio::spec::{bit_names, feature};

impl Mmio {
    /// The features offered.
    pub(super) fn offered(&self) -> u64 {
        let mut features = self.device.features() | feature::VERSION_1 | feature::RING_RESET;
        if self.options.version == Version::Legacy {
            features |= feature::NOTIFY_ON_EMPTY;
        }
        if self.options.leftover.is_none() {
            features &= !feature::RING_EVENT_IDX;
        }
        features & self.options.version.visible()
    }

    /// DriverFeatures.
    pub(super) fn write_features(&self, session: &mut Session, value: u32) {
        let sel = session.driver_features_sel;
        if session.accepted.is_some() {
            let step = if self.has(FEATURES_OK) { "FEATURES_OK" } else { "DRIVER_OK" };
            self.breach(
                rules::FEATURES_SETTLED,
                format_args!("DriverFeatures was written after {step}"),
                "ignored",
            );
        } else if !session.take_features(value) {
            self.breach(
                rules::FEATURES_SUBSET,
                format_args!("features {value:#x} at DriverFeaturesSel {sel} do not exist"),
                "ignored",
            );
        }
    }

    /// Whether the driver's features can be used (2.2.1, 3.1.1 step 6).
    pub(super) fn settle_features(&self, session: &Session) -> bool {
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
                if self.is_strict() { "FEATURES_OK stays 0" } else { "treated as if it had been" };
            self.complaints
                .say(rules::VERSION_1, format_args!("VERSION_1 (bit 32) was not accepted; {fate}"));
            return !self.is_strict();
        }
        in_order || !self.is_strict()
    }

    /// Takes the driver's features as they are now. What it writes later does not count.
    pub(super) fn decide_features(&self, session: &mut Session) {
        if session.accepted.is_some() {
            return;
        }
        let accepted = session.driver_features & self.offered();
        session.accepted = Some(accepted);
        if self.options.version == Version::Modern {
            self.device.features_settled(accepted);
        }
    }
}
