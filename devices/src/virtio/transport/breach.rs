//! What happens when a driver breaks a rule: a line in the log and, where the device is strict, no service until a reset.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Core, Policy};
use crate::observe::Rule;

/// Why the device needs a reset. The first doorbell that is ignored for that is logged.
#[derive(Debug, Default)]
pub(super) struct Stopped {
    /// The rule whose breach stopped a strict device.
    rule: Mutex<Option<Rule>>,
    /// Whether a doorbell was ignored since.
    reported: AtomicBool,
}

impl Stopped {
    /// Forgets everything, as a reset does.
    pub(super) fn clear(&self) {
        *self.rule() = None;
        self.reported.store(false, Ordering::Release);
    }

    /// Whether this is the first doorbell ignored since the device needs a reset; with the rule that the driver broke,
    /// where that was the reason.
    pub(super) fn first_ignored(&self) -> Option<Option<Rule>> {
        (!self.reported.swap(true, Ordering::AcqRel)).then(|| *self.rule())
    }

    fn rule(&self) -> MutexGuard<'_, Option<Rule>> {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Default> Core<R> {
    pub(in crate::virtio) fn is_strict(&self) -> bool {
        self.options.policy == Policy::Strict
    }

    /// Logs that the driver broke a rule, and how a lenient device handles it: `fate`, such as "ignored"; empty where the
    /// text needs none. A strict device needs a reset from now on, and the line states that instead.
    pub(in crate::virtio) fn breach(&self, rule: Rule, what: fmt::Arguments<'_>, fate: &str) {
        if self.is_strict() {
            self.reporter
                .broken(rule, format_args!("{what}; strict: the device now needs a reset"));
            if !self.signals.is_reset_needed() {
                // The rule first: another vCPU that sees that a reset is needed reads it.
                *self.stopped.rule() = Some(rule);
                self.signals.needs_reset();
            }
        } else if fate.is_empty() {
            self.reporter.broken(rule, what);
        } else {
            self.reporter.broken(rule, format_args!("{what}; {fate}"));
        }
    }
}
