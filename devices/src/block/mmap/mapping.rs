//! The mapping of an image, and when its bytes count.

use std::fs::File;
use std::io;

use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

use super::sigbus::{self, Watch};
use crate::block::Stop;
use crate::block::sync::PIECE;
use crate::memory::Buffers;

/// A page of the host; also a part of every larger one.
const PAGE: u64 = 4096;

/// How a read from the mapping ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Copied {
    /// All bytes are in the buffers.
    All,
    /// The machine is being stopped; this many bytes are in the buffers.
    Stopped(u64),
    /// The mapping does not have the bytes, or cannot be trusted any more: read them in another way.
    No,
}

/// A shared, read-only mapping of the first bytes of an image.
///
/// # When the image is cut
///
/// An access to a page past the end of the file faults ([`sigbus`]); a byte past the end in the file's last page
/// reads as zero. So a read does not use the image's last page, and after the copy it touches that page: if the image
/// was cut anywhere before it, the touch faults. After a fault the mapping is never used again.
#[derive(Debug)]
pub(super) struct Mapping {
    // Dropped in this order.
    watch: Watch,
    region: MmapRegion,
    /// The first byte of the image's last page: reads end before it.
    last_page: u64,
}

impl Mapping {
    /// Maps the first `size` bytes of `file`; at least 1.
    ///
    /// # Errors
    ///
    /// If the host cannot map so much of this file.
    pub(super) fn new(file: &File, size: u64) -> io::Result<Self> {
        let len = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // The descriptor shares the lock of the image.
        let file = FileOffset::new(file.try_clone()?, 0);
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        let region = MmapRegion::build(Some(file), len, libc::PROT_READ, flags).map_err(
            |error| match error {
                vm_memory::mmap::MmapRegionError::Mmap(source) => source,
                other => io::Error::other(other),
            },
        )?;
        let last = size.saturating_sub(1);
        Ok(Self { watch: Watch::new(&region)?, region, last_page: last - last % PAGE })
    }

    /// Reads into `data` from byte `offset` of the image.
    pub(super) fn read(&self, offset: u64, data: &Buffers, stop: &Stop) -> Copied {
        let len = data.len();
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.last_page);
        if !inside || self.watch.faulted() {
            return Copied::No;
        }
        sigbus::unblock();
        let mut done = 0;
        while done < len {
            if done > 0 && stop.is_stopped() {
                return if self.is_whole() { Copied::Stopped(done) } else { Copied::No };
            }
            let here = (len - done).min(PIECE);
            let (Ok(at), Ok(here)) = (usize::try_from(offset + done), usize::try_from(here)) else {
                return Copied::No;
            };
            match self.region.get_slice(at, here).map(|bytes| data.copy_from_volatile(done, bytes))
            {
                Ok(n) if n > 0 => done += n,
                _ => return Copied::No,
            }
        }
        if self.is_whole() { Copied::All } else { Copied::No }
    }

    /// Whether everything that was read so far is the image's.
    fn is_whole(&self) -> bool {
        let touched = usize::try_from(self.last_page)
            .ok()
            .and_then(|at| self.region.get_slice(at, 1).ok())
            .is_some_and(|byte| byte.copy_to(&mut [0_u8]) == 1);
        touched && !self.watch.faulted()
    }

    /// Whether a fault has ended the use of the mapping.
    pub(super) fn faulted(&self) -> bool {
        self.watch.faulted()
    }
}
