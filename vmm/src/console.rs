//! The two ends of the guest's serial port on the host.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, TryLockError};

use cafevm_devices::serial::Serial;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio::{stdin, stdout};
use tracing::warn;

use crate::error::HostError;
use crate::keys::{Keys, Wish};
use crate::terminal::Terminal;
use crate::vcpu::Ending;

/// Where the guest's output goes.
pub enum Output {
    /// To standard output.
    Stdout,
    /// Nowhere.
    Null,
    /// Into this file, which is made anew.
    File(PathBuf),
    /// To this writer. It should not block for long: a vCPU waits for it.
    Writer(Box<dyn Write + Send>),
}

impl Output {
    /// Opens it. A file is made here and no earlier.
    pub(crate) fn open(self, ending: &Arc<Ending>) -> Result<Box<dyn Write + Send>, HostError> {
        let file = match self {
            Self::Null => return Ok(Box::new(io::sink())),
            Self::Writer(writer) => return Ok(writer),
            Self::Stdout => {
                // Not Rust's own, which keeps bytes back until a line ends.
                let copy =
                    rustix::io::dup(stdout()).map_err(HostError::os("use standard output"))?;
                File::from(copy)
            }
            Self::File(path) => OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                // To open a pipe would wait for somebody who reads it.
                .custom_flags(libc::O_NONBLOCK)
                .open(&path)
                .map_err(|source| HostError::SerialFile { path, source })?,
        };
        let open_line = false;
        Ok(Box::new(Patient { file, ending: ending.clone(), open_line }))
    }
}

/// A file that may make a vCPU wait, as a pipe does that nobody reads; but not beyond the machine's end.
struct Patient {
    file: File,
    ending: Arc<Ending>,
    /// Whether the last line has no end yet.
    open_line: bool,
}

/// What follows on a terminal begins on a line of its own.
impl Drop for Patient {
    fn drop(&mut self) {
        if self.open_line && self.file.is_terminal() {
            let _written = self.file.write(b"\n");
        }
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.open_line = bytes.last().is_some_and(|&byte| byte != b'\n');
        loop {
            match self.file.write(bytes) {
                // A vCPU is kicked by a signal until it ends.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody else made it so that it does not block.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
                    let mut fds = [PollFd::new(&self.file, PollFlags::OUT)];
                    match poll(&mut fds, Some(&second)) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                done => return done,
            }
            if self.ending.requested() {
                return Ok(bytes.len()); // Nobody will miss it.
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the guest's input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Nowhere.
    None,
    /// From standard input. Where that is a terminal, it is made raw and has the keys of [`crate::keys`].
    Stdin,
    /// These bytes, as fast as the guest takes them.
    Bytes(Vec<u8>),
}

/// The most bytes of a terminal that wait for a guest that does not read. They are read from the terminal all
/// the same, as the user may want to end the machine.
const MOST_TYPED: usize = 1 << 20;
/// How many bytes are read at once.
const CHUNK: usize = 4096;

/// Feeds the guest.
#[derive(Debug)]
pub(crate) struct Feeder {
    source: Source,
    pending: VecDeque<u8>,
    pub(crate) state: FeedState,
    lost: bool,
}

/// What a feeder waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FeedState {
    /// For input.
    Idle,
    /// For the guest to read what it has.
    Full,
    /// For a vCPU that uses the serial port at this moment.
    Busy,
}

#[derive(Debug)]
enum Source {
    Ended,
    Stream,
    Terminal(Terminal, Keys),
}

impl Feeder {
    /// Begins; a terminal in the foreground is raw from here on, until the feeder is dropped.
    pub(crate) fn new(input: Input) -> Self {
        let (source, pending) = match input {
            Input::None => (Source::Ended, VecDeque::new()),
            Input::Bytes(bytes) => (Source::Ended, bytes.into()),
            Input::Stdin => match Terminal::on_stdin() {
                Some(terminal) => {
                    terminal.enter();
                    (Source::Terminal(terminal, Keys::default()), VecDeque::new())
                }
                None => (Source::Stream, VecDeque::new()),
            },
        };
        Self { source, pending, state: FeedState::Idle, lost: false }
    }

    /// The terminal, if there is one.
    pub(crate) const fn terminal(&self) -> Option<&Terminal> {
        match &self.source {
            Source::Terminal(terminal, _) => Some(terminal),
            Source::Ended | Source::Stream => None,
        }
    }

    /// Whether standard input is to be read when there is something.
    pub(crate) fn listens(&self) -> bool {
        match &self.source {
            Source::Ended => false,
            Source::Stream => self.pending.is_empty(),
            Source::Terminal(terminal, _) => terminal.in_foreground(),
        }
    }

    /// Reads what is there; the user's wish, if there was one.
    pub(crate) fn read(&mut self) -> Option<Wish> {
        let mut bytes = [0; CHUNK];
        let count = match rustix::io::read(stdin(), &mut bytes) {
            Ok(0) => {
                self.source = Source::Ended;
                return None;
            }
            Ok(count) => count,
            Err(Errno::INTR | Errno::AGAIN) => return None,
            Err(error) => {
                // A terminal that was hung up, or went to the background just now, says so in this way.
                let away = self.terminal().is_some_and(|terminal| !terminal.in_foreground());
                if !away {
                    if error != Errno::IO {
                        warn!("standard input cannot be read and is taken as ended: {error}");
                    }
                    self.source = Source::Ended;
                }
                return None;
            }
        };
        let bytes = bytes.get(..count).unwrap_or_default();
        match &mut self.source {
            Source::Terminal(_, keys) => {
                let wish = keys.filter(bytes, &mut self.pending);
                if self.pending.len() > MOST_TYPED {
                    self.pending.truncate(MOST_TYPED);
                    if !std::mem::replace(&mut self.lost, true) {
                        warn!("the guest does not read its input: what is typed now is lost");
                    }
                }
                wish
            }
            Source::Ended | Source::Stream => {
                self.pending.extend(bytes);
                None
            }
        }
    }

    /// Gives the guest what it takes.
    pub(crate) fn feed(&mut self, serial: &Mutex<Serial>) {
        if self.pending.is_empty() || self.state == FeedState::Full {
            return;
        }
        // Never waited for: a vCPU may hold it as long as somebody does not read the guest's output.
        let mut serial = match serial.try_lock() {
            Ok(serial) => serial,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.state = FeedState::Busy;
                return;
            }
        };
        let taken = serial.feed(self.pending.make_contiguous());
        self.pending.drain(..taken);
        self.state = if self.pending.is_empty() { FeedState::Idle } else { FeedState::Full };
    }
}
