//! The device on the bus: each access is decoded, taken by the protocol, and reported.

use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::protocol::Protocol;
use super::registers::Register;
use super::ring::EntrySize;
use super::server::Server;
use super::words::{Breach, Effect, Meaning};
use crate::block::Disk;
use crate::bus::{BusDevice, first_bytes};
use crate::memory::GuestRam;
use crate::observe::{Direction, Event, Place, Reporter, Tap, Words};

/// What the log and traces call the device.
const NAME: &str = "svirtb";

/// A svirtb device: to be put on the bus at [`super::BASE`], [`super::LEN`] bytes long.
///
/// A write to queue_head returns when all entries are finished; [`crate::block::Stop`] of its disk ends that early. Other
/// vCPUs read registers meanwhile without waiting; their writes wait.
#[derive(Debug)]
pub struct Device {
    inner: Mutex<Inner>,
    /// What the registers read, in the order of [`Register::ALL`].
    shown: [AtomicU32; Register::ALL.len()],
    reporter: Reporter,
    entry_size: EntrySize,
    straddling_writes: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    protocol: Protocol,
    server: Server,
}

impl Device {
    /// The device that gives the guest in `ram` access to `disk`, in the state MAGIC.
    ///
    /// svirtb cannot tell a guest the size of the disk nor that it is read-only: reads past the end leave the
    /// buffer as it is, writes to a read-only disk are errors.
    ///
    /// # Errors
    ///
    /// Where the host does not give what the disk's engine needs.
    pub fn new(disk: &Disk, ram: GuestRam, entry_size: EntrySize, tap: Tap) -> io::Result<Self> {
        let reporter = Reporter::new(NAME, tap);
        let server = Server::new(disk, ram, reporter.clone())?;
        let device = Self {
            inner: Mutex::new(Inner { protocol: Protocol::default(), server }),
            shown: Default::default(),
            reporter,
            entry_size,
            straddling_writes: AtomicU64::new(0),
        };
        device.publish(&device.inner().protocol);
        Ok(device)
    }

    /// Its name, and the log of the rules that its driver broke.
    pub const fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// How many writes were stored in part, because the disk ended within them. Only the first was warned of.
    pub fn straddling_writes(&self) -> u64 {
        self.straddling_writes.load(Ordering::Relaxed)
    }

    /// Goes on with a doorbell whose entry found the host full; without effect where there is none. For the machine's
    /// owner, before the guest runs again.
    pub fn go_on(&self) {
        let mut inner = self.inner();
        self.serve(&mut inner);
    }

    fn serve(&self, inner: &mut Inner) {
        let Inner { protocol, server } = inner;
        protocol.serve(|ring, tail, head| server.serve(ring, tail, head));
        self.straddling_writes.store(server.straddling_writes(), Ordering::Relaxed);
        self.show(protocol);
    }

    /// Publishes what the registers read, and reports a new status.
    fn show(&self, protocol: &Protocol) {
        let before = self.value(Register::Status);
        self.publish(protocol);
        let now = self.value(Register::Status);
        if before != now {
            self.reporter.emit(|| Event::Status { before, now });
        }
    }

    /// Publishes what the registers read, so that a read takes no lock.
    fn publish(&self, protocol: &Protocol) {
        for (shown, register) in self.shown.iter().zip(Register::ALL) {
            shown.store(protocol.read(register), Ordering::Release);
        }
    }

    fn value(&self, register: Register) -> u32 {
        let mut shown = Register::ALL.iter().zip(&self.shown);
        let shown = shown.find(|(known, _)| **known == register);
        shown.map_or(0, |(_, value)| value.load(Ordering::Acquire))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(
        &self,
        register: &'static str,
        direction: Direction,
        value: u32,
        meaning: &dyn Display,
    ) {
        let meaning = Words(meaning);
        self.reporter.emit(|| Event::Register { register, direction, value, meaning });
    }

    /// Reports what a write did to the queue.
    fn seen_effect(&self, effect: Effect) {
        match effect {
            Effect::RingAccepted { base, size } => self.reporter.emit(|| {
                let place = Place::Ring { base };
                Event::QueueReady { queue: 0, size, place }
            }),
            Effect::HandedOver { .. } => self.reporter.emit(|| Event::Notified { queue: 0 }),
            Effect::BegunAnew { .. } | Effect::Configuring | Effect::Configured { .. } => {}
        }
    }

    fn complain(&self, breach: &Breach) {
        self.reporter.broken(breach.rule(), format_args!("{breach}"));
    }
}

impl BusDevice for Device {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        match Register::decode(offset, data.len()) {
            Ok(register) => {
                let value = self.value(register);
                data.copy_from_slice(&value.to_le_bytes());
                self.seen(register.name(), Direction::Read, value, &Meaning { register, value });
            }
            Err(error) => {
                let breach = Breach::Access(error);
                self.seen("no register", Direction::Read, 0, &breach);
                self.complain(&breach);
            }
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let value = u32::from_le_bytes(first_bytes(data));
        let register = match Register::decode(offset, data.len()) {
            Ok(register) => register,
            Err(error) => {
                let breach = Breach::Access(error);
                self.seen("no register", Direction::Write, value, &breach);
                return self.complain(&breach);
            }
        };
        let mut inner = self.inner();
        let Inner { protocol, server } = &mut *inner;
        let result = protocol.write(register, value, &server.ram, self.entry_size);
        self.show(protocol);
        let meaning: &dyn Display = match &result {
            Ok(effect) => effect,
            Err(breach) => breach,
        };
        self.seen(register.name(), Direction::Write, value, meaning);
        match &result {
            Ok(effect) => self.seen_effect(*effect),
            Err(refused @ Breach::Ring(_)) => {
                self.reporter.emit(|| Event::QueueRefused { queue: 0, why: Words(refused) });
            }
            Err(_) => {}
        }
        match result {
            Ok(Effect::HandedOver { .. }) => self.serve(&mut inner),
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
