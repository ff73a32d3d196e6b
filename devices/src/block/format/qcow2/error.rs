//! Why an image in the format qcow2 cannot be used.

use std::io;

use crate::block::ImageError;

/// Why an image in the format qcow2 cannot be used. [`ImageError::Qcow2`] names the file before it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Qcow2Error {
    /// The magic number is missing.
    #[error(
        "is no qcow2 image; leave format=qcow2 out if it is raw, or convert it with 'qemu-img convert -O qcow2'"
    )]
    NoQcow2,
    /// A version that does not exist yet.
    #[error(
        "is of version {0} of qcow2; versions 2 and 3 are known; convert it with 'qemu-img convert -O qcow2'"
    )]
    Version(u32),
    /// A value of the header that cannot be.
    #[error("is damaged: {0}; try to repair a copy of it with 'qemu-img check -r all'")]
    Damaged(String),
    /// Marked as corrupt.
    #[error("is marked as corrupt; repair a copy of it with 'qemu-img check -r all'")]
    Corrupt,
    /// A feature that is not supported.
    #[error("{what}, which is not supported; convert it with 'qemu-img convert -O qcow2'")]
    Unsupported {
        /// The feature.
        what: &'static str,
    },
    /// Version 2 for writing.
    #[error(
        "is of version 2 of qcow2, which can only be read; upgrade it with 'qemu-img amend -o compat=1.1', or give readonly=on or snapshot=on"
    )]
    OldForWriting,
    /// Internal snapshots, for writing.
    #[error(
        "has {0} internal snapshots, so it can only be read; delete them with 'qemu-img snapshot -d', or give readonly=on or snapshot=on"
    )]
    Snapshots(u32),
    /// Bitmaps, for writing.
    #[error(
        "has bitmaps, so it can only be read; remove them with 'qemu-img bitmap --remove', or give readonly=on or snapshot=on"
    )]
    Bitmaps,
    /// Refcounts that are too low, and no sign of a crash.
    #[error(
        "has {0} clusters in use whose refcount is too low; repair a copy of it with 'qemu-img check -r all'"
    )]
    Refcounts(u64),
    /// It is a block device.
    #[error("is a block device; format=qcow2 needs a file")]
    Device,
    /// It has a backing file, which was not allowed.
    #[error(
        "has the backing file {0:?}, and opens it only with backing=allow; give that if you trust this image: it can name any file that you may read"
    )]
    BackingNotAllowed(String),
    /// The backing file's format is not stated.
    #[error(
        "does not state the format of its backing file {0:?}, and no format is guessed; state it with 'qemu-img rebase -u -F raw -b {0}' (or -F qcow2)"
    )]
    BackingFormat(String),
    /// The backing file has another format.
    #[error("has the backing file {name:?} of the format {format:?}; raw and qcow2 are supported")]
    UnknownBackingFormat {
        /// The backing file.
        name: String,
        /// Its format.
        format: String,
    },
    /// The backing file is no file.
    #[error(
        "has the backing file {0:?}, which is not a path of a file; change it with 'qemu-img rebase'"
    )]
    BackingName(String),
    /// A chain with a cycle, or a very long one.
    #[error("has a chain of backing files that is a cycle, or longer than {0} files")]
    Chain(usize),
    /// The backing file cannot be used.
    #[error("cannot use its backing file: {0}")]
    Backing(Box<ImageError>),
    /// The overlay belongs to another image.
    #[error(
        "is no overlay of {base}: {why}; give another overlay=, or remove the file to begin anew"
    )]
    OtherBase {
        /// The image.
        base: String,
        /// The difference.
        why: String,
    },
    /// The overlay cannot be made.
    #[error("cannot be made: {0}; give overlay= a path in a directory where files can be made")]
    Create(#[source] io::Error),
    /// The host failed, or the library that reads the format.
    #[error("cannot be used: {0}")]
    Host(#[source] io::Error),
}

impl Qcow2Error {
    /// A value that cannot be.
    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }
}
