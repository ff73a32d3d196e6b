//! Where the virtio devices are.

use cafevm_devices::virtio::mmio::{Policy, SLOT_SIZE, Version};

use crate::error::ConfigError;
use crate::layout::{self, MIB};

/// The virtio-mmio slots. The default is that of QEMU's microvm: 32 slots of 0x200 bytes at 0xfeb00000.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtioBank {
    /// The guest-physical address of the first slot.
    pub base: u64,
    /// The distance of two slots, in bytes.
    pub stride: u64,
    /// The number of slots.
    pub slots: u32,
    /// The interrupt of the first slot; each slot in use has its own.
    pub first_irq: u32,
    /// The last interrupt that a slot can have.
    pub last_irq: u32,
    /// The version of the registers.
    pub version: Version,
    /// What happens when a driver breaks a rule.
    pub policy: Policy,
}

impl Default for VirtioBank {
    fn default() -> Self {
        Self {
            base: layout::VIRTIO.start,
            stride: SLOT_SIZE,
            slots: 32,
            first_irq: 5,
            last_irq: 23,
            version: Version::default(),
            policy: Policy::default(),
        }
    }
}

/// The place of one virtio device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Its guest-physical address.
    pub base: u64,
    /// Its interrupt.
    pub irq: u32,
}

impl VirtioBank {
    /// Slot `number`, counted from 0.
    pub fn slot(&self, number: u32) -> Slot {
        let offset = u64::from(number).saturating_mul(self.stride);
        let irq = self.first_irq.saturating_add(number);
        Slot { base: self.base.saturating_add(offset), irq }
    }

    /// Checks that there are a slot and an interrupt line for each of `given` devices.
    pub(super) fn check_devices(&self, given: usize) -> Result<(), ConfigError> {
        let lines = self.last_irq.saturating_add(1).saturating_sub(self.first_irq);
        let fit = |most: u32| usize::try_from(most).is_ok_and(|most| given <= most);
        let limit = if !fit(self.slots) {
            format!("--virtio-mmio has slots={}", self.slots)
        } else if !fit(lines) {
            format!("there are interrupt lines for {lines}")
        } else {
            return Ok(());
        };
        Err(ConfigError::TooManyDevices { given, limit })
    }

    /// Checks that the slots are where nothing else is.
    pub(super) fn check(&self, memory: u64) -> Result<(), ConfigError> {
        let wrong = |why: &str| ConfigError::VirtioBank { base: self.base, why: why.to_owned() };
        if self.stride < SLOT_SIZE {
            return Err(wrong("a slot has 0x200 bytes, and the stride is smaller"));
        }
        let end = u64::from(self.slots)
            .checked_mul(self.stride)
            .and_then(|len| self.base.checked_add(len));
        let Some(end) = end else {
            return Err(wrong("they run over the end of the address space"));
        };
        let place = self.base..end;
        if layout::ram(memory).iter().any(|ram| !layout::disjoint(ram, &place)) {
            // RAM begins at 0, and a machine has at least 1 MiB.
            let less = if place.start < MIB { "" } else { "less memory (--memory), or " };
            return Err(wrong(&format!("RAM is there; give {less}another base")));
        }
        // The bus checks the other devices; these belong to KVM.
        for kvm in [layout::IOAPIC, layout::LOCAL_APIC, layout::KVM_PAGES] {
            if !layout::disjoint(&kvm, &place) {
                return Err(wrong("an interrupt controller is there; give another base"));
            }
        }
        Ok(())
    }
}
