//! The values of the registers.

use std::sync::atomic::Ordering;

use super::options::version_value;
use super::registers::{Half, Register};
use super::state::{Session, selected};
use super::{Mmio, SLOT_SIZE};
use crate::virtio::spec::mmio::{CONFIG, MAGIC, VENDOR};

/// The bytes that a slot has for the configuration space.
const CONFIG_LEN: usize = 0x100;
const _: () = assert!(CONFIG + CONFIG_LEN as u64 == SLOT_SIZE);

/// The registers, from the first to the last, with their offsets.
pub(super) fn registers() -> impl Iterator<Item = (u64, Register)> {
    (0..CONFIG).step_by(4).filter_map(|offset| Some((offset, Register::decode(offset)?)))
}

impl Mmio {
    /// Updates all readable registers.
    pub(super) fn publish(&self, setup: &Session) {
        let window = &self.window;
        for (offset, register) in registers().filter(|(_, r)| r.is_in(self.core.version())) {
            if let Some(value) = self.value(setup, register) {
                window.set(offset, value);
            }
        }
        let mut config = [0; CONFIG_LEN];
        self.core.device().read_config(0, &mut config);
        for (offset, word) in (CONFIG..).step_by(4).zip(config.as_chunks().0) {
            window.set(offset, u32::from_le_bytes(*word));
        }
    }

    /// The value of a register; none for those that [`WindowSignals`](super::signals::WindowSignals) stores.
    fn value(&self, setup: &Session, register: Register) -> Option<u32> {
        Some(match register {
            Register::MagicValue => MAGIC,
            Register::Version => version_value(self.core.version()),
            Register::DeviceId => self.core.device().device_id(),
            Register::VendorId => VENDOR,
            Register::DeviceFeatures => match setup.registers.device_features_sel {
                0 => Half::Low.get(self.core.offered()),
                1 => Half::High.get(self.core.offered()),
                _ => 0,
            },
            Register::QueueNumMax => selected(setup).map_or(0, |q| q.max.into()),
            Register::QueueReady => selected(setup).map_or(0, |q| q.ready.into()),
            Register::QueuePfn => setup.registers.legacy().pfn,
            Register::InterruptStatus | Register::Status => return None,
            // There is no shared memory, which a length of all ones means (4.2.2).
            Register::ShmLen(_) | Register::ShmBase(_) => u32::MAX,
            Register::ConfigGeneration => self.config_generation.load(Ordering::Relaxed),
            // A reset queue has stopped when the write returns; if the host still uses it, QueueReady stays 1.
            Register::QueueReset
            | Register::GuestPageSize
            | Register::QueueAlign
            | Register::DeviceFeaturesSel
            | Register::DriverFeatures
            | Register::DriverFeaturesSel
            | Register::QueueSel
            | Register::QueueNum
            | Register::QueueNotify
            | Register::InterruptAck
            | Register::QueueAddr(..)
            | Register::ShmSel => 0,
        })
    }
}
