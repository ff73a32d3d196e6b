//! Where a trace, or the doctor's findings, are written.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::TraceError;
use crate::log;

/// The first bytes of a trace as text.
pub(super) const TEXT: &str = "# cafevm trace";
/// The first bytes of a trace as JSON.
pub(super) const JSON: &str = "{\"cafevm_trace\":";
/// The first bytes of a trace for Perfetto.
pub(super) const PERFETTO: &str = "{\"displayTimeUnit\":\"ns\",\"otherData\":{\"cafevm\"";

/// The first bytes of the findings of `--doctor-json`.
pub(crate) const DOCTOR: &str = "{\"cafevm_doctor\":";

/// A file that begins with one of these may be replaced.
const SIGNATURES: [&str; 4] = [TEXT, JSON, PERFETTO, DOCTOR];

/// Standard error or a file.
pub(crate) enum Sink {
    /// The log, which never waits for its reader.
    Log,
    /// A file. Each event is one write, so that a killed cafevm leaves a complete file.
    File { flag: &'static str, path: PathBuf, file: File, failed: bool, is_new: bool },
}

impl Sink {
    /// Creates the file, or replaces an earlier one of cafevm.
    pub(crate) fn file(flag: &'static str, path: &Path) -> Result<Self, TraceError> {
        let failed = |source| TraceError::File { flag, path: path.to_owned(), source };
        let new = OpenOptions::new().write(true).create_new(true).open(path);
        let (file, is_new) = match new {
            Ok(file) => (file, true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // Checked before it is opened: the open of a pipe would block.
                if !fs::metadata(path).map_err(failed)?.is_file() || !is_ours(path) {
                    return Err(TraceError::NotOurs { flag, path: path.to_owned() });
                }
                let file = OpenOptions::new().write(true).truncate(true).open(path);
                (file.map_err(failed)?, false)
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Self::File { flag, path: path.to_owned(), file, failed: false, is_new })
    }

    /// Writes text. After an error, which is logged, further text is dropped.
    pub(crate) fn write(&mut self, text: &str) {
        match self {
            _ if text.is_empty() => {}
            Self::Log => log::lines(text.trim_end_matches('\n')),
            Self::File { failed: true, .. } => {}
            Self::File { flag, path, file, failed, .. } => {
                if let Err(error) = file.write_all(text.as_bytes()) {
                    *failed = true;
                    tracing::warn!(
                        "{flag} {}: cannot be written: {error}; it ends here",
                        path.display()
                    );
                }
            }
        }
    }

    /// Removes a file that was created for this run.
    pub(crate) fn remove(&self) {
        if let Self::File { flag, path, is_new: true, .. } = self
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!("{flag} {}: cannot be removed: {error}", path.display());
        }
    }
}

/// Whether the file is empty, or was written by cafevm.
fn is_ours(path: &Path) -> bool {
    let longest = SIGNATURES.iter().map(|text| text.len()).max().unwrap_or_default();
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(longest as u64).read_to_end(&mut start));
    read.is_ok()
        && (start.is_empty() || SIGNATURES.iter().any(|text| start.starts_with(text.as_bytes())))
}
