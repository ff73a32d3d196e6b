//! What a driver's author is told: one line for each rule broken, and never a flood.
//!
//! A guest may break a rule a million times a second, so the number of lines is bounded, per rule and per
//! device, whatever the guest does. Everything is counted; what was not shown is said by
//! [`Complaints::summary`] when the machine ends.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How often one rule is shown before it is only counted.
const SHOWN_PER_RULE: u64 = 3;
/// How many lines one device may write in its whole life.
const SHOWN_PER_DEVICE: u64 = 40;

/// A rule of a specification that a driver broke: the key under which complaints are counted.
///
/// The text names the place where the rule stands, such as "svirtb 2.1.1" or "virtio 1.2, 4.2.2.2".
pub type Rule = &'static str;

/// One device's complaints about its driver.
#[derive(Debug)]
pub struct Complaints {
    device: Arc<str>,
    counts: BTreeMap<Rule, u64>,
    shown: u64,
    last: Option<String>,
}

impl Complaints {
    /// No complaints yet, for the device that the log calls `device`.
    pub fn new(device: Arc<str>) -> Self {
        Self { device, counts: BTreeMap::new(), shown: 0, last: None }
    }

    /// The name the log uses for the device.
    pub fn device(&self) -> &Arc<str> {
        &self.device
    }

    /// Counts one breach of `rule`, and says `what` happened (what was seen, and what became of it) unless
    /// enough was said already.
    pub fn say(&mut self, rule: Rule, what: fmt::Arguments<'_>) {
        let count = self.counts.entry(rule).or_insert(0);
        *count = count.saturating_add(1);
        if *count > SHOWN_PER_RULE || self.shown >= SHOWN_PER_DEVICE {
            return;
        }
        self.shown += 1;
        let line = format!("{}: {what} [{rule}]", self.device);
        let more = if *count == SHOWN_PER_RULE {
            " (further ones of this kind are only counted)"
        } else if self.shown == SHOWN_PER_DEVICE {
            " (this device says no more; all is counted)"
        } else {
            ""
        };
        tracing::warn!("{line}{more}");
        self.last = Some(line);
    }

    /// How often `rule` was broken.
    pub fn count(&self, rule: Rule) -> u64 {
        self.counts.get(rule).copied().unwrap_or(0)
    }

    /// The last line shown, without its note on further ones.
    pub fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// One line on what was counted but not shown; none where all was shown.
    pub fn summary(&self) -> Option<String> {
        let total = self.counts.values().fold(0u64, |sum, n| sum.saturating_add(*n));
        let hidden = total.saturating_sub(self.shown);
        (hidden > 0).then(|| {
            let rules: Vec<_> =
                self.counts.iter().map(|(rule, n)| format!("{n} x [{rule}]")).collect();
            format!(
                "{}: {hidden} complaints were not shown; in all {}",
                self.device,
                rules.join(", ")
            )
        })
    }
}

impl Drop for Complaints {
    fn drop(&mut self) {
        if let Some(summary) = self.summary() {
            tracing::warn!("{summary}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_shown_three_times_and_counted_for_ever() {
        let mut c = Complaints::new("disk".into());
        for n in 0..1_000_000 {
            c.say("a rule", format_args!("saw {n}"));
        }
        assert_eq!(c.last(), Some("disk: saw 2 [a rule]"));
        assert_eq!(c.count("a rule"), 1_000_000);
        assert_eq!(
            c.summary().unwrap(),
            "disk: 999997 complaints were not shown; in all 1000000 x [a rule]"
        );
    }

    #[test]
    fn many_rules_share_one_budget() {
        let rules: Vec<Rule> =
            (0..100).map(|n| &*Box::leak(format!("rule {n}").into_boxed_str())).collect();
        let mut c = Complaints::new("disk".into());
        for rule in &rules {
            c.say(rule, format_args!("broken"));
        }
        assert_eq!(c.last(), Some("disk: broken [rule 39]"));
    }

    #[test]
    fn nothing_hidden_nothing_summed_up() {
        let mut c = Complaints::new("disk".into());
        assert_eq!(c.summary(), None);
        c.say("a rule", format_args!("broken"));
        assert_eq!(c.summary(), None);
    }
}
