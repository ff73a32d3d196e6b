//! The guest's ELF file, which gdb reads through the connection: its user needs no file, and gdb finds the symbols of
//! the built-in guest, too. gdb can open no other file.

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{self, Path};

use gdbstub::common::Pid;
use gdbstub::target::TargetResult;
use gdbstub::target::ext::exec_file::ExecFile;
use gdbstub::target::ext::host_io::{
    FsKind, HostIo, HostIoClose, HostIoCloseOps, HostIoErrno, HostIoError, HostIoFstat,
    HostIoFstatOps, HostIoOpen, HostIoOpenFlags, HostIoOpenMode, HostIoOpenOps, HostIoPread,
    HostIoPreadOps, HostIoResult, HostIoSetfs, HostIoSetfsOps, HostIoStat,
};

use super::target::Guest;
use crate::boot::KernelSource;

/// The name of a kernel without a file.
const UNNAMED: &str = "/cafevm-guest";
/// The one descriptor.
const OPENED: u32 = 3;

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

    fn read(&self, offset: u64, to: &mut [u8]) -> std::io::Result<usize> {
        match &self.content {
            Content::File(file) => file.read_at(to, offset),
            Content::Bytes(bytes) => Ok(part(bytes, offset, to)),
        }
    }

    fn size(&self) -> std::io::Result<u64> {
        match &self.content {
            Content::File(file) => Ok(file.metadata()?.len()),
            Content::Bytes(bytes) => Ok(bytes.len() as u64),
        }
    }
}

/// Copies what is at `offset`. Returns the number of bytes.
fn part(from: &[u8], offset: u64, to: &mut [u8]) -> usize {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let from = from.get(offset..).unwrap_or_default();
    let len = from.len().min(to.len());
    if let (Some(to), Some(from)) = (to.get_mut(..len), from.get(..len)) {
        to.copy_from_slice(from);
    }
    len
}

/// At most `count` bytes of a buffer.
fn at_most(buf: &mut [u8], count: usize) -> &mut [u8] {
    let len = buf.len().min(count);
    buf.get_mut(..len).unwrap_or_default()
}

fn known(fd: u32) -> Result<(), HostIoError<super::target::Never>> {
    if fd == OPENED { Ok(()) } else { Err(HostIoError::Errno(HostIoErrno::EBADF)) }
}

impl ExecFile for Guest<'_> {
    fn get_exec_file(
        &self,
        _: Option<Pid>,
        offset: u64,
        length: usize,
        buf: &mut [u8],
    ) -> TargetResult<usize, Self> {
        Ok(part(self.program.name.as_bytes(), offset, at_most(buf, length)))
    }
}

impl HostIo for Guest<'_> {
    fn support_open(&mut self) -> Option<HostIoOpenOps<'_, Self>> {
        Some(self)
    }

    fn support_close(&mut self) -> Option<HostIoCloseOps<'_, Self>> {
        Some(self)
    }

    fn support_pread(&mut self) -> Option<HostIoPreadOps<'_, Self>> {
        Some(self)
    }

    fn support_fstat(&mut self) -> Option<HostIoFstatOps<'_, Self>> {
        Some(self)
    }

    fn support_setfs(&mut self) -> Option<HostIoSetfsOps<'_, Self>> {
        Some(self)
    }
}

impl HostIoOpen for Guest<'_> {
    fn open(
        &mut self,
        filename: &[u8],
        flags: HostIoOpenFlags,
        _: HostIoOpenMode,
    ) -> HostIoResult<u32, Self> {
        let writes = flags.intersects(HostIoOpenFlags::O_WRONLY | HostIoOpenFlags::O_RDWR);
        match filename == self.program.name.as_bytes() {
            true if writes => Err(HostIoError::Errno(HostIoErrno::EACCES)),
            true => Ok(OPENED),
            false => Err(HostIoError::Errno(HostIoErrno::ENOENT)),
        }
    }
}

impl HostIoClose for Guest<'_> {
    fn close(&mut self, fd: u32) -> HostIoResult<(), Self> {
        known(fd)
    }
}

impl HostIoPread for Guest<'_> {
    fn pread(
        &mut self,
        fd: u32,
        count: usize,
        offset: u64,
        buf: &mut [u8],
    ) -> HostIoResult<usize, Self> {
        known(fd)?;
        Ok(self.program.read(offset, at_most(buf, count))?)
    }
}

impl HostIoFstat for Guest<'_> {
    fn fstat(&mut self, fd: u32) -> HostIoResult<HostIoStat, Self> {
        known(fd)?;
        let st_size = self.program.size()?;
        Ok(HostIoStat {
            st_dev: 0,
            st_ino: 0,
            st_mode: HostIoOpenMode::S_IFREG | HostIoOpenMode::S_IRUSR,
            st_nlink: 1,
            st_uid: 0,
            st_gid: 0,
            st_rdev: 0,
            st_size,
            st_blksize: 4096,
            st_blocks: st_size.div_ceil(512),
            st_atime: 0,
            st_mtime: 0,
            st_ctime: 0,
        })
    }
}

impl HostIoSetfs for Guest<'_> {
    fn setfs(&mut self, _: FsKind) -> HostIoResult<(), Self> {
        Ok(())
    }
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
