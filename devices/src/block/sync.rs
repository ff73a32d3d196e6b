//! The synchronous engine: a request is finished when `submit` returns.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};

use super::{BlockError, Completion, Engine, Image, Operation, Request};
use crate::memory::Buffers;

/// What is written at once where the host cannot make zeros by itself.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Serves a disk by positional vectored I/O on the calling thread, straight between image and guest RAM.
#[derive(Debug)]
pub struct SyncEngine {
    image: Image,
    done: Vec<Completion>,
    /// What the host was found not to support, so that it is asked once.
    cannot: Cannot,
}

#[derive(Debug, Default)]
struct Cannot {
    punch_hole: bool,
    zero_range: bool,
}

impl SyncEngine {
    /// The engine on `image`, which stays locked as long as the engine lives.
    pub fn new(image: Image) -> Self {
        Self { image, done: Vec::new(), cannot: Cannot::default() }
    }

    fn perform(&mut self, request: &Request) -> (u64, io::Result<()>) {
        let offset = request.offset;
        match &request.operation {
            Operation::Read(data) => {
                let file = self.file_for(offset, data);
                transfer(data.len(), |done| data.read_from(file, offset + done, done))
            }
            Operation::Write { data, durable } => {
                let (file, durable) = (self.file_for(offset, data), *durable && self.image.syncs());
                transfer(data.len(), |done| data.write_to(file, offset + done, done, durable))
            }
            // Nothing to do, which fallocate takes for a mistake.
            Operation::Discard { len: 0 } | Operation::WriteZeroes { len: 0, .. } => (0, Ok(())),
            &Operation::Discard { len } => whole(len, self.discard(offset, len)),
            &Operation::WriteZeroes { len, unmap, durable } => {
                let zeroed = self.write_zeroes(offset, len, unmap);
                whole(len, zeroed.and_then(|()| if durable { self.flush() } else { Ok(()) }))
            }
            Operation::Flush => (0, self.flush()),
        }
    }

    /// The file to be used: past the page cache only where the host can do that with these buffers.
    fn file_for(&self, offset: u64, buffers: &Buffers) -> &File {
        match self.image.direct() {
            Some((file, align)) if offset.is_multiple_of(align) && buffers.is_aligned(align) => {
                file
            }
            _ => self.image.file(),
        }
    }

    fn flush(&self) -> io::Result<()> {
        // Nothing can have been written to an image that is open for reading only.
        if self.image.read_only() || !self.image.syncs() {
            return Ok(());
        }
        self.image.file().sync_data()
    }

    /// A hint: where the host cannot free space, all stays as it is, and that is a success (virtio 1.2,
    /// 5.2.6.2).
    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.punch_hole(offset, len).map(drop)
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        if unmap && self.punch_hole(offset, len)? {
            return Ok(());
        }
        if self.zero_range(offset, len)? {
            return Ok(());
        }
        let file = self.image.file();
        transfer(len, |done| {
            let rest = usize::try_from(len - done).unwrap_or(usize::MAX).min(ZEROS.len());
            let zeros = ZEROS.get(..rest).unwrap_or(&ZEROS);
            file.write_at(zeros, offset + done).map(|n| n as u64)
        })
        .1
    }

    /// Whether the host made a hole, which reads as zeros.
    fn punch_hole(&mut self, offset: u64, len: u64) -> io::Result<bool> {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        unless_unsupported(&mut self.cannot.punch_hole, || {
            fallocate(self.image.file(), mode, offset, len)
        })
    }

    /// Whether the host made zeros.
    fn zero_range(&mut self, offset: u64, len: u64) -> io::Result<bool> {
        let mode = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        unless_unsupported(&mut self.cannot.zero_range, || {
            fallocate(self.image.file(), mode, offset, len)
        })
    }
}

impl Engine for SyncEngine {
    fn submit(&mut self, request: Request) {
        let (transferred, result) = self.perform(&request);
        self.done.push(Completion {
            tag: request.tag,
            transferred,
            result: result.map_err(|source| BlockError::Host {
                offset: request.offset + transferred,
                source,
            }),
        });
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.done);
    }

    fn wait(&mut self) {}

    fn grow(&mut self, size: u64) -> io::Result<()> {
        self.image.grow(size)
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What an operation without buffers has done: all or nothing.
fn whole(len: u64, result: io::Result<()>) -> (u64, io::Result<()>) {
    (if result.is_ok() { len } else { 0 }, result)
}

/// Calls `fallocate` unless it is known to be of no use here. False where it is of no use.
fn unless_unsupported(
    cannot: &mut bool,
    mut fallocate: impl FnMut() -> rustix::io::Result<()>,
) -> io::Result<bool> {
    use rustix::io::Errno;
    while !*cannot {
        match fallocate() {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => *cannot = true,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// Moves `len` bytes by calling `step` with the count moved so far until all are moved: the host may move
/// fewer than it was asked for, and that is no success. The bytes moved, and why it stopped if they are not all.
fn transfer(len: u64, mut step: impl FnMut(u64) -> io::Result<u64>) -> (u64, io::Result<()>) {
    let mut done = 0;
    while done < len {
        match step(done) {
            Ok(0) => {
                let error = io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the image ends here: it was cut off while in use",
                );
                return (done, Err(error));
            }
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (done, Err(e)),
        }
    }
    (done, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays back what the host answers, and checks that each call goes on where the last one stopped.
    fn play(len: u64, answers: &[Result<u64, i32>]) -> (u64, Option<io::ErrorKind>) {
        let mut answers = answers.iter();
        let mut expected = 0;
        let (done, result) = transfer(len, |at| {
            assert_eq!(at, expected);
            let answer = answers.next().expect("one call too many");
            expected += answer.unwrap_or(0);
            answer.map_err(io::Error::from_raw_os_error)
        });
        assert!(answers.next().is_none(), "stopped too early");
        (done, result.err().map(|e| e.kind()))
    }

    #[test]
    fn short_transfers_go_on_until_all_is_moved() {
        assert_eq!(play(0, &[]), (0, None));
        assert_eq!(play(10, &[Ok(10)]), (10, None));
        assert_eq!(play(10, &[Ok(3), Err(libc::EINTR), Ok(6), Ok(1)]), (10, None));
    }

    #[test]
    fn a_short_transfer_that_cannot_go_on_is_an_error() {
        assert_eq!(play(10, &[Ok(3), Ok(0)]), (3, Some(io::ErrorKind::UnexpectedEof)));
        assert_eq!(play(10, &[Ok(3), Err(libc::ENOSPC)]), (3, Some(io::ErrorKind::StorageFull)));
    }

    #[test]
    fn what_the_host_cannot_do_is_asked_once() {
        use rustix::io::Errno;
        let mut cannot = false;
        let mut answers =
            [Err(Errno::INTR), Ok(()), Err(Errno::NOSPC), Err(Errno::OPNOTSUPP)].into_iter();
        let mut ask =
            || unless_unsupported(&mut cannot, || answers.next().expect("asked too often"));
        assert!(ask().unwrap());
        assert_eq!(ask().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(!ask().unwrap());
        assert!(!ask().unwrap());
    }
}
