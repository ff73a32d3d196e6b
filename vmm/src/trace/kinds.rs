//! The kinds of events that `--trace` selects.

use cafevm_devices::observe::Event;

/// A selection of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds(u8);

const BUS: u8 = 1;
const RING: u8 = 2;
const BLOCK: u8 = 4;
const IRQ: u8 = 8;
const ALL: u8 = BUS | RING | BLOCK | IRQ;

impl Kinds {
    /// All events.
    pub const ALL: Self = Self(ALL);

    /// The names of all kinds.
    pub const NAMES: [&str; 5] = ["bus", "ring", "block", "irq", "all"];

    /// The kind with this name.
    pub fn named(name: &str) -> Option<Self> {
        let bits = [BUS, RING, BLOCK, IRQ, ALL];
        Self::NAMES.iter().zip(bits).find(|(known, _)| **known == name).map(|(_, bits)| Self(bits))
    }

    /// The events of both selections.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the event is selected. Broken rules always are.
    pub(super) const fn contain(self, event: &Event<'_>) -> bool {
        let bits = match event {
            // A claimed access is reported again as that of a register, or belongs to the console.
            Event::Access { claimed: true, .. } => 0,
            Event::Access { .. } | Event::Register { .. } | Event::Status { .. } => BUS,
            Event::Submitted(_) | Event::Content { .. } | Event::Finished { .. } => BLOCK,
            Event::Raised { .. } | Event::Acknowledged { .. } | Event::Suppressed { .. } => IRQ,
            Event::Broken { .. } => ALL,
            // Queues, doorbells, ring entries and descriptors.
            _ => RING,
        };
        self.0 & bits != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_selects_its_events() {
        let all = ["bus", "ring", "block", "irq"].map(|name| Kinds::named(name).unwrap());
        assert_eq!(all.into_iter().reduce(Kinds::and), Kinds::named("all"));
        assert_eq!(Kinds::named("rings"), None);
        let ring = Kinds::named("ring").unwrap();
        assert!(ring.contain(&Event::Notified { queue: 0 }));
        assert!(!ring.contain(&Event::Raised { reasons: 1 }));
        assert!(Kinds::ALL.contain(&Event::Raised { reasons: 1 }));
    }
}
