//! Acknowledged changes that the server may still lose: kept until a flush, in the order of their acknowledgement.

use std::collections::VecDeque;

use super::wire::Command;

/// A flush is sent without being asked for when so many bytes are kept.
pub(super) const FLUSH_ABOVE: u64 = 16 << 20;
/// No further change is sent while so many bytes are kept.
pub(super) const MOST: u64 = 32 << 20;
/// What an entry counts beside its bytes: many small changes are bounded, too.
const OVERHEAD: u64 = 64;

/// A change of the disk.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) content: EntryContent,
}

/// What a change puts there.
#[derive(Debug, Clone)]
pub(super) enum EntryContent {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What this command, with these flags, does.
    Command(Command, u16),
}

/// The changes.
#[derive(Debug, Default)]
pub(super) struct Kept {
    entries: VecDeque<Entry>,
    /// How many were removed so far: the number of the first entry.
    removed: u64,
    bytes: u64,
    /// Memory for the bytes of later entries.
    spare: Vec<Vec<u8>>,
}

impl Kept {
    /// Memory for `len` bytes, all 0 or old ones.
    pub(super) fn memory(&mut self, len: usize) -> Vec<u8> {
        match self.spare.pop() {
            Some(mut memory) if memory.capacity() >= len => {
                memory.resize(len, 0);
                memory
            }
            _ => vec![0; len],
        }
    }

    /// Adds a change that was acknowledged.
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += cost(&entry);
        self.entries.push_back(entry);
    }

    /// The number after that of the last entry.
    pub(super) fn end(&self) -> u64 {
        self.removed + self.entries.len() as u64
    }

    /// Forgets the entries before the one of this number: they are on stable storage.
    pub(super) fn forget_until(&mut self, number: u64) {
        while self.removed < number
            && let Some(entry) = self.entries.pop_front()
        {
            self.removed += 1;
            self.bytes = self.bytes.saturating_sub(cost(&entry));
            if let EntryContent::Bytes(memory) = entry.content {
                self.spare.push(memory);
            }
        }
    }

    /// The entry at this place, 0 for the first one.
    pub(super) fn get(&self, at: usize) -> Option<&Entry> {
        self.entries.get(at)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What they count.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn cost(entry: &Entry) -> u64 {
    let bytes = match &entry.content {
        EntryContent::Bytes(bytes) => bytes.len() as u64,
        EntryContent::Command(..) => 0,
    };
    OVERHEAD + bytes
}
