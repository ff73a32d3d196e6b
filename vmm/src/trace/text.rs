//! Events as lines of text.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use cafevm_devices::observe::{
    DescriptorInfo, Direction, Event, Place, RequestInfo, Seen, Suppression,
};
use cafevm_devices::svirtb;
use cafevm_devices::virtio::spec::ring::{DESC_INDIRECT, DESC_NEXT, DESC_WRITE};

use super::{Traced, Writer, sink, thread_name};
use crate::log::colour::{on_stderr, paint};

const ACCESS: Style = Style::new();
const MEMORY: Style = AnsiColor::Magenta.on_default();
const REQUEST: Style = AnsiColor::Green.on_default();
const BROKEN: Style = AnsiColor::Red.on_default();
const INTERRUPT: Style = AnsiColor::Yellow.on_default();

/// Writes a line for each event, or several.
pub(super) struct Lines {
    coloured: bool,
}

impl Lines {
    /// For standard error, or for a file.
    pub(super) fn new(is_on_stderr: bool) -> Self {
        Self { coloured: is_on_stderr && on_stderr() }
    }
}

impl Writer for Lines {
    fn begin(&mut self) -> String {
        format!(
            "{}; seconds, thread, device; -> the driver writes, <- it reads, [] memory, => a request, !! interrupts\n",
            sink::TEXT
        )
    }

    fn event(&mut self, event: &Traced<'_>) -> String {
        let Some((style, mut text)) = of(event.seen) else { return String::new() };
        if let Some(took) = event.took() {
            _ = write!(text, " ({:.1} us)", took.as_secs_f64() * 1e6);
        }
        if let Some(rip) = event.rip {
            _ = write!(text, "  (rip {rip:#x}");
            if let Some(place) = &event.place {
                _ = write!(text, ", {place}");
            }
            text.push(')');
        }
        let (at, thread) = (event.at.as_secs_f64(), thread_name(event.cpu));
        let mut lines = String::new();
        for line in text.lines() {
            let line = format!("{at:11.6} {thread:7}{line}");
            _ = writeln!(lines, "{}", paint(self.coloured, style, line));
        }
        lines
    }

    fn end(&mut self) -> String {
        String::new()
    }
}

/// The lines for an event, with their style.
pub(crate) fn of(seen: &Seen<'_>) -> Option<(Style, String)> {
    let (style, mark, text) = match seen.event {
        Event::Register { register, direction, value, meaning } => {
            (ACCESS, arrow(direction), format!("{register:17} {value:#010x}  {meaning}"))
        }
        Event::Access { address, width, direction, value, .. } => {
            let text = format!("{address:#x}, {width} bytes: {value:#x}; there is no device");
            (BROKEN, arrow(direction), text)
        }
        Event::Status { before, now } => {
            (ACCESS, "  ", format!("the status changes from {before:#x} to {now:#x}"))
        }
        Event::QueueReady { queue, size, place } => {
            let place = match place {
                Place::Ring { base } => format!("at {base:#x}"),
                Place::Split { desc, avail, used } => format!(
                    "descriptor table {desc:#x}, available ring {avail:#x}, used ring {used:#x}"
                ),
                _ => String::new(),
            };
            (MEMORY, "[]", format!("queue {queue} is ready: {size} entries, {place}"))
        }
        Event::QueueRefused { queue, why } => {
            (BROKEN, "[]", format!("queue {queue} is refused: {why}"))
        }
        Event::QueueStopped { queue } => (MEMORY, "[]", format!("queue {queue} stops")),
        Event::Notified { queue } => (MEMORY, "[]", format!("the doorbell of queue {queue}")),
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
        Event::Submitted(request) => (REQUEST, "=>", format!("{} starts", name(seen, &request))),
        Event::NothingAvailable { queue, index } => {
            (MEMORY, "[]", format!("queue {queue} has nothing new; the index is {index}"))
        }
        Event::Suppressed { used, why, .. } => {
            let why = match why {
                Suppression::Flag => "the flag NO_INTERRUPT is set".to_owned(),
                Suppression::Event { used_event } => format!("used_event is {used_event}"),
                _ => String::new(),
            };
            (INTERRUPT, "!!", format!("no interrupt for used index {used}: {why}"))
        }
        Event::Content { queue, what } => (REQUEST, "=>", format!("queue {queue}: {what}")),
        Event::Finished { request, outcome } => {
            (REQUEST, "=>", format!("{}: {outcome}", name(seen, &request)))
        }
        Event::Raised { .. } => (INTERRUPT, "!!", "an interrupt".to_owned()),
        Event::Acknowledged { .. } => {
            (INTERRUPT, "->", "the driver acknowledges the interrupt".to_owned())
        }
        Event::Broken { rule, what } => (BROKEN, "##", format!("{what} [{rule}]")),
        // An event of a later version of the devices.
        _ => return None,
    };
    let line = |text: &str| format!("  {:8}{mark} {text}", seen.device).trim_end().to_owned();
    let lines: Vec<_> = text.split('\n').map(line).collect();
    Some((style, lines.join("\n")))
}

const fn arrow(direction: Direction) -> &'static str {
    match direction {
        Direction::Read => "<-",
        Direction::Write => "->",
    }
}

/// A request: its place in the ring, and what it does.
fn name(seen: &Seen<'_>, request: &RequestInfo) -> String {
    let RequestInfo { index, operation, sector, bytes, .. } = *request;
    let place = if &**seen.device == svirtb::NAME { "ring entry" } else { "descriptor" };
    let at =
        if bytes > 0 { format!(" at sector {sector}, {}", plural(bytes)) } else { String::new() };
    format!("{place} {index}: {operation}{at}")
}

/// A descriptor, as the device read it.
fn describe(descriptor: &DescriptorInfo) -> String {
    let DescriptorInfo { index, addr, len, flags, next, .. } = *descriptor;
    let kind = match flags & (DESC_WRITE | DESC_INDIRECT) {
        0 => "the device reads",
        DESC_WRITE => "the device writes",
        _ => "an indirect table",
    };
    let next = if flags & DESC_NEXT == 0 { "last".to_owned() } else { format!("next {next}") };
    format!("descriptor {index}: {} at {addr:#x}, {kind}; {next}", plural(len.into()))
}

fn plural(bytes: u64) -> String {
    format!("{bytes} byte{}", if bytes == 1 { "" } else { "s" })
}
