//! A disk image: a raw file, opened, measured and locked. What it holds is never looked at.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::lock;

/// What the guest may do with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read only; other machines may read it at the same time.
    ReadOnly,
    /// Read and write; nobody else may have it open.
    ReadWrite,
}

/// Why an image cannot be used. Each message names the file and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is no such file.
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
    /// It is neither a file nor anything else that has a size.
    #[error("{}: is not a regular file; give the path of an image file", path.display())]
    NotAFile {
        /// The image.
        path: PathBuf,
    },
    /// It has no bytes.
    #[error("{}: is empty, and a disk needs at least one sector of 512 bytes; enlarge it with 'truncate -s 64M {}'", path.display(), path.display())]
    Empty {
        /// The image.
        path: PathBuf,
    },
    /// It may be read but not written.
    #[error("{}: may not be written; give readonly=on to attach it for reading, or change its permissions", path.display())]
    NotWritable {
        /// The image.
        path: PathBuf,
    },
    /// It may not be opened at all.
    #[error("{}: permission denied; change its permissions or run as a user who may read it", path.display())]
    Denied {
        /// The image.
        path: PathBuf,
    },
    /// Somebody else has it.
    #[error("{}: in use by another cafevm (or another program that locks it); stop that one first{}", path.display(), if *shared { "" } else { ", or attach it with readonly=on in both" })]
    InUse {
        /// The image.
        path: PathBuf,
        /// Whether it was to be shared with other readers.
        shared: bool,
    },
    /// The host's error for anything else.
    #[error("{}: cannot {what} the image: {source}", path.display())]
    Host {
        /// The image.
        path: PathBuf,
        /// What was tried: "open", "lock", ...
        what: &'static str,
        /// The host's error.
        source: io::Error,
    },
}

/// An opened image, locked until it is dropped.
#[derive(Debug)]
pub struct Image {
    file: File,
    path: PathBuf,
    size: u64,
    access: Access,
}

impl Image {
    /// Opens, locks and measures the image at `path`.
    ///
    /// # Errors
    ///
    /// Where it is missing, a directory, empty, in use or may not be opened as asked.
    pub fn open(path: &Path, access: Access) -> Result<Self, ImageError> {
        let path = path.to_owned();
        let shared = access == Access::ReadOnly;
        // Asked before it is opened: to open a pipe would wait for its other end.
        match std::fs::metadata(&path) {
            Ok(m) if m.is_dir() => return Err(ImageError::Directory { path }),
            Ok(m) if !m.is_file() => return Err(ImageError::NotAFile { path }),
            Ok(_) => {}
            Err(source) => return Err(cannot_open(path, source)),
        }
        let file = match OpenOptions::new().read(true).write(!shared).open(&path) {
            Ok(file) => file,
            Err(e) if !shared && is_denied(&e) && File::open(&path).is_ok() => {
                return Err(ImageError::NotWritable { path });
            }
            Err(source) => return Err(cannot_open(path, source)),
        };
        match lock::try_lock(&file, shared) {
            Ok(true) => {}
            Ok(false) => return Err(ImageError::InUse { path, shared }),
            Err(source) => return Err(ImageError::Host { path, what: "lock", source }),
        }
        // Measured under the lock: nobody who respects it changes the size from here on.
        let size = match file.metadata() {
            Ok(m) => m.len(),
            Err(source) => return Err(ImageError::Host { path, what: "measure", source }),
        };
        if size == 0 {
            return Err(ImageError::Empty { path });
        }
        Ok(Self { file, path, size, access })
    }

    /// The opened file.
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// What messages call the image.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The size in bytes when it was opened; not 0, and not always whole sectors.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Whether it is open for reading only.
    pub fn read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }
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
mod tests {
    use super::*;

    fn image(dir: &tempfile::TempDir, len: u64) -> PathBuf {
        let path = dir.path().join("d.img");
        File::create(&path).unwrap().set_len(len).unwrap();
        path
    }

    #[test]
    fn an_image_is_measured_to_the_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = image(&dir, 1300);
        let opened = Image::open(&path, Access::ReadWrite).unwrap();
        assert_eq!((opened.size(), opened.read_only()), (1300, false));
        assert_eq!(opened.name(), path.display().to_string());
    }

    #[test]
    fn what_cannot_be_a_disk_is_named_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path| Image::open(path, Access::ReadWrite).unwrap_err();
        assert!(matches!(open(&dir.path().join("none")), ImageError::Missing { .. }));
        assert!(matches!(open(dir.path()), ImageError::Directory { .. }));
        assert!(matches!(open(Path::new("/dev/null")), ImageError::NotAFile { .. }));
        let error = open(&image(&dir, 0));
        assert!(matches!(error, ImageError::Empty { .. }));
        assert!(error.to_string().contains("d.img: is empty"), "{error}");
        let error = open(&dir.path().join("d.img/below"));
        assert!(matches!(error, ImageError::Host { what: "open", .. }), "{error}");
    }

    #[test]
    fn one_writer_or_many_readers() {
        let dir = tempfile::tempdir().unwrap();
        let path = image(&dir, 512);
        let in_use = |access| matches!(Image::open(&path, access), Err(ImageError::InUse { .. }));
        let writer = Image::open(&path, Access::ReadWrite).unwrap();
        assert!(in_use(Access::ReadWrite));
        assert!(in_use(Access::ReadOnly));
        drop(writer);
        let readers: Vec<_> =
            (0..3).map(|_| Image::open(&path, Access::ReadOnly).unwrap()).collect();
        assert!(in_use(Access::ReadWrite));
        drop(readers);
        assert!(!in_use(Access::ReadWrite));
    }
}
