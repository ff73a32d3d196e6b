//! gdb reads the guest's ELF file through the connection: its user needs no file, and gdb finds the symbols of the
//! built-in guest, too. gdb can open no other file.

use gdbstub::common::Pid;
use gdbstub::target::TargetResult;
use gdbstub::target::ext::exec_file::ExecFile;
use gdbstub::target::ext::host_io::{
    FsKind, HostIo, HostIoClose, HostIoCloseOps, HostIoErrno, HostIoError, HostIoFstat,
    HostIoFstatOps, HostIoOpen, HostIoOpenFlags, HostIoOpenMode, HostIoOpenOps, HostIoPread,
    HostIoPreadOps, HostIoResult, HostIoSetfs, HostIoSetfsOps, HostIoStat,
};

use super::program::{at_most, part};
use super::target::{Guest, Never};

/// The one descriptor.
const OPENED: u32 = 3;

fn known(fd: u32) -> Result<(), HostIoError<Never>> {
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
        Ok(part(self.program.name(), offset, at_most(buf, length)))
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
        match filename == self.program.name() {
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
