//! The backing image of an overlay, open for writing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};
use tracing::error;

use super::Format;
use super::file::ImageFile;
use super::writing::Place;
use crate::block::{CommitTarget, ImageError};

/// The raw image below a disk's own one. Its lock is exclusive as long as this exists.
#[derive(Debug)]
pub(super) struct Target {
    format: Arc<Format>,
    base: ImageFile,
    writer: File,
    /// The bytes of the base.
    size: u64,
}

impl Target {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// If there is none, it is not raw, others read it, or it cannot be written.
    pub(super) fn new(format: Arc<Format>) -> Result<Self, ImageError> {
        let base = format.files.get(1).cloned().ok_or(ImageError::NoBacking)?;
        if !base.is_raw() {
            return Err(ImageError::BackingNotRaw { path: base.image().path().to_owned() });
        }
        let writer = base.image().open_for_writing()?;
        let size = base.image().size();
        Ok(Self { format, base, writer, size })
    }

    /// Writes zeros, as a hole where the host can.
    fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if fallocate(&self.writer, hole, offset, len).is_ok() {
            return Ok(());
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.writer.write_all_at(&vec![0; len], offset)
    }
}

impl CommitTarget for Target {
    fn copy(&mut self, offset: u64, len: u64) -> io::Result<u64> {
        let end = offset.saturating_add(len);
        let (mut at, mut written) = (offset, 0);
        while at < end {
            let (place, len) = self.format.place(at, end - at)?;
            match place {
                Place::Below => {}
                Place::Zeros => {
                    // Where the base ends there is nothing to hide.
                    let len = len.min(self.size.saturating_sub(at));
                    if len > 0 {
                        self.zero(at, len)?;
                        written += len;
                    }
                }
                Place::Here(_) | Place::Elsewhere => {
                    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
                    self.format.top.read(&mut bytes[..], at)?;
                    self.writer.write_all_at(&bytes, at)?;
                    written += len;
                }
            }
            at += len;
        }
        Ok(written)
    }

    fn sync(&mut self) -> io::Result<()> {
        let size = self.format.top.size();
        if self.writer.metadata()?.len() < size {
            self.writer.set_len(size)?;
        }
        self.writer.sync_all()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Err(failed) = self.base.image().share_again(&self.writer) {
            error!("{}: its lock cannot be shared again: {failed}", self.base);
        }
    }
}
