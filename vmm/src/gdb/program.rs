//! The guest's ELF file, which has its symbols.

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{self, Path};

use crate::boot::KernelSource;

/// The name of a kernel without a file.
const UNNAMED: &str = "/cafevm-guest";

/// The guest's ELF file.
pub(crate) struct Program {
    name: String,
    content: Content,
}

enum Content {
    File(File),
    Bytes(Cow<'static, [u8]>),
}

impl Program {
    /// The first of `files` that can be opened; if there is none, the bytes of `kernel`.
    pub(crate) fn of(files: &[impl AsRef<Path>], kernel: &KernelSource) -> Self {
        let opened = files.iter().find_map(|path| {
            let path = path.as_ref();
            let name = path::absolute(path).ok()?.to_str()?.to_owned();
            Some(Self { name, content: Content::File(File::open(path).ok()?) })
        });
        opened.unwrap_or_else(|| {
            let bytes = match kernel {
                KernelSource::Bytes { bytes, .. } => bytes.clone(),
                KernelSource::File(_) => Cow::default(),
            };
            Self { name: UNNAMED.to_owned(), content: Content::Bytes(bytes) }
        })
    }

    /// Its absolute path, or a name that stands for it.
    pub(super) fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }

    /// Reads what is at `offset`, in bytes. Returns the number of bytes; 0 at the end.
    ///
    /// # Errors
    ///
    /// That of the host.
    pub(super) fn read(&self, offset: u64, to: &mut [u8]) -> std::io::Result<usize> {
        match &self.content {
            Content::File(file) => file.read_at(to, offset),
            Content::Bytes(bytes) => Ok(part(bytes, offset, to)),
        }
    }

    /// Its size in bytes.
    ///
    /// # Errors
    ///
    /// That of the host.
    pub(super) fn size(&self) -> std::io::Result<u64> {
        match &self.content {
            Content::File(file) => Ok(file.metadata()?.len()),
            Content::Bytes(bytes) => Ok(bytes.len() as u64),
        }
    }
}

/// Copies what is at `offset`. Returns the number of bytes.
pub(super) fn part(from: &[u8], offset: u64, to: &mut [u8]) -> usize {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let from = from.get(offset..).unwrap_or_default();
    let len = from.len().min(to.len());
    if let (Some(to), Some(from)) = (to.get_mut(..len), from.get(..len)) {
        to.copy_from_slice(from);
    }
    len
}

/// At most `count` bytes of a buffer.
pub(super) fn at_most(buf: &mut [u8], count: usize) -> &mut [u8] {
    let len = buf.len().min(count);
    buf.get_mut(..len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_with_the_file() {
        let mut buf = [0; 4];
        assert_eq!((part(b"abcdef", 4, &mut buf), buf), (2, *b"ef\0\0"));
        assert_eq!(part(b"abcdef", 6, &mut buf), 0);
        assert_eq!(part(b"abcdef", u64::MAX, &mut buf), 0);
        assert_eq!(at_most(&mut buf, 9).len(), 4);
    }
}
