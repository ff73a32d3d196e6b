//! The main thread's work while the vCPUs run: input, signals, the time limit, the end.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio::stdin;

use crate::console::{FeedState, Feeder};
use crate::error::HostError;
use crate::exit::Verdict;
use crate::keys::{HELP, Wish};
use crate::signals::{self, Ask, Signals};
use crate::vm::Running;

/// How soon to try again where a vCPU uses the serial port, or has not come to wait yet.
const BUSY: Duration = Duration::from_millis(2);
/// How often to ask whether the terminal is ours again.
const BACKGROUND: Duration = Duration::from_millis(500);

/// What the main thread watches.
pub(crate) struct Watch<'a> {
    pub(crate) running: &'a Running,
    pub(crate) feeder: Feeder,
    pub(crate) signals: Option<&'a Signals>,
    pub(crate) deadline: Option<Instant>,
}

impl Watch<'_> {
    /// Watches until the machine is to end; `Ending` then knows why.
    ///
    /// # Errors
    ///
    /// Where the host cannot wait.
    pub(crate) fn until_the_end(mut self) -> Result<(), HostError> {
        while !self.running.ending.requested() {
            if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.running.ending.end(Verdict::TimedOut);
                break;
            }
            self.feeder.feed(&self.running.serial);
            let Some(input) = self.wait()? else { continue };
            // Cleared, or it would be readable for ever.
            if self.running.drained.take() {
                self.feeder.state = FeedState::Idle;
            }
            if self.running.pause.asked.take() || self.is_parking() {
                self.running.kick();
            }
            for ask in self.signals.map(Signals::asks).unwrap_or_default() {
                self.answer(ask);
            }
            if input {
                match self.feeder.read() {
                    Some(Wish::Quit) => self.running.ending.end(Verdict::Quit),
                    Some(Wish::Help) => crate::log::say(HELP),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Whether vCPUs that are to wait still run.
    fn is_parking(&self) -> bool {
        self.running.pause.is_paused() && !self.running.is_parked()
    }

    /// Waits for anything to happen; whether there is input. None where nothing is known to have happened.
    fn wait(&mut self) -> Result<Option<bool>, HostError> {
        let listens = self.feeder.listens();
        let timeout = self.timeout(listens);
        let mut fds = Vec::with_capacity(10);
        fds.push(PollFd::new(self.running.ending.event(), PollFlags::IN));
        fds.push(PollFd::new(&*self.running.drained, PollFlags::IN));
        fds.push(PollFd::new(&self.running.pause.asked, PollFlags::IN));
        if let Some(signals) = self.signals {
            fds.extend(signals.streams().map(|stream| PollFd::new(stream, PollFlags::IN)));
        }
        if listens {
            let stdin: BorrowedFd<'static> = stdin();
            fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        match poll(&mut fds, timeout.as_ref()) {
            // Also where it was hung up: to read it tells.
            Ok(_) => Ok(Some(listens && fds.last().is_some_and(|fd| !fd.revents().is_empty()))),
            Err(Errno::INTR) => Ok(None),
            Err(error) => Err(HostError::os("wait for input")(error)),
        }
    }

    fn timeout(&self, listens: bool) -> Option<Timespec> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let busy = (self.feeder.state == FeedState::Busy || self.is_parking()).then_some(BUSY);
        let away = (!listens && self.feeder.terminal().is_some()).then_some(BACKGROUND);
        let soonest = [left, busy, away].into_iter().flatten().min()?;
        // A time that does not fit is longer than anybody waits.
        Timespec::try_from(soonest).ok()
    }

    fn answer(&self, ask: Ask) {
        match ask {
            Ask::End(signal) => self.running.ending.end(Verdict::Interrupted(signal)),
            Ask::Pause => {
                if let Some(terminal) = self.feeder.terminal() {
                    terminal.leave();
                }
                if let Err(error) = signals::pause() {
                    tracing::warn!("cannot stop as SIGTSTP asks: {error}");
                }
            }
            // Whoever had the terminal meanwhile has changed it.
            Ask::Resumed => {
                if let Some(terminal) = self.feeder.terminal() {
                    terminal.enter();
                }
            }
        }
    }
}
