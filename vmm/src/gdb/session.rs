//! One connection of gdb: from bytes to commands, and from stops of the guest to replies.

use std::cell::RefCell;
use std::rc::Rc;

use gdbstub::common::Signal;
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStubBuilder, GdbStubError, MultiThreadStopReason};
use gdbstub::target::ext::breakpoints::WatchKind;

use super::target::{Guest, Never, tid};
use crate::vcpu::debugger::Stop;
use crate::x86::debug::{Breakpoint, Watched};

/// The largest packet, in bytes: gdb reads the guest's ELF file in parts of this size.
const PACKET: usize = 0x1_0000;

/// The bytes for gdb that are not sent yet. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Outgoing(Rc<RefCell<Vec<u8>>>);

impl Outgoing {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Passes the bytes to `write`, which returns how many it took.
    ///
    /// # Errors
    ///
    /// That of `write`.
    pub(super) fn send<E>(&self, write: impl FnOnce(&[u8]) -> Result<usize, E>) -> Result<(), E> {
        let mut bytes = self.0.borrow_mut();
        let taken = write(&bytes)?.min(bytes.len());
        bytes.drain(..taken);
        Ok(())
    }

    /// Adds a packet that makes gdb print `text`.
    fn print(&self, text: &str) {
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.reply(&format!("O{hex}"));
    }

    /// Adds a packet.
    pub(super) fn reply(&self, body: &str) {
        let sum = body.bytes().fold(0, u8::wrapping_add);
        self.0.borrow_mut().extend(format!("${body}#{sum:02x}").bytes());
    }
}

impl Connection for Outgoing {
    type Error = Never;

    fn write(&mut self, byte: u8) -> Result<(), Never> {
        self.0.borrow_mut().push(byte);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Never> {
        Ok(())
    }
}

type Machine<'a> = GdbStubStateMachine<'static, Guest<'a>, Outgoing>;

/// A connection.
pub(super) struct Session<'a> {
    /// None after the end.
    machine: Option<Machine<'a>>,
    out: Outgoing,
}

/// How a connection ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The guest goes on without a debugger.
    Detached,
    /// The user wants the machine to end.
    Killed,
    /// The other side is no gdb, or sent what is not understood.
    Broken(String),
}

impl<'a> Session<'a> {
    /// Begins with a stopped guest.
    ///
    /// # Errors
    ///
    /// How it ended at once.
    pub(super) fn begin(guest: &mut Guest<'a>, out: Outgoing) -> Result<Self, End> {
        let stub = GdbStubBuilder::new(out.clone()).packet_buffer_size(PACKET).build();
        let stub = stub.map_err(|error| End::Broken(error.to_string()))?;
        let machine = stub.run_state_machine(guest).map_err(|error| broken(&error))?;
        Ok(Self { machine: Some(machine), out })
    }

    /// Handles bytes of gdb.
    ///
    /// # Errors
    ///
    /// How the connection ended.
    pub(super) fn feed(&mut self, guest: &mut Guest<'a>, bytes: &[u8]) -> Result<(), End> {
        bytes.iter().try_for_each(|byte| self.feed_byte(guest, *byte))
    }

    fn feed_byte(&mut self, guest: &mut Guest<'a>, byte: u8) -> Result<(), End> {
        let runs = self.is_running();
        let machine = match self.machine.take() {
            Some(Machine::Idle(machine)) => machine.incoming_data(guest, byte),
            Some(Machine::Running(machine)) => machine.incoming_data(guest, byte),
            other => return self.go_on(other),
        };
        match machine.map_err(|error| broken(&error))? {
            Machine::CtrlCInterrupt(machine) => {
                // A guest that runs reports its stop when all vCPUs wait.
                let interrupted = (!runs).then(|| reason(Stop::Asked));
                if runs {
                    guest.debugger.stop();
                }
                let machine = machine.interrupt_handled(guest, interrupted);
                self.go_on(Some(machine.map_err(|error| broken(&error))?))
            }
            other => self.go_on(Some(other)),
        }
    }

    fn go_on(&mut self, machine: Option<Machine<'a>>) -> Result<(), End> {
        match machine {
            Some(Machine::Disconnected(machine)) => Err(match machine.get_reason() {
                DisconnectReason::Kill => End::Killed,
                _ => End::Detached,
            }),
            Some(machine) => {
                self.machine = Some(machine);
                Ok(())
            }
            None => Err(End::Detached),
        }
    }

    /// Whether gdb waits for the guest to stop.
    pub(super) const fn is_running(&self) -> bool {
        matches!(self.machine, Some(Machine::Running(_)))
    }

    /// Reports that the guest has stopped, after `lines` for the user.
    ///
    /// # Errors
    ///
    /// How the connection ended.
    pub(super) fn stopped(
        &mut self,
        guest: &mut Guest<'a>,
        stop: Stop,
        lines: &[String],
    ) -> Result<(), End> {
        lines.iter().for_each(|line| self.out.print(&format!("{line}\n")));
        self.report(guest, reason(stop))
    }

    /// Reports that the machine has ended, if gdb waits for a stop.
    pub(super) fn exited(&mut self, guest: &mut Guest<'a>, status: u8) {
        // The connection ends here in any case.
        let _reported = self.report(guest, MultiThreadStopReason::Exited(status));
    }

    fn report(
        &mut self,
        guest: &mut Guest<'a>,
        reason: MultiThreadStopReason<u64>,
    ) -> Result<(), End> {
        match self.machine.take() {
            Some(Machine::Running(machine)) => {
                let machine = machine.report_stop(guest, reason);
                self.go_on(Some(machine.map_err(|error| broken(&error))?))
            }
            other => self.go_on(other),
        }
    }
}

fn broken(error: &GdbStubError<Never, Never>) -> End {
    End::Broken(error.to_string())
}

/// A stop in gdb's terms.
fn reason(stop: Stop) -> MultiThreadStopReason<u64> {
    let trap =
        |cpu| MultiThreadStopReason::SignalWithThread { tid: tid(cpu), signal: Signal::SIGTRAP };
    let watch = |cpu, kind, addr| MultiThreadStopReason::Watch { tid: tid(cpu), kind, addr };
    match stop {
        Stop::Asked => {
            MultiThreadStopReason::SignalWithThread { tid: tid(0), signal: Signal::SIGINT }
        }
        Stop::Stepped(cpu) => trap(cpu),
        Stop::Finding(cpu) => trap(cpu.unwrap_or(0)),
        Stop::Breakpoint(cpu, Breakpoint { watched, addr, .. }) => match watched {
            Watched::Execution { is_hardware: true } => MultiThreadStopReason::HwBreak(tid(cpu)),
            Watched::Execution { is_hardware: false } => MultiThreadStopReason::SwBreak(tid(cpu)),
            Watched::Write => watch(cpu, WatchKind::Write, addr),
            Watched::Read => watch(cpu, WatchKind::Read, addr),
            Watched::Access => watch(cpu, WatchKind::ReadWrite, addr),
        },
    }
}
