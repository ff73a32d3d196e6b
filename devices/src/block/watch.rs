//! A watcher of a disk, which is called before each change: a backup copies what will be overwritten.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Called before each change of a disk, on the thread that makes the change.
pub(super) trait Watcher: Send + Sync {
    /// The `len` bytes at `offset` will change when this has returned.
    fn before_change(&self, offset: u64, len: u64);
}

/// The place for one watcher of a disk.
#[derive(Default)]
pub(super) struct Watched {
    /// Whether there is one: most changes find none, and take no lock.
    is_watched: AtomicBool,
    watcher: Mutex<Option<Arc<dyn Watcher>>>,
}

impl Watched {
    /// Tells the watcher, if there is one.
    pub(super) fn before_change(&self, offset: u64, len: u64) {
        if self.is_watched.load(Ordering::Acquire) {
            let watcher = self.place().clone();
            if let Some(watcher) = watcher {
                watcher.before_change(offset, len);
            }
        }
    }

    /// Sets the watcher. Returns false if there is another one.
    ///
    /// It sees all changes from now on if none is being made: call this while the disk is idle.
    pub(super) fn set(&self, watcher: Arc<dyn Watcher>) -> bool {
        let mut place = self.place();
        if place.is_some() {
            return false;
        }
        *place = Some(watcher);
        self.is_watched.store(true, Ordering::Release);
        true
    }

    /// Removes the watcher.
    pub(super) fn clear(&self) {
        self.is_watched.store(false, Ordering::Release);
        *self.place() = None;
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Option<Arc<dyn Watcher>>> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("is_watched", &self.is_watched).finish_non_exhaustive()
    }
}

/// The blocks of a disk, each of them marked or not.
#[derive(Debug)]
pub(super) struct Blocks {
    marks: Vec<u64>,
    /// So many words of marks at the begin are 0.
    empty: usize,
    /// The bytes of the disk.
    size: u64,
}

/// The bytes of a block.
pub(super) const BLOCK: u64 = 64 << 10;
/// The largest disk with blocks: 16 TiB, in 32 MiB of memory.
pub(super) const SIZE_MAX: u64 = 16 << 40;

impl Blocks {
    /// The blocks of a disk of `size` bytes, not marked; none if it is too large.
    pub(super) fn of(size: u64) -> Option<Self> {
        let words = usize::try_from(size.div_ceil(BLOCK).div_ceil(64)).ok()?;
        (size <= SIZE_MAX).then(|| Self { marks: vec![0; words], empty: 0, size })
    }

    /// The blocks that the `len` bytes at `offset` touch, by their first byte.
    pub(super) fn touched(&self, offset: u64, len: u64) -> impl Iterator<Item = u64> + use<> {
        let end = offset.saturating_add(len).min(self.size);
        (offset / BLOCK..end.div_ceil(BLOCK)).map(|number| number * BLOCK)
    }

    /// The bytes of the block at `block`: fewer at the end of the disk.
    pub(super) fn len(&self, block: u64) -> u64 {
        BLOCK.min(self.size.saturating_sub(block))
    }

    fn word(&mut self, block: u64) -> Option<(&mut u64, u64)> {
        let number = block / BLOCK;
        let word = usize::try_from(number / 64).ok().and_then(|word| self.marks.get_mut(word));
        word.map(|word| (word, 1 << (number % 64)))
    }

    /// Marks the block at `block`. Returns whether it was not marked.
    pub(super) fn mark(&mut self, block: u64) -> bool {
        let Some((word, bit)) = self.word(block) else { return false };
        let fresh = *word & bit == 0;
        *word |= bit;
        self.empty = self.empty.min(usize::try_from(block / BLOCK / 64).unwrap_or(0));
        fresh
    }

    /// The number of marked blocks.
    pub(super) fn marked(&self) -> usize {
        self.marks.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Takes the mark from the first marked block. Returns its first byte.
    pub(super) fn take_first(&mut self) -> Option<u64> {
        let rest = self.marks.get_mut(self.empty..).unwrap_or_default();
        let found = rest.iter_mut().enumerate().find(|(_, word)| **word != 0);
        let Some((skip, word)) = found else {
            self.empty = self.marks.len();
            return None;
        };
        self.empty += skip;
        let bit = u64::from(word.trailing_zeros());
        *word &= *word - 1;
        Some((self.empty as u64 * 64 + bit) * BLOCK)
    }
}
