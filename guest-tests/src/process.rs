//! cafevm as a process: its standard input and output, while it runs.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Failed, fail};

/// How long a test waits for the output of a process.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running process. It is killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<Vec<u8>>,
    printed: Vec<u8>,
    /// Up to here [`Process::wait_for`] has found what it was to wait for.
    awaited: usize,
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// All it ever wrote to standard output.
    pub printed: Vec<u8>,
    /// All it ever wrote to standard error.
    pub log: String,
}

impl Process {
    /// Starts this program.
    ///
    /// # Errors
    ///
    /// If the host cannot.
    pub fn start<'a>(
        program: &Path,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Failed> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let Some(mut stdout) = child.stdout.take() else { fail!("no pipe for standard output") };
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Ends with the pipe, or with the receiver.
            while let Ok(count @ 1..) = stdout.read(&mut bytes) {
                if sender.send(bytes.get(..count).unwrap_or_default().to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, input, output, printed: Vec::new(), awaited: 0 })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends these bytes.
    ///
    /// # Errors
    ///
    /// If it no longer reads.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        match &mut self.input {
            Some(input) => Ok(input.write_all(bytes)?),
            None => fail!("its input is closed"),
        }
    }

    /// Waits for this text, after the one that was waited for before.
    ///
    /// # Errors
    ///
    /// If it ends, or takes too long, without this text.
    pub fn wait_for(&mut self, text: &str) -> Result<(), Failed> {
        let limit = Instant::now() + PATIENCE;
        loop {
            let fresh = self.printed.get(self.awaited..).unwrap_or_default();
            if let Some(at) = fresh.windows(text.len()).position(|part| part == text.as_bytes()) {
                self.awaited += at + text.len();
                return Ok(());
            }
            match self.output.recv_timeout(limit.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.printed.extend(bytes),
                Err(why) => {
                    fail!(
                        "waited for {text:?} ({why}); its output: {:?}",
                        String::from_utf8_lossy(&self.printed)
                    )
                }
            }
        }
    }

    /// Collects its output for this time, or until it ends.
    pub fn listen(&mut self, time: Duration) {
        let limit = Instant::now() + time;
        while let Ok(bytes) =
            self.output.recv_timeout(limit.saturating_duration_since(Instant::now()))
        {
            self.printed.extend(bytes);
        }
    }

    /// Kills it, if it has not ended, as `kill -9` does.
    ///
    /// # Errors
    ///
    /// If the host cannot.
    pub fn kill(&mut self) -> Result<(), Failed> {
        Ok(self.child.kill()?)
    }

    /// Closes its input and waits for its end.
    ///
    /// # Errors
    ///
    /// If it does not end in time.
    pub fn finish(mut self) -> Result<Ended, Failed> {
        self.input = None;
        let limit = Instant::now() + PATIENCE;
        // Its output ends with it.
        loop {
            match self.output.recv_timeout(limit.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.printed.extend(bytes),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(why) => fail!(
                    "it does not end ({why}); its output: {:?}",
                    String::from_utf8_lossy(&self.printed)
                ),
            }
        }
        let mut log = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut log)?;
        }
        let status = self.child.wait()?;
        Ok(Ended { status, printed: std::mem::take(&mut self.printed), log })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails where it has ended, and that is as well.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

impl Ended {
    /// Its output, with `\n` at the end of each line.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.printed).replace("\r\n", "\n")
    }

    /// Whether it was ended by this signal.
    pub fn by_signal(&self, signal: i32) -> bool {
        self.status.signal() == Some(signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        Process::start(Path::new("/bin/sh"), ["-c", script]).unwrap()
    }

    #[test]
    fn what_is_said_is_heard_in_its_order() {
        let mut process = shell("echo ready; read word; echo got $word; echo done >&2; exit 3");
        process.wait_for("ready").unwrap();
        process.send(b"ready\n").unwrap();
        // The first one was received before.
        process.wait_for("got ready").unwrap();
        let ended = process.finish().unwrap();
        assert_eq!((ended.text().as_str(), ended.log.as_str()), ("ready\ngot ready\n", "done\n"));
        assert_eq!(ended.status.code(), Some(3));
    }

    #[test]
    fn a_process_that_is_killed_says_so_and_what_it_never_says_is_not_waited_for() {
        let mut process = shell("echo a; exec cat");
        process.wait_for("a").unwrap();
        process.kill().unwrap();
        assert!(process.wait_for("b").is_err());
        let ended = process.finish().unwrap();
        assert!(ended.by_signal(9));
    }
}
