//! The meaning of a register access in words. The text is made only if an observer displays it.

use std::fmt;

use super::registers::{Half, Register};
use super::state::Registers;
use crate::observe::Direction;
use crate::virtio::queue::Area;
use crate::virtio::spec::mmio::{INTERRUPT_CONFIG, INTERRUPT_USED};
use crate::virtio::spec::{bit_names, status};
use crate::virtio::transport::{Core, feature_names};

/// An access, and the values on which its meaning depends. `Display` gives the meaning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meaning {
    register: Register,
    direction: Direction,
    value: u32,
    /// The queue selected by QueueSel.
    queue: u32,
    /// The selector of the features accessed.
    features_sel: u32,
    page_size: u32,
    status: u32,
    kind: &'static str,
    feature_names: &'static [(u64, &'static str)],
}

impl Meaning {
    /// The meaning of an access to `register`, which read or wrote `value`.
    pub(super) fn new(
        core: &Core<Registers>,
        register: Register,
        direction: Direction,
        value: u32,
    ) -> Self {
        let setup = core.setup();
        let registers = &setup.registers;
        let features_sel = match register {
            Register::DeviceFeatures => registers.device_features_sel,
            _ => registers.driver_features_sel,
        };
        Self {
            register,
            direction,
            value,
            queue: registers.queue_sel,
            features_sel,
            page_size: registers.page_size(),
            status: core.status(),
            kind: core.device().kind(),
            feature_names: core.device().feature_names(),
        }
    }

    fn features(&self) -> String {
        let whole = match self.features_sel {
            0 => Half::Low.set(0, self.value),
            1 => Half::High.set(0, self.value),
            _ => return "nothing: there are no such features".into(),
        };
        match whole {
            0 => "none of these".into(),
            whole => feature_names(whole, self.feature_names),
        }
    }
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self { register, direction, value, queue, .. } = self;
        match (register, direction) {
            (Register::MagicValue, _) => f.write_str("\"virt\": a virtio device, or room for one"),
            (Register::Version, _) => match value {
                1 => f.write_str("the layout of these registers: legacy"),
                _ => f.write_str("the layout of these registers: not legacy"),
            },
            (Register::DeviceId, _) => match value {
                0 => f.write_str("no device in this slot"),
                _ => f.write_str(self.kind),
            },
            (Register::VendorId, _) => f.write_str("\"QEMU\", which some drivers insist on"),
            (Register::DeviceFeatures, _) => {
                write!(f, "the device offers {}", self.features())
            }
            (Register::DriverFeatures, _) => {
                write!(f, "the driver accepts {}", self.features())
            }
            (Register::DeviceFeaturesSel | Register::DriverFeaturesSel, _) => match value {
                0 => f.write_str("features 0 to 31 are meant"),
                1 => f.write_str("features 32 to 63 are meant"),
                _ => Ok(()),
            },
            (Register::QueueSel, _) => write!(f, "queue {value} is meant"),
            (Register::QueueNumMax, _) if value == 0 => {
                write!(f, "the device has no queue {queue}")
            }
            (Register::QueueNumMax, _) => write!(f, "queue {queue} can have up to {value} entries"),
            (Register::QueueNum, _) => write!(f, "queue {queue} is to have {value} entries"),
            (Register::QueueAddr(area, half), _) => {
                let part = match area {
                    Area::Desc => "the descriptor table",
                    Area::Driver => "the available ring",
                    Area::Device => "the used ring",
                };
                let half = match half {
                    Half::Low => "lower",
                    Half::High => "upper",
                };
                write!(f, "the address of {part} of queue {queue}, {half} half")
            }
            (Register::QueueReady, Direction::Write) if value != 0 => {
                write!(f, "queue {queue} is to be used")
            }
            (Register::QueueReady, Direction::Write) => {
                write!(f, "queue {queue} is to be left alone")
            }
            (Register::QueueReady, Direction::Read) => {
                write!(f, "queue {queue} is {}in use", if value == 0 { "not " } else { "" })
            }
            (Register::QueueNotify, _) => write!(f, "the doorbell of queue {value}"),
            (Register::InterruptStatus, _) => {
                write!(f, "the device interrupted for: {}", interrupts(value))
            }
            (Register::InterruptAck, _) => {
                write!(f, "the driver has dealt with: {}", interrupts(value))
            }
            (Register::Status, Direction::Write) if value == 0 => {
                f.write_str("a reset: all begins anew")
            }
            (Register::Status, Direction::Write) => {
                write!(f, "the status is now {}", bit_names(self.status, &status::NAMES))
            }
            (Register::Status, Direction::Read) => f.write_str(&bit_names(value, &status::NAMES)),
            (Register::ConfigGeneration, _) => f.write_str("how often the configuration changed"),
            (Register::ShmLen(_), _) => f.write_str("no shared memory"),
            (Register::QueueReset, _) => write!(f, "queue {queue} is to be reset by itself"),
            (Register::GuestPageSize, _) => write!(f, "pages of the driver have {value} bytes"),
            (Register::QueueAlign, _) => write!(f, "the used ring is aligned to {value} bytes"),
            (Register::QueuePfn, _) if value == 0 => write!(f, "queue {queue} is not in use"),
            (Register::QueuePfn, _) => {
                let at = u64::from(value) * u64::from(self.page_size);
                write!(f, "queue {queue} lies from {at:#x} on")
            }
            (Register::ShmSel | Register::ShmBase(_), _) => Ok(()),
        }
    }
}

/// An access to the configuration space. `Display` gives its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConfigAccess {
    /// The first byte.
    pub(super) at: u64,
    /// The bytes accessed.
    pub(super) len: usize,
}

impl fmt::Display for ConfigAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, len } = self;
        write!(f, "configuration space, byte {at:#x}, {len} bytes")
    }
}

fn interrupts(value: u32) -> String {
    bit_names(
        value,
        &[(INTERRUPT_USED, "used buffers"), (INTERRUPT_CONFIG, "a configuration change")],
    )
}
