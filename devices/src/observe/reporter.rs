//! What a device reports by.

use std::fmt;
use std::sync::Arc;

use super::event::{Event, Rule, Seen, Words};
use super::rule_log::RuleLog;
use super::tap::{Observer, Tap};

/// A device's name, its log of broken rules, and the tap. Clones share all three, so that the parts of a device (its
/// transport, its workers) report as one.
#[derive(Debug, Clone)]
pub struct Reporter {
    log: RuleLog,
    tap: Tap,
}

impl Reporter {
    /// For the device that the log calls `device`.
    pub fn new(device: &str, tap: Tap) -> Self {
        Self { log: RuleLog::new(device.into()), tap }
    }

    /// The name the log uses for the device.
    pub fn device(&self) -> &Arc<str> {
        self.log.device()
    }

    /// The log of the rules that were broken, which listens all the time.
    pub const fn log(&self) -> &RuleLog {
        &self.log
    }

    /// Whether an observer is attached.
    #[inline]
    pub fn is_observed(&self) -> bool {
        self.tap.is_on()
    }

    /// Reports the event that `make` builds; where no observer is attached, `make` is not called.
    #[inline]
    pub(crate) fn emit<'a>(&self, make: impl FnOnce() -> Event<'a>) {
        self.tap.emit(self.device(), make);
    }

    /// Reports that a rule was broken, and `what` happened: what was seen, and how the device handles it.
    pub(crate) fn broken(&self, rule: Rule, what: fmt::Arguments<'_>) {
        let seen = Seen::now(self.device(), Event::Broken { rule, what: Words(&what) });
        self.log.event(&seen);
        if self.tap.is_on() {
            self.tap.hand_over(&seen);
        }
    }
}
