//! The device on the bus: each access is decoded, taken by the protocol, traced, and complained of.

use std::sync::Arc;

use super::protocol::Protocol;
use super::registers::Register;
use super::ring::EntrySize;
use super::server::{Server, Stop};
use super::words::{Breach, Effect, meaning_of_value};
use crate::block::Disk;
use crate::bus::BusDevice;
use crate::complaints::Complaints;
use crate::memory::GuestRam;
use crate::trace::{Direction, Event, Tracer};

/// What the log and traces call the device.
const NAME: &str = "svirtb";

/// A svirtb device: to be put on the bus at [`super::BASE`], [`super::LEN`] bytes long.
///
/// A write to queue_head returns when all entries are finished. Whoever may have to end that early takes
/// [`Device::stop_handle`] before the device goes onto the bus.
#[derive(Debug)]
pub struct Device {
    protocol: Protocol,
    server: Server,
    entry_size: EntrySize,
}

impl Device {
    /// The device that gives the guest in `ram` access to `disk`, in the state MAGIC.
    ///
    /// svirtb cannot tell a guest the size of the disk nor that it is read-only: reads past the end leave the
    /// buffer as it is, writes to a read-only disk are errors.
    pub fn new(disk: Disk, ram: GuestRam, entry_size: EntrySize, tracer: Tracer) -> Self {
        let complaints = Complaints::new(NAME.into());
        let server = Server::new(disk, ram, tracer, complaints);
        Self { protocol: Protocol::default(), server, entry_size }
    }

    /// What ends a doorbell early, from any thread: for the machine's owner, who wants to stop.
    pub fn stop_handle(&self) -> Stop {
        self.server.stop.clone()
    }

    /// The complaints about the driver so far.
    pub const fn complaints(&self) -> &Complaints {
        &self.server.complaints
    }

    /// How many writes were stored in part, because the disk ended within them. Only the first was warned of.
    pub const fn straddling_writes(&self) -> u64 {
        self.server.straddling_writes()
    }

    fn trace(
        &self,
        register: &'static str,
        direction: Direction,
        value: u32,
        meaning: impl FnOnce() -> String,
    ) {
        self.server.tracer.emit(|| Event::Register {
            device: Arc::clone(self.server.complaints.device()),
            register,
            direction,
            value,
            meaning: meaning(),
        });
    }

    fn complain(&mut self, breach: &Breach) {
        self.server.complaints.say(breach.rule(), format_args!("{breach}"));
    }
}

impl BusDevice for Device {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        match Register::decode(offset, data.len()) {
            Ok(register) => {
                let value = self.protocol.read(register);
                data.copy_from_slice(&value.to_le_bytes());
                self.trace(register.name(), Direction::Read, value, || {
                    meaning_of_value(register, value)
                });
            }
            Err(error) => {
                let breach = Breach::Access(error);
                self.trace("no register", Direction::Read, 0, || breach.to_string());
                self.complain(&breach);
            }
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let value = low_bits(data);
        let (name, result) = match Register::decode(offset, data.len()) {
            Ok(register) => {
                let Self { protocol, server, entry_size } = self;
                (register.name(), protocol.write(register, value, &server.ram, *entry_size))
            }
            Err(error) => ("no register", Err(Breach::Access(error))),
        };
        self.trace(name, Direction::Write, value, || match &result {
            Ok(effect) => effect.to_string(),
            Err(breach) => breach.to_string(),
        });
        match result {
            Ok(Effect::HandedOver { .. }) => {
                let Self { protocol, server, .. } = self;
                protocol.serve(|ring, tail, head| server.serve(ring, tail, head));
            }
            Ok(
                Effect::BegunAnew { .. }
                | Effect::Configuring
                | Effect::Configured { .. }
                | Effect::RingAccepted { .. },
            ) => {}
            Err(breach) => self.complain(&breach),
        }
    }
}

/// The value of a little-endian access: its lower 32 bits, where it is wider.
fn low_bits(data: &[u8]) -> u32 {
    data.iter().take(4).rev().fold(0, |value, byte| (value << 8) | u32::from(*byte))
}
