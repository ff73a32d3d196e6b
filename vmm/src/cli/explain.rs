//! `cafevm explain`: the rules that drivers break, with the usual mistake and correct code.

use std::fmt::Write as _;

use cafevm_devices::catalogue::musts::{MUSTS, Must, Watched};
use cafevm_devices::catalogue::rules;
use cafevm_devices::observe::{RuleInfo, Severity};

use crate::nearest::do_you_mean;

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
#[error(
    "no rule '{}'{}; 'cafevm explain' lists all rules; a line of the log works, too",
    .0.escape_debug(), do_you_mean(.0, rules().map(|info| info.id))
)]
pub(super) struct NoRule(String);

/// The list of all rules; or the explanation of those that `words` name: an id, a text with a rule in it, such as a
/// line of the log, or a part of a rule.
///
/// # Errors
///
/// If the words name no rule.
pub(super) fn explain(words: &[String]) -> Result<String, NoRule> {
    if words.is_empty() {
        return Ok(list());
    }
    let text = words.join(" ");
    let is_id = |info: &RuleInfo| info.id == text;
    let is_in_text = |info: &RuleInfo| info.rule.contains(' ') && text.contains(info.rule);
    let has_text = |info: &RuleInfo| text.len() > 2 && info.rule.contains(&text);
    let ways: [&dyn Fn(&RuleInfo) -> bool; 3] = [&is_id, &is_in_text, &has_text];
    let find = |way: &&dyn Fn(&RuleInfo) -> bool| {
        let entries: Vec<_> = rules().filter(|info| way(info)).map(entry).collect();
        (!entries.is_empty()).then(|| entries.join("\n"))
    };
    ways.iter().find_map(find).ok_or(NoRule(text.clone()))
}

fn list() -> String {
    let mut text = String::from("Explain one of these rules with 'cafevm explain ID':\n\n");
    for info in rules() {
        _ = writeln!(text, "  {:26} {}", info.id, info.rule);
    }
    text
}

fn entry(info: &RuleInfo) -> String {
    let RuleInfo { id, rule, must, mistake, wrong, right, .. } = info;
    format!(
        "{id}: {rule}\n\n  {}\n\n  The driver must: {must}\n  Usual mistake:   {mistake}\n\n  Wrong:    {wrong}\n  \
         Correct:  {right}\n",
        severity(info)
    )
}

const fn severity(info: &RuleInfo) -> &'static str {
    match info.severity {
        Severity::Error => "Error: the access or the request has no effect, or the device stops.",
        Severity::Warning => "Warning: it works here; another device may refuse it.",
        Severity::Note => "Note: not forbidden, or harmless here; but often a mistake.",
    }
}

/// All rules as a document in Markdown: `docs/rules.md`.
pub(super) fn document() -> String {
    let mut text = String::from(
        "# The rules that drivers break\n\n\
         This file is the output of `cafevm explain --markdown`. `cafevm explain ID` prints one rule.\n",
    );
    for info in rules() {
        let RuleInfo { id, rule, must, mistake, wrong, right, .. } = info;
        let severity = severity(info);
        _ = write!(
            text,
            "\n## {id}\n\n{rule}\n\n{severity}\n\n- The driver must: {must}\n- The usual mistake: {mistake}\n\n\
             ```c\n/* wrong */    {wrong}\n/* correct */  {right}\n```\n"
        );
    }
    text += &demands();
    text
}

/// The demands of the specification, as a table.
fn demands() -> String {
    let mut text = String::from(
        "\n# What virtio demands of a driver\n\n\
         Each MUST and MUST NOT of virtio 1.4 (Committee Specification, April 2026) that binds a driver of a block device \
         over virtio-mmio with split rings, in short words, and the rule that watches it. Sentences about features that \
         cafevm does not offer are left out.\n\n\
         | section | the driver must | rules |\n|---|---|---|\n",
    );
    for Must { section, text: demand, watched } in MUSTS {
        let watched = match watched {
            Watched::By(ids) => {
                ids.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ")
            }
            Watched::Unseen(why) => format!("none: {why}"),
        };
        _ = writeln!(text, "| {section} | {demand} | {watched} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Result<String, NoRule> {
        explain(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_rule_is_found_by_its_id_by_a_part_and_by_a_line_of_the_log() {
        let notify = of(&["virtio.notify"]).unwrap();
        assert!(notify.contains("4.2.3.3") && notify.contains("QUEUE_NOTIFY"), "{notify}");
        assert_eq!(of(&["4.2.3.3"]).unwrap(), notify);
        let line = "cafevm: warning: virtio0: QueueNotify was written with queue 0, but that queue is not ready; \
                    ignored [virtio 1.4, 4.2.3.3: notify only a queue in use]";
        assert_eq!(of(&line.split(' ').collect::<Vec<_>>()).unwrap(), notify);
        assert!(of(&["svirtb 2.2.1"]).unwrap().matches("Usual mistake").count() > 3);
        let error = of(&["virtio.notfy"]).unwrap_err().to_string();
        assert!(error.contains("(do you mean 'virtio.notify'?)"), "{error}");
        assert!(of(&[""]).is_err() && of(&["x"]).is_err());
    }

    #[test]
    fn the_list_has_every_rule() {
        let list = of(&[]).unwrap();
        assert!(rules().all(|info| list.contains(info.id) && list.contains(info.rule)));
    }

    #[test]
    fn the_committed_document_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rules.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == document(), "run: cafevm explain --markdown > docs/rules.md");
    }
}
