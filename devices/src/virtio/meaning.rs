//! What a register access means, in words, for whoever watches a driver at work.

use super::registers::{Half, Register};
use super::spec::mmio::{INTERRUPT_CONFIG, INTERRUPT_USED};
use super::spec::{bit_names, feature, status};
use crate::trace::Direction;

/// What the selector registers say at the moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Selectors {
    pub(super) device_features: u32,
    pub(super) driver_features: u32,
    pub(super) queue: u32,
}

/// The meaning of an access: `value` was read, or written, and `now` is the device status field after it.
pub(super) fn of(
    register: Register,
    direction: Direction,
    value: u32,
    now: u32,
    selectors: &Selectors,
) -> String {
    let queue = selectors.queue;
    match (register, direction) {
        (Register::MagicValue, _) => "\"virt\": a virtio device, or room for one".into(),
        (Register::Version, _) => "the layout of these registers: not legacy".into(),
        (Register::DeviceId, _) => match value {
            0 => "no device in this slot".into(),
            2 => "a block device".into(),
            _ => String::new(),
        },
        (Register::VendorId, _) => "\"QEMU\", which some drivers insist on".into(),
        (Register::DeviceFeatures, _) => {
            format!("the device offers {}", features(selectors.device_features, value))
        }
        (Register::DriverFeatures, _) => {
            format!("the driver accepts {}", features(selectors.driver_features, value))
        }
        (Register::DeviceFeaturesSel | Register::DriverFeaturesSel, _) => match value {
            0 => "features 0 to 31 are meant".into(),
            1 => "features 32 to 63 are meant".into(),
            _ => String::new(),
        },
        (Register::QueueSel, _) => format!("queue {value} is meant"),
        (Register::QueueNumMax, _) if value == 0 => format!("the device has no queue {queue}"),
        (Register::QueueNumMax, _) => format!("queue {queue} can have up to {value} entries"),
        (Register::QueueNum, _) => format!("queue {queue} is to have {value} entries"),
        (Register::QueueAddr(..), _) => format!("where that part of queue {queue} is"),
        (Register::QueueReady, Direction::Write) if value != 0 => {
            format!("queue {queue} is to be used")
        }
        (Register::QueueReady, Direction::Write) => format!("queue {queue} is to be left alone"),
        (Register::QueueReady, Direction::Read) => {
            format!("queue {queue} is {}in use", if value == 0 { "not " } else { "" })
        }
        (Register::QueueNotify, _) => format!("the doorbell of queue {value}"),
        (Register::InterruptStatus, _) => {
            format!("the device interrupted for: {}", interrupts(value))
        }
        (Register::InterruptAck, _) => format!("the driver has dealt with: {}", interrupts(value)),
        (Register::Status, Direction::Write) if value == 0 => "a reset: all begins anew".into(),
        (Register::Status, Direction::Write) => {
            format!("the status is now {}", bit_names(now, &status::NAMES))
        }
        (Register::Status, Direction::Read) => bit_names(value, &status::NAMES),
        (Register::ConfigGeneration, _) => "how often the configuration changed".into(),
        (Register::ShmLen(_), _) => "no shared memory".into(),
        (Register::Legacy | Register::QueueReset | Register::ShmSel | Register::ShmBase(_), _) => {
            String::new()
        }
    }
}

fn features(selector: u32, value: u32) -> String {
    let whole = match selector {
        0 => Half::Low.set(0, value),
        1 => Half::High.set(0, value),
        _ => return "nothing: there are no such features".into(),
    };
    if whole == 0 { "none of these".into() } else { bit_names(whole, &feature::NAMES) }
}

fn interrupts(value: u32) -> String {
    bit_names(
        value,
        &[(INTERRUPT_USED, "used buffers"), (INTERRUPT_CONFIG, "a configuration change")],
    )
}
