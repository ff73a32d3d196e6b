//! Writes to parts of the disk that the image has no cluster for yet.
//!
//! One lock serializes them. A new cluster becomes visible only when it is filled, so a reader needs no lock, and a
//! failed write changes nothing. Data is never written to a cluster that the tables in the file still give to
//! something else: when a cluster was freed, a checkpoint comes before the next allocation.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use imago::ShallowMapping;

use super::Format;
use super::checkpoint::{Checkpoints, Failure};
use crate::block::BlockError;

/// The most metadata that is kept in memory: 8 MiB in sectors.
const CHANGES_MAX: usize = (8 << 20) / super::file::SECTOR;
/// The most bytes of one allocation.
const PIECE: u64 = 4 << 20;

/// Where a piece of the disk is, for a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the image, from this byte of the file on: it may be overwritten there.
    Here(u64),
    /// It reads as zeros.
    Zeros,
    /// In a backing file.
    Below,
    /// In a compressed cluster, or one that must not be overwritten.
    Elsewhere,
}

/// Writes the new bytes of a piece: `offset` in the file, the bytes of the piece that come before, and their number.
pub(super) type Fill<'a> = dyn FnMut(u64, u64, u64) -> Result<(), BlockError> + 'a;

impl Format {
    /// Where the byte at `offset` is, and how many of `len` bytes from there are in the same place, one after the other.
    ///
    /// # Errors
    ///
    /// If a table cannot be read, or is damaged.
    pub(super) fn place(&self, offset: u64, len: u64) -> io::Result<(Place, u64)> {
        let (mapping, len) = self.top.get_shallow_mapping(offset, len)?;
        let place = match mapping {
            ShallowMapping::Raw { offset, writable: true, .. } => Place::Here(offset),
            ShallowMapping::Zero { .. } => Place::Zeros,
            ShallowMapping::Indirect { .. } => Place::Below,
            ShallowMapping::Eof { .. } => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Place::Elsewhere,
        };
        if len == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok((place, len)) }
    }

    fn lock(&self) -> io::Result<MutexGuard<'_, Checkpoints>> {
        let lock = self.checkpoints.as_ref().map(Mutex::lock);
        let lock = lock.ok_or(io::ErrorKind::ReadOnlyFilesystem)?;
        Ok(lock.unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the lock for an allocation.
    fn begin(&self) -> Result<MutexGuard<'_, Checkpoints>, Failure> {
        let mut checkpoints = self.lock()?;
        if checkpoints.must || self.file().changes().len() > CHANGES_MAX {
            self.checkpoint(&mut checkpoints)?;
        }
        Ok(checkpoints)
    }

    /// Writes at most `len` bytes at `offset` of the disk, where the image has no cluster: into new clusters. `fill`
    /// writes the new bytes. Returns the number of bytes.
    ///
    /// # Errors
    ///
    /// Why it failed. The disk reads as before.
    pub(super) fn write_new(
        &self,
        offset: u64,
        len: u64,
        fill: &mut Fill<'_>,
    ) -> Result<u64, BlockError> {
        let failed = |error: io::Error| BlockError::Host { offset, source: error };
        let mut checkpoints = self.begin().map_err(|failure| failure.at(offset))?;
        let (place, len) = self.place(offset, len.min(PIECE)).map_err(failed)?;
        if let Place::Here(at) = place {
            // Another lane was faster.
            fill(at, 0, len)?;
            return Ok(len);
        }
        let first = offset - offset % self.cluster;
        let last = offset.saturating_add(len).next_multiple_of(self.cluster).min(self.top.size());
        // Read before the mapping is prepared: that locks the table, which a read of a compressed cluster needs, too.
        let (before, after) = (first..offset, offset.saturating_add(len)..last);
        let [before, after] = [before, after].map(|range| self.old(place, range));
        let (before, after) = (before.map_err(failed)?, after.map_err(failed)?);
        // From here on imago may have changes, even if this fails.
        self.changed.store(true, Ordering::Release);
        let mapping = self.top.prepare_data_mapping(first, last - first, true).map_err(failed)?;
        let (at, got) = (mapping.offset(), mapping.length());
        let end = offset.saturating_add(len).min(first + got);
        // What imago itself copied there would overwrite the new bytes later. It does where the disk ends in a cluster.
        self.file().forget(at, got);
        let file = self.file().file();
        let size = file.metadata().map_err(failed)?.len();
        let whole = at.saturating_add(got.next_multiple_of(self.cluster));
        if size < whole {
            // The file always has all bytes of its clusters.
            file.set_len(whole).map_err(failed)?;
        }
        // A cluster beyond the old end of the file is zeros already.
        if !(place == Place::Zeros && size <= at) {
            file.write_all_at(&before, at).map_err(failed)?;
            // A mapping of fewer clusters ends with a whole one.
            if first + got >= last {
                file.write_all_at(&after, at + (end - first)).map_err(failed)?;
            }
        }
        fill(at + (offset - first), 0, end - offset)?;
        self.top.commit_data_mapping(mapping).map_err(failed)?;
        self.end(&mut checkpoints, place).map_err(|failure| failure.at(offset))?;
        Ok(end - offset)
    }

    /// Makes whole clusters within the `len` bytes at `offset` read as zeros, as far as one table goes; they are not in
    /// the image. Returns how many bytes from `offset` on are zeros now: none if the first cluster is not whole.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub(super) fn zero_clusters(&self, offset: u64, len: u64) -> Result<u64, BlockError> {
        let failed = |error: io::Error| BlockError::Host { offset, source: error };
        let mut checkpoints = self.begin().map_err(|failure| failure.at(offset))?;
        let (place, len) = self.place(offset, len).map_err(failed)?;
        if let Place::Here(_) | Place::Zeros = place {
            return Ok(0);
        }
        self.changed.store(true, Ordering::Release);
        let zeroed = self.top.inner().ensure_zero_mapping(offset, len);
        let (from, zeros) = zeroed.map_err(failed)?;
        self.end(&mut checkpoints, place).map_err(|failure| failure.at(offset))?;
        Ok(if from == offset { zeros.min(len) } else { 0 })
    }

    /// After a change of tables: writes them if a cluster was freed.
    fn end(&self, checkpoints: &mut Checkpoints, old: Place) -> Result<(), Failure> {
        let header = self.file().changes().contains_key(&0);
        if old == Place::Elsewhere || header {
            checkpoints.must = true;
            return self.checkpoint(checkpoints);
        }
        Ok(())
    }

    /// What the disk has in this range, which is in this place.
    fn old(&self, place: Place, range: Range<u64>) -> io::Result<Vec<u8>> {
        let len = range.end.saturating_sub(range.start);
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        if place != Place::Zeros && !bytes.is_empty() {
            self.top.read(&mut bytes[..], range.start)?;
        }
        Ok(bytes)
    }
}
