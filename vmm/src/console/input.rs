//! The console's input on its way to the guest.

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
use crate::console::terminal::{Terminal, say_way_out};
use crate::error::HostError;
use crate::exit::Verdict;
use crate::runtime::event_loop::{Subscriber, failed, unwatch, watch};
use crate::runtime::timer::Timer;
use crate::threads::ending::Ending;
use crate::threads::wake::WakeFd;

/// The most bytes of a terminal that wait for a guest that does not read. They are read from the terminal all
/// the same, as the user may want to end the machine.
const MOST_TYPED: usize = 1 << 20;
/// How many bytes are read at once.
const CHUNK: usize = 4096;
/// How many chunks of a file are read before other subscribers have their turn.
const TURN: usize = 16;
/// How often to look whether the terminal is ours again: a shell's `fg` tells a job that runs nothing.
const BACKGROUND: Duration = Duration::from_millis(500);

/// Feeds the guest.
#[derive(Debug)]
pub(crate) struct Feeder {
    source: Source,
    pending: VecDeque<u8>,
    /// What the guest gets at the end of the input.
    end: &'static [u8],
    /// The guest has not read what it has: the serial port tells when there is room.
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
    /// Begins; a terminal in the foreground is raw from here on, until the feeder is dropped. `end` is what the guest gets
    /// behind an input that has ended.
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

    /// The terminal, if there is one.
    pub(crate) fn terminal(&self) -> Option<Rc<Terminal>> {
        match &self.source {
            Source::Terminal(terminal, _) => Some(terminal.clone()),
            Source::Ended | Source::Stream => None,
        }
    }

    /// Whether standard input is to be read when there is something.
    fn listens(&self) -> bool {
        match &self.source {
            Source::Ended => false,
            Source::Stream => self.pending.is_empty(),
            Source::Terminal(terminal, _) => terminal.in_foreground(),
        }
    }

    /// Reads what is there; the user's wish, if there was one.
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
                // A terminal that was hung up, or went to the background just now, says so in this way.
                let away = self.terminal().is_some_and(|terminal| !terminal.in_foreground());
                if !away {
                    if error != Errno::IO {
                        warn!("standard input cannot be read and is taken as ended: {error}");
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
    fn feed(&mut self, serial: &Mutex<Serial>) {
        if self.pending.is_empty() || self.full {
            return;
        }
        // A vCPU holds it for one access.
        let mut serial = serial.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = serial.feed(self.pending.make_contiguous());
        self.pending.drain(..taken);
        self.full = !self.pending.is_empty();
    }
}

/// Reads standard input, and feeds the guest.
pub(crate) struct InputSubscriber {
    feeder: Feeder,
    serial: Arc<Mutex<Serial>>,
    /// Woken when the serial port has room again, or the terminal may be another's.
    look: Arc<WakeFd>,
    background: Timer,
    ending: Arc<Ending>,
    /// Whether standard input is waited for.
    watched: bool,
    /// Whether it can be waited for. A regular file and /dev/null cannot, and need not: they are always ready.
    waitable: bool,
}

impl InputSubscriber {
    /// Feeds `serial`, whose `drained` wakes `look`.
    ///
    /// # Errors
    ///
    /// Where the host gives no timer.
    pub(crate) fn new(
        feeder: Feeder,
        serial: Arc<Mutex<Serial>>,
        look: Arc<WakeFd>,
        ending: Arc<Ending>,
    ) -> Result<Self, HostError> {
        let background = Timer::new()?;
        Ok(Self { feeder, serial, look, background, ending, watched: false, waitable: true })
    }

    fn read(&mut self) {
        match self.feeder.read() {
            Some(Wish::Quit) => self.ending.end(Verdict::Quit),
            Some(Wish::Help) => crate::log::line(HELP),
            Some(Wish::WayOut) => crate::log::line(WAY_OUT),
            None => {}
        }
        self.feeder.feed(&self.serial);
    }

    /// Feeds the guest, and waits for what is to be waited for next.
    fn advance(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        self.feeder.feed(&self.serial);
        let listens = self.feeder.listens();
        if listens && self.waitable && !self.watched {
            // A shell's `fg` gives it to a job that runs, and sends no signal.
            if let Some(terminal) = self.feeder.terminal() {
                terminal.enter();
                say_way_out();
            }
            match ops.add(Events::new(&stdin(), EventSet::IN)) {
                Ok(()) => self.watched = true,
                // Reading it does not wait; and where it is no open file, tells so.
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

impl Subscriber for InputSubscriber {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        watch(ops, &*self.look)?;
        watch(ops, &self.background)?;
        self.advance(ops)
    }

    fn handle(&mut self, event: Events, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let fd = event.fd();
        if fd == self.look.as_raw_fd() {
            // Cleared, or it would be readable for ever.
            self.look.clear();
            self.feeder.full = false;
        } else if fd == stdin().as_raw_fd() {
            // Also where it was hung up: to read it tells.
            self.read();
        }
        self.advance(ops)
    }
}
