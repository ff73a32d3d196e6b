//! A set of sectors that only grows: one bit for each, in leaves that are allocated when needed.
//!
//! A leaf has 4 KiB for 16 MiB of a disk. A leaf with all its sectors in the set is freed. So the set takes at most 256
//! KiB for each GiB of the disk, and nothing for parts that were never written.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// Words of 64 sectors in a leaf.
const WORDS: usize = 512;
/// Sectors in a leaf.
const LEAF: u64 = 64 * WORDS as u64;

/// A set of sector numbers. A thread that finds a sector in the set sees all changes made before the sector was
/// inserted.
#[derive(Debug, Default)]
pub(super) struct Sectors(RwLock<BTreeMap<u64, Leaf>>);

#[derive(Debug)]
enum Leaf {
    /// All sectors are in the set.
    All,
    /// The sectors with a set bit are in the set.
    Bits(Box<[AtomicU64; WORDS]>),
}

impl Sectors {
    /// Whether sector `from` is in the set, and the next sector for which the opposite holds; `to` if there is none
    /// before it.
    pub(super) fn run(&self, from: u64, to: u64) -> (bool, u64) {
        let leaves = self.leaves();
        let (inside, _) = same(&leaves, from, true);
        let mut at = from.saturating_add(1);
        while at < to {
            let (found, end) = same(&leaves, at, inside);
            if found != inside {
                break;
            }
            at = end;
        }
        (inside, at.min(to))
    }

    /// Adds the sectors from `from` up to, but not including, `to`.
    pub(super) fn insert(&self, from: u64, to: u64) {
        let mut at = from;
        while at < to {
            let (number, first) = (at / LEAF, at % LEAF);
            let end = to.min((at - first).saturating_add(LEAF));
            let range = first..first + (end - at);
            at = end;
            let whole = range.end - range.start == LEAF;
            // Usually the leaf exists.
            let there = self.leaves().get(&number).is_some_and(|leaf| match leaf {
                Leaf::All => true,
                Leaf::Bits(words) if !whole => {
                    set(words, range.start, range.end);
                    true
                }
                Leaf::Bits(_) => false,
            });
            if there {
                continue;
            }
            let mut leaves = self.0.write().unwrap_or_else(PoisonError::into_inner);
            if whole {
                leaves.insert(number, Leaf::All);
                continue;
            }
            let empty = || Leaf::Bits(Box::new([const { AtomicU64::new(0) }; WORDS]));
            if let Leaf::Bits(words) = leaves.entry(number).or_insert_with(empty) {
                set(words, range.start, range.end);
            }
        }
    }

    fn leaves(&self) -> RwLockReadGuard<'_, BTreeMap<u64, Leaf>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether sector `at` is in the set, and the end of the sectors for which the same lookup gives the same result.
fn same(leaves: &BTreeMap<u64, Leaf>, at: u64, expected: bool) -> (bool, u64) {
    let (number, within) = (at / LEAF, at % LEAF);
    let leaf_end = (at - within).saturating_add(LEAF);
    let words = match leaves.get(&number) {
        None => return (false, leaf_end),
        Some(Leaf::All) => return (true, leaf_end),
        Some(Leaf::Bits(words)) => words,
    };
    let word = usize::try_from(within / 64).ok().and_then(|n| words.get(n));
    let word = word.map_or(0, |word| word.load(Ordering::Acquire));
    let (bit, other) = (within % 64, if expected { !word } else { word });
    // The sectors from here to the end of the word with the same value.
    let run = u64::from((other >> bit).trailing_zeros()).min(64 - bit);
    if run == 0 { (!expected, at + 1) } else { (expected, at + run) }
}

/// Sets the bits from `from` up to, but not including, `to`.
fn set(words: &[AtomicU64; WORDS], from: u64, to: u64) {
    for (word, first) in words.iter().zip((0..).step_by(64)) {
        let (start, end) = (from.max(first), to.min(first + 64));
        if start < end {
            let mask = (u64::MAX >> (64 - (end - start))) << (start - first);
            word.fetch_or(mask, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_where_the_opposite_begins_also_across_words_and_leaves() {
        let sectors = Sectors::default();
        let end = 5 * LEAF;
        assert_eq!(sectors.run(0, end), (false, end));
        sectors.insert(3, 3);
        assert_eq!(sectors.run(0, end), (false, end));
        for (from, to) in [(3, 5), (60, 70), (127, 128), (LEAF - 1, 3 * LEAF + 1)] {
            sectors.insert(from, to);
            assert_eq!(sectors.run(from, end), (true, to));
            assert_eq!(sectors.run(from - 1, end), (false, from));
            assert!(!sectors.run(to, end).0);
        }
        assert_eq!(sectors.run(LEAF + 7, LEAF + 9), (true, LEAF + 9));
        assert_eq!(sectors.run(128, end), (false, LEAF - 1));
        assert_eq!(sectors.run(3 * LEAF + 1, end), (false, end));
        sectors.insert(5, 60);
        assert_eq!(sectors.run(3, end), (true, 70));
        // A full leaf over one with bits, and bits over a full leaf.
        sectors.insert(0, LEAF);
        sectors.insert(1, 2);
        assert_eq!(sectors.run(0, end), (true, 3 * LEAF + 1));
        assert!(matches!(sectors.leaves().get(&0), Some(Leaf::All)));
        let last = u64::MAX / 512;
        sectors.insert(last - 1, last);
        assert_eq!(sectors.run(last - 1, last), (true, last));
    }

    #[test]
    fn a_disk_that_was_zeroed_as_a_whole_takes_no_leaf_with_bits() {
        let sectors = Sectors::default();
        // 64 GiB.
        sectors.insert(0, 4096 * LEAF);
        assert!(sectors.leaves().values().all(|leaf| matches!(leaf, Leaf::All)));
        assert_eq!(sectors.run(0, u64::MAX), (true, 4096 * LEAF));
    }
}
