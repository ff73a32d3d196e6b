//! The memory map for the kernel: both boot protocols have the same entries, and the same numbers for their kinds (ACPI
//! 6.5, 15).

use std::ops::Range;

use crate::layout::{self, CONVENTIONAL_END, FIRMWARE, MIB, VIDEO_START};

/// RAM that the kernel may use.
const RAM: u32 = 1;
/// Memory that the kernel must not use.
const RESERVED: u32 = 2;

/// A range of guest-physical addresses and its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) place: Range<u64>,
    pub(super) kind: u32,
}

impl Area {
    pub(super) fn len(&self) -> u64 {
        self.place.end - self.place.start
    }
}

/// The memory map of a machine with `memory` bytes of RAM, lowest address first: the first MiB of a PC, then the rest.
pub(super) fn areas(memory: u64) -> Vec<Area> {
    let mut areas = vec![
        Area { place: 0..CONVENTIONAL_END, kind: RAM },
        Area { place: CONVENTIONAL_END..VIDEO_START, kind: RESERVED },
        Area { place: FIRMWARE, kind: RESERVED },
    ];
    for ram in layout::ram(memory) {
        let place = ram.start.max(MIB)..ram.end;
        if place.start < place.end {
            areas.push(Area { place, kind: RAM });
        }
    }
    areas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::GIB;

    #[test]
    fn the_map_ascends_and_covers_all_ram_above_1_mib() {
        for memory in [MIB, 2 * MIB, 64 * MIB, 3 * GIB, 4 * GIB] {
            let areas = areas(memory);
            assert!(areas.windows(2).all(|w| w[0].place.end <= w[1].place.start), "{areas:?}");
            let high: u64 =
                areas.iter().filter(|a| a.kind == RAM && a.place.start >= MIB).map(Area::len).sum();
            assert_eq!(high, memory - MIB);
        }
    }
}
