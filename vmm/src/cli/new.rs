//! `cafevm new DIR`: writes a small kernel in C, with a driver for each protocol, to start from.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use cafevm_resources::C_GUEST;

/// Why the kernel was not written. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub(super) enum NewError {
    /// The directory has other content.
    #[error("{}: exists and is not an empty directory; give a new one", .0.display())]
    NotEmpty(PathBuf),
    /// The host's error.
    #[error("{}: cannot be written: {source}; give a directory in a place that may be written", path.display())]
    Host {
        /// The file or directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

/// Writes the kernel into `dir`, which is new or empty. Returns what to do next, for standard output.
pub(super) fn write(dir: &Path) -> Result<String, NewError> {
    let host = |path: &Path| {
        let path = path.to_owned();
        move |source| NewError::Host { path, source }
    };
    let is_new = match fs::create_dir(dir) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let is_empty = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
            if !is_empty {
                return Err(NewError::NotEmpty(dir.to_owned()));
            }
            false
        }
        Err(error) => return Err(host(dir)(error)),
    };
    for (name, text) in C_GUEST {
        let path = dir.join(name);
        if let Err(error) = fs::write(&path, text) {
            remove(dir, is_new);
            return Err(host(&path)(error));
        }
    }
    Ok(format!(
        "{} has a kernel in C with a driver for virtio and one for svirtb. What to do next, with gcc and make:\n  \
         cd {0}\n  make run           # if cafevm is not on the PATH: make run CAFEVM=/path/to/cafevm\n  \
         make trace         # every step of the driver and the device\n",
        dir.display()
    ))
}

/// Removes the files, after an error.
fn remove(dir: &Path, is_new: bool) {
    for (name, _) in C_GUEST {
        let _missing = fs::remove_file(dir.join(name));
    }
    if is_new {
        let _not_empty = fs::remove_dir(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_written_only_where_nothing_is() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("k");
        assert!(write(&dir).unwrap().contains("make run"));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), C_GUEST.len());
        let error = write(&dir).unwrap_err().to_string();
        assert!(error.ends_with("exists and is not an empty directory; give a new one"), "{error}");
        let empty = parent.path().join("empty");
        fs::create_dir(&empty).unwrap();
        assert!(write(&empty).is_ok());
        assert!(
            write(&parent.path().join("no/k"))
                .unwrap_err()
                .to_string()
                .contains("no/k: cannot be written")
        );
        assert!(matches!(write(&dir.join("main.c")), Err(NewError::NotEmpty(_))));
    }

    #[test]
    fn after_an_error_nothing_is_left() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("k");
        fs::create_dir(&dir).unwrap();
        for (name, text) in C_GUEST {
            fs::write(dir.join(name), text).unwrap();
        }
        remove(&dir, true);
        assert!(!dir.exists());
    }
}
