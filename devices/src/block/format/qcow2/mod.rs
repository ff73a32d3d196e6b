//! The format qcow2: a file with tables that state where each cluster of the disk is, in it or in a backing file.
//!
//! ```text
//!  request ─▶ Qcow2Engine ─ where? ─▶ Format (imago: tables, allocation, compressed clusters) ─ metadata ─▶ ImageFile
//!                  │                                                                                  │ kept in memory
//!                  └─ bytes ─▶ SyncEngine of the image, or of a file of its chain                checkpoint ─▶ file
//! ```
//!
//! The crate imago reads and changes the tables; this module moves the bytes and decides when metadata reaches the file.
//! A request whose bytes are contiguous in the file, which is usual, costs one look into a table more than on a raw
//! image.
//!
//! - **A write to a cluster that the image has** goes to its place, with any number of lanes at the same time.
//! - **A write to a new cluster** is alone: one lock. The cluster is filled with what the disk had there, the data is
//!   written, and then the table states the new place.
//! - **A flush** writes changed tables, if there are any: `checkpoint.rs`. A cluster is never freed before that, so a
//!   killed process always leaves tables that refer to the right data.
//! - **A discard** punches a hole into the file, and changes no table. Zeros, too, where the image has the cluster.
//!
//! | question | file |
//! |---|---|
//! | Which images are refused, and why? | `header.rs`, `error.rs` |
//! | How are an image and its backing files opened? | `open.rs` |
//! | What does imago see of a file? | `file.rs` |
//! | How is a new cluster written? | `writing.rs` |
//! | How does a request become requests to files? | `engine.rs` |
//! | In which order does metadata reach the file? | `checkpoint.rs` |
//! | What if the process was killed in between? | `refcounts.rs` |
//! | How is it written into its base? | `commit.rs` |
//! | How is an overlay made? | `create.rs` |

mod checkpoint;
mod commit;
mod create;
mod engine;
mod error;
mod file;
mod header;
mod open;
mod refcounts;
mod writing;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use imago::FormatAccess;
use imago::format::PreallocateMode;
use tracing::error;

use self::checkpoint::{Checkpoints, Failure};
use self::commit::Target;
use self::engine::Qcow2Engine;
use self::file::ImageFile;
use crate::block::{CommitTarget, Engine, Image, ImageError, Opening, Stop, Storage, StorageInfo};

pub use error::Qcow2Error;
pub use open::{Backing, Base};

/// An image in the format qcow2, with its backing files. Clones share it.
#[derive(Debug, Clone)]
pub struct Qcow2Storage(Arc<Format>);

impl Qcow2Storage {
    /// The disk on `image`, which may name backing files if `backing` allows that. They are opened for reading, in the
    /// same cache mode.
    ///
    /// # Errors
    ///
    /// If the image is damaged, has a feature that is not supported, or a file of its chain cannot be used.
    pub fn open(image: Image, backing: Backing) -> Result<Self, ImageError> {
        let path = image.path().to_owned();
        open::image(image, backing).map_err(|error| ImageError::Qcow2 { path, error })
    }

    /// The disk on the overlay at `path`, which receives all changes of `base`. It is created if it does not exist.
    ///
    /// # Errors
    ///
    /// If it is the overlay of another image, or cannot be created or used.
    pub fn overlay(path: &Path, opening: Opening, base: Base) -> Result<Self, ImageError> {
        let image = create::overlay(path, opening, &base)?;
        let path = path.to_owned();
        open::overlay(image, base).map_err(|error| ImageError::Qcow2 { path, error })
    }

    /// Makes an empty image of `size` bytes with clusters of 2^`cluster_bits` bytes, for tests.
    ///
    /// # Errors
    ///
    /// If the file exists, or the host cannot make it.
    #[cfg(any(test, feature = "testing"))]
    pub fn create(path: &Path, size: u64, cluster_bits: u32) -> io::Result<()> {
        create::New { backing: None, size, cluster_bits }.create(path)
    }

    /// The disk's size in bytes.
    pub fn size(&self) -> u64 {
        self.0.top.size()
    }
}

impl Storage for Qcow2Storage {
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>> {
        Ok(Box::new(Qcow2Engine::new(self.0.clone(), stop)?))
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        self.0.grow(size)
    }

    fn frees_space(&self) -> bool {
        self.0.file().storage().frees_space()
    }

    fn commit(&self) -> Result<Box<dyn CommitTarget>, ImageError> {
        Ok(Box::new(Target::new(self.0.clone())?))
    }

    fn info(&self) -> StorageInfo {
        let backing = self.0.files.iter().skip(1).map(|file| file.image().name()).collect();
        StorageInfo { format: "qcow2", backing, ..StorageInfo::raw("sync") }
    }
}

/// The open image. Shared by all lanes.
#[derive(Debug)]
struct Format {
    /// What imago knows of the image.
    top: FormatAccess<ImageFile>,
    /// The files: the image, then the chain of its backing files.
    files: Vec<ImageFile>,
    /// The bytes of a cluster.
    cluster: u64,
    /// The largest size in bytes.
    largest: u64,
    /// The bytes of the disk that the backing file has.
    reach: u64,
    /// The thread that changes metadata holds it; none for an image that is only read.
    checkpoints: Option<Mutex<Checkpoints>>,
    /// Whether metadata has changed since the last checkpoint.
    changed: AtomicBool,
}

impl Format {
    /// The disk's own image.
    fn file(&self) -> &ImageFile {
        // There always is one: the image itself is added first.
        #[expect(clippy::indexing_slicing, reason = "the image itself is the first of its chain")]
        &self.files[0]
    }

    /// Makes everything written so far durable.
    fn flush(&self) -> Result<(), Failure> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(()) };
        if self.changed.load(Ordering::Acquire) {
            let mut checkpoints = checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
            return self.checkpoint(&mut checkpoints);
        }
        self.file().sync().map_err(Failure::Sync)
    }

    fn checkpoint(&self, checkpoints: &mut Checkpoints) -> Result<(), Failure> {
        checkpoints.write(&self.top)?;
        // Only the holder of the lock changes metadata.
        self.changed.store(false, Ordering::Release);
        Ok(())
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        let refused = |why: String| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        let Some(checkpoints) = &self.checkpoints else {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        };
        if !size.is_multiple_of(512) || size > self.largest {
            let most = self.largest;
            return refused(format!(
                "a qcow2 image like this has whole sectors, at most {most} bytes"
            ));
        }
        if self.reach > self.top.size() {
            return refused("its backing file is larger, and its content would appear".to_owned());
        }
        let mut checkpoints = checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if checkpoints.must {
            self.checkpoint(&mut checkpoints)?;
        }
        self.changed.store(true, Ordering::Release);
        let grown = self.top.resize_grow(size, PreallocateMode::None);
        // The old table is free now, and the file still refers to it.
        checkpoints.must = true;
        self.checkpoint(&mut checkpoints)?;
        grown
    }

    /// Writes all metadata, and marks the image as clean.
    fn close(&self) -> Result<(), Failure> {
        self.flush()?;
        match &self.checkpoints {
            Some(checkpoints) => checkpoints.lock().unwrap_or_else(PoisonError::into_inner).close(),
            None => Ok(()),
        }
    }
}

impl Drop for Format {
    fn drop(&mut self) {
        if let Err(failure) = self.close() {
            error!(
                "{}: the last metadata cannot be written: {}; writes after the last flush may be lost",
                self.file(),
                io::Error::from(failure)
            );
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file().fmt(f)
    }
}

#[cfg(test)]
mod tests;
