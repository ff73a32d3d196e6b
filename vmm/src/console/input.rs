//! The path of the console's input to the guest.

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cafevm_devices::irq::Wake;
use cafevm_devices::serial::Serial;
use event_manager::{Error, EventOps, EventSet, Events};
use rustix::io::Errno;
use rustix::stdio::stdin;
use tracing::warn;

use crate::console::Input;
use crate::console::keys::{HELP, Keys, WAY_OUT, Wish};
use crate::console::terminal::{Terminal, show_way_out};
use crate::error::HostError;
use crate::exit::Verdict;
use crate::runtime::event_loop::{Subscriber, failed, unwatch, watch};
use crate::runtime::timer::Timer;
use crate::threads::ending::Ending;
use crate::threads::wake::WakeFd;
use crate::waiting::{self, Explain};

/// The most bytes from a terminal that are buffered for a guest that does not read. Further bytes are still read from
/// the terminal, because they may contain the key that ends cafevm.
const MOST_TYPED: usize = 1 << 20;
/// The most bytes of one read.
const CHUNK: usize = 4096;
/// The most chunks of a file that are read before other subscribers get their turn.
const TURN: usize = 16;
/// How often to check whether cafevm is in the terminal's foreground again: a shell's `fg` sends no signal to a job
/// that runs.
const BACKGROUND: Duration = Duration::from_millis(500);

/// Passes input to the guest.
#[derive(Debug)]
pub(crate) struct Feeder {
    source: Source,
    pending: VecDeque<u8>,
    /// The bytes that the guest gets after the end of the input.
    end: &'static [u8],
    /// Bytes that the guest has not accepted yet: the serial port signals when it has room.
    full: bool,
    lost: bool,
}

#[derive(Debug)]
enum Source {
    Ended,
    Stream,
    Terminal(Rc<Terminal>, Keys),
}

impl Feeder {
    /// Starts reading. Makes a terminal in the foreground raw until the feeder is dropped. `end` is what the guest gets
    /// after the end of the input.
    pub(crate) fn new(input: Input, end: &'static [u8]) -> Self {
        let (source, mut pending) = match input {
            Input::None => (Source::Ended, VecDeque::new()),
            Input::Bytes(bytes) => (Source::Ended, bytes.into()),
            Input::Stdin => match Terminal::on_stdin() {
                Some(terminal) => {
                    terminal.enter();
                    (Source::Terminal(Rc::new(terminal), Keys::default()), VecDeque::new())
                }
                None => (Source::Stream, VecDeque::new()),
            },
        };
        if matches!(source, Source::Ended) {
            pending.extend(end);
        }
        Self { source, pending, end, full: false, lost: false }
    }

    fn end(&mut self) {
        self.source = Source::Ended;
        self.pending.extend(self.end);
    }

    /// The terminal, if standard input is one.
    pub(crate) fn terminal(&self) -> Option<Rc<Terminal>> {
        match &self.source {
            Source::Terminal(terminal, _) => Some(terminal.clone()),
            Source::Ended | Source::Stream => None,
        }
    }

    /// Whether to read standard input when it is ready.
    fn listens(&self) -> bool {
        match &self.source {
            Source::Ended => false,
            Source::Stream => self.pending.is_empty(),
            Source::Terminal(terminal, _) => terminal.in_foreground(),
        }
    }

    /// Reads what is available. Returns the key command of the user, if there was one.
    fn read(&mut self) -> Option<Wish> {
        let mut bytes = [0; CHUNK];
        let count = match rustix::io::read(stdin(), &mut bytes) {
            Ok(0) => {
                self.end();
                return None;
            }
            Ok(count) => count,
            Err(Errno::INTR | Errno::AGAIN) => return None,
            Err(error) => {
                // The error of a terminal that was hung up, or that is in the background now.
                let away = self.terminal().is_some_and(|terminal| !terminal.in_foreground());
                if !away {
                    if error != Errno::IO {
                        warn!("standard input cannot be read: {error}; cafevm treats it as ended");
                    }
                    self.end();
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
                        warn!("the guest does not read its input; cafevm drops further keys");
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

    /// Passes bytes to the guest, as many as it accepts.
    fn feed(&mut self, serial: &Mutex<Serial>) {
        if self.pending.is_empty() || self.full {
            return;
        }
        // A vCPU holds this lock for one access.
        let mut serial = serial.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = serial.feed(self.pending.make_contiguous());
        self.pending.drain(..taken);
        self.full = !self.pending.is_empty();
    }
}

/// Reads standard input for the guest, on the main thread's loop.
pub(crate) struct InputSubscriber<'a> {
    feeder: Feeder,
    serial: Arc<Mutex<Serial>>,
    /// Woken when the serial port has room again, or when the terminal's foreground may have changed.
    look: Arc<WakeFd>,
    background: Timer,
    ending: Arc<Ending>,
    explain: Explain<'a>,
    /// Whether the loop watches standard input.
    watched: bool,
    /// Whether epoll can watch standard input. It cannot watch a regular file or /dev/null, which are always ready.
    waitable: bool,
}

impl<'a> InputSubscriber<'a> {
    /// Passes input to `serial`, whose `drained` wakes `look`.
    ///
    /// # Errors
    ///
    /// If the host cannot create a timer.
    pub(crate) fn new(
        feeder: Feeder,
        serial: Arc<Mutex<Serial>>,
        look: Arc<WakeFd>,
        ending: Arc<Ending>,
        explain: Explain<'a>,
    ) -> Result<Self, HostError> {
        let background = Timer::new()?;
        let (watched, waitable) = (false, true);
        Ok(Self { feeder, serial, look, background, ending, explain, watched, waitable })
    }

    fn read(&mut self) {
        match self.feeder.read() {
            Some(Wish::Quit) => self.ending.end(Verdict::Quit),
            Some(Wish::Explain) => waiting::log(&(self.explain)()),
            Some(Wish::Help) => crate::log::line(HELP),
            Some(Wish::WayOut) => crate::log::line(WAY_OUT),
            None => {}
        }
        self.feeder.feed(&self.serial);
    }

    /// Passes input to the guest, and chooses the next event to wait for.
    fn advance(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        self.feeder.feed(&self.serial);
        let listens = self.feeder.listens();
        if listens && self.waitable && !self.watched {
            // A shell's `fg` of a job that runs sends no signal.
            if let Some(terminal) = self.feeder.terminal() {
                terminal.enter();
                show_way_out();
            }
            match ops.add(Events::new(&stdin(), EventSet::IN)) {
                Ok(()) => self.watched = true,
                // A read does not block here, and it reports a closed descriptor.
                Err(Error::Epoll(error)) if matches!(error.errno(), libc::EPERM | libc::EBADF) => {
                    self.waitable = false;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        if self.watched && !listens {
            self.watched = false;
            unwatch(ops, &stdin())?;
        }
        if !self.waitable {
            for _ in 0..TURN {
                if !self.feeder.listens() {
                    break;
                }
                self.read();
            }
            if self.feeder.listens() {
                self.look.wake();
            }
        }
        let away = !listens && self.feeder.terminal().is_some();
        self.background.set(away.then_some(BACKGROUND))
    }
}

impl Subscriber for InputSubscriber<'_> {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        watch(ops, &*self.look)?;
        watch(ops, &self.background)?;
        self.advance(ops)
    }

    fn handle(&mut self, event: Events, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let fd = event.fd();
        if fd == self.look.as_raw_fd() {
            // Reset the event, or the descriptor stays readable.
            self.look.clear();
            self.feeder.full = false;
        } else if fd == stdin().as_raw_fd() {
            // Also after a hang-up: the read reports it.
            self.read();
        }
        self.advance(ops)
    }
}
