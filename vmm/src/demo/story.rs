//! The demo's output: what the guest prints, and what its drivers and the devices do, in the order in which it happens.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anstyle::{AnsiColor, Style};
use cafevm_devices::observe::{Event, Observer, Seen};
use cafevm_devices::svirtb;

use crate::config::address::ListenAddress;
use crate::demo::wrap::wrapped;
use crate::exit::Verdict;
use crate::log::colour::{paint, wanted};
use crate::run::RunReport;
use crate::trace::text;

/// What the guest prints before each command it runs.
const PROMPT: &str = "cafevm> ";

const PLAIN: Style = Style::new();
const HEADING: Style = Style::new().bold();
const GUEST: Style = AnsiColor::Cyan.on_default();

/// Prints the story on standard output. Clones print to the same place.
#[derive(Clone)]
pub(super) struct Story(Arc<Mutex<Printer>>);

struct Printer {
    /// Whether standard output is a terminal that shows colours.
    coloured: bool,
    /// The guest's current line so far.
    line: String,
    /// The part of the story that was printed last.
    part: Part,
    /// The first error of standard output.
    failed: Option<io::Error>,
}

/// What the guest does at the moment, as far as the headings distinguish it.
#[derive(PartialEq, Eq)]
enum Part {
    Booting,
    /// It looks for a disk on svirtb.
    LooksForSvirtb,
    /// The virtio handshake. The guest does it while it boots, to know the disk's size.
    Virtio,
    /// It runs commands.
    Commands,
}

impl Story {
    /// Prints the first lines.
    pub(super) fn begin(svirtb: &Path, virtio: &Path, sectors: usize) -> Self {
        let story = Self(Arc::new(Mutex::new(Printer {
            coloured: wanted(io::stdout()),
            line: String::new(),
            part: Part::Booting,
            failed: None,
        })));
        let mut printer = story.printer();
        printer.print(
            HEADING,
            "cafevm demo: a guest kernel uses two disks, each by another protocol.",
        );
        printer.print(PLAIN, &format!(
            "\nTwo scratch images, {sectors} sectors of 512 bytes each, are filled with dots:\n  \
               {}\n  {}\n\n\
             A virtual machine boots the built-in guest, a block shell. Lines of its output\n\
             begin with '|'. The other lines begin with the name of a device:\n  \
               ->  the driver writes a register\n  \
               <-  the driver reads a register\n  \
               []  the device reads or writes a ring in guest memory\n  \
               =>  the device has finished a request\n  \
               !!  the device interrupts the guest\n",
            svirtb.display(),
            virtio.display(),
        ));
        drop(printer);
        story
    }

    /// Tells how to look at the guest's screen.
    pub(super) fn viewers_are_welcome(&self, address: &ListenAddress) {
        let mut printer = self.printer();
        printer
            .print(HEADING, "The guest has a screen, a keyboard and a tablet, for VNC viewers at");
        printer.print(PLAIN, &format!("  {address}"));
        printer.print(HEADING, "The demo ends with 'exit', typed there, or with Ctrl-C here.\n");
    }

    /// Reports that the guest ended.
    pub(super) fn ended(&self, report: &RunReport) {
        let mut printer = self.printer();
        let how = match report.verdict {
            Verdict::Interrupted(signal) => format!("{signal} ended the machine"),
            _ => format!("The guest powered the machine off: exit status {}", report.status()),
        };
        printer.print(HEADING, &format!("\n{how}."));
        printer.print(PLAIN, &report.exits.to_string());
    }

    /// Reports that the screenshot is there.
    pub(super) fn screenshot(&self, path: &Path) {
        let mut printer = self.printer();
        printer.print(HEADING, "\nThe guest's screen at its end:");
        printer.print(PLAIN, &format!("  {}", path.display()));
    }

    /// The heading of what the images hold.
    pub(super) fn images(&self) {
        self.printer().print(HEADING, "\nThe images, as the host reads them now:");
    }

    /// Reports that an image holds what the guest wrote.
    pub(super) fn holds(&self, image: &Path, sector: usize, text: &str) {
        self.printer().print(
            PLAIN,
            &format!(
                "  {}:\n    sector {sector} holds \"{text}\"; nothing else changed",
                image.display()
            ),
        );
    }

    /// Prints the last lines.
    pub(super) fn end(&self) {
        self.printer().print(
            PLAIN,
            "\nBoth images are correct. The scratch images are removed. What to try next:\n\
             'cafevm run --disk FILE' runs the same shell on your disk image; 'help' lists\n\
             its commands, Ctrl-A X ends it.",
        );
    }

    /// Checks that all of it was written.
    ///
    /// # Errors
    ///
    /// The first error of standard output. A reader that closed the pipe is no error.
    pub(super) fn written(&self) -> io::Result<()> {
        let failed = self.printer().failed.take();
        failed.filter(|error| error.kind() != io::ErrorKind::BrokenPipe).map_or(Ok(()), Err)
    }

    fn printer(&self) -> MutexGuard<'_, Printer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Printer {
    fn print(&mut self, style: Style, text: &str) {
        for line in text.split('\n') {
            for line in wrapped(line).split('\n') {
                let styled = paint(self.coloured && !line.is_empty(), style, line);
                if let Err(error) = writeln!(io::stdout(), "{styled}") {
                    self.failed.get_or_insert(error);
                }
            }
        }
    }

    fn begin(&mut self, part: Part, heading: &str) {
        if self.part != part && self.part != Part::Commands {
            self.part = part;
            self.print(HEADING, heading);
        }
    }

    fn guest_line(&mut self, line: &str) {
        if let Some(command) = line.strip_prefix(PROMPT) {
            self.part = Part::Commands;
            self.print(PLAIN, "");
            if let Some(heading) = heading(command) {
                self.print(HEADING, heading);
            }
        }
        self.print(GUEST, format!("| {line}").trim_end());
    }
}

/// What to print before the guest runs a command.
fn heading(command: &str) -> Option<&'static str> {
    let mut words = command.split(' ');
    Some(match (words.next()?, words.next()) {
        ("dev", Some("svirtb")) => {
            "The svirtb handshake: MAGIC, DRIVER_OK, the address of the ring, READY. The driver reads each step back."
        }
        ("dev", Some("virtio")) => {
            "The other disk. Its handshake took place while the guest booted."
        }
        ("write", _) => "A write: the driver fills in a request, then rings the doorbell.",
        ("read", _) => "A read of the same sector:",
        ("flush", _) => {
            "A flush: the device answers when all earlier writes are on stable storage."
        }
        _ => return None,
    })
}

/// The guest's output, which arrives byte by byte.
impl Write for Story {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut printer = self.printer();
        for byte in bytes {
            match byte {
                b'\r' => {}
                b'\n' => {
                    let line = std::mem::take(&mut printer.line);
                    printer.guest_line(&line);
                }
                byte => printer.line.push(char::from(*byte)),
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
        // The story is about the disks.
        if !seen.device.starts_with("virtio") && &**seen.device != svirtb::NAME {
            return;
        }
        match seen.event {
            // The number of these depends on when an interrupt arrives. The story shows their effects instead.
            Event::Register { register: "InterruptStatus" | "InterruptACK", .. } => return,
            Event::Register { .. }
            | Event::ChainTaken { .. }
            | Event::Descriptor { .. }
            | Event::ChainReturned { .. }
            | Event::Entry { .. }
            | Event::EntrySpacing { .. }
            | Event::Finished { .. }
            | Event::Raised { .. }
            | Event::Acknowledged { .. } => {}
            // Registers, rings and requests are enough for a story.
            _ => return,
        }
        let Some((style, line)) = text::of(seen) else { return };
        let mut printer = self.printer();
        if let Event::Register { .. } = seen.event {
            if &**seen.device == svirtb::NAME {
                printer.begin(Part::LooksForSvirtb, "\nThe guest looks for a disk on svirtb:");
            } else {
                printer.begin(
                    Part::Virtio,
                    "\nThe virtio handshake: identification, status, features, the queue, DRIVER_OK:",
                );
            }
        }
        printer.print(style, &line);
    }
}
