//! All rules that devices of this crate report, with an explanation for a driver's author.

use crate::observe::RuleInfo;

/// All rules: those of virtio, then those of svirtb.
pub fn rules() -> impl Iterator<Item = &'static RuleInfo> {
    crate::virtio::RULES.iter().chain(crate::svirtb::RULES)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_rule_is_explained_once() {
        let constants = |source: &str| source.matches(": Rule =").count();
        let sources = [include_str!("virtio/rules.rs"), include_str!("svirtb/rules.rs")];
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
