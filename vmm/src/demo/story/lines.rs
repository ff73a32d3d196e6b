//! A line of the story for each event of a device.

use anstyle::{AnsiColor, Style};
use cafevm_devices::observe::{DescriptorInfo, Direction, Event, RequestInfo, Seen};

use super::SVIRTB;

const ACCESS: Style = Style::new();
const MEMORY: Style = AnsiColor::Magenta.on_default();
const REQUEST: Style = AnsiColor::Green.on_default();
const INTERRUPT: Style = AnsiColor::Yellow.on_default();

/// The column at which the meaning of a register's value begins.
const MEANING: usize = 43;
const COLUMNS: usize = 80;

/// The lines for an event, in their colour; none for an event that the story leaves out.
pub(super) fn of(seen: &Seen<'_>) -> Option<(Style, String)> {
    let (style, mark, text) = match seen.event {
        // The number of these depends on when an interrupt arrives. The story shows their effects instead.
        Event::Register { register: "InterruptStatus" | "InterruptACK", .. } => return None,
        Event::Register { register, direction, value, meaning } => {
            let mark = match direction {
                Direction::Read => "<-",
                Direction::Write => "->",
            };
            (ACCESS, mark, format!("{register:17} {value:#010x}  {meaning}"))
        }
        Event::ChainTaken { queue, head, entry, available, used } => {
            let text = format!(
                "queue {queue}: available index {available}, used index {used}\n\
                 entry {entry} of the available ring names descriptor {head}"
            );
            (MEMORY, "[]", text)
        }
        Event::Descriptor { descriptor, .. } => (MEMORY, "[]", describe(&descriptor)),
        Event::ChainReturned { head, written, entry, .. } => {
            let bytes = plural(written.into());
            let text =
                format!("entry {entry} of the used ring names descriptor {head}, {bytes} written");
            (MEMORY, "[]", text)
        }
        Event::Entry { index, at, addr, size, sector, cmd } => {
            let text = format!(
                "ring entry {index} at {at:#x}: addr {addr:#x}, size {size}, sector {sector}, cmd {cmd}"
            );
            (MEMORY, "[]", text)
        }
        Event::EntrySpacing { why, .. } => (MEMORY, "[]", why.to_string()),
        Event::Finished { request, outcome } => {
            let RequestInfo { index, operation, sector, bytes, .. } = request;
            let place = if &**seen.device == SVIRTB { "ring entry" } else { "descriptor" };
            let at = if bytes > 0 {
                format!(" at sector {sector}, {}", plural(bytes))
            } else {
                String::new()
            };
            (REQUEST, "=>", format!("{place} {index}: {operation}{at}: {outcome}"))
        }
        Event::Raised { .. } => (INTERRUPT, "!!", "an interrupt".to_owned()),
        Event::Acknowledged { .. } => {
            (INTERRUPT, "->", "the driver acknowledges the interrupt".to_owned())
        }
        // Registers, rings and requests tell the story.
        _ => return None,
    };
    let line = |text: &str| format!("  {:8}{mark} {text}", seen.device).trim_end().to_owned();
    let lines: Vec<_> = text.split('\n').map(line).collect();
    Some((style, lines.join("\n")))
}

/// A descriptor, as the device read it.
fn describe(descriptor: &DescriptorInfo) -> String {
    const NEXT: u16 = 1;
    const WRITE: u16 = 2;
    const INDIRECT: u16 = 4;
    let DescriptorInfo { index, addr, len, flags, next, .. } = *descriptor;
    let kind = match flags & (WRITE | INDIRECT) {
        0 => "the device reads",
        WRITE => "the device writes",
        _ => "an indirect table",
    };
    let next = if flags & NEXT == 0 { "last".to_owned() } else { format!("next {next}") };
    format!("descriptor {index}: {} at {addr:#x}, {kind}; {next}", plural(len.into()))
}

fn plural(bytes: u64) -> String {
    format!("{bytes} byte{}", if bytes == 1 { "" } else { "s" })
}

/// The line in pieces of at most 80 columns, broken at spaces. Later pieces of a register's line align with the meaning of
/// its value; those of another indented line are indented a little more than its beginning.
pub(super) fn wrapped(line: &str) -> String {
    let indent_of_line = line.len() - line.trim_start().len();
    let is_register =
        line.get(MEANING - 2..).is_some_and(|rest| rest.starts_with("  ")) && line.contains(" 0x");
    let further = match (is_register, indent_of_line) {
        (true, _) => MEANING,
        (false, 0) => 0,
        (false, indent) => indent + 2,
    };
    let (mut text, mut rest, mut indent) = (String::new(), line, 0);
    while indent + rest.chars().count() > COLUMNS {
        let room = rest.char_indices().nth(COLUMNS - indent).map_or(rest.len(), |(at, _)| at);
        let space = rest.get(..=room).and_then(|head| head.trim_end().rfind(' '));
        let Some(at) = space.filter(|at| indent > 0 || *at >= further) else { break };
        let (head, tail) = rest.split_at(at);
        text.extend([" ".repeat(indent).as_str(), head.trim_end(), "\n"]);
        (rest, indent) = (tail.trim_start(), further);
    }
    text + &" ".repeat(indent) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_goes_on_below_in_80_columns() {
        assert_eq!(wrapped("  short"), "  short");
        let words = "word ".repeat(30);
        let register = format!("  virtio0 -> {:17} {:#010x}  ", "Status", 1);
        assert_eq!(register.len(), MEANING);
        for (begin, further) in [(register.as_str(), 43), ("  ", 4), ("", 0), ("    it is ", 6)] {
            let long = format!("{begin}{}", words.trim_end());
            let text = wrapped(&long);
            assert!(text.lines().all(|line| line.len() <= 80), "{text}");
            let indented = |line: &str| line.find("word") == Some(further);
            assert!(text.lines().count() > 1 && text.lines().skip(1).all(indented), "{text}");
            assert!(text.split_whitespace().eq(long.split_whitespace()), "{text}");
        }
        let one_word = "x".repeat(100);
        assert_eq!(wrapped(&one_word), one_word);
    }
}
