//! Findings as lines of the log.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use cafevm_devices::doctor::{Count, Finding};
use cafevm_devices::observe::{RuleInfo, Severity};

use super::{Place, SEVERITIES, numbers, word};
use crate::log::colour::{NAME, on_stderr, paint};

const fn style(severity: Severity) -> Style {
    match severity {
        Severity::Error => AnsiColor::Red.on_default().bold(),
        Severity::Warning => AnsiColor::Yellow.on_default().bold(),
        Severity::Note => AnsiColor::Cyan.on_default().bold(),
    }
}

/// A finding: what was seen, where, which rule, the usual mistake, and what to do.
pub(super) fn finding(finding: &Finding<'_>, place: &Place) -> String {
    let Finding { device, rule, what, .. } = finding;
    let RuleInfo { id, rule, severity, must, mistake, .. } = rule;
    let coloured = on_stderr();
    let name = paint(coloured, NAME, "cafevm:");
    let severity = paint(coloured, style(*severity), word(*severity));
    let mut text = format!("{name} {severity} {id}: {device}: {what}");
    if let Some(place) = place_of(place) {
        _ = write!(text, "\n    where:  {place}");
    }
    _ = write!(text, "\n    rule:   {rule}\n    usual mistake: {mistake}\n    mend:   {must}");
    text
}

/// The place in the guest. At a write, KVM has advanced rip to the next instruction; the name is that of the write.
fn place_of(place: &Place) -> Option<String> {
    let cpu = place.cpu?;
    let rip = place.rip.map_or_else(String::new, |rip| format!(", rip {rip:#x}"));
    let name = place.name.as_ref().map_or_else(String::new, |name| format!(", {name}"));
    Some(format!("vCPU {cpu}{rip}{name}"))
}

/// The end of a run.
pub(super) fn summary(counts: &[Count]) -> String {
    let name = paint(on_stderr(), NAME, "cafevm:");
    if counts.is_empty() {
        return format!("{name} doctor: no finding");
    }
    let words = SEVERITIES.map(word).into_iter().zip(numbers(counts));
    let words = words.filter(|(_, number)| *number > 0).map(|(word, number)| {
        let s = if number == 1 { "" } else { "s" };
        format!("{number} {word}{s}")
    });
    let words: Vec<_> = words.collect();
    let mut text = format!(
        "{name} doctor: {}; 'cafevm explain ID' shows wrong and correct code",
        words.join(", ")
    );
    for Count { device, rule, times, .. } in counts {
        let (id, severity) = (rule.id, word(rule.severity));
        _ = write!(text, "\n    {severity:8}{id:26} {device}{}", Times(*times));
    }
    text
}

/// How often, if more than once.
struct Times(u64);

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            1 => Ok(()),
            times => write!(f, ", {times} times"),
        }
    }
}
