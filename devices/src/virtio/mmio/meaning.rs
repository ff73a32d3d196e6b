//! What a register access means, in words, for whoever watches a driver at work.

use super::registers::{Half, Register};
use super::state::Registers;
use crate::observe::Direction;
use crate::virtio::queue::Area;
use crate::virtio::spec::mmio::{INTERRUPT_CONFIG, INTERRUPT_USED};
use crate::virtio::spec::{bit_names, status};
use crate::virtio::transport::Core;

/// The meaning of an access that has happened: `value` was read or written.
pub(super) fn of(
    core: &Core<Registers>,
    register: Register,
    direction: Direction,
    value: u32,
) -> String {
    let setup = core.setup();
    let registers = &setup.registers;
    let queue = registers.queue_sel;
    match (register, direction) {
        (Register::MagicValue, _) => "\"virt\": a virtio device, or room for one".into(),
        (Register::Version, _) => match value {
            1 => "the layout of these registers: legacy".into(),
            _ => "the layout of these registers: not legacy".into(),
        },
        (Register::DeviceId, _) => match value {
            0 => "no device in this slot".into(),
            _ => core.device().kind().into(),
        },
        (Register::VendorId, _) => "\"QEMU\", which some drivers insist on".into(),
        (Register::DeviceFeatures, _) => {
            format!("the device offers {}", features(core, registers.device_features_sel, value))
        }
        (Register::DriverFeatures, _) => {
            format!("the driver accepts {}", features(core, registers.driver_features_sel, value))
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
            format!("the address of {part} of queue {queue}, {half} half")
        }
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
            format!("the status is now {}", bit_names(core.status(), &status::NAMES))
        }
        (Register::Status, Direction::Read) => bit_names(value, &status::NAMES),
        (Register::ConfigGeneration, _) => "how often the configuration changed".into(),
        (Register::ShmLen(_), _) => "no shared memory".into(),
        (Register::QueueReset, _) => format!("queue {queue} is to be reset by itself"),
        (Register::GuestPageSize, _) => format!("pages of the driver have {value} bytes"),
        (Register::QueueAlign, _) => format!("the used ring is aligned to {value} bytes"),
        (Register::QueuePfn, _) if value == 0 => format!("queue {queue} is not in use"),
        (Register::QueuePfn, _) => {
            let at = u64::from(value) * u64::from(registers.page_size());
            format!("queue {queue} lies from {at:#x} on")
        }
        (Register::ShmSel | Register::ShmBase(_), _) => String::new(),
    }
}

fn features(core: &Core<Registers>, selector: u32, value: u32) -> String {
    let whole = match selector {
        0 => Half::Low.set(0, value),
        1 => Half::High.set(0, value),
        _ => return "nothing: there are no such features".into(),
    };
    if whole == 0 { "none of these".into() } else { core.feature_names(whole) }
}

fn interrupts(value: u32) -> String {
    bit_names(
        value,
        &[(INTERRUPT_USED, "used buffers"), (INTERRUPT_CONFIG, "a configuration change")],
    )
}
