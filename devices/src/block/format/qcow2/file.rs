//! The file of an image as the crate imago sees it: metadata that it writes stays in memory until a checkpoint.
//!
//! Imago writes the tables of a qcow2 image in an order that a killed process must not leave behind: for example the
//! entry of a new table before the refcount of its cluster. So nothing that it writes reaches the file at once. It is
//! kept here as changed sectors; [`super::checkpoint`] writes them, in a safe order. Guest data does not come this way.
#![expect(unsafe_code, reason = "imago's trait for storage has unsafe functions")]

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use imago::Storage;
use imago::io_buffers::{IoVector, IoVectorMut};
use imago::storage::drivers::CommonStorageHelper;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::header::{DIRTY_BYTE, read_up_to};
use crate::block::{Image, ImageStorage};

/// The unit of changes: a sector. Guest data and metadata never share one.
pub(super) const SECTOR: usize = 512;

/// Changed sectors of metadata, by their number in the file.
pub(super) type Changes = BTreeMap<u64, Box<[u8; SECTOR]>>;

/// An open image. Clones share it.
#[derive(Clone)]
pub(super) struct ImageFile(Arc<Inner>);

struct Inner {
    storage: ImageStorage,
    /// Whether it is a raw image, which has a byte for each byte of the disk.
    raw: bool,
    changes: Mutex<Changes>,
    /// Whether there are changes: most reads find none.
    changed: AtomicBool,
    /// The end of all metadata: the file must reach there.
    end: AtomicU64,
    helper: CommonStorageHelper,
    /// What checkpoints did.
    #[cfg(test)]
    steps: Mutex<Vec<super::tests::Step>>,
}

impl ImageFile {
    pub(super) fn new(image: Image, raw: bool) -> Self {
        let (changes, changed, end, helper) = Default::default();
        let storage = ImageStorage::new(image);
        Self(Arc::new(Inner {
            storage,
            raw,
            changes,
            changed,
            end,
            helper,
            #[cfg(test)]
            steps: Mutex::default(),
        }))
    }

    /// The storage that moves the guest's data.
    pub(super) fn storage(&self) -> &ImageStorage {
        &self.0.storage
    }

    pub(super) fn image(&self) -> &Image {
        self.0.storage.image()
    }

    pub(super) fn file(&self) -> &File {
        self.image().file()
    }

    /// Whether this is `other`.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether it is a raw image: then a byte that the file does not have was cut off.
    pub(super) fn is_raw(&self) -> bool {
        self.0.raw
    }

    /// Writes metadata to the file. Only for a checkpoint.
    ///
    /// # Errors
    ///
    /// The host's error.
    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        self.log(super::tests::Step::Write(offset, bytes.to_vec()));
        self.file().write_all_at(bytes, offset)
    }

    /// Enlarges the file so that it has all its metadata: zeros are not written.
    ///
    /// # Errors
    ///
    /// The host's error.
    pub(super) fn reach_end(&self) -> io::Result<()> {
        let end = self.0.end.load(Ordering::Acquire);
        if self.file().metadata()?.len() < end { self.file().set_len(end) } else { Ok(()) }
    }

    /// Makes all data and metadata durable, unless that is not wanted.
    ///
    /// # Errors
    ///
    /// The host's error.
    pub(super) fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        self.log(super::tests::Step::Sync);
        if self.image().syncs() { self.file().sync_data() } else { Ok(()) }
    }

    #[cfg(test)]
    fn log(&self, step: super::tests::Step) {
        self.0.steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }

    /// Takes the steps of checkpoints since the last call.
    #[cfg(test)]
    pub(super) fn steps(&self) -> Vec<super::tests::Step> {
        std::mem::take(&mut *self.0.steps.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The metadata that is not in the file.
    pub(super) fn changes(&self) -> MutexGuard<'_, Changes> {
        self.0.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets these changes: the file has them.
    pub(super) fn written(&self, written: &Changes) {
        let mut changes = self.changes();
        changes.retain(|number, sector| written.get(number) != Some(sector));
        self.0.changed.store(!changes.is_empty(), Ordering::Release);
    }

    /// Forgets changes of `len` bytes at `offset`, whole sectors.
    pub(super) fn forget(&self, offset: u64, len: u64) {
        if self.has_changes() {
            let size = SECTOR as u64;
            let gone = offset.div_ceil(size)..offset.saturating_add(len) / size;
            let mut changes = self.changes();
            changes.retain(|number, _| !gone.contains(number));
        }
    }

    /// Whether there is metadata that is not in the file.
    pub(super) fn has_changes(&self) -> bool {
        self.0.changed.load(Ordering::Acquire)
    }

    /// Reads bytes as imago must see them. The file ends with zeros, and is never dirty: what that means is not imago's
    /// business.
    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        // Held until the end: a checkpoint that moves a change to the file would hide it from both looks.
        let changes = self.has_changes().then(|| self.changes());
        let done = read_up_to(self.file(), bytes, offset)?;
        bytes.get_mut(done..).unwrap_or_default().fill(0);
        if let Some(changes) = changes {
            let end = offset.saturating_add(bytes.len() as u64);
            let first = offset / SECTOR as u64;
            for (number, sector) in changes.range(first..end.div_ceil(SECTOR as u64)) {
                overlay(bytes, offset, &sector[..], number * SECTOR as u64);
            }
        }
        if !self.is_raw()
            && let Some(at) = DIRTY_BYTE.checked_sub(offset)
            && let Some(byte) = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at))
        {
            *byte &= !1;
        }
        Ok(())
    }

    /// Keeps bytes that imago writes, and ensures that the file will have room for them.
    fn keep(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.image().read_only() {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let size = SECTOR as u64;
        let end = offset.checked_add(bytes.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        let (first, last) = (offset / size, end.div_ceil(size));
        let len = usize::try_from((last - first) * size).map_err(io::Error::other)?;
        let mut whole = vec![0; len];
        self.read(&mut whole, first * size)?;
        let before = whole.clone();
        overlay(&mut whole, first * size, bytes, offset);
        let sectors = whole.chunks_exact(SECTOR).zip(before.chunks_exact(SECTOR));
        let changed: Vec<_> = (first..).zip(sectors).filter(|(_, (new, old))| new != old).collect();
        // A full host must be found by the write that needs the room, not by a flush.
        if let (Some((from, _)), Some((to, _))) = (changed.first(), changed.last()) {
            self.make_room(from * size, (to - from + 1) * size)?;
        }
        self.0.end.fetch_max(end, Ordering::AcqRel);
        let mut changes = self.changes();
        for (number, (new, _)) in changed {
            let sector = <&[u8; SECTOR]>::try_from(new).map_err(io::Error::other)?;
            changes.insert(number, Box::new(*sector));
        }
        self.0.changed.store(!changes.is_empty(), Ordering::Release);
        Ok(())
    }

    fn make_room(&self, offset: u64, len: u64) -> io::Result<()> {
        loop {
            return match fallocate(self.file(), FallocateFlags::KEEP_SIZE, offset, len) {
                Err(Errno::INTR) => continue,
                // Not every file system can. The write will find out.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV) => Ok(()),
                Err(error) => Err(error.into()),
            };
        }
    }
}

/// Copies those of the bytes `new`, which begin at `new_at` of the file, that belong into `bytes`, which begin at `at`.
fn overlay(bytes: &mut [u8], at: u64, new: &[u8], new_at: u64) {
    let skip = |amount: u64| usize::try_from(amount).unwrap_or(usize::MAX);
    let to = bytes.get_mut(skip(new_at.saturating_sub(at))..).unwrap_or_default();
    let from = new.get(skip(at.saturating_sub(new_at))..).unwrap_or_default();
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

impl fmt::Debug for ImageFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ImageFile").field(self.image()).finish()
    }
}

impl fmt::Display for ImageFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.image().name())
    }
}

// The functions are unsafe for callers that go around imago's locks of ranges; these here need no more than any other.
impl Storage for ImageFile {
    fn size(&self) -> io::Result<u64> {
        // A block device has no size in its metadata.
        let size = if self.is_raw() { self.image().size() } else { self.file().metadata()?.len() };
        Ok(size)
    }

    unsafe fn pure_readv(&self, buffers: IoVectorMut<'_>, offset: u64) -> io::Result<()> {
        let mut at = offset;
        for mut buffer in buffers.into_inner() {
            self.read(&mut buffer, at)?;
            at = at.saturating_add(buffer.len() as u64);
        }
        Ok(())
    }

    unsafe fn pure_writev(&self, buffers: IoVector<'_>, offset: u64) -> io::Result<()> {
        let mut at = offset;
        for buffer in buffers.into_inner() {
            self.keep(&buffer, at)?;
            at = at.saturating_add(buffer.len() as u64);
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    unsafe fn invalidate_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn get_storage_helper(&self) -> &CommonStorageHelper {
        &self.0.helper
    }
}
