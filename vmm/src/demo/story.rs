//! The story's lines: what the guest says, what its drivers do to the devices, and what becomes of it.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cafevm_devices::observe::{Direction, Event, Observer, RequestInfo, Seen};

use crate::run::RunReport;

/// What the guest puts before each command it runs.
const PROMPT: &str = "cafevm> ";

/// What the svirtb device is called.
const SVIRTB: &str = "svirtb";

/// Tells the story on standard output, in the order in which things happen. Clones tell the same one.
#[derive(Clone)]
pub(super) struct Story(Arc<Mutex<Teller>>);

#[derive(Default)]
struct Teller {
    /// The guest's current line so far.
    line: String,
    /// The part of the story that the last lines belong to.
    part: Part,
    /// The first error of standard output.
    failed: Option<io::Error>,
}

/// What the guest does at the moment, as far as headings tell it.
#[derive(Default, PartialEq, Eq)]
enum Part {
    #[default]
    Booting,
    /// It looks whether there is a disk on svirtb.
    LooksForSvirtb,
    /// The virtio handshake. The guest does it while it boots, to know the disk's size.
    Virtio,
    /// It runs commands.
    Commands,
}

impl Story {
    /// The first lines.
    pub(super) fn begin(svirtb: &Path, virtio: &Path, sectors: usize) -> Self {
        let story = Self(Arc::new(Mutex::new(Teller::default())));
        story.tell(&format!(
            "cafevm demo: a guest kernel uses two disks, each by another protocol.\n\n\
             Two scratch images, {sectors} sectors of 512 bytes each, are filled with dots:\n  \
               {}\n  {}\n\n\
             Now a virtual machine boots the built-in guest, a block shell. Its output\n\
             stands behind '|'. What its drivers do to a device stands behind the device's\n\
             name: '->' writes a register, '<-' reads one, '=>' is a request served, '!!' is\n\
             an interrupt.\n",
            svirtb.display(),
            virtio.display(),
        ));
        story
    }

    /// The machine has ended.
    pub(super) fn ended(&self, report: &RunReport) {
        self.tell(&format!(
            "\nThe guest has powered the machine off: exit status {}.\n{}\n\
             \nThe images, as the host sees them now:",
            report.status(),
            report.exits
        ));
    }

    /// An image was found right.
    pub(super) fn holds(&self, image: &Path, sector: usize, text: &str) {
        self.tell(&format!(
            "  {}:\n    sector {sector} holds \"{text}\", all else is as it was",
            image.display()
        ));
    }

    /// The last line.
    pub(super) fn end(&self) {
        self.tell(
            "\nAll is as it should be. The scratch images are removed. To go on:\n\
             'cafevm run --disk FILE' gives you the same shell on a disk of yours; 'help'\n\
             lists its commands, Ctrl-A X ends it.",
        );
    }

    /// Whether all of it was written.
    ///
    /// # Errors
    ///
    /// The first error of standard output, unless its reader closed it.
    pub(super) fn written(&self) -> io::Result<()> {
        let failed = self.teller().failed.take();
        failed.filter(|error| error.kind() != io::ErrorKind::BrokenPipe).map_or(Ok(()), Err)
    }

    fn tell(&self, text: &str) {
        self.teller().tell(text);
    }

    fn teller(&self) -> MutexGuard<'_, Teller> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Teller {
    fn tell(&mut self, text: &str) {
        for line in text.split('\n') {
            if let Err(error) = writeln!(io::stdout(), "{}", wrapped(line)) {
                self.failed.get_or_insert(error);
            }
        }
    }

    fn begin(&mut self, part: Part, heading: &str) {
        if self.part != part && self.part != Part::Commands {
            self.part = part;
            self.tell(heading);
        }
    }

    fn guest_says(&mut self, line: &str) {
        if let Some(command) = line.strip_prefix(PROMPT) {
            self.part = Part::Commands;
            self.tell("");
            if let Some(heading) = heading(command) {
                self.tell(heading);
            }
        }
        self.tell(format!("| {line}").trim_end());
    }
}

/// The line in pieces of 80 columns at most, broken at spaces. The pieces behind the first one stand below the meaning of
/// a register, or a little further in than the line begins.
fn wrapped(line: &str) -> String {
    const COLUMNS: usize = 80;
    /// Where [`Story::event`] puts what a register's value means.
    const MEANING: usize = 43;
    let begins = line.len() - line.trim_start().len();
    let is_register =
        line.get(MEANING - 2..).is_some_and(|rest| rest.starts_with("  ")) && line.contains(" 0x");
    let further = match (is_register, begins) {
        (true, _) => MEANING,
        (false, 0) => 0,
        (false, begins) => begins + 2,
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

/// What to say before the guest runs a command.
fn heading(command: &str) -> Option<&'static str> {
    let mut words = command.split(' ');
    Some(match (words.next()?, words.next()) {
        ("dev", Some("svirtb")) => {
            "The svirtb handshake (MAGIC, DRIVER_OK, where the ring is, READY), each step read back:"
        }
        ("dev", Some("virtio")) => "The other disk: its handshake was done while the guest booted.",
        ("write", _) => "A write: the driver fills in a request, then rings the doorbell.",
        ("read", _) => "A read of the same sector:",
        ("flush", _) => "A flush: what was written is on stable storage before it is answered.",
        _ => return None,
    })
}

/// The guest's output, which comes byte by byte, as lines.
impl Write for Story {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut teller = self.teller();
        for byte in bytes {
            match byte {
                b'\r' => {}
                b'\n' => {
                    let line = std::mem::take(&mut teller.line);
                    teller.guest_says(&line);
                }
                byte => teller.line.push(char::from(*byte)),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Observer for Story {
    fn event(&self, seen: &Seen<'_>) {
        let mut teller = self.teller();
        let device: &str = seen.device;
        let line = match seen.event {
            // How often a driver looks at these depends on when an interrupt comes. What follows from them is told.
            Event::Register { register: "InterruptStatus" | "InterruptACK", .. } => return,
            Event::Register { register, direction, value, meaning } => {
                if device == SVIRTB {
                    let heading = "\nThe guest looks whether there is a disk on svirtb:";
                    teller.begin(Part::LooksForSvirtb, heading);
                } else {
                    let heading =
                        "\nThe virtio handshake (who are you, status, features, queue, DRIVER_OK):";
                    teller.begin(Part::Virtio, heading);
                }
                let arrow = match direction {
                    Direction::Read => "<-",
                    Direction::Write => "->",
                };
                let line = format!("  {device:8}{arrow} {register:17} {value:#010x}  {meaning}");
                line.trim_end().to_owned()
            }
            Event::ChainTaken { queue, head, available } => format!(
                "  {device:8}   available ring of queue {queue}, entry {available}: the chain at descriptor {head}"
            ),
            Event::Finished { request, outcome } => {
                let RequestInfo { index, operation, sector, bytes, .. } = request;
                let place = if device == SVIRTB { "ring entry" } else { "descriptor" };
                format!(
                    "  {device:8}=> {place} {index}: {operation} at sector {sector}, {bytes} bytes: {outcome}"
                )
            }
            Event::Raised { .. } => format!("  {device:8}!! an interrupt"),
            Event::Acknowledged { .. } => {
                format!("  {device:8}-> the driver has acknowledged the interrupt")
            }
            // The story is told in registers and requests.
            _ => return,
        };
        teller.tell(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_goes_on_below_in_80_columns() {
        assert_eq!(wrapped("  short"), "  short");
        let words = "word ".repeat(30);
        let register = format!("  virtio0 -> {:17} {:#010x}  ", "Status", 1);
        assert_eq!(register.len(), 43);
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
