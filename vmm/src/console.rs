//! The two ends of the guest's serial port on the host.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio::stdout;

use crate::error::HostError;
use crate::runtime::end::Ending;

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
