//! The MMIO transport (virtio 1.2, 4.2): a device's registers, in the layout of version 2 or of the legacy
//! version 1 (4.2.4).
//!
//! | question | file |
//! |---|---|
//! | Which register is at an offset? | `registers.rs` |
//! | What does a write of the status do? When does the device go live? | `status.rs` |
//! | Which features are there, and who has decided? | `features.rs` |
//! | How is a queue set up, stopped, notified? | `queues.rs` |
//! | What becomes of a driver that breaks a rule? | `breach.rs` |
//! | What has the driver said since the last reset? | `setup.rs` |
//! | What does an access mean, in words? | `meaning.rs` |
//! | What do registers read? | `reads.rs` |
//! | Where does it stand? | `page.rs` |
//! | What does a slot with no device answer? | `empty_slot.rs` |
//! | How can a transport be? | `options.rs` |
//!
//! A lenient device logs a driver's mistake with the rule that it breaks, and goes on as far as it can; what it cannot
//! make sense of has no effect. A [`Policy::Strict`] device refuses: features, and after any mistake all requests until
//! a reset.
//!
//! Tutorials teach legacy drivers that leave out QueueAlign or GuestPageSize, or set a queue up after DRIVER_OK. A
//! lenient device serves them: behind the legacy registers it is activated by DRIVER_OK or by the first queue,
//! whichever comes last.

mod breach;
mod empty_slot;
mod features;
mod meaning;
mod options;
mod page;
mod queues;
mod reads;
mod registers;
mod setup;
mod status;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use super::device::VirtioDevice;
use super::interrupt::Notifier;
use super::rules;
use super::spec::mmio::{CONFIG, INTERRUPT_CONFIG, INTERRUPT_USED};
use super::spec::status::{DRIVER_OK, FEATURES_OK};
use crate::block::{GrowError, Stuck};
use crate::bus::{BusDevice, first_bytes};
use crate::complaints::Complaints;
use crate::irq::IrqLine;
use crate::memory::GuestRam;
use crate::trace::{self, Event};
use breach::Stopped;
pub use empty_slot::EmptySlot;
pub use options::{Options, Policy, Version};
pub use page::{PAGE_SIZE, RegisterPage, Window};
use registers::{Direction, Register, Target};
use setup::Session;

/// The bytes of guest-physical address space that one device answers in.
pub const SLOT_SIZE: u64 = 0x200;

/// A virtio device behind the registers of virtio-mmio.
///
/// Registers are read in [`Options::window`], without a lock. Writes of the set-up registers share one lock, which is
/// never held while the device waits for I/O. QueueNotify and InterruptACK take no lock at all.
pub struct Mmio {
    device: Box<dyn VirtioDevice>,
    ram: GuestRam,
    notifier: Notifier,
    complaints: Complaints,
    options: Options,
    /// Bumped whenever the configuration space changes. No reset sets it back.
    config_generation: AtomicU32,
    session: Mutex<Session>,
    /// Whether a driver ever set DRIVER_OK, whatever was reset since.
    used: AtomicBool,
    /// The queues that a doorbell did not finish: a bit each.
    unfinished: AtomicU64,
    stopped: Stopped,
}

impl Mmio {
    /// Puts `device` behind registers. It reaches guest memory through `ram`, and interrupts by `line`.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        ram: GuestRam,
        line: Arc<dyn IrqLine>,
        options: Options,
    ) -> Self {
        let mmio = Self {
            session: Mutex::new(Session::new(&*device)),
            used: AtomicBool::new(false),
            unfinished: AtomicU64::new(0),
            stopped: Stopped::default(),
            complaints: device.complaints().clone(),
            notifier: Notifier::new(line, options.window.clone()),
            config_generation: AtomicU32::new(0),
            device,
            ram,
            options,
        };
        mmio.publish(&mmio.session());
        mmio
    }

    /// Makes the device `bytes` large, and interrupts the driver.
    ///
    /// ConfigGeneration and the configuration change one after the other. A VMM that shows [`Options::window`] to the
    /// guest hides it meanwhile, so that no driver reads between the two.
    ///
    /// # Errors
    ///
    /// Where it cannot be; nothing has changed then.
    pub fn resize(&self, bytes: u64) -> Result<(), GrowError> {
        let resized = self.device.resize(bytes);
        if let Ok(true) = resized {
            let session = self.session();
            self.config_generation.fetch_add(1, Ordering::Relaxed);
            self.publish(&session);
            if self.has(DRIVER_OK) {
                self.notifier.config_changed();
            }
        }
        self.serve_all();
        resized.map(drop)
    }

    /// Whether a driver ever set DRIVER_OK.
    pub fn was_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    /// For a machine that is to be paused: see [`VirtioDevice::hold`].
    pub fn hold(&self) {
        self.device.hold();
    }

    /// Waits until nothing is in flight: see [`VirtioDevice::quiesce`].
    ///
    /// # Errors
    ///
    /// Where the host does not finish what is in flight.
    pub fn quiesce(&self) -> Result<(), Stuck> {
        self.device.quiesce()
    }

    /// Ends [`Mmio::hold`], and serves what came meanwhile.
    pub fn release(&self) {
        self.device.release();
        self.serve_all();
    }

    /// Serves all queues: doorbells may have come while the device was waited for, and could not be served then.
    fn serve_all(&self) {
        if self.has(DRIVER_OK) {
            for (index, _) in (0u16..).zip(self.device.queue_max()) {
                self.serve(index);
            }
        }
    }

    /// For each queue what becomes readable when the host has finished requests of it; the reader then calls
    /// [`Mmio::service_finished`].
    pub fn wakes(&self) -> Vec<Option<Arc<EventFd>>> {
        self.device.wakes()
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this bit of the device status field is set.
    fn has(&self, bit: u32) -> bool {
        self.notifier.status() & bit != 0
    }

    fn write_register(&self, register: Register, value: u32) {
        match register {
            Register::QueueNotify => self.notify(value),
            Register::InterruptAck => self.acknowledge(value),
            Register::Status if value == 0 => self.reset(),
            Register::QueueReady | Register::QueuePfn if value == 0 => self.retire_queue(register),
            Register::QueueReset if value == 1 => self.retire_queue(register),
            _ => {
                let mut session = self.session();
                if session.resetting {
                    return self.breach(
                        rules::STATUS_ORDER,
                        format_args!(
                            "{} was written while another vCPU resets the device",
                            register.name()
                        ),
                        "ignored",
                    );
                }
                self.set_up(&mut session, register, value);
                self.publish(&session);
            }
        }
    }

    /// Takes a write of a register that is set up under the lock.
    fn set_up(&self, session: &mut Session, register: Register, value: u32) {
        match register {
            Register::DeviceFeaturesSel => session.device_features_sel = value,
            Register::DriverFeaturesSel => session.driver_features_sel = value,
            Register::DriverFeatures => self.write_features(session, value),
            Register::QueueSel => session.queue_sel = value,
            // A legacy driver may clear these before QueuePFN when it gives a queue up.
            Register::QueueNum | Register::QueueAlign
                if value == 0 && self.is_legacy_in_use(session) => {}
            Register::QueueNum => {
                self.set_up_queue(session, "QueueNum", |q| q.layout.size = value);
            }
            Register::QueueAddr(area, half) => {
                self.set_up_queue(session, register.name(), |q| {
                    let addr = q.layout.area_mut(area);
                    *addr = half.set(*addr, value);
                });
            }
            Register::QueueReady => self.write_queue_ready(session),
            Register::GuestPageSize => session.guest_page_size = Some(value),
            Register::QueueAlign => {
                self.set_up_queue(session, "QueueAlign", |q| q.align = Some(value));
            }
            Register::QueuePfn => self.write_queue_pfn(session, value),
            Register::Status => self.write_status(session, value),
            // A queue is reset by 1, which does not come here.
            Register::QueueReset | Register::QueueNotify | Register::InterruptAck => {}
            Register::ShmSel => {}
            Register::MagicValue
            | Register::Version
            | Register::DeviceId
            | Register::VendorId
            | Register::DeviceFeatures
            | Register::QueueNumMax
            | Register::InterruptStatus
            | Register::ShmLen(_)
            | Register::ShmBase(_)
            | Register::ConfigGeneration => self.breach(
                rules::DIRECTION,
                format_args!("{} was written, but is read-only", register.name()),
                "ignored",
            ),
        }
    }

    /// InterruptACK (4.2.2).
    fn acknowledge(&self, value: u32) {
        if value & !(INTERRUPT_USED | INTERRUPT_CONFIG) != 0 {
            self.breach(
                rules::INTERRUPT_ACK,
                format_args!("InterruptACK {value:#x} has bits that no interrupt has"),
                "",
            );
        }
        self.notifier.acknowledge(value);
    }

    fn write_config(&self, at: u64, data: &[u8]) {
        let taken = self.device.write_config(at, data);
        let what = format_args!("byte {at:#x} of the configuration space");
        if !taken {
            self.breach(
                rules::CONFIG_WRITE,
                format_args!("{what} cannot be written so"),
                "ignored",
            );
        } else if self.options.version == Version::Modern && !self.has(FEATURES_OK | DRIVER_OK) {
            // The legacy interface has no FEATURES_OK.
            self.breach(
                rules::CONFIG_EARLY,
                format_args!("{what} was written before FEATURES_OK"),
                "accepted",
            );
        }
        self.publish(&self.session());
        if taken {
            // It may have waited until the device is quiet.
            self.serve_all();
        }
    }

    /// What an access of `width` bytes at `offset` means here; a register that this version does not have
    /// means nothing, and the driver is told.
    fn decode(&self, offset: u64, width: usize, verb: &str) -> Target {
        let target = Target::decode(offset, width);
        match target {
            Target::Register(register) if !register.is_in(self.options.version) => {
                let version = self.options.version.value();
                self.breach(
                    rules::LEGACY,
                    format_args!(
                        "{} was {verb}, but is not in the layout of version {version}, which this device has \
                         (Version reads {version})",
                        register.name()
                    ),
                    "ignored",
                );
                Target::Nothing
            }
            Target::Nothing => {
                self.breach(
                    rules::NO_REGISTER,
                    format_args!("{offset:#x} was {verb}; no register is there"),
                    "",
                );
                target
            }
            Target::Misaccess => {
                self.breach(
                    rules::WIDTH,
                    format_args!(
                        "{width} bytes were {verb} at {offset:#x}; below {CONFIG:#x} the registers take 4, aligned, \
                         and from there on 1, 2 or 4, aligned"
                    ),
                    "",
                );
                target
            }
            Target::Register(_) | Target::Config(_) => target,
        }
    }

    fn trace(&self, register: Register, direction: trace::Direction, value: u32) {
        self.options.tracer.emit(|| Event::Register {
            device: self.complaints.device().clone(),
            register: register.name(),
            direction,
            value,
            meaning: meaning::of(
                register,
                direction,
                value,
                self.notifier.status(),
                &self.session(),
            ),
        });
    }

    fn trace_config(&self, offset: u64, direction: trace::Direction, data: &[u8]) {
        self.options.tracer.emit(|| Event::Register {
            device: self.complaints.device().clone(),
            register: "Config",
            direction,
            value: number(data),
            meaning: format!("configuration space, byte {offset:#x}, {} bytes", data.len()),
        });
    }
}

/// The number that stands in the first four bytes, or in as many as there are.
fn number(data: &[u8]) -> u32 {
    u32::from_le_bytes(first_bytes(data))
}

impl BusDevice for Mmio {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        match self.decode(offset, data.len(), "read") {
            Target::Register(register) => {
                if register.direction() == Direction::W {
                    self.breach(
                        rules::DIRECTION,
                        format_args!("{} was read, but is write-only; it gives 0", register.name()),
                        "",
                    );
                }
                self.options.window.read(offset, data);
                self.trace(register, trace::Direction::Read, number(data));
            }
            Target::Config(at) => {
                self.options.window.read(offset, data);
                self.trace_config(at, trace::Direction::Read, data);
            }
            Target::Nothing | Target::Misaccess => {}
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        match self.decode(offset, data.len(), "written") {
            Target::Register(register) => {
                let value = number(data);
                // A doorbell is seen before what it sets off, all else with what became of it.
                let doorbell = register == Register::QueueNotify;
                if doorbell {
                    self.trace(register, trace::Direction::Write, value);
                }
                self.write_register(register, value);
                if !doorbell {
                    self.trace(register, trace::Direction::Write, value);
                }
            }
            Target::Config(at) => {
                self.write_config(at, data);
                self.trace_config(at, trace::Direction::Write, data);
            }
            Target::Nothing | Target::Misaccess => {}
        }
    }
}

#[cfg(test)]
mod tests;
