//! The features: offered, and accepted once, by FEATURES_OK or by DRIVER_OK without it.

use super::{Core, Setup, Version};
use crate::virtio::rules;
use crate::virtio::spec::status::{ACKNOWLEDGE, DRIVER};
use crate::virtio::spec::{bit_names, feature};

impl<R: Default> Core<R> {
    /// The features offered.
    pub(in crate::virtio) fn offered(&self) -> u64 {
        let mut features = self.device.features() | feature::VERSION_1 | feature::RING_RESET;
        if self.options.version == Version::Legacy {
            features |= feature::NOTIFY_ON_EMPTY;
        }
        if self.options.leftover.is_none() {
            features &= !feature::RING_EVENT_IDX;
        }
        features & self.options.version.visible()
    }

    /// Whether FEATURES_OK can be set with the driver's features (2.2.1, 3.1.1 step 6).
    pub(super) fn can_settle(&self, setup: &Setup<R>) -> bool {
        let in_order = self.follows("FEATURES_OK", ACKNOWLEDGE | DRIVER);
        let features = setup.driver_features;
        let extra = features & !self.offered();
        if extra != 0 {
            self.reporter.broken(
                rules::FEATURES_SUBSET,
                format_args!(
                    "features were accepted that were not offered: {}{}; FEATURES_OK stays 0",
                    feature_names(extra, self.device.feature_names()),
                    self.half_hint(extra)
                ),
            );
            return false;
        }
        if self.options.version == Version::Modern && features & feature::VERSION_1 == 0 {
            let fate =
                if self.is_strict() { "FEATURES_OK stays 0" } else { "treated as if it had been" };
            self.reporter.broken(
                rules::VERSION_1,
                format_args!("VERSION_1 (bit 32) was not accepted; {fate}"),
            );
            return !self.is_strict();
        }
        in_order || !self.is_strict()
    }

    /// The likely mistake in features that were not offered, as the rest of a sentence; empty if they show none.
    fn half_hint(&self, extra: u64) -> &'static str {
        let other_half = extra << u32::BITS;
        if extra >> u32::BITS == 0 && other_half & !self.offered() == 0 {
            " (the device offers these bits in the upper half: was 1 written to DriverFeaturesSel before?)"
        } else {
            ""
        }
    }

    /// Decides which features both sides have. What the driver writes later does not count.
    pub(super) fn decide_features(&self, setup: &mut Setup<R>) {
        if setup.accepted.is_some() {
            return;
        }
        let accepted = setup.driver_features & self.offered();
        setup.accepted = Some(accepted);
        if self.options.version == Version::Modern {
            self.device.features_settled(accepted);
        }
    }
}

impl<R> Setup<R> {
    /// Whether the features are decided, so that the driver cannot change them any more.
    pub(in crate::virtio) const fn is_settled(&self) -> bool {
        self.accepted.is_some()
    }
}

/// The names of features, joined: those in `own`, which only one kind of device has, and those of every device.
pub(in crate::virtio) fn feature_names(features: u64, own: &[(u64, &'static str)]) -> String {
    let names: Vec<_> = own.iter().chain(&feature::NAMES).copied().collect();
    bit_names(features, &names)
}
