//! The synchronous engine: a request is finished when `submit` returns.

use std::io;
use std::os::fd::BorrowedFd;

use super::{BlockError, Completion, Engine, Image, Operation, Request};

/// Serves a disk by positional vectored I/O on the calling thread, straight between image and guest RAM.
#[derive(Debug)]
pub struct SyncEngine {
    image: Image,
    done: Vec<Completion>,
}

impl SyncEngine {
    /// The engine on `image`, which stays locked as long as the engine lives.
    pub const fn new(image: Image) -> Self {
        Self { image, done: Vec::new() }
    }

    fn perform(&self, request: &Request) -> (u64, io::Result<()>) {
        let (file, offset, buffers) = (self.image.file(), request.offset, &request.buffers);
        match request.operation {
            Operation::Read => {
                transfer(buffers.len(), |done| buffers.read_from(file, offset + done, done))
            }
            Operation::Write { durable } => {
                transfer(buffers.len(), |done| buffers.write_to(file, offset + done, done, durable))
            }
            // Nothing can have been written to an image that is open for reading only.
            Operation::Flush if self.image.read_only() => (0, Ok(())),
            Operation::Flush => (0, file.sync_data()),
        }
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

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        None
    }
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
}
