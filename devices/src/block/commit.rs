//! Writes an overlay into its base, while the guest goes on.
//!
//! The overlay stays as it is, and stays in use: what it has hides the base, so the guest sees no difference at any
//! moment, and a process that is killed loses nothing. Blocks are written one after the other. Blocks that the guest
//! changes meanwhile are written again, and the last of them while the disk is idle. Then the base alone has what the
//! disk has at that moment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::watch::{BLOCK, Blocks, SIZE_MAX, Watcher};
use super::{CommitTarget, CopyError, Disk, ImageError};

/// The most rounds over changed blocks before the last one.
const ROUNDS: usize = 8;
/// So few changed blocks are left to the last round: 16 MiB.
const FEW: usize = 256;

/// A commit that is being made.
#[derive(Debug)]
pub struct Commit {
    disk: Disk,
    target: Box<dyn CommitTarget>,
    changed: Arc<Changed>,
    size: u64,
    /// The next block of the first round.
    next: u64,
    /// What is left of the present round over changed blocks, and how many there were.
    round: Blocks,
    rounds: usize,
    written: u64,
    begun: bool,
}

/// The blocks that were changed since they were written.
#[derive(Debug)]
struct Changed(Mutex<Blocks>);

impl Changed {
    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher for Changed {
    fn before_change(&self, offset: u64, len: u64) {
        let mut blocks = self.blocks();
        for block in blocks.touched(offset, len) {
            blocks.mark(block);
        }
    }
}

impl Commit {
    /// Opens the base of `disk` for writing, with an exclusive lock.
    ///
    /// # Errors
    ///
    /// If there is none, other programs use it, or it cannot be written.
    pub fn new(disk: &Disk) -> Result<Self, ImageError> {
        let size = disk.size();
        let blocks = || Blocks::of(size).ok_or(ImageError::CommitTooLarge { size, most: SIZE_MAX });
        let changed = Arc::new(Changed(Mutex::new(blocks()?)));
        let (disk, target, round) = (disk.clone(), disk.storage().commit()?, blocks()?);
        let (next, rounds, written, begun) = Default::default();
        Ok(Self { disk, target, changed, size, next, round, rounds, written, begun })
    }

    /// Begins. No request may be in flight.
    ///
    /// # Errors
    ///
    /// If a backup or another commit of this disk is not finished.
    pub fn begin(&mut self) -> Result<(), CopyError> {
        self.begun = self.disk.watched().set(self.changed.clone());
        if self.begun { Ok(()) } else { Err(CopyError::Busy) }
    }

    /// Writes the next block: first each one, then those that were changed meanwhile. Returns false if few are left: call
    /// [`Commit::finish`] then.
    ///
    /// # Errors
    ///
    /// The host's error, or that the machine is being stopped. The base may have a part of the overlay's content.
    pub fn step(&mut self) -> Result<bool, CopyError> {
        if self.next < self.size {
            self.block(self.next)?;
            self.next += BLOCK;
            return Ok(true);
        }
        if let Some(block) = self.round.take_first() {
            self.block(block)?;
            return Ok(true);
        }
        let is_over = self.rounds >= ROUNDS || self.changed.blocks().marked() <= FEW;
        if is_over {
            // The last sync has little left to do.
            self.target.sync()?;
            return Ok(false);
        }
        self.rounds += 1;
        self.round = self.take_changed()?;
        Ok(true)
    }

    /// Writes the blocks that were changed since. No request may be in flight: the base then has what the disk has.
    /// Returns the bytes that were written.
    ///
    /// # Errors
    ///
    /// As [`Commit::step`].
    pub fn finish(&mut self) -> Result<u64, CopyError> {
        let mut last = self.take_changed()?;
        while let Some(block) = last.take_first() {
            self.block(block)?;
        }
        self.end();
        self.target.sync()?;
        Ok(self.written)
    }

    fn take_changed(&self) -> Result<Blocks, CopyError> {
        let fresh = Blocks::of(self.size).ok_or(CopyError::TooLarge { size: self.size })?;
        Ok(std::mem::replace(&mut *self.changed.blocks(), fresh))
    }

    fn block(&mut self, block: u64) -> Result<(), CopyError> {
        if self.disk.is_stopped() {
            return Err(CopyError::Stopped);
        }
        self.written += self.target.copy(block, BLOCK.min(self.size - block))?;
        Ok(())
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.begun) {
            self.disk.watched().clear();
        }
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        self.end();
    }
}
