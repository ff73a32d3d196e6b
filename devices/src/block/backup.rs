//! A copy of a disk as it is at one moment, while the guest goes on.
//!
//! Blocks are copied one after the other. Before the guest changes a block that is not copied yet, it is copied first, on
//! the thread of that request: copy before write. So the copy has what the disk had when it began, on every format and
//! engine. If it fails, the guest's writes go on.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::new_file::NewFile;
use super::watch::{BLOCK, Blocks, SIZE_MAX, Watcher};
use super::{BlockError, Disk, Lane, Operation};
use crate::memory::{Buffers, GuestRam};

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The file exists.
    #[error("{}: exists; give the path of a file that does not", .0.display())]
    Exists(PathBuf),
    /// The disk is very large.
    #[error("the disk has {size} bytes, and at most {SIZE_MAX} can be copied")]
    TooLarge {
        /// The bytes of the disk.
        size: u64,
    },
    /// Another copy is being made.
    #[error("another backup or commit of this disk is not finished; wait until it is")]
    Busy,
    /// The disk cannot be read.
    #[error("the disk cannot be read: {0}")]
    Source(#[from] BlockError),
    /// The copy cannot be written.
    #[error("{}: {source}", path.display())]
    Target {
        /// The file.
        path: PathBuf,
        /// The host's error.
        source: io::Error,
    },
    /// Another error of the host.
    #[error(transparent)]
    Host(#[from] io::Error),
    /// The machine ends.
    #[error("not finished, because the machine is being stopped")]
    Stopped,
}

/// A copy that is being made. Dropped before it is finished, it leaves nothing.
#[derive(Debug)]
pub struct Backup {
    shared: Arc<Shared>,
    disk: Disk,
    path: PathBuf,
    /// The next block that may not be copied yet.
    next: u64,
    size: u64,
    begun: bool,
}

#[derive(Debug)]
struct Shared(Mutex<Copying>);

#[derive(Debug)]
struct Copying {
    lane: Lane,
    ram: GuestRam,
    copied: Blocks,
    /// None once it has its name.
    file: Option<NewFile>,
    bytes: Vec<u8>,
    /// The bytes that were not zeros.
    written: u64,
    failed: Option<CopyError>,
}

impl Backup {
    /// Prepares a copy of `disk` in a new raw, sparse file at `path`.
    ///
    /// # Errors
    ///
    /// If the file exists or cannot be created, or the disk cannot be copied.
    pub fn new(disk: &Disk, path: &Path) -> Result<Self, CopyError> {
        let target = |source| CopyError::Target { path: path.to_owned(), source };
        if path.symlink_metadata().is_ok() {
            return Err(CopyError::Exists(path.to_owned()));
        }
        let size = disk.size();
        let copied = Blocks::of(size).ok_or(CopyError::TooLarge { size })?;
        let file = NewFile::beside(path).map_err(target)?;
        file.file().set_len(size).map_err(target)?;
        let piece = usize::try_from(BLOCK).map_err(io::Error::other)?;
        let ram = GuestRam::anonymous(&[(0, piece)]).map_err(io::Error::other)?;
        let (lane, failed) = (disk.lane()?, None);
        let bytes = vec![0; piece];
        let file = Some(file);
        let copying = Copying { lane, ram, copied, file, bytes, written: 0, failed };
        let shared = Arc::new(Shared(Mutex::new(copying)));
        let (disk, path) = (disk.clone(), path.to_owned());
        Ok(Self { shared, disk, path, next: 0, size, begun: false })
    }

    /// Flushes the disk, and begins: the copy will have what the disk has now. No request may be in flight.
    ///
    /// # Errors
    ///
    /// If the flush fails, or another copy is being made.
    pub fn begin(&mut self) -> Result<(), CopyError> {
        self.shared.copying().lane.run(Operation::Flush, 0)?;
        if !self.disk.watched().set(self.shared.clone()) {
            return Err(CopyError::Busy);
        }
        self.begun = true;
        Ok(())
    }

    /// Copies the next block. Returns false if all are copied.
    ///
    /// # Errors
    ///
    /// Why there will be no copy.
    pub fn step(&mut self) -> Result<bool, CopyError> {
        if self.next >= self.size {
            return Ok(false);
        }
        if self.disk.is_stopped() {
            return Err(CopyError::Stopped);
        }
        let mut copying = self.shared.copying();
        copying.copy(self.next);
        if let Some(failed) = copying.failed.take() {
            return Err(match failed {
                CopyError::Host(source) => CopyError::Target { path: self.path.clone(), source },
                other => other,
            });
        }
        self.next += BLOCK;
        Ok(true)
    }

    /// Gives the complete copy its name, durably. Returns the bytes of the disk, and how many of them are not zeros that
    /// take no space.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or one with this name exists by now.
    pub fn finish(mut self) -> Result<(u64, u64), CopyError> {
        while self.step()? {}
        self.end();
        let mut copying = self.shared.copying();
        if let Some(file) = copying.file.take() {
            let target = |source| CopyError::Target { path: self.path.clone(), source };
            file.publish(&self.path).map_err(target)?;
        }
        Ok((self.size, copying.written))
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.begun) {
            self.disk.watched().clear();
        }
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn copying(&self) -> MutexGuard<'_, Copying> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher for Shared {
    fn before_change(&self, offset: u64, len: u64) {
        let mut copying = self.copying();
        for block in copying.copied.touched(offset, len) {
            copying.copy(block);
        }
    }
}

impl Copying {
    /// Copies the block at `block`, unless that was done. After a failure nothing is copied any more.
    fn copy(&mut self, block: u64) {
        if self.failed.is_none()
            && self.copied.mark(block)
            && let Err(error) = self.move_block(block)
        {
            self.failed = Some(error);
        }
    }

    fn move_block(&mut self, block: u64) -> Result<(), CopyError> {
        let len = self.copied.len(block);
        let data = Buffers::single(self.ram.clone(), 0, len).map_err(io::Error::other)?;
        self.lane.run(Operation::Read(data.clone()), block)?;
        data.copy_to(&mut self.bytes);
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let bytes = self.bytes.get(..len).unwrap_or_default();
        if bytes.iter().any(|byte| *byte != 0)
            && let Some(file) = &self.file
        {
            file.file().write_all_at(bytes, block)?;
            self.written += len as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
