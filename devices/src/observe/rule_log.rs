//! The log of broken rules: one line for each breach, at a limited rate.
//!
//! A guest may break a rule a million times in a second, so the number of lines is limited for each rule and for each
//! device. All breaches are counted. [`RuleLog::summary`] lists those that were not logged; it is logged when the
//! device is dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::event::{Event, Rule, Seen, Words};
use super::tap::Observer;

/// How often one rule is logged before it is only counted.
const SHOWN_PER_RULE: u64 = 3;
/// The most lines for one device.
const SHOWN_PER_DEVICE: u64 = 40;

/// The log of the rules that the driver of one device broke. Clones share the counts and the limit.
#[derive(Debug, Clone)]
pub struct RuleLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    device: Arc<str>,
    tally: Mutex<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    counts: BTreeMap<Rule, u64>,
    /// The breaches that were logged, here or by an observer.
    shown: u64,
    lines: u64,
    last: Option<String>,
}

impl Tally {
    /// Counts a breach of `rule`. Returns how often it was broken.
    fn count(&mut self, rule: Rule) -> u64 {
        let count = self.counts.entry(rule).or_insert(0);
        *count = count.saturating_add(1);
        *count
    }
}

impl RuleLog {
    /// An empty log of the device with this name.
    pub(super) fn new(device: Arc<str>) -> Self {
        Self(Arc::new(Shared { device, tally: Mutex::default() }))
    }

    /// The name of the device in the log.
    pub fn device(&self) -> &Arc<str> {
        &self.0.device
    }

    /// Counts a breach of `rule`, and logs `what`, unless a limit is reached.
    fn note(&self, rule: Rule, what: Words<'_>) {
        let mut tally = self.0.tally();
        let count = tally.count(rule);
        if count > SHOWN_PER_RULE || tally.lines >= SHOWN_PER_DEVICE {
            return;
        }
        tally.shown += 1;
        tally.lines += 1;
        let line = format!("{}: {what} [{rule}]", self.0.device);
        let more = if tally.lines == SHOWN_PER_DEVICE {
            " (no more lines for this device; all breaches are counted)"
        } else if count == SHOWN_PER_RULE {
            " (further ones of this kind are only counted)"
        } else {
            ""
        };
        tracing::warn!("{line}{more}");
        tally.last = Some(line);
    }

    /// Counts a breach of `rule` that an observer reports.
    pub(super) fn count_only(&self, rule: Rule) {
        let mut tally = self.0.tally();
        tally.count(rule);
        tally.shown = tally.shown.saturating_add(1);
    }

    /// The number of breaches of `rule`.
    pub fn count(&self, rule: Rule) -> u64 {
        self.0.tally().counts.get(rule).copied().unwrap_or(0)
    }

    /// The last line that was logged, without its note on further ones.
    pub fn last(&self) -> Option<String> {
        self.0.tally().last.clone()
    }

    /// One line about breaches that were counted but not logged; none if all were logged.
    pub fn summary(&self) -> Option<String> {
        self.0.summary()
    }
}

impl Observer for RuleLog {
    fn event(&self, seen: &Seen<'_>) {
        if let Event::Broken { rule, what } = seen.event {
            self.note(rule, what);
        }
    }
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn summary(&self) -> Option<String> {
        let tally = self.tally();
        let total = tally.counts.values().fold(0u64, |sum, n| sum.saturating_add(*n));
        let hidden = total.saturating_sub(tally.shown);
        (hidden > 0).then(|| {
            let rules: Vec<_> =
                tally.counts.iter().map(|(rule, n)| format!("{n} x [{rule}]")).collect();
            let rules = rules.join(", ");
            format!("{}: {hidden} warnings were not logged; the totals are {rules}", self.device)
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(summary) = self.summary() {
            tracing::warn!("{summary}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breach(log: &RuleLog, rule: Rule, what: &dyn std::fmt::Display) {
        log.event(&Seen::now(log.device(), Event::Broken { rule, what: Words(what) }));
    }

    #[test]
    fn a_rule_is_shown_three_times_and_counted_for_ever() {
        let c = RuleLog::new("disk".into());
        for n in 0..1_000_000 {
            breach(&c, "a rule", &format_args!("saw {n}"));
        }
        assert_eq!(c.last().unwrap(), "disk: saw 2 [a rule]");
        assert_eq!(c.count("a rule"), 1_000_000);
        assert_eq!(
            c.summary().unwrap(),
            "disk: 999997 warnings were not logged; the totals are 1000000 x [a rule]"
        );
    }

    #[test]
    fn many_rules_share_one_budget() {
        let rules: Vec<Rule> =
            (0..100).map(|n| &*Box::leak(format!("rule {n}").into_boxed_str())).collect();
        let c = RuleLog::new("disk".into());
        for rule in &rules {
            breach(&c, rule, &"broken");
        }
        assert_eq!(c.last().unwrap(), "disk: broken [rule 39]");
    }

    #[test]
    fn nothing_hidden_nothing_summed_up() {
        let c = RuleLog::new("disk".into());
        assert_eq!(c.summary(), None);
        breach(&c, "a rule", &"broken");
        assert_eq!(c.summary(), None);
    }
}
