//! What the registers read.

use std::sync::atomic::Ordering;

use super::registers::{Half, Register};
use super::setup::Session;
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
    /// Brings what can be read up to date.
    pub(super) fn publish(&self, session: &Session) {
        let window = &self.options.window;
        for (offset, register) in registers().filter(|(_, r)| r.is_in(self.options.version)) {
            if let Some(value) = self.value(session, register) {
                window.set(offset, value);
            }
        }
        let mut config = [0; CONFIG_LEN];
        self.device.read_config(0, &mut config);
        for (offset, word) in (CONFIG..).step_by(4).zip(config.as_chunks().0) {
            window.set(offset, u32::from_le_bytes(*word));
        }
    }

    /// What a register reads; none for those that the notifier keeps itself.
    fn value(&self, session: &Session, register: Register) -> Option<u32> {
        Some(match register {
            Register::MagicValue => MAGIC,
            Register::Version => self.options.version.value(),
            Register::DeviceId => self.device.device_id(),
            Register::VendorId => VENDOR,
            Register::DeviceFeatures => match session.device_features_sel {
                0 => Half::Low.get(self.offered()),
                1 => Half::High.get(self.offered()),
                _ => 0,
            },
            Register::QueueNumMax => session.queue().map_or(0, |q| q.max.into()),
            Register::QueueReady => session.queue().map_or(0, |q| q.ready.into()),
            Register::QueuePfn => session.queue().map_or(0, |q| q.pfn),
            Register::InterruptStatus | Register::Status => return None,
            // There is no shared memory: a length of all ones says so (4.2.2).
            Register::ShmLen(_) | Register::ShmBase(_) => u32::MAX,
            Register::ConfigGeneration => self.config_generation.load(Ordering::Relaxed),
            // A queue is reset when the write returns; where the host keeps it, QueueReady stays 1.
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
