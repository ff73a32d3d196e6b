//! The texts for register accesses, for a driver's author.

use std::fmt;

use super::registers::{AccessError, Register, Status};
use super::ring::RingError;
use super::rules;
use crate::address::hint;
use crate::observe::Rule;

/// The effect of an accepted write. `Display` gives the meaning of the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// All registers have their initial values.
    BegunAnew { before: Status },
    /// The driver may describe its ring now.
    Configuring,
    /// One of the three registers that describe the ring was set.
    Configured { register: Register, value: u32 },
    /// The ring is valid, and the device accepts doorbells.
    RingAccepted { base: u64, size: u32 },
    /// The doorbell: the entries from tail to head are served; none if they are equal.
    HandedOver { tail: u32, head: u32, size: u32 },
}

/// A rule that the driver broke with one access. `Display` gives the values seen and the effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breach {
    /// It is no access to a register: reads as zeros, or is ignored.
    Access(AccessError),
    /// The tail belongs to the device: ignored.
    TailWritten,
    /// The ring can be described in DRIVER_OK only: ignored.
    Configuration { register: Register, now: Status },
    /// A doorbell works in READY only: ignored.
    Doorbell { now: Status },
    /// The index does not exist: the error state.
    HeadTooLarge { head: u32, size: u32 },
    /// The status may not get this value now: the error state.
    Status { now: Status, value: u32 },
    /// READY, but the ring is not valid: the error state.
    Ring(RingError),
}

impl Breach {
    /// The rule under which the breach is counted.
    pub(super) const fn rule(&self) -> Rule {
        match self {
            Self::Access(_) => rules::REGISTERS,
            Self::TailWritten => rules::TAIL,
            Self::Configuration { .. } => rules::CONFIGURATION,
            Self::Doorbell { .. } => rules::DOORBELL,
            Self::HeadTooLarge { .. } => rules::HEAD,
            Self::Status { now: Status::Reset, .. } => rules::AFTER_ERROR,
            Self::Status { .. } => rules::ORDER,
            Self::Ring(_) => rules::RING,
        }
    }
}

/// The current state, for a driver that expects another one.
struct Now(Status);

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Status::Reset => f.write_str("the error state (RESET); write RESET to begin anew"),
            Status::Magic | Status::DriverOk | Status::Ready => f.write_str(self.0.name()),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BegunAnew { before } => {
                write!(f, "RESET: from {} back to MAGIC, all other registers are 0", before.name())
            }
            Self::Configuring => f.write_str("DRIVER_OK: the driver may describe its ring now"),
            Self::Configured { register, value } => Meaning { register, value }.fmt(f),
            Self::RingAccepted { base, size } => {
                write!(f, "READY: the ring of {size} entries at {base:#x} is accepted")
            }
            Self::HandedOver { tail, head, .. } if tail == head => {
                write!(f, "doorbell: no entry is new, queue_tail is {tail} already")
            }
            Self::HandedOver { tail, head, size } => {
                let (count, last) = span(tail, head, size);
                match count {
                    1 => write!(f, "doorbell: entry {last} is handed over"),
                    _ => write!(f, "doorbell: {count} entries, {tail} to {last}, are handed over"),
                }
            }
        }
    }
}

/// The number of entries from `tail` up to `head` in a ring of `size`, and the last of them.
const fn span(tail: u32, head: u32, size: u32) -> (u32, u32) {
    let count = match head.checked_sub(tail) {
        Some(count) => count,
        None => size.saturating_sub(tail).saturating_add(head),
    };
    let last = match head.checked_sub(1) {
        Some(last) => last,
        None => size.saturating_sub(1),
    };
    (count, last)
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Access(error) => {
                write!(f, "{error} (it reads as zeros, and a write is ignored)")
            }
            Self::TailWritten => f.write_str("a write to queue_tail is ignored"),
            Self::Configuration { register, now } => {
                let register = register.name();
                let first = match now {
                    Status::Magic => "; write DRIVER_OK first",
                    Status::Ready => "; write RESET to begin again",
                    Status::DriverOk | Status::Reset => "",
                };
                write!(f, "a write to {register} is ignored: the status is {}{first}", Now(now))
            }
            Self::Doorbell { now } => {
                let first = match now {
                    Status::Magic => "; the handshake was left out",
                    Status::DriverOk => "; write READY first",
                    Status::Ready | Status::Reset => "",
                };
                write!(f, "a write to queue_head is ignored: the status is {}{first}", Now(now))
            }
            Self::HeadTooLarge { head, size } => {
                let most = size.saturating_sub(1);
                write!(
                    f,
                    "queue_head {head} is no index of a ring of {size} entries (at most {most}); \
                     the status is now RESET"
                )
            }
            Self::Status { now: now @ Status::Reset, value } => {
                write!(f, "status {} is ignored: the device is in {}", Named(value), Now(now))
            }
            Self::Status { now, value } => {
                let expected = match now {
                    Status::Magic => "DRIVER_OK",
                    Status::DriverOk => "READY",
                    Status::Ready | Status::Reset => "RESET",
                };
                write!(
                    f,
                    "status {} may not be written when it is {} ({expected} may); \
                     the status is now RESET",
                    Named(value),
                    now.name()
                )
            }
            Self::Ring(RingError::NoEntries) => {
                f.write_str("READY is refused, queue_size is 0; the status is now RESET")
            }
            Self::Ring(RingError::OutOfRam { base, size, stride }) => write!(
                f,
                "READY is refused, the ring of {size} entries of {stride} bytes at {base:#x} \
                 is not in guest RAM{}; the status is now RESET",
                hint(base)
            ),
        }
    }
}

/// The name of a value of the status register, if it has one.
struct Named(u32);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Status::decode(self.0) {
            Some(status) => f.write_str(status.name()),
            None => write!(f, "{:#x}, which is unknown,", self.0),
        }
    }
}

/// The value of a register. `Display` gives its meaning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meaning {
    pub(super) register: Register,
    pub(super) value: u32,
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value;
        match self.register {
            Register::Status => match Status::decode(value) {
                Some(Status::Magic) => f.write_str("MAGIC: a svirtb device is here"),
                Some(Status::DriverOk) => f.write_str("DRIVER_OK: the device waits for the ring"),
                Some(Status::Ready) => f.write_str("READY: the device is live"),
                Some(Status::Reset) => {
                    f.write_str("RESET: an error; the driver has to write RESET")
                }
                None => write!(f, "{}", Named(value)),
            },
            Register::QueueSize => write!(f, "the ring has {value} entries"),
            Register::QueueAddrHi => write!(f, "the ring's address, upper half: {value:#x}"),
            Register::QueueAddrLo => write!(f, "the ring's address, lower half: {value:#x}"),
            Register::QueueHead => write!(f, "the driver has queued all entries before {value}"),
            Register::QueueTail => write!(f, "the device has finished all entries before {value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_counts_around_the_end_of_the_ring() {
        for ((tail, head, size), expected) in [
            ((0, 1, 4), (1, 0)),
            ((0, 3, 4), (3, 2)),
            ((3, 0, 4), (1, 3)),
            ((3, 2, 4), (3, 1)),
            ((u32::MAX - 1, 1, u32::MAX), (2, 0)),
        ] {
            assert_eq!(span(tail, head, size), expected, "{tail}..{head} of {size}");
        }
    }
}
