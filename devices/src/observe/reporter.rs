//! How a device reports.

use std::fmt;
use std::sync::Arc;

use super::event::{Event, Rule, Seen, Words};
use super::rule_log::RuleLog;
use super::tap::{Observer, Tap};

/// A device's name, its log of broken rules, and the tap. Clones share all three, so that all parts of a device
/// (transport, workers) report under one name.
#[derive(Debug, Clone)]
pub struct Reporter {
    log: RuleLog,
    tap: Tap,
}

impl Reporter {
    /// Creates a reporter for the device with the name `device` in the log.
    pub fn new(device: &str, tap: Tap) -> Self {
        Self { log: RuleLog::new(device.into()), tap }
    }

    /// The name of the device in the log.
    pub fn device(&self) -> &Arc<str> {
        self.log.device()
    }

    /// The log of broken rules, which is always on.
    pub const fn log(&self) -> &RuleLog {
        &self.log
    }

    /// Whether an observer is attached.
    #[inline]
    pub fn is_observed(&self) -> bool {
        self.tap.is_on()
    }

    /// Reports the event that `make` builds. Without an observer, `make` is not called.
    #[inline]
    pub(crate) fn emit<'a>(&self, make: impl FnOnce() -> Event<'a>) {
        self.tap.emit(self.device(), make);
    }

    /// Reports that a rule was broken, with `what`: the values seen, and how the device handles it.
    pub(crate) fn broken(&self, rule: Rule, what: fmt::Arguments<'_>) {
        let seen = Seen::now(self.device(), Event::Broken { rule, what: Words(&what) });
        if self.tap.note_broken(rule) {
            self.log.count_only(rule);
        } else {
            self.log.event(&seen);
        }
        if self.tap.is_on() {
            self.tap.hand_over(&seen);
        }
    }
}
