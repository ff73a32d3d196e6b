//! The device on the bus: decodes each access, passes it to the protocol, and reports it.

use std::fmt::{self, Display};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::protocol::Protocol;
use super::registers::{Register, Status};
use super::ring::EntrySize;
use super::server::Server;
use super::waiting::{self, Snapshot};
use super::words::{Breach, Effect, Meaning};
use crate::block::Disk;
use crate::bus::{BusDevice, first_bytes};
use crate::irq::Wake;
use crate::memory::GuestRam;
use crate::observe::{Direction, Event, Place, Reporter, Tap, Waiting, Words};
use crate::register_page::Window;

/// The name of the device in the log and for observers.
pub const NAME: &str = "svirtb";

/// A svirtb device: add it to the bus at [`super::BASE`], with [`super::LEN`] bytes.
///
/// A write to queue_head returns when all entries are finished; [`crate::block::Stop`] of its disk ends that early.
/// Meanwhile other vCPUs can read registers without waiting; their writes wait.
pub struct Device {
    inner: Mutex<Inner>,
    /// The values of the registers.
    window: Window,
    /// Whether a driver ever reached READY, and who is woken then.
    used: AtomicBool,
    ready: Option<Arc<dyn Wake>>,
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
    /// Creates the device for `disk` and the guest in `ram`, in the state MAGIC.
    ///
    /// svirtb cannot report the size of the disk, nor that it is read-only: a read past the end does not change the
    /// buffer, and a write to a read-only disk is an error.
    ///
    /// # Errors
    ///
    /// If the host does not provide the resources of the disk's engine.
    pub fn new(disk: &Disk, ram: GuestRam, entry_size: EntrySize, tap: Tap) -> io::Result<Self> {
        let reporter = Reporter::new(NAME, tap);
        let server = Server::new(disk, ram, reporter.clone())?;
        let device = Self {
            inner: Mutex::new(Inner { protocol: Protocol::default(), server }),
            window: Window::default(),
            used: AtomicBool::new(false),
            ready: None,
            reporter,
            entry_size,
            straddling_writes: AtomicU64::new(0),
        };
        device.publish(&device.inner().protocol);
        Ok(device)
    }

    /// The same device with its registers in `window`. Wakes `ready` when a driver first reaches READY
    /// ([`Device::was_used`]).
    #[must_use]
    pub fn with_window(self, window: Window, ready: Arc<dyn Wake>) -> Self {
        let device = Self { window, ready: Some(ready), ..self };
        device.publish(&device.inner().protocol);
        device
    }

    /// Whether a driver ever reached READY.
    pub fn was_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    /// Its name, and the log of the rules that its driver broke.
    pub const fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// The number of writes that were stored in part because the disk ended within them. Only the first one is logged.
    pub fn straddling_writes(&self) -> u64 {
        self.straddling_writes.load(Ordering::Relaxed)
    }

    /// Continues a doorbell with an entry that found the host's disk full; otherwise has no effect. The VMM calls it
    /// before the guest runs again.
    pub fn go_on(&self) {
        let mut inner = self.inner();
        self.serve(&mut inner);
    }

    /// Waits until no doorbell is served, and calls `act`. Doorbells wait until it returns.
    pub fn while_idle<T>(&self, act: impl FnOnce() -> T) -> T {
        let _idle = self.inner();
        act()
    }

    /// What the device and its driver wait for. None if no driver uses the device. Does not wait for a transfer.
    pub fn waiting(&self) -> Option<Waiting> {
        let status = Status::decode(self.value(Register::Status)).map_or("", Status::name);
        let (head, tail) = (self.value(Register::QueueHead), self.value(Register::QueueTail));
        // During a transfer the lock is held.
        let next = self.inner.try_lock().ok().and_then(|inner| {
            inner.protocol.ring().map(|ring| ring.next_entry(&inner.server.ram, tail))
        });
        waiting::examine(&Snapshot { status, head, tail, next })
    }

    fn serve(&self, inner: &mut Inner) {
        let Inner { protocol, server } = inner;
        protocol.serve(|ring, tail, head| server.serve(ring, tail, head));
        self.straddling_writes.store(server.straddling_writes(), Ordering::Relaxed);
        self.show(protocol);
    }

    /// Publishes the values of the registers, and reports a new status.
    fn show(&self, protocol: &Protocol) {
        let before = self.value(Register::Status);
        self.publish(protocol);
        let now = self.value(Register::Status);
        if before != now {
            self.reporter.emit(|| Event::Status { before, now });
        }
        if now == Status::Ready.value() && !self.used.swap(true, Ordering::AcqRel) {
            self.ready.iter().for_each(|ready| ready.wake());
        }
    }

    /// Publishes the values of the registers, so that a read takes no lock.
    fn publish(&self, protocol: &Protocol) {
        for register in Register::ALL {
            self.window.set(register.offset(), protocol.read(register));
        }
    }

    fn value(&self, register: Register) -> u32 {
        u32::from_le(self.window.word(register.offset()).load(Ordering::Acquire))
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

    /// Reports the effect of a write on the queue.
    fn seen_effect(&self, effect: Effect) {
        match effect {
            Effect::RingAccepted { base, size } => self.reporter.emit(|| {
                let place = Place::Ring { base };
                Event::QueueReady { queue: 0, size, place }
            }),
            Effect::HandedOver { tail, head, .. } => {
                self.reporter.emit(|| Event::Notified { queue: 0 });
                if tail == head {
                    self.reporter.emit(|| Event::NothingAvailable { queue: 0, index: head });
                }
            }
            Effect::BegunAnew { .. } | Effect::Configuring | Effect::Configured { .. } => {}
        }
    }

    fn complain(&self, breach: &Breach) {
        self.reporter.broken(breach.rule(), format_args!("{breach}"));
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("inner", &self.inner).finish_non_exhaustive()
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
