//! What becomes of a driver that breaks a rule: a line in the log and, where the device is strict, no service until a
//! reset.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Mmio, Policy};
use crate::complaints::Rule;
use crate::virtio::rules;
use crate::virtio::spec::status::DRIVER_OK;

/// Why the device needs a reset, for the first doorbell that is dropped for that.
#[derive(Debug, Default)]
pub(super) struct Stopped {
    /// The rule after whose breach a strict device stopped.
    rule: Mutex<Option<Rule>>,
    /// Whether a doorbell was dropped since.
    said: AtomicBool,
}

impl Stopped {
    /// As after a reset.
    pub(super) fn clear(&self) {
        *self.rule() = None;
        self.said.store(false, Ordering::Release);
    }

    fn rule(&self) -> MutexGuard<'_, Option<Rule>> {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mmio {
    pub(super) fn is_strict(&self) -> bool {
        self.options.policy == Policy::Strict
    }

    /// Says that the driver broke a rule, and what a lenient device makes of that: `fate`, such as "ignored", or
    /// nothing where it is empty. A strict device needs a reset from now on, and the line says that instead.
    pub(super) fn breach(&self, rule: Rule, what: fmt::Arguments<'_>, fate: &str) {
        if self.is_strict() {
            self.complaints.say(rule, format_args!("{what}; strict: the device now needs a reset"));
            if !self.notifier.is_reset_needed() {
                // The rule first: another vCPU that sees that a reset is needed reads it.
                *self.stopped.rule() = Some(rule);
                self.notifier.needs_reset(self.has(DRIVER_OK));
            }
        } else if fate.is_empty() {
            self.complaints.say(rule, what);
        } else {
            self.complaints.say(rule, format_args!("{what}; {fate}"));
        }
    }

    /// Says why a doorbell has no effect on a device that needs a reset: once until that reset.
    pub(super) fn say_stopped(&self, value: u32) {
        if self.stopped.said.swap(true, Ordering::AcqRel) {
            return;
        }
        let rule = *self.stopped.rule();
        let doorbell = format_args!(
            "QueueNotify was written with queue {value}, but the device needs a reset"
        );
        match rule {
            Some(rule) => self.complaints.say(
                rules::NEEDS_RESET,
                format_args!("{doorbell} since this rule was broken: {rule}; ignored"),
            ),
            None => self.complaints.say(rules::NEEDS_RESET, format_args!("{doorbell}; ignored")),
        }
    }
}
