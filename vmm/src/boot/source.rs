//! Reads the bytes of a kernel or an initrd.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::bzimage::{self, BzImage};
use super::{BootError, Entry, Kernel, Linux, elf, looks};

/// The source of a kernel.
#[derive(Clone)]
pub enum KernelSource {
    /// A file.
    File(PathBuf),
    /// Bytes in memory, with a name for messages.
    Bytes {
        /// The name for messages.
        name: String,
        /// The file's bytes.
        bytes: Cow<'static, [u8]>,
    },
}

impl KernelSource {
    /// The guest that is built into cafevm: a block shell on the serial console.
    pub fn built_in() -> Self {
        Self::Bytes { name: "(built-in)".to_owned(), bytes: Cow::Borrowed(cafevm_resources::SHELL) }
    }

    /// Whether this is the built-in guest.
    pub(crate) fn is_built_in(&self) -> bool {
        matches!(self, Self::Bytes { bytes: Cow::Borrowed(bytes), .. } if std::ptr::eq(*bytes, cafevm_resources::SHELL))
    }

    /// Reads and parses the kernel.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not a bootable kernel.
    pub fn read(&self) -> Result<Kernel, BootError> {
        let (name, bytes) = match self {
            Self::File(path) => (path.display().to_string(), read("--kernel", path)?),
            Self::Bytes { name, bytes } => (name.clone(), Bytes(bytes.clone())),
        };
        if bzimage::is_one(bytes.as_slice()) {
            return match bzimage::parse(bytes.as_slice()) {
                Ok(BzImage { segment, entry, linux, reach }) => {
                    let (segments, kind) = (vec![segment], "Linux bzImage");
                    Ok(Kernel { name, bytes, segments, entry, kind, linux: Some(linux), reach })
                }
                Err(source) => Err(BootError::BadBzImage { name, source }),
            };
        }
        match elf::parse(bytes.as_slice()) {
            Ok(elf) => {
                if matches!(elf.entry, Entry::Long(_)) && looks::multiboot(bytes.as_slice()) {
                    tracing::warn!(
                        "--kernel {name}: has a Multiboot header and no PVH note: it is entered in 64-bit mode at its ELF entry point, not as Multiboot would; if it expects 32-bit mode, add the note"
                    );
                }
                let elf::Elf { segments, entry, kind, linux, reach } = elf;
                let linux = linux.then(Linux::default);
                Ok(Kernel { name, bytes, segments, entry, kind, linux, reach })
            }
            Err(source) => Err(BootError::NotAKernel { name, source }),
        }
    }
}

impl fmt::Debug for KernelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Bytes { name, bytes } => write!(f, "Bytes({name}, {} bytes)", bytes.len()),
        }
    }
}

/// The bytes of a file.
#[derive(Clone)]
pub struct Bytes(Cow<'static, [u8]>);

impl Bytes {
    /// All the bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {}: {why}", path.display())]
pub struct ReadError {
    flag: &'static str,
    path: PathBuf,
    why: String,
}

/// Reads the file that `flag` names.
///
/// # Errors
///
/// If the file is missing, not a regular file, or not readable.
pub(super) fn read(flag: &'static str, path: &Path) -> Result<Bytes, ReadError> {
    let failed = |why: &str| ReadError { flag, path: path.to_owned(), why: why.to_owned() };
    let cannot = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound if is_url(path) => {
            failed("is a URL; download it, and give the path of the file")
        }
        io::ErrorKind::NotFound => failed("no such file; check the path"),
        io::ErrorKind::PermissionDenied => failed("permission denied; change its permissions"),
        _ => failed(&format!("cannot be read: {error}")),
    };
    // Checked before the file is opened: the open of a pipe would block, and a device may have no end.
    match std::fs::metadata(path) {
        Ok(m) if m.is_dir() => return Err(failed("is a directory; give the path of a file in it")),
        Ok(m) if !m.is_file() => return Err(failed("is not a regular file; copy it into one")),
        Ok(_) => {}
        Err(error) => return Err(cannot(&error)),
    }
    std::fs::read(path).map(Bytes::from).map_err(|error| cannot(&error))
}

/// Whether the text is a URL, such as https://..., instead of a path.
pub(crate) fn is_url(path: &Path) -> bool {
    let text = path.as_os_str().to_string_lossy();
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+')
    })
}

/// Reads an initrd. Returns its name for messages and its bytes.
///
/// # Errors
///
/// If it cannot be read, or is empty.
pub(crate) fn read_initrd(path: &Path) -> Result<(String, Bytes), ReadError> {
    let bytes = read("--initrd", path)?;
    if bytes.as_slice().is_empty() {
        let why = "is empty; give an initrd with content, or none".to_owned();
        return Err(ReadError { flag: "--initrd", path: path.to_owned(), why });
    }
    Ok((path.display().to_string(), bytes))
}
