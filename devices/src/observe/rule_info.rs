//! The explanation of a rule for a driver's author.

use super::Rule;

/// How a device handles a breach of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The access or the request has no effect, or the device stops.
    Error,
    /// The device goes on; another device may refuse it.
    Warning,
    /// Not forbidden, or harmless for this device; but often a mistake.
    Note,
}

/// A rule, with an explanation for a driver's author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleInfo {
    /// A short name, such as "virtio.notify".
    pub id: &'static str,
    /// The rule, as it appears in the log.
    pub rule: Rule,
    /// How the device handles a breach.
    pub severity: Severity,
    /// What the driver must do.
    pub must: &'static str,
    /// The usual mistake.
    pub mistake: &'static str,
    /// Wrong code, in C.
    pub wrong: &'static str,
    /// Correct code, in C.
    pub right: &'static str,
}

impl RuleInfo {
    pub(crate) const fn error(id: &'static str, rule: Rule, text: [&'static str; 4]) -> Self {
        Self::new(id, rule, Severity::Error, text)
    }

    pub(crate) const fn warning(id: &'static str, rule: Rule, text: [&'static str; 4]) -> Self {
        Self::new(id, rule, Severity::Warning, text)
    }

    pub(crate) const fn note(id: &'static str, rule: Rule, text: [&'static str; 4]) -> Self {
        Self::new(id, rule, Severity::Note, text)
    }

    const fn new(
        id: &'static str,
        rule: Rule,
        severity: Severity,
        [must, mistake, wrong, right]: [&'static str; 4],
    ) -> Self {
        Self { id, rule, severity, must, mistake, wrong, right }
    }
}
