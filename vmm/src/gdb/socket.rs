//! The connection of gdb and its events, on the main thread. No client can block the machine.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use cafevm_devices::memory::GuestRam;
use event_manager::{EventOps, EventSet, Events};
use tracing::{debug, warn};

use super::program::Program;
use super::session::{End, Outgoing, Session};
use super::target::Guest;
use crate::config::address::ListenAddress;
use crate::error::HostError;
use crate::exit::Verdict;
use crate::log;
use crate::runtime::event_loop::{Subscriber, failed, unwatch, watch};
use crate::runtime::listener::{Listener, Stream};
use crate::runtime::timer::Timer;
use crate::threads::ending::Ending;
use crate::threads::gate::Gate;
use crate::vcpu::debugger::Debugger;
use crate::waiting::Explain;

/// How long a stop waits for a vCPU that is in a device. After this time gdb cannot read its registers.
const STOP_WITHIN: Duration = Duration::from_secs(1);
/// The time after which connections are accepted again when the host had no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// What the connection needs of the machine.
pub(crate) struct Machine<'a> {
    pub(crate) debugger: Arc<Debugger>,
    pub(crate) ram: GuestRam,
    pub(crate) ending: Arc<Ending>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) explain: Explain<'a>,
    /// Makes each vCPU leave its guest.
    pub(crate) kick: Box<dyn Fn() + 'a>,
}

/// The subscriber of gdb's connections: one at a time.
pub(crate) struct GdbSocket<'a> {
    listener: Listener,
    address: ListenAddress,
    guest: Guest<'a>,
    ending: Arc<Ending>,
    gate: Arc<Gate>,
    kick: Box<dyn Fn() + 'a>,
    client: Option<Client<'a>>,
    /// Expires when a stop has waited long enough.
    patience: Timer,
    /// Expires when the host may have descriptors again.
    accept_again: Timer,
}

struct Client<'a> {
    stream: Stream,
    out: Outgoing,
    /// None until all vCPUs wait.
    session: Option<Session<'a>>,
}

impl Client<'_> {
    /// Sends what the other side takes.
    fn flush(&mut self) -> Result<(), End> {
        while !self.out.is_empty() {
            match self.out.send(|bytes| self.stream.write(bytes)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_gone) => return Err(End::Detached),
            }
        }
        Ok(())
    }
}

impl<'a> GdbSocket<'a> {
    /// Waits for gdb; `program` is the guest's ELF file.
    ///
    /// # Errors
    ///
    /// If the host cannot create a timer.
    pub(crate) fn new(
        (listener, address): (Listener, ListenAddress),
        program: Program,
        machine: Machine<'a>,
    ) -> Result<Self, HostError> {
        let Machine { debugger, ram, ending, gate, explain, kick } = machine;
        let guest = Guest::new(debugger, ram, program, explain);
        let (patience, accept_again) = (Timer::new()?, Timer::new()?);
        Ok(Self {
            listener,
            address,
            guest,
            ending,
            gate,
            kick,
            client: None,
            patience,
            accept_again,
        })
    }

    fn accept(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let stream = match self.listener.accept() {
            Ok(stream) => stream,
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
                warn!("--gdb: cannot accept a connection: {error}; cafevm retries every second");
                unwatch(ops, &self.listener)?;
                return self.accept_again.set(Some(ACCEPT_AGAIN));
            }
            Err(error) => {
                debug!("--gdb: cannot accept a connection: {error}");
                return Ok(());
            }
        };
        if self.gate.is_closed() {
            warn!("--gdb: refused a connection: the machine is paused; resume it first");
            return Ok(());
        }
        // The next client waits until this one has gone.
        unwatch(ops, &self.listener)?;
        self.client = Some(Client { stream, out: Outgoing::default(), session: None });
        self.guest.debugger.attach();
        self.guest.debugger.stop();
        Ok(())
    }

    /// A vCPU waits, or wants all to wait; or, if `is_late`, a stop has waited long enough.
    fn look(&mut self, is_late: bool, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let Some(client) = &mut self.client else { return Ok(()) };
        let debugger = self.guest.debugger.clone();
        if debugger.is_stopping() && !is_late {
            (self.kick)();
            return self.patience.set(Some(STOP_WITHIN));
        }
        self.patience.set(None)?;
        let result = match &mut client.session {
            None => match Session::begin(&mut self.guest, client.out.clone()) {
                Ok(session) => {
                    client.session = Some(session);
                    watch(ops, &client.stream)?;
                    Ok(())
                }
                Err(end) => return self.close(&end, ops),
            },
            Some(session) if session.is_running() => match debugger.stopped() {
                Some(stop) => session.stopped(&mut self.guest, stop, &debugger.take_lines()),
                None => Ok(()),
            },
            Some(_) => Ok(()),
        };
        self.settle(result, ops)
    }

    /// Handles bytes of the client, or the end of its connection.
    fn receive(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let Some(Client { stream, session: Some(session), .. }) = &mut self.client else {
            return Ok(());
        };
        let mut bytes = [0; 4096];
        let result = match stream.read(&mut bytes) {
            Ok(0) => Err(End::Detached),
            Ok(len) => session.feed(&mut self.guest, bytes.get(..len).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(_gone) => Err(End::Detached),
        };
        self.settle(result, ops)
    }

    /// Sends what there is, and registers the next events: nothing is read while something is not sent.
    fn settle(&mut self, result: Result<(), End>, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let Some(client) = &mut self.client else { return Ok(()) };
        let flushed = client.flush();
        match result.and(flushed) {
            Err(end) => self.close(&end, ops),
            Ok(()) => {
                let next = if client.out.is_empty() { EventSet::IN } else { EventSet::OUT };
                ops.modify(Events::new(&client.stream, next)).map_err(failed)
            }
        }
    }

    /// Ends the connection; the guest goes on, unless the user wants its end.
    fn close(&mut self, end: &End, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        if let Some(mut client) = self.client.take() {
            if client.session.is_some() {
                unwatch(ops, &client.stream)?;
            }
            if *end == End::Killed {
                client.out.reply("OK");
            }
            // It may have gone.
            let _flushed = client.flush();
        }
        watch(ops, &self.listener)?;
        self.guest.debugger.detach();
        (self.kick)();
        match end {
            End::Killed => self.ending.end(Verdict::Quit),
            End::Detached => log::line("gdb has disconnected; the guest continues"),
            End::Broken(why) => warn!(
                "--gdb: the connection ended because of a packet that is not understood: {why}; the guest continues"
            ),
        }
        Ok(())
    }
}

impl Subscriber for GdbSocket<'_> {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let address = self.listener.address(&self.address);
        log::line(format_args!(
            "the guest waits for gdb: start gdb, type 'target remote {address}', then 'continue'"
        ));
        watch(ops, &self.listener)?;
        watch(ops, &self.guest.debugger.wake)?;
        watch(ops, &self.patience)?;
        watch(ops, &self.accept_again)
    }

    fn handle(&mut self, event: Events, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        let fd = event.fd();
        if fd == self.listener.as_raw_fd() {
            self.accept(ops)
        } else if fd == self.accept_again.as_raw_fd() {
            self.accept_again.set(None)?;
            watch(ops, &self.listener)
        } else if fd == self.guest.debugger.wake.as_raw_fd() {
            self.guest.debugger.wake.clear();
            self.look(false, ops)
        } else if fd == self.patience.as_raw_fd() {
            self.look(true, ops)
        } else if event.event_set().contains(EventSet::OUT) {
            self.settle(Ok(()), ops)
        } else {
            self.receive(ops)
        }
    }
}

/// The machine has ended: gdb learns the exit status.
impl Drop for GdbSocket<'_> {
    fn drop(&mut self) {
        let status = self.ending.verdict().map_or(0, |verdict| verdict.status());
        if let Some(client) = &mut self.client {
            if let Some(session) = client.session.as_mut().filter(|session| session.is_running()) {
                session.exited(&mut self.guest, status);
            }
            // It may have gone.
            let _flushed = client.flush();
        }
    }
}
