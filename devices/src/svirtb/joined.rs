//! Entries that one call of the host can transfer: usual drivers queue a file as one entry for each sector.

use super::entry::{Command, Entry, Plan};
use super::ring::Ring;
use crate::block::Disk;
use crate::memory::{Buffers, GuestRam};

/// The most entries in one transfer.
const MOST_ENTRIES: usize = 256;
/// The most bytes in one transfer.
const MOST_BYTES: u64 = 1 << 20;

/// Two or more entries of the ring that follow each other on the disk, with the same command.
#[derive(Debug)]
pub(super) struct Joined {
    /// The number of entries.
    pub(super) entries: usize,
    /// The index after the last entry.
    pub(super) after: u32,
    /// All transfers as one.
    pub(super) plan: Plan,
    /// The buffers of all entries, in their order.
    pub(super) buffers: Buffers,
}

impl Joined {
    /// The entries from `at` on, before `head`, that can be transferred together. None if these are fewer than two. An
    /// entry that does not belong to them is read again when its turn comes.
    pub(super) fn find(
        ring: &Ring,
        ram: &GuestRam,
        disk: &Disk,
        at: u32,
        head: u32,
    ) -> Option<Self> {
        // A second entry is needed.
        if ring.after(at) == head {
            return None;
        }
        let plan = |index| whole(&ring.peek(ram, index)?, ring, ram, disk);
        let (first, addr) = plan(at)?;
        let buffers = Buffers::single(ram.clone(), addr, first.bytes).ok()?;
        let mut joined = Self { entries: 1, after: ring.after(at), plan: first, buffers };
        while joined.after != head && joined.entries < MOST_ENTRIES {
            let Some((next, addr)) = plan(joined.after) else { break };
            if !joined.add(&next, addr) {
                break;
            }
            joined.after = ring.after(joined.after);
        }
        (joined.entries > 1).then_some(joined)
    }

    /// Adds a transfer if it follows on the disk.
    fn add(&mut self, next: &Plan, addr: u64) -> bool {
        let Plan { command, offset, bytes } = &mut self.plan;
        let sum = bytes.saturating_add(next.bytes);
        let follows = *command == next.command && offset.checked_add(*bytes) == Some(next.offset);
        if !follows || sum > MOST_BYTES || self.buffers.push(addr, next.bytes).is_err() {
            return false;
        }
        *bytes = sum;
        self.entries += 1;
        true
    }
}

/// The transfer of a valid entry with at least one byte that the end of the disk does not cut, and its buffer's address.
fn whole(entry: &Entry, ring: &Ring, ram: &GuestRam, disk: &Disk) -> Option<(Plan, u64)> {
    let plan = entry.plan(ram, disk.size(), disk.read_only()).ok()?;
    let is_whole = plan.bytes == entry.size && plan.bytes > 0;
    // A read into the ring changes the entries after it: these must be read later.
    let changes_ring = plan.command == Command::Read && ring.overlaps(entry.addr, plan.bytes);
    (is_whole && !changes_ring).then_some((plan, entry.addr))
}
