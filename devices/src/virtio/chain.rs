//! Descriptor chains: walked once, with a check of every bound.
//!
//! The walk fills a [`Chain`], which owns its content: the descriptor table is not read a second time. There are two
//! kinds of mistakes:
//!
//! - a broken ring (a [`ChainError`]): the end of the chain is unknown, so the device cannot answer it, and needs a
//!   reset;
//! - a chain with an end, but a mistake in it (a [`Flaw`]): the driver gets an error in the status byte.

use super::queue::SplitQueue;
use super::spec::ring::{DESC_INDIRECT, DESC_NEXT, DESC_SIZE, DESC_WRITE};
use crate::memory::{GuestRam, OutOfRam, Ranges, Window};
use crate::observe::DescriptorInfo;

/// One descriptor (2.7.5), as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Descriptor {
    addr: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    /// Decodes a descriptor: addr; then, from the lowest bits on, len, flags and next.
    #[expect(clippy::cast_possible_truncation, reason = "the fields are parts of the words")]
    const fn from_words([addr, rest]: [u64; 2]) -> Self {
        Self { addr, len: rest as u32, flags: (rest >> 32) as u16, next: (rest >> 48) as u16 }
    }

    const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// The descriptor as an observer sees it.
    const fn info(&self, index: u32, in_indirect_table: bool) -> DescriptorInfo {
        let Self { addr, len, flags, next } = *self;
        DescriptorInfo { index, in_indirect_table, addr, len, flags, next }
    }
}

/// Why the end of a chain cannot be found. The queue is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The available ring names a descriptor outside the table.
    #[error("the available ring names descriptor {head}, but the table has {size}")]
    HeadOutOfTable {
        /// The index in the ring.
        head: u16,
        /// The entries of the table.
        size: u16,
    },
    /// `next` names a descriptor outside the table.
    #[error("descriptor {index} goes on to descriptor {next}, but the table has {size}")]
    NextOutOfTable {
        /// The descriptor.
        index: u32,
        /// Its `next`.
        next: u16,
        /// The entries of the table.
        size: u32,
    },
    /// The chain has more descriptors than allowed: it has a loop, or is too long.
    #[error(
        "the chain at descriptor {head} has more than {most} descriptors: it has a loop, or is too long"
    )]
    TooLong {
        /// The first descriptor.
        head: u16,
        /// The limit: the entries of the queue. For long chains through an indirect table: the most entries that a
        /// queue can have.
        most: u16,
    },
    /// An indirect descriptor without the feature.
    #[error("descriptor {index} is indirect, but INDIRECT_DESC was not negotiated")]
    IndirectNotNegotiated {
        /// The descriptor.
        index: u32,
    },
    /// An indirect descriptor in an indirect table, or with NEXT or WRITE.
    #[error("descriptor {index} is indirect where it must not be: {why}")]
    IndirectMisplaced {
        /// The descriptor.
        index: u32,
        /// The violated rule.
        why: &'static str,
    },
    /// An indirect table with a length that is no multiple of a descriptor.
    #[error(
        "descriptor {index}: an indirect table of {len} bytes is not a whole number of descriptors"
    )]
    IndirectLength {
        /// The descriptor.
        index: u32,
        /// The table's bytes.
        len: u32,
    },
    /// An indirect table that is not in RAM.
    #[error("descriptor {index}: the indirect table is not in RAM: {source}")]
    IndirectNotInRam {
        /// The descriptor.
        index: u32,
        /// Its address.
        source: OutOfRam,
    },
}

/// A mistake in a chain with a known end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// A buffer is not in RAM.
    #[error("a buffer is not in RAM: {0}")]
    NotInRam(#[from] OutOfRam),
    /// A buffer for the device to read follows one to write (2.7.4.2).
    #[error(
        "a descriptor to be read by the device follows one to be written (its WRITE flag is missing?)"
    )]
    OutOfOrder,
}

/// A parsed descriptor chain.
#[derive(Debug, Default)]
pub struct Chain {
    /// The index of its first descriptor, with which the device returns it.
    pub head: u16,
    /// The number of its descriptors, without the one that points to an indirect table.
    pub descriptors: u16,
    /// The buffers that the device may read, in order. Incomplete if there is a flaw.
    pub readable: Ranges,
    /// The buffers that the device may write, in order. Incomplete if there is a flaw.
    pub writable: Ranges,
    /// The guest-physical address of the last byte that the device may write. It may be outside RAM.
    pub last_writable: Option<u64>,
    /// The first flaw.
    pub flaw: Option<Flaw>,
}

impl Chain {
    /// Walks the chain at `head` of `queue`, and replaces the content of `self` with it. With `indirect` it may lead to an indirect table (2.7.5.3). Passes each
    /// descriptor to `observe`, including those of a chain with an error at a later one.
    ///
    /// # Errors
    ///
    /// If the end of the chain cannot be found.
    pub fn walk(
        &mut self,
        queue: &SplitQueue,
        head: u16,
        indirect: bool,
        observe: impl Fn(DescriptorInfo),
    ) -> Result<(), ChainError> {
        let size = queue.size();
        if head >= size {
            return Err(ChainError::HeadOutOfTable { head, size });
        }
        let ram = queue.ram();
        let Self { head: first, descriptors, readable, writable, last_writable, flaw } = self;
        (*first, *descriptors, *last_writable, *flaw) = (head, 0, None, None);
        readable.clear();
        writable.clear();
        let mut table = Table { place: Place::Queue(queue.desc()), entries: u32::from(size) };
        let mut index = u32::from(head);
        let mut most = size;
        loop {
            let descriptor = match table.read(ram, index) {
                Ok(descriptor) => descriptor,
                Err(source) => return Err(ChainError::IndirectNotInRam { index, source }),
            };
            observe(descriptor.info(index, table.is_nested()));
            if descriptor.has(DESC_INDIRECT) {
                // At most once: an indirect table cannot contain another one.
                table = table.enter(ram, index, descriptor, indirect)?;
                index = 0;
                most = queue.longest_chain();
                continue;
            }
            // This also ends loops.
            if self.descriptors >= most {
                return Err(ChainError::TooLong { head, most });
            }
            self.descriptors += 1;
            self.add(ram, descriptor);
            if !descriptor.has(DESC_NEXT) {
                return Ok(());
            }
            let next = u32::from(descriptor.next);
            if next >= table.entries {
                let (next, size) = (descriptor.next, table.entries);
                return Err(ChainError::NextOutOfTable { index, next, size });
            }
            index = next;
        }
    }

    #[inline]
    fn add(&mut self, ram: &GuestRam, descriptor: Descriptor) {
        let Descriptor { addr, len, .. } = descriptor;
        let len = u64::from(len);
        let pushed = if descriptor.has(DESC_WRITE) {
            if len > 0 {
                // If this overflows, the buffer and its last byte are outside RAM.
                self.last_writable = addr.checked_add(len - 1);
            }
            self.writable.push(ram, addr, len)
        } else {
            if !self.writable.is_empty() {
                self.flaw.get_or_insert(Flaw::OutOfOrder);
            }
            self.readable.push(ram, addr, len)
        };
        if let Err(error) = pushed {
            self.flaw.get_or_insert(Flaw::NotInRam(error));
        }
    }
}

/// A table of descriptors: the queue's, or an indirect one.
struct Table<'a> {
    place: Place<'a>,
    entries: u32,
}

enum Place<'a> {
    Queue(&'a Window),
    /// The guest-physical address of an indirect table.
    Indirect(u64),
}

impl Table<'_> {
    const fn is_nested(&self) -> bool {
        matches!(self.place, Place::Indirect(_))
    }

    /// Inlined always: a descriptor that is passed through memory is stored by fields and loaded as a whole, which
    /// stalls the processor; it took 40 % of a request's time in the device.
    #[inline(always)]
    fn read(&self, ram: &GuestRam, index: u32) -> Result<Descriptor, OutOfRam> {
        // Both tables were checked to be in RAM, and the index to be in the table.
        let at = u64::from(index) * u64::from(DESC_SIZE);
        let words = match self.place {
            Place::Queue(table) => table.read_words(at),
            Place::Indirect(addr) => ram.read_words(addr + at)?,
        };
        Ok(Descriptor::from_words(words))
    }

    /// The table to which `descriptor`, at `index` of this table, points.
    fn enter(
        &self,
        ram: &GuestRam,
        index: u32,
        descriptor: Descriptor,
        negotiated: bool,
    ) -> Result<Self, ChainError> {
        let Descriptor { addr, len, .. } = descriptor;
        let misplaced = |why| Err(ChainError::IndirectMisplaced { index, why });
        if !negotiated {
            return Err(ChainError::IndirectNotNegotiated { index });
        }
        if self.is_nested() {
            return misplaced("it stands in an indirect table");
        }
        if descriptor.has(DESC_NEXT) {
            return misplaced("it has the NEXT flag, too");
        }
        if len == 0 || !len.is_multiple_of(DESC_SIZE) {
            return Err(ChainError::IndirectLength { index, len });
        }
        ram.check(addr, u64::from(len))
            .map_err(|source| ChainError::IndirectNotInRam { index, source })?;
        Ok(Self { place: Place::Indirect(addr), entries: len / DESC_SIZE })
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
