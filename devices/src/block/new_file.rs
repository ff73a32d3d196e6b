//! Files that appear complete or not at all.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, linkat};
use tempfile::NamedTempFile;

/// A file that has no name yet. Dropped, it is gone; so it is if the process is killed.
#[derive(Debug)]
pub(super) struct NewFile {
    file: File,
    /// Its temporary name, on a file system without files that have none.
    named: Option<NamedTempFile>,
    dir: PathBuf,
}

impl NewFile {
    /// Creates a file in the directory of `path`, for reading and writing.
    ///
    /// # Errors
    ///
    /// The host's error.
    pub(super) fn beside(path: &Path) -> io::Result<Self> {
        let dir = match path.parent() {
            Some(dir) if dir != Path::new("") => dir.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o666).custom_flags(libc::O_TMPFILE);
        match options.open(&dir) {
            Ok(file) => Ok(Self { file, named: None, dir }),
            Err(error) if has_no_such_files(&error) => {
                let named = NamedTempFile::new_in(&dir)?;
                Ok(Self { file: named.reopen()?, named: Some(named), dir })
            }
            Err(error) => Err(error),
        }
    }

    /// The file.
    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    /// Makes the content durable, then gives the file its name, which must be free, and makes that durable.
    ///
    /// # Errors
    ///
    /// The host's error. Then there is no file.
    pub(super) fn publish(self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        match self.named {
            Some(named) => drop(named.persist_noclobber(path)?),
            None => {
                let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
            }
        }
        File::open(self.dir)?.sync_all()
    }
}

/// Whether a file system, or a kernel, refused because it does not know O_TMPFILE.
fn has_no_such_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_appears_with_its_content_and_replaces_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        let new = || {
            let new = NewFile::beside(&path).unwrap();
            new.file().write_all(b"content").unwrap();
            new
        };
        drop(new());
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        new().publish(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        std::fs::write(&path, "other").unwrap();
        let error = new().publish(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"other");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    }
}
