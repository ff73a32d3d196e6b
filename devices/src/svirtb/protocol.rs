//! The protocol's state: the registers, and the effect of a write in each state.
//!
//! This file does not use the disk. A write is either accepted, with an [`Effect`], or breaks a rule, which is a
//! [`Breach`]; this file also decides the state after a breach.

use super::registers::{Register, Status};
use super::ring::{EntrySize, Ring};
use super::server::{BatchEnd, End};
use super::words::{Breach, Effect};
use crate::memory::GuestRam;

/// The state of the handshake. A ring exists only in READY.
#[derive(Debug, Default)]
enum State {
    #[default]
    Magic,
    DriverOk,
    Ready(Ring),
    /// The error state, which the driver sees as RESET.
    Error,
}

impl State {
    const fn status(&self) -> Status {
        match self {
            Self::Magic => Status::Magic,
            Self::DriverOk => Status::DriverOk,
            Self::Ready(_) => Status::Ready,
            Self::Error => Status::Reset,
        }
    }
}

/// The effect of a write to the status register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// To MAGIC, with all other registers 0.
    BeginAnew,
    /// To DRIVER_OK.
    Configure,
    /// To READY if the ring is valid, otherwise to the error state.
    TakeRing,
    /// To the error state, or stay there.
    Fail,
}

/// The state machine of the status register (sections 2.1 and 3), by state and written value, which is none if unknown.
const fn step(now: Status, written: Option<Status>) -> Step {
    use Status::{DriverOk, Magic, Ready, Reset};
    match (now, written) {
        (Magic | DriverOk | Ready | Reset, Some(Reset)) => Step::BeginAnew,
        (Magic, Some(DriverOk)) => Step::Configure,
        (DriverOk, Some(Ready)) => Step::TakeRing,
        (Magic, Some(Magic | Ready) | None)
        | (DriverOk, Some(Magic | DriverOk) | None)
        | (Ready, Some(Magic | DriverOk | Ready) | None)
        | (Reset, Some(Magic | DriverOk | Ready) | None) => Step::Fail,
    }
}

/// The registers and the state. A write of RESET replaces the whole value by its default.
#[derive(Debug, Default)]
pub(super) struct Protocol {
    state: State,
    queue_size: u32,
    queue_addr_hi: u32,
    queue_addr_lo: u32,
    queue_head: u32,
    queue_tail: u32,
}

impl Protocol {
    /// The value of a register: the last one that its owner wrote.
    pub(super) const fn read(&self, register: Register) -> u32 {
        match register {
            Register::Status => self.state.status().value(),
            Register::QueueSize => self.queue_size,
            Register::QueueAddrHi => self.queue_addr_hi,
            Register::QueueAddrLo => self.queue_addr_lo,
            Register::QueueHead => self.queue_head,
            Register::QueueTail => self.queue_tail,
        }
    }

    /// Handles the driver's write. [`Protocol::serve`] then serves the entries of a doorbell.
    ///
    /// # Errors
    ///
    /// The rule that was broken. The write was ignored or the error state entered, as [`Breach`] states.
    pub(super) fn write(
        &mut self,
        register: Register,
        value: u32,
        ram: &GuestRam,
        entry_size: EntrySize,
    ) -> Result<Effect, Breach> {
        match register {
            Register::Status => self.write_status(value, ram, entry_size),
            Register::QueueSize | Register::QueueAddrHi | Register::QueueAddrLo => {
                self.configure(register, value)
            }
            Register::QueueHead => self.doorbell(value),
            Register::QueueTail => Err(Breach::TailWritten),
        }
    }

    /// The ring, in READY.
    pub(super) const fn ring(&self) -> Option<&Ring> {
        match &self.state {
            State::Ready(ring) => Some(ring),
            _ => None,
        }
    }

    /// Calls `serve` with the entries from tail to head, if there are any, and publishes the result.
    pub(super) fn serve(&mut self, serve: impl FnOnce(&mut Ring, u32, u32) -> BatchEnd) {
        let Self { state, queue_head, queue_tail, .. } = self;
        let State::Ready(ring) = state else { return };
        if queue_head == queue_tail {
            return;
        }
        let BatchEnd { tail, end } = serve(ring, *queue_tail, *queue_head);
        *queue_tail = tail;
        match end {
            // An entry that waits for room is served from tail on when there is some.
            End::Done | End::NoRoom => {}
            End::Failed => *state = State::Error,
        }
    }

    fn write_status(
        &mut self,
        value: u32,
        ram: &GuestRam,
        entry_size: EntrySize,
    ) -> Result<Effect, Breach> {
        let (now, written) = (self.state.status(), Status::decode(value));
        let (next, result) = match step(now, written) {
            Step::BeginAnew => {
                *self = Self::default();
                return Ok(Effect::BegunAnew { before: now });
            }
            Step::Configure => (State::DriverOk, Ok(Effect::Configuring)),
            Step::TakeRing => {
                let base = (u64::from(self.queue_addr_hi) << 32) | u64::from(self.queue_addr_lo);
                match Ring::new(ram, entry_size, base, self.queue_size) {
                    Ok(ring) => {
                        // Head and tail are 0, as READY requires: nothing changes them before it.
                        let size = ring.size();
                        (State::Ready(ring), Ok(Effect::RingAccepted { base, size }))
                    }
                    Err(error) => (State::Error, Err(Breach::Ring(error))),
                }
            }
            Step::Fail => (State::Error, Err(Breach::Status { now, value })),
        };
        self.state = next;
        result
    }

    /// Queue size and address can be set in DRIVER_OK only (section 2.1.1).
    fn configure(&mut self, register: Register, value: u32) -> Result<Effect, Breach> {
        match self.state {
            State::DriverOk => {}
            State::Magic | State::Ready(_) | State::Error => {
                return Err(Breach::Configuration { register, now: self.state.status() });
            }
        }
        match register {
            Register::QueueSize => self.queue_size = value,
            Register::QueueAddrHi => self.queue_addr_hi = value,
            Register::QueueAddrLo => self.queue_addr_lo = value,
            // Other functions handle these registers.
            Register::Status | Register::QueueHead | Register::QueueTail => {}
        }
        Ok(Effect::Configured { register, value })
    }

    fn doorbell(&mut self, head: u32) -> Result<Effect, Breach> {
        match &self.state {
            State::Ready(ring) => {
                let size = ring.size();
                // The register belongs to the driver, so it keeps a wrong value, too.
                self.queue_head = head;
                if head < size {
                    return Ok(Effect::HandedOver { tail: self.queue_tail, head, size });
                }
                self.state = State::Error;
                Err(Breach::HeadTooLarge { head, size })
            }
            State::Magic | State::DriverOk | State::Error => {
                Err(Breach::Doorbell { now: self.state.status() })
            }
        }
    }
}
