//! The signals of the process, as descriptors for a loop.

use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1};
use signal_hook::low_level;

use crate::error::HostError;

/// The meaning of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// End cafevm; the name of the signal.
    End(&'static str),
    /// Explain what the guest waits for.
    Explain,
    /// Stop the process until SIGCONT.
    Pause,
    /// The process continues after a stop.
    Resumed,
}

const SIGNALS: [(i32, Signal); 7] = [
    (SIGINT, Signal::End("SIGINT")),
    (SIGTERM, Signal::End("SIGTERM")),
    (SIGHUP, Signal::End("SIGHUP")),
    (SIGQUIT, Signal::End("SIGQUIT")),
    (SIGUSR1, Signal::Explain),
    (SIGTSTP, Signal::Pause),
    (SIGCONT, Signal::Resumed),
];

/// The signals that cafevm catches.
#[derive(Debug)]
pub struct Signals(Vec<(Signal, UnixStream)>);

impl Signals {
    /// Catches the signals for the rest of the process, except for those that the parent process set to be ignored, as
    /// nohup or a shell's `&` does.
    ///
    /// # Errors
    ///
    /// If the host refuses.
    pub fn catch() -> Result<Self, HostError> {
        let is_ignored = ignored();
        let mut streams = Vec::with_capacity(SIGNALS.len());
        for (number, signal) in SIGNALS {
            if is_ignored(number) {
                continue;
            }
            let (reader, writer) =
                UnixStream::pair().map_err(HostError::os("make a pipe for signals"))?;
            reader.set_nonblocking(true).map_err(HostError::os("make a pipe for signals"))?;
            low_level::pipe::register(number, writer).map_err(HostError::os("catch a signal"))?;
            streams.push((signal, reader));
        }
        Ok(Self(streams))
    }

    /// The descriptors that become readable when a signal arrives.
    pub fn streams(&self) -> impl Iterator<Item = &UnixStream> {
        self.0.iter().map(|(_, stream)| stream)
    }

    /// The signals that arrived since the last call.
    pub fn received(&self) -> Vec<Signal> {
        let came = |stream: &UnixStream| {
            let mut bytes = [0; 64];
            let mut stream = stream;
            matches!(stream.read(&mut bytes), Ok(n) if n > 0)
        };
        self.0.iter().filter(|(_, stream)| came(stream)).map(|&(signal, _)| signal).collect()
    }
}

/// Stops this process until SIGCONT, as Ctrl-Z in a terminal does.
///
/// # Errors
///
/// If the host refuses.
pub fn pause() -> io::Result<()> {
    low_level::emulate_default_handler(SIGTSTP)
}

/// The signals that this process ignores; none if that is unknown.
pub fn ignored() -> impl Fn(i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    move |signal| mask & (1 << (signal - 1)) != 0
}
