//! The kinds of events that `--trace` selects.

use cafevm_devices::observe::Event;

/// A selection of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds(u8);

/// The name of each kind, and its bit.
const NAMES: [(&str, u8); 4] = [("bus", 1), ("ring", 2), ("block", 4), ("irq", 8)];
const ALL: u8 = 15;

impl Kinds {
    /// All events.
    pub const ALL: Self = Self(ALL);

    /// The names of all kinds.
    pub const NAMES: [&str; 5] = ["bus", "ring", "block", "irq", "all"];

    /// The kind with this name.
    pub fn named(name: &str) -> Option<Self> {
        let known = NAMES.iter().find(|(known, _)| *known == name);
        known.map(|(_, bit)| Self(*bit)).or((name == "all").then_some(Self::ALL))
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
            Event::Access { .. } | Event::Register { .. } | Event::Status { .. } => 1,
            Event::Submitted(_) | Event::Finished { .. } => 4,
            Event::Raised { .. } | Event::Acknowledged { .. } => 8,
            Event::Broken { .. } => ALL,
            // Queues, doorbells, ring entries and descriptors.
            _ => 2,
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
