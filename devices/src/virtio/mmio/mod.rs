//! The MMIO transport (virtio 1.4, 4.2): a device's registers, in the layout of version 2 or of the legacy
//! version 1 (4.2.4).
//!
//! | question | file |
//! |---|---|
//! | Which register is at an offset? | `registers.rs`, `decode.rs` |
//! | What do registers read? | `reads.rs`, [`crate::register_page`] |
//! | Which registers hold what the driver wrote? | `state.rs` |
//! | How do the queue registers work, modern and legacy? | `queues.rs` |
//! | Where are InterruptStatus and Status? | `signals.rs` |
//! | What does an access mean, in words? | `meaning.rs` |
//! | What does an empty slot return? | `empty_slot.rs` |
//! | Which options are there? | `options.rs` |
//!
//! Status, features, queues and reset are the same for any transport: `transport/`. This folder decodes registers.
//!
//! Some tutorials teach legacy drivers that leave out QueueAlign or GuestPageSize, or set up a queue after DRIVER_OK. A
//! lenient device accepts them: with the legacy registers it is activated by DRIVER_OK or by the first queue, whichever
//! comes last.

mod decode;
mod empty_slot;
mod meaning;
mod options;
mod queues;
mod reads;
mod registers;
mod signals;
mod state;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vmm_sys_util::eventfd::EventFd;

use super::device::{PollResult, VirtioDevice};
use super::rules;
pub use super::spec::mmio::QUEUE_NOTIFY;
use super::spec::mmio::{INTERRUPT_CONFIG, INTERRUPT_USED};
use super::spec::status::{DRIVER_OK, FEATURES_OK};
use super::transport::{Core, CoreOptions};
pub use super::transport::{Policy, Version};
use crate::bus::{BusDevice, first_bytes};
use crate::irq::IrqLine;
use crate::memory::GuestRam;
use crate::observe::{self, Event, Waiting, Words};
pub use crate::register_page::SLOT_SIZE;
use crate::register_page::Window;
use crate::stuck::Stuck;
pub use empty_slot::EmptySlot;
use meaning::{ConfigAccess, Meaning};
pub use options::MmioOptions;
use registers::{Direction, Register, Target};
use signals::WindowSignals;
use state::{Registers, Session, with_features};

/// A virtio device behind the registers of virtio-mmio.
///
/// Reads use [`MmioOptions::window`], without a lock. Writes of the set-up registers share one lock, which is never
/// held while the device waits for I/O. QueueNotify and InterruptACK take no lock.
pub struct Mmio {
    core: Core<Registers>,
    signals: Arc<WindowSignals>,
    window: Window,
    /// Incremented whenever the configuration space changes. A reset does not change it.
    config_generation: AtomicU32,
}

impl Mmio {
    /// Creates the registers of `device`, which accesses guest memory through `ram` and interrupts through `line`.
    pub fn new(
        device: Arc<dyn VirtioDevice>,
        ram: GuestRam,
        line: Arc<dyn IrqLine>,
        options: MmioOptions,
    ) -> Self {
        let MmioOptions { version, policy, leftover, driver_ok, window } = options;
        let signals = Arc::new(WindowSignals::new(line, window.clone(), device.reporter().clone()));
        let options = CoreOptions { version, policy, leftover, driver_ok };
        let core = Core::new(device, ram, signals.clone(), options);
        let mmio = Self { core, signals, window, config_generation: AtomicU32::new(0) };
        mmio.publish(&mmio.core.setup());
        mmio
    }

    /// Calls `change`, which may change the device's configuration and returns whether it did. Then publishes the new
    /// configuration, interrupts the driver, and services doorbells that arrived in the meantime.
    ///
    /// ConfigGeneration and the configuration change one after the other. A VMM that maps [`MmioOptions::window`] into
    /// the guest must unmap it during this call, so that no driver reads between the two changes.
    ///
    /// # Errors
    ///
    /// The error of `change`; the configuration has not changed then.
    pub fn reconfigure<E>(&self, change: impl FnOnce() -> Result<bool, E>) -> Result<(), E> {
        let changed = change();
        if let Ok(true) = changed {
            let setup = self.core.setup();
            self.config_generation.fetch_add(1, Ordering::Relaxed);
            self.publish(&setup);
            self.core.config_changed();
        }
        self.core.service_all();
        changed.map(drop)
    }

    /// Whether a driver ever set DRIVER_OK.
    pub fn was_used(&self) -> bool {
        self.core.was_used()
    }

    /// Holds new requests: see [`VirtioDevice::hold`].
    pub fn hold(&self) {
        self.core.device().hold();
    }

    /// Waits until nothing is in flight: see [`VirtioDevice::quiesce`].
    ///
    /// # Errors
    ///
    /// If the host does not finish the requests in flight.
    pub fn quiesce(&self) -> Result<(), Stuck> {
        self.core.device().quiesce()
    }

    /// Ends [`Mmio::hold`], and services doorbells that arrived in the meantime.
    pub fn release(&self) {
        self.core.device().release();
        self.core.service_all();
    }

    /// Services doorbells that arrived while requests were held.
    pub fn service_held(&self) {
        self.core.service_all();
    }

    /// Services the queues whose doorbell left work ([`MmioOptions::leftover`]).
    pub fn service_unfinished(&self) {
        self.core.service_unfinished();
    }

    /// Services a queue: call it when a descriptor of [`Mmio::wakes`] is readable, because the host has finished
    /// requests, and when the VMM itself received the doorbell of the queue. A doorbell that breaks a rule goes unnoticed
    /// so: a VMM receives doorbells itself only once [`Mmio::was_used`].
    pub fn service_queue(&self, index: u16) {
        self.core.service(index);
    }

    /// The number of queues.
    pub fn queues(&self) -> u16 {
        self.core.device().queue_max().len().try_into().unwrap_or(u16::MAX)
    }

    /// Services a queue, and asks its driver not to ring the doorbell: see [`VirtioDevice::poll`]. Ends with
    /// [`Mmio::service_queue`].
    pub fn poll(&self, index: u16) -> PollResult {
        self.core.poll(index)
    }

    /// For each queue, the descriptor that becomes readable when the host has finished requests. Then call
    /// [`Mmio::service_queue`].
    pub fn wakes(&self) -> Vec<Option<Arc<EventFd>>> {
        self.core.device().wakes()
    }

    /// What the device and its driver wait for. None if no driver uses the device.
    pub fn waiting(&self) -> Option<Waiting> {
        self.core.waiting(self.signals.pending())
    }

    fn write_register(&self, register: Register, value: u32) {
        match register {
            Register::QueueNotify => self.notify(value),
            Register::InterruptAck => self.acknowledge(value),
            Register::Status if value == 0 => self.core.reset(|setup| self.publish(setup)),
            Register::QueueReady | Register::QueuePfn if value == 0 => self.retire_queue(register),
            Register::QueueReset if value == 1 => self.retire_queue(register),
            _ => {
                let mut setup = self.core.setup();
                if setup.is_resetting() {
                    return self.core.breach(
                        rules::STATUS_ORDER,
                        format_args!(
                            "{} was written while another vCPU resets the device",
                            register.name()
                        ),
                        "ignored",
                    );
                }
                self.set_up(&mut setup, register, value);
                self.publish(&setup);
            }
        }
    }

    /// Handles a write of a register that the lock of the set-up protects.
    fn set_up(&self, setup: &mut Session, register: Register, value: u32) {
        match register {
            Register::DeviceFeaturesSel => setup.registers.device_features_sel = value,
            Register::DriverFeaturesSel => setup.registers.driver_features_sel = value,
            Register::DriverFeatures => self.write_features(setup, value),
            Register::QueueSel => setup.registers.queue_sel = value,
            // A legacy driver may clear these registers before QueuePFN when it stops a queue.
            Register::QueueNum | Register::QueueAlign
                if value == 0 && self.is_legacy_in_use(setup) => {}
            Register::QueueNum => {
                self.set_up_queue(setup, "QueueNum", |q| q.layout.size = value);
            }
            Register::QueueAddr(area, half) => {
                self.set_up_queue(setup, register.name(), |q| {
                    let addr = q.layout.area_mut(area);
                    *addr = half.set(*addr, value);
                });
            }
            Register::QueueReady => self.write_queue_ready(setup),
            Register::GuestPageSize => setup.registers.guest_page_size = Some(value),
            Register::QueueAlign => {
                if self.set_up_queue(setup, "QueueAlign", |_| ()) {
                    setup.registers.change_legacy(|legacy| legacy.align = Some(value));
                }
            }
            Register::QueuePfn => self.write_queue_pfn(setup, value),
            Register::Status => self.core.write_status(setup, value),
            // A write of 1 to QueueReset is handled elsewhere.
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
            | Register::ConfigGeneration => self.core.breach(
                rules::DIRECTION,
                format_args!("{} was written, but is read-only", register.name()),
                "ignored",
            ),
        }
    }

    /// DriverFeatures.
    fn write_features(&self, setup: &mut Session, value: u32) {
        let sel = setup.registers.driver_features_sel;
        if setup.is_settled() {
            let step = if self.core.has(FEATURES_OK) { "FEATURES_OK" } else { "DRIVER_OK" };
            self.core.breach(
                rules::FEATURES_SETTLED,
                format_args!("DriverFeatures was written after {step}"),
                "ignored",
            );
        } else if let Some(features) = with_features(setup, value) {
            setup.driver_features = features;
        } else {
            self.core.breach(
                rules::FEATURES_SUBSET,
                format_args!("features {value:#x} at DriverFeaturesSel {sel} do not exist"),
                "ignored",
            );
        }
    }

    /// InterruptACK (4.2.2).
    fn acknowledge(&self, value: u32) {
        if value & !(INTERRUPT_USED | INTERRUPT_CONFIG) != 0 {
            self.core.breach(
                rules::INTERRUPT_ACK,
                format_args!("InterruptACK {value:#x} has bits that no interrupt has"),
                "",
            );
        }
        self.signals.acknowledge(value);
    }

    fn write_config(&self, at: u64, data: &[u8]) {
        let taken = self.core.device().write_config(at, data);
        let what = format_args!("byte {at:#x} of the configuration space");
        if !taken {
            self.core.breach(
                rules::CONFIG_WRITE,
                format_args!("{what} cannot be written so"),
                "ignored",
            );
        } else if !self.core.is_legacy() && !self.core.has(FEATURES_OK | DRIVER_OK) {
            // The legacy interface has no FEATURES_OK.
            self.core.breach(
                rules::CONFIG_EARLY,
                format_args!("{what} was written before FEATURES_OK"),
                "accepted",
            );
        }
        self.publish(&self.core.setup());
        if taken {
            // The device may have waited until it was idle.
            self.core.service_all();
        }
    }

    fn seen(&self, register: Register, direction: observe::Direction, value: u32) {
        let reporter = self.core.reporter();
        if reporter.is_observed() {
            let meaning = Meaning::new(&self.core, register, direction, value);
            let (register, meaning) = (register.name(), Words(&meaning));
            reporter.emit(|| Event::Register { register, direction, value, meaning });
        }
    }

    fn seen_config(&self, at: u64, direction: observe::Direction, data: &[u8]) {
        let access = ConfigAccess { at, len: data.len() };
        self.core.reporter().emit(|| {
            let (value, meaning) = (number(data), Words(&access));
            Event::Register { register: "Config", direction, value, meaning }
        });
    }
}

/// The number in the first four bytes, or in fewer.
fn number(data: &[u8]) -> u32 {
    u32::from_le_bytes(first_bytes(data))
}

impl BusDevice for Mmio {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        match self.decode(offset, data.len(), "read") {
            Target::Register(register) => {
                if register.direction() == Direction::W {
                    self.core.breach(
                        rules::DIRECTION,
                        format_args!("{} was read, but is write-only; it gives 0", register.name()),
                        "",
                    );
                }
                self.window.read(offset, data);
                self.seen(register, observe::Direction::Read, number(data));
            }
            Target::Config(at) => {
                self.window.read(offset, data);
                self.seen_config(at, observe::Direction::Read, data);
            }
            Target::Nothing | Target::Misaccess => {}
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if self.write_pair(offset, data) {
            return;
        }
        match self.decode(offset, data.len(), "written") {
            Target::Register(register) => {
                let value = number(data);
                // A doorbell is reported before its effect, every other access after it.
                let doorbell = register == Register::QueueNotify;
                if doorbell {
                    self.seen(register, observe::Direction::Write, value);
                }
                self.write_register(register, value);
                if !doorbell {
                    self.seen(register, observe::Direction::Write, value);
                }
            }
            Target::Config(at) => {
                self.write_config(at, data);
                self.seen_config(at, observe::Direction::Write, data);
            }
            Target::Nothing | Target::Misaccess => {}
        }
    }
}

#[cfg(test)]
mod tests;
