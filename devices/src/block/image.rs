//! A disk image: a raw file or a block device of the host. It is opened, measured and locked; its content is never
//! examined.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::lock;

/// The access of the guest to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read only; other machines may read it at the same time.
    ReadOnly,
    /// Read and write; no other program may have it open.
    ReadWrite,
}

/// How an image is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// The access of the guest.
    pub access: Access,
    /// Whether to bypass the host's page cache (O_DIRECT), if the alignment of the guest's buffers allows it.
    pub direct: bool,
    /// Whether flushes reach stable storage. Otherwise a crash of the host loses flushed data.
    pub sync: bool,
}

/// The host's cache mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cache {
    /// The host's page cache; a flush writes it to stable storage.
    #[default]
    WriteBack,
    /// No write-back cache, unless the driver asks for one: each write is durable when it is answered.
    WriteThrough,
    /// No page cache (O_DIRECT), but the cache of the storage; a flush writes that.
    None,
    /// The page cache; flushes do nothing: for data that may be lost.
    Unsafe,
}

impl Cache {
    /// How to open an image for this mode.
    pub const fn opening(self, access: Access) -> Opening {
        let direct = matches!(self, Self::None);
        let sync = !matches!(self, Self::Unsafe);
        Opening { access, direct, sync }
    }
}

impl Opening {
    /// Through the page cache, with real flushes.
    pub const fn cached(access: Access) -> Self {
        Self { access, direct: false, sync: true }
    }
}

/// Why an image cannot be used. Each message names the file and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file does not exist.
    #[error("{}: no such image; make one with 'truncate -s 64M {}'", path.display(), path.display())]
    Missing {
        /// The image.
        path: PathBuf,
    },
    /// It is a directory.
    #[error("{}: is a directory; give the path of an image file in it", path.display())]
    Directory {
        /// The image.
        path: PathBuf,
    },
    /// It is neither a file nor a block device.
    #[error("{}: is neither a regular file nor a block device; give the path of an image file", path.display())]
    NotAFile {
        /// The image.
        path: PathBuf,
    },
    /// It is empty.
    #[error("{}: is empty, and a disk needs at least one sector of 512 bytes; enlarge it with 'truncate -s 64M {}'", path.display(), path.display())]
    Empty {
        /// The image.
        path: PathBuf,
    },
    /// It may be read but not written.
    #[error("{}: may not be written; give readonly=on to attach it for reading, snapshot=on to discard the guest's writes at the end, or change its permissions", path.display())]
    NotWritable {
        /// The image.
        path: PathBuf,
    },
    /// It may not be read.
    #[error("{}: permission denied; change its permissions or run as a user who may read it", path.display())]
    Denied {
        /// The image.
        path: PathBuf,
    },
    /// Another program has locked it.
    #[error("{}: in use by another cafevm (or another program that locks it); stop that one first{}", path.display(), if *shared { "" } else { ", or attach it with readonly=on or snapshot=on in both" })]
    InUse {
        /// The image.
        path: PathBuf,
        /// Whether this machine wanted to share it with other readers.
        shared: bool,
    },
    /// The file system does not support O_DIRECT.
    #[error("{}: its file system does not support O_DIRECT, which cache=none needs; give cache=writeback", path.display())]
    NoDirect {
        /// The image.
        path: PathBuf,
    },
    /// A file can be opened a second time only through /proc.
    #[error("{}: cache=none needs /proc, which is not mounted here; mount it, or give cache=writeback", path.display())]
    NoProc {
        /// The image.
        path: PathBuf,
    },
    /// engine=mmap with an image that bypasses the page cache.
    #[error("{}: engine=mmap reads from the host's page cache, which cache=none bypasses; give another cache or another engine", path.display())]
    MmapUncached {
        /// The image.
        path: PathBuf,
    },
    /// The host cannot map the image.
    #[error("{}: engine=mmap cannot map the image, of {size} bytes: {source}; give engine=sync", path.display())]
    Map {
        /// The image.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The host's error.
        source: io::Error,
    },
    /// engine=uring on a host without io_uring.
    #[error("{}: engine=uring cannot use io_uring on this host: {source}; allow it (the kernel's CONFIG_IO_URING, sysctl kernel.io_uring_disabled=0, a container's seccomp profile), or give engine=auto or engine=sync", path.display())]
    NoRing {
        /// The image.
        path: PathBuf,
        /// The host's error: ENOSYS if the kernel has none, EPERM if it is forbidden.
        source: io::Error,
    },
    /// The layer for the guest's changes cannot be created.
    #[error("{}: cannot make the layer of snapshot=on here, of {size} bytes: {source}; set TMPDIR to a directory where files can be made, on a file system with room", dir.display())]
    Layer {
        /// The directory.
        dir: PathBuf,
        /// The bytes of the disk.
        size: u64,
        /// The host's error.
        source: io::Error,
    },
    /// An image in the format qcow2 that cannot be used.
    #[error("{}: {error}", path.display())]
    Qcow2 {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        error: super::format::Qcow2Error,
    },
    /// A commit of a disk without a backing image.
    #[error("the disk has no backing image; only an overlay can be committed")]
    NoBacking,
    /// A commit of a very large disk.
    #[error(
        "the disk has {size} bytes, and at most {most} can be committed; end the machine, then use 'qemu-img commit'"
    )]
    CommitTooLarge {
        /// The bytes of the disk.
        size: u64,
        /// The most bytes.
        most: u64,
    },
    /// A commit into a backing image that is not raw.
    #[error("{}: is not raw; only a raw backing image can be written while the machine runs; end the machine, then use 'qemu-img commit'", path.display())]
    BackingNotRaw {
        /// The backing image.
        path: PathBuf,
    },
    /// Another error of the host.
    #[error("{}: cannot {what} the image: {source}", path.display())]
    Host {
        /// The image.
        path: PathBuf,
        /// The action that failed: "open", "lock", ...
        what: &'static str,
        /// The host's error.
        source: io::Error,
    },
}

/// An open image, locked until it is dropped.
#[derive(Debug)]
pub struct Image {
    file: File,
    path: PathBuf,
    size: u64,
    opening: Opening,
    /// The image opened a second time with O_DIRECT, and the alignment in bytes that it needs.
    direct: Option<(File, u64)>,
    is_device: bool,
}

impl Image {
    /// Opens, locks and measures the image at `path`.
    ///
    /// # Errors
    ///
    /// If it does not exist, is a directory, empty, in use, or cannot be opened with this access.
    pub fn open(path: &Path, opening: Opening) -> Result<Self, ImageError> {
        let path = path.to_owned();
        let shared = opening.access == Access::ReadOnly;
        // Checked before the file is opened: the open of a pipe would block.
        let is_device = match std::fs::metadata(&path) {
            Ok(m) if m.is_dir() => return Err(ImageError::Directory { path }),
            Ok(m) if m.is_file() => false,
            Ok(m) if m.file_type().is_block_device() => true,
            Ok(_) => return Err(ImageError::NotAFile { path }),
            Err(source) => return Err(cannot_open(path, source)),
        };
        let file = match OpenOptions::new().read(true).write(!shared).open(&path) {
            Ok(file) => file,
            Err(e) if !shared && is_denied(&e) && File::open(&path).is_ok() => {
                return Err(ImageError::NotWritable { path });
            }
            Err(source) => return Err(cannot_open(path, source)),
        };
        match lock::lock_soon(&file, shared) {
            Ok(true) => {}
            Ok(false) => return Err(ImageError::InUse { path, shared }),
            Err(source) => return Err(ImageError::Host { path, what: "lock", source }),
        }
        // Measured under the lock: no program that respects the lock changes the size after this.
        let size = match (&file).seek(SeekFrom::End(0)) {
            Ok(size) => size,
            Err(source) => return Err(ImageError::Host { path, what: "measure", source }),
        };
        if size == 0 {
            return Err(ImageError::Empty { path });
        }
        let direct = if opening.direct { Some(open_direct(&file, &path, !shared)?) } else { None };
        Ok(Self { file, path, size, opening, direct, is_device })
    }

    /// Creates a sparse, unlinked file of `size` bytes in the directory `dir`, for writes that are discarded at the
    /// end. It is gone when it is closed, also by SIGKILL. On a file system without unlinked files (O_TMPFILE), a named
    /// file is created and its name removed immediately. Its content never has to reach stable storage. With `direct`
    /// it bypasses the page cache, if the file system supports that (tmpfs does not).
    ///
    /// # Errors
    ///
    /// If the file cannot be created.
    pub fn layer(dir: &Path, size: u64, direct: bool) -> Result<Self, ImageError> {
        let made = tempfile::tempfile_in(dir).and_then(|file| file.set_len(size).map(|()| file));
        let file =
            made.map_err(|source| ImageError::Layer { dir: dir.to_owned(), size, source })?;
        let direct = match direct.then(|| open_direct(&file, dir, true)) {
            Some(Ok(direct)) => Some(direct),
            None | Some(Err(ImageError::NoDirect { .. })) => None,
            Some(Err(error)) => return Err(error),
        };
        let opening = Opening { access: Access::ReadWrite, direct: direct.is_some(), sync: false };
        Ok(Self { file, path: dir.to_owned(), size, opening, direct, is_device: false })
    }

    /// The open file.
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// The image opened with O_DIRECT, if it is in use, and the alignment in bytes that offsets, lengths and addresses
    /// need. Unaligned requests use [`Image::file`]. The kernel keeps both consistent, and a write to a part of a block
    /// never enlarges the file, as padding would.
    pub fn direct(&self) -> Option<(&File, u64)> {
        self.direct.as_ref().map(|(file, align)| (file, *align))
    }

    /// Whether flushes reach stable storage.
    pub const fn syncs(&self) -> bool {
        self.opening.sync
    }

    /// Enlarges the image to `size` bytes. A block device must have grown already.
    pub(super) fn grow(&self, size: u64) -> io::Result<()> {
        if !self.is_device {
            return self.file.set_len(size);
        }
        if (&self.file).seek(SeekFrom::End(0))? < size {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the block device is smaller than that; enlarge it first",
            ));
        }
        Ok(())
    }

    /// Whether the host can probably free space within the image. This makes no attempt, which could block on a frozen
    /// file system.
    pub(super) fn frees_space(&self) -> bool {
        use rustix::fs::{fstat, fstatfs, major, minor};
        if self.read_only() {
            return false;
        }
        if self.is_device {
            // The kernel punches a hole into a device only if the device itself writes zeros.
            let Ok(stat) = fstat(&self.file) else { return false };
            let device = format!("/sys/dev/block/{}:{}", major(stat.st_rdev), minor(stat.st_rdev));
            // A partition uses the queue of its disk.
            return ["queue", "../queue"].iter().any(|queue| {
                let limit = format!("{device}/{queue}/write_zeroes_max_bytes");
                std::fs::read_to_string(limit).is_ok_and(|bytes| bytes.trim() != "0")
            });
        }
        fstatfs(&self.file).is_ok_and(|fs| PUNCHES_HOLES.contains(&fs.f_type))
    }

    /// Opens it a second time, for writing, and makes its lock exclusive until [`Image::share_again`].
    ///
    /// # Errors
    ///
    /// If other programs read it, or it may not be written.
    pub(super) fn open_for_writing(&self) -> Result<File, ImageError> {
        let path = || self.path.clone();
        // Not by its path: this may name another file by now.
        let same = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let writer = match OpenOptions::new().read(true).write(true).open(same) {
            Ok(writer) => writer,
            Err(error) if is_denied(&error) => {
                return Err(ImageError::NotWritable { path: path() });
            }
            Err(source) => return Err(cannot_open(path(), source)),
        };
        match lock::lock_for_writing(&self.file, &writer) {
            Ok(true) => Ok(writer),
            Ok(false) => Err(ImageError::InUse { path: path(), shared: true }),
            Err(source) => Err(ImageError::Host { path: path(), what: "lock", source }),
        }
    }

    /// Makes the lock shared with other readers again.
    ///
    /// # Errors
    ///
    /// The host's error.
    pub(super) fn share_again(&self, writer: &File) -> io::Result<()> {
        lock::lock_again(&self.file, writer)
    }

    /// How it was opened.
    pub(super) const fn opening(&self) -> Opening {
        self.opening
    }

    /// Whether it is a block device.
    pub(super) const fn is_device(&self) -> bool {
        self.is_device
    }

    /// The image's path, for errors.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The image's name in messages.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The size in bytes when it was opened; not 0, and possibly a fraction of sectors.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Whether it is open for reading only.
    pub fn read_only(&self) -> bool {
        self.opening.access == Access::ReadOnly
    }
}

/// The file systems that punch holes (fallocate(2)), by magic number (statfs(2)): btrfs, ext4, f2fs, ocfs2, overlayfs,
/// tmpfs, XFS, ZFS.
const PUNCHES_HOLES: [rustix::fs::FsWord; 8] = [
    0x9123_683e,
    0xef53,
    0xf2f5_2010,
    0x7461_636f,
    0x794c_7630,
    0x0102_1994,
    0x5846_5342,
    0x2fc1_2fc1,
];

/// An alignment that every file system accepts for O_DIRECT.
const PAGE: u64 = 4096;

/// Opens the image a second time. Not by its path: this may name another file by now, which is not locked.
fn open_direct(image: &File, path: &Path, write: bool) -> Result<(File, u64), ImageError> {
    let same = format!("/proc/self/fd/{}", image.as_raw_fd());
    let opened = OpenOptions::new().read(true).write(write).custom_flags(libc::O_DIRECT).open(same);
    let path = path.to_owned();
    let file = match opened {
        Ok(file) => file,
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            return Err(ImageError::NoDirect { path });
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(ImageError::NoProc { path }),
        Err(source) => return Err(cannot_open(path, source)),
    };
    // Linux 6.1 and later report the alignment; 0 or no answer leaves a page.
    let asked = rustix::fs::statx(
        &file,
        c"",
        rustix::fs::AtFlags::EMPTY_PATH,
        rustix::fs::StatxFlags::DIOALIGN,
    );
    let align = asked.map_or(0, |s| s.stx_dio_mem_align.max(s.stx_dio_offset_align)).into();
    let usable = (512..=PAGE).contains(&align) && PAGE.is_multiple_of(align);
    Ok((file, if usable { align } else { PAGE }))
}

fn is_denied(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn cannot_open(path: PathBuf, source: io::Error) -> ImageError {
    match source.kind() {
        io::ErrorKind::NotFound => ImageError::Missing { path },
        io::ErrorKind::PermissionDenied => ImageError::Denied { path },
        _ => ImageError::Host { path, what: "open", source },
    }
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
