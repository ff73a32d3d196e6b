//! The story's lines: what the guest says, what its drivers do to the devices, and what becomes of it.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cafevm_devices::observe::{Direction, Event, Observer, Request, Seen};

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
    /// What the guest has said of its current line.
    line: String,
    /// Whether a virtio device has been seen at work.
    virtio_seen: bool,
}

impl Story {
    /// The first lines.
    pub(super) fn begin(svirtb: &Path, virtio: &Path, sectors: usize) -> Self {
        let story = Self(Arc::new(Mutex::new(Teller::default())));
        story.tell(&format!(
            "cafevm demo: a guest kernel uses two disks, each by another protocol.\n\
             \n\
             Two scratch images were made, {sectors} sectors of 512 bytes each, filled with dots:\n  \
               {}\n  {}\n\
             \n\
             Now a virtual machine boots the built-in guest, a block shell on the bare machine. What it prints\n\
             stands behind a bar. What its drivers do to a device stands behind the device's name: '->' is a\n\
             write to a register, '<-' a read, '=>' a request that the device has served.\n",
            svirtb.display(),
            virtio.display(),
        ));
        story
    }

    /// The machine is gone.
    pub(super) fn ended(&self, report: &RunReport) {
        self.tell(&format!(
            "\nThe guest has ended, and so has the machine: exit status {} is the guest's own verdict.\n{}\n\
             \nThe images, as the host sees them now:",
            report.status(),
            report.exits
        ));
    }

    /// An image was found right.
    pub(super) fn holds(&self, image: &Path, sector: usize, text: &str) {
        self.tell(&format!(
            "  {}: sector {sector} holds \"{text}\"; every other byte is as it was",
            image.display()
        ));
    }

    /// The last line.
    pub(super) fn end(&self) {
        self.tell(
            "\nAll is as it should be. The scratch images are removed. To go on: 'cafevm run --disk FILE' gives you\n\
             the same shell on a disk of yours; 'help' lists its commands, Ctrl-A X ends it.",
        );
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
        // Nobody reads it? Then the check that follows is all that counts.
        let _told = writeln!(io::stdout(), "{text}");
    }

    fn guest_says(&mut self, line: &str) {
        if let Some(command) = line.strip_prefix(PROMPT) {
            self.tell("");
            if let Some(heading) = heading(command) {
                self.tell(heading);
            }
        }
        self.tell(format!("  guest   | {line}").trim_end());
    }
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
            Event::Register { register, direction, value, meaning } => {
                // The guest shakes hands with a virtio disk while it boots, to tell its size.
                if !teller.virtio_seen && device != SVIRTB {
                    teller.virtio_seen = true;
                    teller.tell(
                        "\nThe virtio handshake (who are you, status, features, queue, DRIVER_OK):",
                    );
                }
                let arrow = match direction {
                    Direction::Read => "<-",
                    Direction::Write => "->",
                };
                let line = format!("  {device:8}{arrow} {register:17} {value:#010x}  {meaning}");
                line.trim_end().to_owned()
            }
            Event::Finished { request, outcome } => {
                let Request { index, operation, sector, bytes, .. } = request;
                let place = if device == SVIRTB { "ring entry" } else { "descriptor" };
                format!(
                    "  {device:8}=> {place} {index}: {operation} at sector {sector}, {bytes} bytes: {outcome}"
                )
            }
            // The story is told in registers and requests.
            _ => return,
        };
        teller.tell(&line);
    }
}
