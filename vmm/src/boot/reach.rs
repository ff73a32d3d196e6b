//! Warns about memory that a kernel was not built for, as far as its file shows.

use std::fmt;
use std::ops::Range;

use super::Boot;
use crate::layout::{self, GIB, HIGH_RAM_START, LOW_RAM_END};
use crate::size::Human;

/// The most memory that a kernel can address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A 32-bit program.
    Bits32,
    /// Linux for x86-64 without 5-level page tables (CONFIG_X86_5LEVEL): 46 bits of physical address.
    FourLevels,
}

impl Reach {
    /// The first address that it cannot reach.
    const fn end(self) -> u64 {
        match self {
            Self::Bits32 => 4 * GIB,
            Self::FourLevels => 1 << 46,
        }
    }

    /// The largest memory, in bytes, that it can address completely.
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
    /// The warning about memory that the kernel was not built for. This is no error: the kernel may work nevertheless.
    pub(crate) fn beyond_reach(&self) -> Option<String> {
        let reach = self.kernel.reach?;
        let beyond = |ram: Range<u64>| ram.end.saturating_sub(ram.start.max(reach.end()));
        let bytes: u64 = layout::ram(self.memory).into_iter().map(beyond).sum();
        (bytes > 0).then(|| {
            format!(
                "--kernel {}: {reach}; of --memory {}, {} are out of its reach; the kernel may ignore them or \
                 fail; it can use at most --memory {}M",
                self.kernel.name,
                Human(self.memory),
                Human(bytes),
                reach.memory() / layout::MIB
            )
        })
    }
}
