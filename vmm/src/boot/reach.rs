//! Memory that a kernel was not built for, as far as its file tells.

use std::fmt;
use std::ops::Range;

use super::Boot;
use crate::layout::{self, GIB, HIGH_RAM_START, LOW_RAM_END};
use crate::size::Human;

/// Up to where a kernel was built to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It is a program of 32 bits.
    Bits32,
    /// Linux for x86-64 without 5-level page tables (CONFIG_X86_5LEVEL): 46 bits of physical address.
    FourLevels,
}

impl Reach {
    /// The first address out of reach.
    const fn end(self) -> u64 {
        match self {
            Self::Bits32 => 4 * GIB,
            Self::FourLevels => 1 << 46,
        }
    }

    /// The most memory that it reaches wholly, in bytes.
    const fn memory(self) -> u64 {
        match self {
            Self::Bits32 => LOW_RAM_END,
            Self::FourLevels => self.end() - (HIGH_RAM_START - LOW_RAM_END),
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bits32 => "is a program of 32 bits, which reaches 4 GiB, and more only with PAE",
            Self::FourLevels => "was built for 64 TiB (CONFIG_X86_5LEVEL is off)",
        })
    }
}

impl Boot {
    /// What to say of memory that the kernel was not built for; it may bear it, so that this is no error.
    pub(crate) fn beyond_reach(&self) -> Option<String> {
        let reach = self.kernel.reach?;
        let beyond = |ram: Range<u64>| ram.end.saturating_sub(ram.start.max(reach.end()));
        let bytes: u64 = layout::ram(self.memory).into_iter().map(beyond).sum();
        (bytes > 0).then(|| {
            format!(
                "--kernel {}: {reach}; of --memory {}, {} lie behind that and may go unused, or worse: \
                 --memory {}M has none",
                self.kernel.name,
                Human(self.memory),
                Human(bytes),
                reach.memory() / layout::MIB
            )
        })
    }
}
