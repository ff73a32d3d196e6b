//! The MMIO transport, version 2 (virtio 1.2, 4.2): a device's registers, its status, the set-up of its
//! queues.
//!
//! Lenient: what a driver gets wrong but the device can bear is borne, and said once with the rule. What it
//! cannot bear has no effect.

use std::sync::Arc;

use super::device::{Activation, VirtioDevice};
use super::interrupt::Notifier;
use super::queue::{QueueLayout, SplitQueue};
use super::registers::{Area, Direction, Half, Register, Target};
use super::spec::mmio::{CONFIG, INTERRUPT_CONFIG, INTERRUPT_USED, MAGIC, VENDOR, VERSION};
use super::spec::status::{
    ACKNOWLEDGE, DEVICE_NEEDS_RESET, DRIVER, DRIVER_BITS, DRIVER_OK, FEATURES_OK,
    NAMES as STATUS_NAMES,
};
use super::spec::{bit_names, feature};
use super::{meaning, rules};
use crate::bus::BusDevice;
use crate::complaints::Complaints;
use crate::irq::IrqLine;
use crate::memory::GuestRam;
use crate::trace::{self, Event, Tracer};

/// The bytes of guest-physical address space that one device answers in.
pub const SLOT_SIZE: u64 = 0x200;

/// A virtio device behind the registers of virtio-mmio.
pub struct Mmio {
    device: Box<dyn VirtioDevice>,
    ram: GuestRam,
    notifier: Notifier,
    complaints: Complaints,
    tracer: Tracer,
    /// Bumped whenever the configuration space changes. No reset sets it back.
    config_generation: u32,
    session: Session,
}

/// All that a reset forgets.
struct Session {
    status: u32,
    device_features_sel: u32,
    driver_features_sel: u32,
    /// As the driver wrote them.
    driver_features: u64,
    queue_sel: u32,
    queues: Vec<QueueSetup>,
}

/// One queue's registers.
#[derive(Debug, Clone, Copy)]
struct QueueSetup {
    max: u16,
    ready: bool,
    layout: QueueLayout,
}

impl Session {
    fn new(device: &dyn VirtioDevice) -> Self {
        let setup = |&max: &u16| QueueSetup { max, ready: false, layout: QueueLayout::default() };
        Self {
            status: 0,
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: 0,
            queue_sel: 0,
            queues: device.queue_max().iter().map(setup).collect(),
        }
    }

    const fn has(&self, bit: u32) -> bool {
        self.status & bit != 0
    }

    fn queue(&self) -> Option<&QueueSetup> {
        self.queues.get(usize::try_from(self.queue_sel).ok()?)
    }

    fn queue_mut(&mut self) -> Option<&mut QueueSetup> {
        self.queues.get_mut(usize::try_from(self.queue_sel).ok()?)
    }
}

impl Mmio {
    /// Puts `device` behind registers. It reaches guest memory through `ram`, and interrupts by `line`.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        ram: GuestRam,
        line: Arc<dyn IrqLine>,
        tracer: Tracer,
    ) -> Self {
        Self {
            session: Session::new(&*device),
            complaints: device.complaints().clone(),
            notifier: Notifier::new(line),
            config_generation: 0,
            device,
            ram,
            tracer,
        }
    }

    /// The features offered.
    fn offered(&self) -> u64 {
        self.device.features() | feature::VERSION_1
    }

    /// The device status field: what the driver set, and what the device adds.
    fn status(&self) -> u32 {
        let needs_reset = if self.notifier.is_reset_needed() { DEVICE_NEEDS_RESET } else { 0 };
        self.session.status | needs_reset
    }

    fn read_register(&self, register: Register) -> u32 {
        match register {
            Register::MagicValue => MAGIC,
            Register::Version => VERSION,
            Register::DeviceId => self.device.device_id(),
            Register::VendorId => VENDOR,
            Register::DeviceFeatures => match self.session.device_features_sel {
                0 => Half::Low.get(self.offered()),
                1 => Half::High.get(self.offered()),
                _ => 0,
            },
            Register::QueueNumMax => self.session.queue().map_or(0, |q| q.max.into()),
            Register::QueueReady => self.session.queue().map_or(0, |q| q.ready.into()),
            Register::InterruptStatus => self.notifier.pending(),
            Register::Status => self.status(),
            // There is no shared memory: a length of all ones says so (4.2.2).
            Register::ShmLen(_) | Register::ShmBase(_) => u32::MAX,
            Register::ConfigGeneration => self.config_generation,
            Register::Legacy
            | Register::QueueReset
            | Register::DeviceFeaturesSel
            | Register::DriverFeatures
            | Register::DriverFeaturesSel
            | Register::QueueSel
            | Register::QueueNum
            | Register::QueueNotify
            | Register::InterruptAck
            | Register::QueueAddr(..)
            | Register::ShmSel => 0,
        }
    }

    fn write_register(&mut self, register: Register, value: u32) {
        match register {
            Register::DeviceFeaturesSel => self.session.device_features_sel = value,
            Register::DriverFeaturesSel => self.session.driver_features_sel = value,
            Register::DriverFeatures => self.write_features(value),
            Register::QueueSel => self.session.queue_sel = value,
            Register::QueueNum => self.set_up_queue("QueueNum", |q| q.layout.size = value),
            Register::QueueAddr(area, half) => self.set_up_queue(register.name(), |q| {
                let addr = match area {
                    Area::Desc => &mut q.layout.desc,
                    Area::Driver => &mut q.layout.avail,
                    Area::Device => &mut q.layout.used,
                };
                *addr = half.set(*addr, value);
            }),
            Register::QueueReady => self.write_queue_ready(value),
            Register::QueueNotify => self.notify(value),
            Register::InterruptAck => {
                if value & !(INTERRUPT_USED | INTERRUPT_CONFIG) != 0 {
                    self.complaints.say(
                        rules::INTERRUPT_ACK,
                        format_args!("InterruptACK {value:#x} has bits that no interrupt has"),
                    );
                }
                self.notifier.acknowledge(value);
            }
            Register::Status => self.write_status(value),
            Register::ShmSel => {}
            Register::QueueReset => self.complaints.say(
                rules::QUEUE_RESET,
                format_args!("QueueReset was written, but RING_RESET was not negotiated; ignored"),
            ),
            Register::Legacy => self.complaints.say(
                rules::LEGACY,
                format_args!(
                    "a register of the legacy layout (version 1: GuestPageSize, QueueAlign, QueuePFN) was \
                     written, but this device is version 2; ignored"
                ),
            ),
            Register::MagicValue
            | Register::Version
            | Register::DeviceId
            | Register::VendorId
            | Register::DeviceFeatures
            | Register::QueueNumMax
            | Register::InterruptStatus
            | Register::ShmLen(_)
            | Register::ShmBase(_)
            | Register::ConfigGeneration => self.complaints.say(
                rules::DIRECTION,
                format_args!("{} was written, but is read-only; ignored", register.name()),
            ),
        }
    }

    fn write_features(&mut self, value: u32) {
        let session = &mut self.session;
        if session.has(FEATURES_OK) {
            self.complaints.say(
                rules::FEATURES_SETTLED,
                format_args!("DriverFeatures was written after FEATURES_OK; ignored"),
            );
            return;
        }
        match session.driver_features_sel {
            0 => session.driver_features = Half::Low.set(session.driver_features, value),
            1 => session.driver_features = Half::High.set(session.driver_features, value),
            _ if value == 0 => {}
            sel => self.complaints.say(
                rules::FEATURES_SUBSET,
                format_args!(
                    "features {value:#x} at DriverFeaturesSel {sel} do not exist; ignored"
                ),
            ),
        }
    }

    /// Changes the registers of the selected queue, where that is allowed now.
    fn set_up_queue(&mut self, register: &'static str, change: impl FnOnce(&mut QueueSetup)) {
        let live = self.session.has(DRIVER_OK);
        let early = !self.session.has(FEATURES_OK);
        let sel = self.session.queue_sel;
        let say = |rule, what: std::fmt::Arguments<'_>| {
            self.complaints.say(rule, format_args!("{register} {what}"));
        };
        match self.session.queue_mut() {
            None => say(
                rules::QUEUE_SEL,
                format_args!(
                    "was written for queue {sel}, which the device does not have; ignored"
                ),
            ),
            Some(_) if live => say(
                rules::QUEUE_LIVE,
                format_args!("was written for queue {sel} after DRIVER_OK; ignored"),
            ),
            Some(queue) if queue.ready => say(
                rules::QUEUE_LIVE,
                format_args!("was written for queue {sel} after QueueReady; ignored"),
            ),
            Some(queue) => {
                change(queue);
                if early {
                    say(
                        rules::QUEUE_EARLY,
                        format_args!("was written for queue {sel} before FEATURES_OK; accepted"),
                    );
                }
            }
        }
    }

    fn write_queue_ready(&mut self, value: u32) {
        let sel = self.session.queue_sel;
        if value == 0 {
            // The driver stops the queue (4.2.2.2); what it reads next tells it that this is done.
            let Some(queue) = self.session.queue_mut() else { return };
            queue.ready = false;
            if self.session.has(DRIVER_OK)
                && let Ok(index) = u16::try_from(sel)
            {
                self.device.stop_queue(index);
            }
            return;
        }
        let checked = self.session.queue().map(|q| (q.ready, self.make_queue(q).map(drop)));
        match checked {
            Some((false, Err(error))) => self.complaints.say(
                rules::QUEUE_LAYOUT,
                format_args!("queue {sel} is refused (QueueReady stays 0): {error}"),
            ),
            // Asked for twice is not more than once.
            Some((true, _)) if !self.session.has(DRIVER_OK) => {}
            _ => self.set_up_queue("QueueReady", |q| q.ready = true),
        }
    }

    fn make_queue(&self, setup: &QueueSetup) -> Result<SplitQueue, super::queue::QueueError> {
        let event_idx = self.accepted() & feature::RING_EVENT_IDX != 0;
        SplitQueue::new(self.ram.clone(), setup.layout, setup.max, event_idx)
    }

    /// The features that both sides have.
    fn accepted(&self) -> u64 {
        self.session.driver_features & self.offered()
    }

    fn notify(&mut self, value: u32) {
        let why = if !self.session.has(DRIVER_OK) {
            "before DRIVER_OK"
        } else if let Some(queue) =
            usize::try_from(value).ok().and_then(|n| self.session.queues.get(n))
        {
            if queue.ready {
                // A device has fewer queues than a u16 has values.
                return self.device.service(u16::try_from(value).unwrap_or_default());
            }
            "but that queue is not ready"
        } else {
            "but the device has no such queue"
        };
        self.complaints.say(
            rules::NOTIFY,
            format_args!("QueueNotify was written with queue {value} {why}; ignored"),
        );
    }

    fn write_status(&mut self, value: u32) {
        if value == 0 {
            self.device.reset();
            self.notifier.reset();
            self.session = Session::new(&*self.device);
            return;
        }
        let old = self.session.status;
        let unknown = value & !(DRIVER_BITS | DEVICE_NEEDS_RESET);
        if unknown != 0 {
            self.complaints.say(
                rules::STATUS_BITS,
                format_args!("Status {value:#x} has bits that do not exist: {unknown:#x}; ignored"),
            );
        }
        if old & !value != 0 {
            self.complaints.say(
                rules::STATUS_CLEARED,
                format_args!(
                    "Status {value:#x} would clear {}, which only a reset (0) may; they stay set",
                    bit_names(old & !value, &STATUS_NAMES)
                ),
            );
        }
        let new = value & DRIVER_BITS & !old;
        self.session.status |= new & !(FEATURES_OK | DRIVER_OK);
        if new & FEATURES_OK != 0 && self.settle_features() {
            self.session.status |= FEATURES_OK;
        }
        if new & DRIVER_OK != 0 {
            self.go_live();
        }
    }

    /// Whether the driver's features can be used (2.2.1, 3.1.1 step 6).
    fn settle_features(&mut self) -> bool {
        self.expect_before("FEATURES_OK", ACKNOWLEDGE | DRIVER);
        let features = self.session.driver_features;
        let extra = features & !self.offered();
        if extra != 0 {
            self.complaints.say(
                rules::FEATURES_SUBSET,
                format_args!(
                    "features were accepted that were not offered: {}; FEATURES_OK stays 0",
                    bit_names(extra, &feature::NAMES)
                ),
            );
            return false;
        }
        if features & feature::VERSION_1 == 0 {
            self.complaints.say(
                rules::VERSION_1,
                format_args!("VERSION_1 (bit 32) was not accepted; borne, as if it had been"),
            );
        }
        true
    }

    fn go_live(&mut self) {
        self.expect_before("DRIVER_OK", ACKNOWLEDGE | DRIVER | FEATURES_OK);
        self.session.status |= DRIVER_OK;
        let make = |q: &QueueSetup| if q.ready { self.make_queue(q).ok() } else { None };
        let queues: Vec<_> = self.session.queues.iter().map(make).collect();
        if queues.iter().all(Option::is_none) {
            self.complaints.say(
                rules::NO_QUEUE,
                format_args!("DRIVER_OK was set with no queue ready: no request can be made"),
            );
        }
        self.device.activate(Activation {
            features: self.accepted(),
            queues,
            notifier: self.notifier.clone(),
        });
    }

    fn expect_before(&self, step: &str, bits: u32) {
        let missing = bits & !self.session.status;
        if missing != 0 {
            self.complaints.say(
                rules::STATUS_ORDER,
                format_args!("{step} was set without {}; borne", bit_names(missing, &STATUS_NAMES)),
            );
        }
    }

    fn trace(&self, register: Register, direction: trace::Direction, value: u32) {
        self.tracer.emit(|| Event::Register {
            device: self.complaints.device().clone(),
            register: register.name(),
            direction,
            value,
            meaning: meaning::of(
                register,
                direction,
                value,
                self.status(),
                &self.session.selectors(),
            ),
        });
    }

    fn trace_config(&self, offset: u64, direction: trace::Direction, data: &[u8]) {
        self.tracer.emit(|| Event::Register {
            device: self.complaints.device().clone(),
            register: "Config",
            direction,
            value: data.iter().take(4).rev().fold(0, |value, byte| value << 8 | u32::from(*byte)),
            meaning: format!("configuration space, byte {offset:#x}, {} bytes", data.len()),
        });
    }

    fn say_misaccess(&self, what: &str, offset: u64, width: usize) {
        self.complaints.say(
            rules::WIDTH,
            format_args!(
                "{width} bytes were {what} at {offset:#x}; below {CONFIG:#x} the registers take 4, aligned, and \
                 from there on 1, 2 or 4, aligned"
            ),
        );
    }
}

impl Session {
    const fn selectors(&self) -> meaning::Selectors {
        meaning::Selectors {
            device_features: self.device_features_sel,
            driver_features: self.driver_features_sel,
            queue: self.queue_sel,
        }
    }
}

impl BusDevice for Mmio {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        match Target::decode(offset, data.len()) {
            Target::Register(register) => {
                if register.direction() == Direction::W {
                    self.complaints.say(
                        rules::DIRECTION,
                        format_args!("{} was read, but is write-only; it gives 0", register.name()),
                    );
                }
                let value = self.read_register(register);
                data.copy_from_slice(&value.to_le_bytes());
                self.trace(register, trace::Direction::Read, value);
            }
            Target::Config(at) => {
                self.device.read_config(at, data);
                self.trace_config(at, trace::Direction::Read, data);
            }
            Target::Nothing => self.complaints.say(
                rules::NO_REGISTER,
                format_args!("{offset:#x} was read; no register is there"),
            ),
            Target::Misaccess => self.say_misaccess("read", offset, data.len()),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        match Target::decode(offset, data.len()) {
            Target::Register(register) => {
                // Four bytes, says the decoding.
                let value = data.try_into().map(u32::from_le_bytes).unwrap_or_default();
                self.write_register(register, value);
                self.trace(register, trace::Direction::Write, value);
            }
            Target::Config(at) => {
                if !self.device.write_config(at, data) {
                    self.complaints.say(
                        rules::CONFIG_WRITE,
                        format_args!(
                            "byte {at:#x} of the configuration space cannot be written; ignored"
                        ),
                    );
                }
                self.trace_config(at, trace::Direction::Write, data);
            }
            Target::Nothing => self.complaints.say(
                rules::NO_REGISTER,
                format_args!("{offset:#x} was written; no register is there"),
            ),
            Target::Misaccess => self.say_misaccess("written", offset, data.len()),
        }
    }
}

/// A slot of the bank with no device in it: a driver that looks finds DeviceID 0 and goes on (4.2.2.2).
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptySlot;

impl BusDevice for EmptySlot {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let value = match Target::decode(offset, data.len()) {
            Target::Register(Register::MagicValue) => MAGIC,
            Target::Register(Register::Version) => VERSION,
            Target::Register(Register::VendorId) => VENDOR,
            _ => return,
        };
        data.copy_from_slice(&value.to_le_bytes());
    }

    fn write(&mut self, _offset: u64, _data: &[u8]) {}
}

#[cfg(test)]
#[path = "mmio_tests.rs"]
mod tests;
