//! All rules that drivers break, with an explanation for a driver's author.
//!
//! | question | file |
//! |---|---|
//! | Which rules does a device report at one access? | `virtio/catalogue.rs`, `svirtb/catalogue.rs` |
//! | Which demands of the specification are watched, and by which rules? | `musts.rs` |
//! | Which rules need a look at several events? | `observed.rs`, `observed_rules.rs` |

pub mod musts;
mod observed;
pub(crate) mod observed_rules;

use crate::observe::{Rule, RuleInfo};

pub use observed_rules::{NO_DEVICE, SLEEPS, WAITS};

/// All rules: those of virtio, those of svirtb, then those of [`crate::doctor`].
pub fn rules() -> impl Iterator<Item = &'static RuleInfo> {
    crate::virtio::RULES.iter().chain(crate::svirtb::RULES).chain(observed::RULES)
}

/// The explanation of a rule.
pub fn find(rule: Rule) -> Option<&'static RuleInfo> {
    rules().find(|info| info.rule == rule)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_rule_is_explained_once() {
        let constants = |source: &str| source.matches(": Rule =").count();
        let sources = [
            include_str!("../virtio/rules.rs"),
            include_str!("../svirtb/rules.rs"),
            include_str!("observed_rules.rs"),
        ];
        assert_eq!(rules().count(), sources.map(constants).into_iter().sum::<usize>());
        let (ids, texts): (HashSet<_>, HashSet<_>) =
            rules().map(|info| (info.id, info.rule)).unzip();
        assert_eq!((ids.len(), texts.len()), (rules().count(), rules().count()));
        for info in rules() {
            let RuleInfo { must, mistake, wrong, right, .. } = info;
            assert!(
                [must, mistake, wrong, right].iter().all(|text| !text.is_empty()),
                "{}",
                info.id
            );
            assert_ne!(wrong, right, "{}", info.id);
        }
    }
}
