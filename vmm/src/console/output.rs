//! The path of the guest's output to a file: no vCPU waits for the file's reader.
//!
//! ```text
//!  vCPU ──byte──▶ Serial ──▶ Queued ──▶ Backlog (256 KiB) ──thread "console"──▶ file, pipe, terminal
//!                   ▲                                              │
//!                   └──────────── there is room again ─────────────┘
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use cafevm_devices::serial;
use rustix::stdio::stdout;
use tracing::warn;

use crate::console::milestones;
use crate::error::HostError;
use crate::log::backlog::{Backlog, CHUNK};
use crate::log::patient::write_patiently;
use crate::log::screen;

/// The most bytes of output that are buffered.
const CAPACITY: usize = 256 << 10;

/// The destination of the guest's output.
pub enum Output {
    /// To standard output.
    Stdout,
    /// Nowhere: the output is dropped.
    Null,
    /// Appended to this file, which is created if it does not exist.
    File(PathBuf),
    /// This writer. It should not block for long: a vCPU waits for it.
    Writer(Box<dyn Write + Send>),
}

impl Output {
    /// Opens the destination. Creates a file only here. Returns the writer for the serial port, and the queue behind
    /// it.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub(crate) fn open(self) -> Result<(Box<dyn serial::Output>, Option<Drain>), HostError> {
        let direct = |writer| {
            let direct: Box<dyn serial::Output> = Box::new(Direct(Some(milestones::watch(writer))));
            (direct, None)
        };
        // Log lines there start on a new line.
        let shares_screen = matches!(self, Self::Stdout) && screen::is_shared();
        let file = match self {
            Self::Null => return Ok(direct(Box::new(io::sink()))),
            Self::Writer(writer) => return Ok(direct(writer)),
            Self::Stdout => {
                // Unbuffered: Rust's own standard output keeps bytes until the end of a line.
                let copy =
                    rustix::io::dup(stdout()).map_err(HostError::os("use standard output"))?;
                File::from(copy)
            }
            Self::File(path) => OpenOptions::new()
                // Append mode: existing content stays.
                .append(true)
                .create(true)
                // The open of a pipe would block until it has a reader.
                .custom_flags(libc::O_NONBLOCK)
                .open(&path)
                .map_err(|source| HostError::SerialFile { path, source })?,
        };
        let count = |bytes: &[u8]| bytes.len() as u64;
        let backlog = Arc::new(Backlog::new(CAPACITY, serial::FIFO_SIZE, CHUNK, count));
        let writer = milestones::watch(Box::new(Patient { file, open_line: false, shares_screen }));
        Ok((Box::new(Queued(backlog.clone())), Some(Drain { backlog, writer })))
    }
}

/// Output that a thread writes.
struct Queued(Arc<Backlog>);

impl serial::Output for Queued {
    fn write(&mut self, byte: u8) {
        self.0.push(&[byte]);
    }

    fn has_room(&self) -> bool {
        self.0.has_room()
    }
}

/// Output that the vCPU writes, until a write fails.
struct Direct(Option<Box<dyn Write + Send>>);

impl serial::Output for Direct {
    fn write(&mut self, byte: u8) {
        if let Some(writer) = &mut self.0
            && let Err(error) = writer.write_all(&[byte]).and_then(|()| writer.flush())
        {
            report_failure(&error);
            self.0 = None;
        }
    }

    fn has_room(&self) -> bool {
        true
    }
}

fn report_failure(error: &io::Error) {
    warn!("serial: the console's output fails: {error}; further output is dropped");
}

/// The queue and its file, before the thread runs.
pub(crate) struct Drain {
    backlog: Arc<Backlog>,
    writer: Box<dyn Write + Send>,
}

impl Drain {
    /// Starts the thread that writes the file. The thread calls `eased` when the full queue has room again.
    ///
    /// # Errors
    ///
    /// If the host cannot create a thread.
    pub(crate) fn start(self, eased: impl FnMut() + Send + 'static) -> Result<Draining, HostError> {
        let Self { backlog, mut writer } = self;
        let draining = Draining(backlog.clone());
        let run = move || {
            if let Err(error) = backlog.write_out(|bytes| writer.write(bytes), eased) {
                report_failure(&error);
            }
            drop(writer);
            backlog.end();
        };
        let thread = thread::Builder::new().name("console".to_owned()).spawn(run);
        thread.map(|_detached| draining).map_err(HostError::os("start the console's thread"))
    }
}

/// The running output thread. Drop it when the guest has ended: the drop waits until all output is written, limited as
/// in [`Backlog::flush`], and logs what is missing. A thread that is blocked by a reader is left behind.
pub(crate) struct Draining(Arc<Backlog>);

impl Drop for Draining {
    fn drop(&mut self) {
        self.0.close();
        let left = self.0.flush();
        self.0.end();
        let dropped = self.0.take_dropped();
        if dropped > 0 {
            warn!(
                "serial: {dropped} bytes of the guest's output were dropped while it ran: the guest wrote them although \
                 the line status register said that there was no room"
            );
        }
        if left > 0 {
            warn!(
                "serial: the last {left} bytes of the guest's output were dropped, because nothing read them"
            );
        }
    }
}

/// A file whose reader may block.
struct Patient {
    file: File,
    /// Whether the last line is incomplete.
    open_line: bool,
    /// Whether the log uses the same terminal.
    shares_screen: bool,
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let screen = self.shares_screen.then(screen::lock);
        let count = write_patiently(self.file.as_fd(), bytes)?;
        let written = bytes.get(..count).unwrap_or(bytes);
        self.open_line = written.last().map_or(self.open_line, |&byte| byte != b'\n');
        if let Some(mut line) = screen {
            line.guest_wrote(written);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Ends the last line, so that later output on the terminal starts on a new line.
impl Drop for Patient {
    fn drop(&mut self) {
        if self.open_line && self.file.is_terminal() {
            let _written = self.write(b"\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Counts the writes, all of which fail.
    #[derive(Clone, Default)]
    struct Broken(Arc<Mutex<usize>>);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            *self.0.lock().unwrap() += 1;
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_that_fails_is_tried_once() {
        let broken = Broken::default();
        let (mut port, drain) = Output::Writer(Box::new(broken.clone())).open().unwrap();
        assert!(drain.is_none());
        for _ in 0..100 {
            port.write(b'a');
            assert!(port.has_room());
        }
        assert_eq!(*broken.0.lock().unwrap(), 1);
    }

    #[test]
    fn a_file_has_all_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "before").unwrap();
        let (mut port, drain) = Output::File(path.clone()).open().unwrap();
        let draining = drain.unwrap().start(|| ()).unwrap();
        for byte in (0..=255).cycle().take(100_000) {
            port.write(byte);
        }
        drop(draining);
        let bytes = std::fs::read(path).unwrap();
        let (before, after) = bytes.split_at(6);
        assert_eq!(before, b"before");
        assert!(after.iter().copied().eq((0..=255).cycle().take(100_000)));
    }
}
