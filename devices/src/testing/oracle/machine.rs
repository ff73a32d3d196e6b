//! The machine of a script: its options, and the layout of its RAM.

use crate::testing::input::Input;

/// Guest RAM: (guest-physical address, bytes).
pub(super) const RAM: [(u64, usize); 2] = [(0, 0x1_0000), (1 << 20, 0x8000)];
/// The guest's buffers are below this, or in the upper range.
pub(super) const DATA_END: u32 = 0x7000;
/// From here to `RINGS` there are indirect tables.
pub(super) const TABLES: u64 = 0x7000;
/// From here on there are rings, two pages for each.
pub(super) const RINGS: u64 = 0x8000;

/// The options of the machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    pub(super) legacy: bool,
    pub(super) queues: u16,
    pub(super) queue_max: u16,
    pub(super) block_size: u32,
    pub(super) writeback: bool,
    pub(super) read_only: bool,
    pub(super) helper: bool,
    pub(super) held: bool,
    /// Whether discarded bytes read as zeros.
    pub(super) punches: bool,
}

impl Machine {
    pub(super) fn choose(input: &mut Input<'_>) -> Self {
        Self {
            legacy: input.one_in(8),
            queues: 1 + input.below(2) as u16,
            queue_max: 4 << input.below(4),
            block_size: input.pick(&[512, 512, 4096], 512),
            writeback: !input.one_in(4),
            read_only: input.one_in(16),
            helper: !input.one_in(4),
            held: input.one_in(3),
            punches: true,
        }
    }

    pub(super) fn id(self) -> [u8; 20] {
        let mut id = [0; 20];
        id[..10].copy_from_slice(b"the oracle");
        id
    }
}
