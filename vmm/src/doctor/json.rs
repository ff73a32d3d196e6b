//! Findings as JSON: an object a line. The first line names the format, the last one has the summary.

use cafevm_devices::doctor::{Count, Finding};
use serde_json::{Value, json};

use super::{Place, numbers, word};
use crate::trace::sink::DOCTOR;

/// The first line.
pub(super) fn begin() -> String {
    format!("{DOCTOR}1}}\n")
}

/// A finding.
pub(super) fn finding(finding: &Finding<'_>, place: &Place) -> String {
    let Finding { device, rule, what, .. } = finding;
    line(&json!({
        "id": rule.id,
        "severity": word(rule.severity),
        "device": device,
        "what": what.to_string(),
        "rule": rule.rule,
        "vcpu": place.cpu,
        "rip": place.rip,
        "place": place.name,
    }))
}

/// The last line.
pub(super) fn end(counts: &[Count]) -> String {
    let [errors, warnings, notes] = numbers(counts);
    let findings: Vec<_> = counts
        .iter()
        .map(|Count { device, rule, times, .. }| {
            json!({"id": rule.id, "severity": word(rule.severity), "device": &**device, "times": times})
        })
        .collect();
    line(&json!({"errors": errors, "warnings": warnings, "notes": notes, "findings": findings}))
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}
