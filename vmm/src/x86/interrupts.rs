//! The state of the interrupt controllers, for a driver's author: where an interrupt waits.
#![expect(unsafe_code, reason = "KVM returns the state of a controller in a union")]

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_irqchip,
    kvm_lapic_state, kvm_pic_state,
};
use kvm_ioctls::VmFd;

/// The pins of KVM's IOAPIC.
const PINS: usize = 24;
/// Fields of an entry of the IOAPIC.
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// The slave's input of the master PIC.
const CASCADE: u32 = 2;
/// Registers of a local APIC: priority, spurious vector, in service, requested.
const TPR: usize = 0x80;
const SPURIOUS: usize = 0xf0;
const IN_SERVICE: usize = 0x100;
const REQUESTED: usize = 0x200;
/// The local APIC is enabled.
const ENABLED: u32 = 1 << 8;

/// An entry of the IOAPIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pin(pub(crate) u64);

impl Pin {
    pub(crate) const fn is_masked(self) -> bool {
        self.0 & MASKED != 0
    }

    pub(crate) const fn vector(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    /// Whether a level-triggered interrupt was delivered and waits for the end of interrupt.
    pub(crate) const fn waits_for_eoi(self) -> bool {
        self.0 & LEVEL != 0 && self.0 & REMOTE_IRR != 0
    }
}

/// The two PICs of a PC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pic {
    /// The first vector of each; 0 before the guest sets them up.
    pub(crate) base: [u8; 2],
    /// The masked inputs of each, a bit each.
    pub(crate) masked: [u8; 2],
    /// The inputs in service of each.
    pub(crate) in_service: [u8; 2],
}

impl Pic {
    /// The vector of interrupt `irq`, if the PIC passes it on.
    pub(crate) fn vector(&self, irq: u32) -> Option<u8> {
        let (chip, input) = Self::input(irq)?;
        let is_open = |chip: usize, input: u32| self.masked[chip] & (1 << input) == 0;
        let open = is_open(chip, input) && (chip == 0 || is_open(0, CASCADE));
        let base = self.base[chip];
        (open && base != 0).then(|| base.wrapping_add(input.to_le_bytes()[0]))
    }

    /// Whether the guest has not ended interrupt `irq`.
    pub(crate) fn is_in_service(&self, irq: u32) -> bool {
        Self::input(irq).is_some_and(|(chip, input)| self.in_service[chip] & (1 << input) != 0)
    }

    /// The interrupts in service, with their vectors.
    pub(crate) fn delivered(&self) -> impl Iterator<Item = (u32, u8)> {
        // The cascade has no vector of its own.
        let inputs = (0..16).filter(|irq| *irq != CASCADE && self.is_in_service(*irq));
        inputs.filter_map(|irq| {
            let (chip, input) = Self::input(irq)?;
            Some((irq, self.base[chip].wrapping_add(input.to_le_bytes()[0])))
        })
    }

    const fn input(irq: u32) -> Option<(usize, u32)> {
        match irq {
            0..8 => Some((0, irq)),
            8..16 => Some((1, irq - 8)),
            _ => None,
        }
    }
}

/// The interrupt controllers that all vCPUs share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Controllers {
    pins: Vec<Pin>,
    pub(crate) pic: Pic,
}

impl Controllers {
    /// Reads their state. None if KVM does not provide it.
    pub(crate) fn read(vm: &VmFd) -> Option<Self> {
        let chip = |chip_id| {
            let mut chip = kvm_irqchip { chip_id, ..kvm_irqchip::default() };
            vm.get_irqchip(&mut chip).ok().map(|()| chip.chip)
        };
        // SAFETY: plain integers, valid with any bits; for this chip KVM fills the field `ioapic`.
        let ioapic = unsafe { chip(KVM_IRQCHIP_IOAPIC)?.ioapic };
        // SAFETY: an entry is 64 bits, in both forms of the union.
        let pins = ioapic.redirtbl.iter().map(|entry| Pin(unsafe { entry.bits }));
        let pins = pins.take(PINS).collect();
        let pic = |number| -> Option<kvm_pic_state> {
            // SAFETY: as above; for the two PICs KVM fills the field `pic`.
            Some(unsafe { chip(number)?.pic })
        };
        let (master, slave) = (pic(KVM_IRQCHIP_PIC_MASTER)?, pic(KVM_IRQCHIP_PIC_SLAVE)?);
        let pic = Pic {
            base: [master.irq_base, slave.irq_base],
            masked: [master.imr, slave.imr],
            in_service: [master.isr, slave.isr],
        };
        Some(Self { pins, pic })
    }

    /// The pins of the IOAPIC that are not masked, with their vectors.
    pub(crate) fn open_pins(&self) -> impl Iterator<Item = (usize, u8)> {
        let open = self.pins.iter().enumerate().filter(|(_, pin)| !pin.is_masked());
        open.map(|(number, pin)| (number, pin.vector()))
    }

    #[cfg(test)]
    pub(crate) fn with(pins: Vec<Pin>, pic: Pic) -> Self {
        Self { pins, pic }
    }

    /// The entry of interrupt `irq` in the IOAPIC.
    pub(crate) fn pin(&self, irq: u32) -> Option<Pin> {
        self.pins.get(usize::try_from(irq).ok()?).copied()
    }
}

/// The local APIC of a vCPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LocalApic {
    pub(crate) is_enabled: bool,
    /// The task priority: lower vectors wait.
    pub(crate) priority: u8,
    pub(crate) in_service: [u32; 8],
    pub(crate) requested: [u32; 8],
}

impl LocalApic {
    pub(crate) fn of(state: &kvm_lapic_state) -> Self {
        let word = |at: usize| {
            let byte = |n: usize| state.regs.get(at + n).map_or(0, |byte| byte.to_le_bytes()[0]);
            u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
        };
        let words = |at: usize| std::array::from_fn(|n| word(at + 0x10 * n));
        Self {
            is_enabled: word(SPURIOUS) & ENABLED != 0,
            priority: word(TPR).to_le_bytes()[0],
            in_service: words(IN_SERVICE),
            requested: words(REQUESTED),
        }
    }

    /// Whether the handler of `vector` has not written EOI.
    pub(crate) fn is_in_service(&self, vector: u8) -> bool {
        has(&self.in_service, vector)
    }

    /// Whether `vector` waits for the processor.
    pub(crate) fn is_requested(&self, vector: u8) -> bool {
        has(&self.requested, vector)
    }
}

/// Whether the bit of `vector` is set.
pub(crate) fn has(bits: &[u32; 8], vector: u8) -> bool {
    let word = bits.get(usize::from(vector) / 32).copied().unwrap_or_default();
    word & (1 << (vector % 32)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_ioapic_is_decoded() {
        let pin = Pin(0x0000_0000_0001_8031);
        assert!(pin.is_masked() && !pin.waits_for_eoi());
        assert_eq!(pin.vector(), 0x31);
        assert!(Pin(0xc031).waits_for_eoi());
    }

    #[test]
    fn the_pic_passes_an_open_input_with_its_vector() {
        let pic = Pic { base: [0x20, 0x28], masked: [0xfb, 0xfd], in_service: [0, 2] };
        assert_eq!((pic.vector(9), pic.vector(10), pic.vector(1)), (Some(0x29), None, None));
        assert!(pic.is_in_service(9) && !pic.is_in_service(1));
        // The slave is behind an input of the master.
        assert_eq!(Pic { masked: [0xff, 0], ..pic }.vector(9), None);
        assert_eq!((Pic::default().vector(3), pic.vector(16)), (None, None));
    }

    #[test]
    fn the_local_apic_has_a_bit_for_each_vector() {
        let mut state = kvm_lapic_state { regs: [0; 1024] };
        state.regs[SPURIOUS + 1] = 1;
        state.regs[IN_SERVICE + 0x10] = 2;
        state.regs[REQUESTED + 0x70 + 3] = i8::MIN;
        let apic = LocalApic::of(&state);
        assert!(apic.is_enabled && apic.is_in_service(33) && !apic.is_in_service(1));
        assert!(apic.is_requested(255) && !apic.is_requested(254));
    }
}
