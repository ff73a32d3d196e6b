//! The synchronous engine: a request is finished when `commit` returns.
//!
//! Requests are done in the order of their submission. Neighbours on the disk that follow each other in this order are
//! moved together, with one call of the host ([`super::joined`]).

use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use vmm_sys_util::eventfd::EventFd;

use super::engine::hand_over;
use super::{BlockError, Completion, Engine, Image, Operation};
use super::{Request, Stop, Storage, StorageInfo, joined};
use crate::memory::Buffers;

/// Zeros in memory: written in pieces of this size if the host cannot write zeros itself.
pub(super) static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// The most bytes of one call of the host. A long request can be stopped between two calls.
pub(super) const PIECE: u64 = 4 << 20;

/// An image as the storage of a disk; each lane has a [`SyncEngine`]. Clones share the image.
#[derive(Debug, Clone)]
pub struct ImageStorage(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    image: Image,
    /// Features that the host turned out not to support, so that each is tried once.
    no_punch_hole: AtomicBool,
    no_zero_range: AtomicBool,
}

impl ImageStorage {
    /// Storage on `image`, which stays locked as long as the storage or an engine of it exists.
    pub fn new(image: Image) -> Self {
        let no_punch_hole = AtomicBool::new(!image.frees_space());
        Self(Arc::new(Shared { image, no_punch_hole, no_zero_range: AtomicBool::new(false) }))
    }

    /// The image.
    pub(super) fn image(&self) -> &Image {
        &self.0.image
    }
}

impl Storage for ImageStorage {
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>> {
        let (queued, done) = (Vec::new(), Vec::new());
        Ok(Box::new(SyncEngine { shared: self.0.clone(), stop: stop.clone(), queued, done }))
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        self.0.image.grow(size)
    }

    fn frees_space(&self) -> bool {
        !self.0.no_punch_hole.load(Ordering::Relaxed)
    }

    fn info(&self) -> StorageInfo {
        StorageInfo::raw("sync")
    }
}

/// Serves a lane with positional vectored I/O on the calling thread, directly between image and guest RAM.
#[derive(Debug)]
pub struct SyncEngine {
    shared: Arc<Shared>,
    stop: Stop,
    /// Submitted, and not started. The outcomes are written in place: to move a request costs as much as to check it.
    queued: Vec<Completion>,
    done: Vec<Completion>,
}

/// Why a request was not completed.
#[derive(Debug)]
enum Failure {
    /// The host's error.
    Host(io::Error),
    /// The host's error while it wrote data to stable storage.
    Sync(io::Error),
    Stopped,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

type Outcome = Result<(), Failure>;

impl SyncEngine {
    /// The bytes done, and the reason why these are not all.
    fn perform(&self, request: &Request) -> (u64, Outcome) {
        let offset = request.offset;
        match &request.operation {
            Operation::Read(data) => {
                let file = self.file_for(offset, data);
                let read = |done, len| data.read_from(file, offset + done, done, len);
                transfer(data.len(), &self.stop, read)
            }
            Operation::Write { data, durable } => self.write(offset, data, *durable),
            // An empty range, which fallocate reports as an error.
            Operation::Discard { len: 0 } | Operation::WriteZeroes { len: 0, .. } => (0, Ok(())),
            &Operation::Discard { len } => whole(len, self.discard(offset, len)),
            &Operation::WriteZeroes { len, unmap, durable } => {
                let zeroed = self.write_zeroes(offset, len, unmap);
                whole(len, zeroed.and_then(|()| if durable { self.flush() } else { Ok(()) }))
            }
            Operation::Flush => (0, self.flush()),
        }
    }

    fn write(&self, offset: u64, data: &Buffers, durable: bool) -> (u64, Outcome) {
        let file = self.file_for(offset, data);
        let durable = durable && self.shared.image.syncs();
        let write =
            |durable| move |done, len| data.write_to(file, offset + done, done, len, durable);
        let (done, outcome) = transfer(data.len(), &self.stop, write(durable));
        match outcome {
            Err(Failure::Host(error)) if durable => {
                // Either the bytes were not accepted, which concerns this request only, or they could not be written to
                // stable storage, and the host may have dropped other data, too. The error is the same; a retry of the
                // first step distinguishes the two.
                match write(false)(done, PIECE) {
                    Ok(_) => (done, Err(Failure::Sync(error))),
                    Err(_) => (done, Err(Failure::Host(error))),
                }
            }
            outcome => (done, outcome),
        }
    }

    /// The file to use: with O_DIRECT only if these buffers allow it.
    fn file_for(&self, offset: u64, buffers: &Buffers) -> &File {
        match self.shared.image.direct() {
            Some((file, align)) if offset.is_multiple_of(align) && buffers.is_aligned(align) => {
                file
            }
            _ => self.shared.image.file(),
        }
    }

    fn flush(&self) -> Outcome {
        let image = &self.shared.image;
        // Nothing can have been written to an image that is open for reading only.
        if image.read_only() || !image.syncs() {
            return Ok(());
        }
        image.file().sync_data().map_err(Failure::Sync)
    }

    /// A discard is a hint: if the host cannot free space, nothing changes, and the request succeeds (virtio 1.4,
    /// 5.2.6.2).
    fn discard(&self, offset: u64, len: u64) -> Outcome {
        self.punch_hole(offset, len).map(drop)
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> Outcome {
        if unmap && self.punch_hole(offset, len)? {
            return Ok(());
        }
        if self.zero_range(offset, len)? {
            return Ok(());
        }
        let file = self.shared.image.file();
        transfer(len, &self.stop, |done, len| {
            let rest = usize::try_from(len).unwrap_or(usize::MAX).min(ZEROS.len());
            let zeros = ZEROS.get(..rest).unwrap_or(&ZEROS);
            file.write_at(zeros, offset + done).map(|n| n as u64)
        })
        .1
    }

    /// Whether the host punched a hole, which reads as zeros.
    fn punch_hole(&self, offset: u64, len: u64) -> Result<bool, Failure> {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        unless_unsupported(&self.shared.no_punch_hole, || {
            fallocate(self.shared.image.file(), mode, offset, len)
        })
    }

    /// Whether the host wrote zeros.
    fn zero_range(&self, offset: u64, len: u64) -> Result<bool, Failure> {
        let mode = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        unless_unsupported(&self.shared.no_zero_range, || {
            fallocate(self.shared.image.file(), mode, offset, len)
        })
    }

    /// Carries out the first of `queue`, with one call of the host for it and its neighbours. Returns how many are carried
    /// out.
    fn carry_out(&self, queue: &mut [Completion]) -> usize {
        let together = self.move_together(queue);
        for Completion { request, transferred, result } in queue.iter_mut().take(together) {
            (*transferred, *result) = (request.operation.len(), Ok(()));
        }
        match queue.first_mut().filter(|_| together == 0) {
            Some(first) => {
                self.finish(first);
                1
            }
            None => together,
        }
    }

    /// Moves the first requests with one call of the host if they are neighbours. Returns how many are moved completely.
    /// An error, or what a short transfer leaves, is left to [`SyncEngine::finish`], which finds the outcome of each.
    fn move_together(&self, queue: &[Completion]) -> usize {
        let requests = queue.iter().map(|queued| &queued.request);
        let count = joined::neighbours(requests.clone());
        let Some(first) = queue.first().map(|queued| &queued.request) else { return 0 };
        if count < 2 || self.stop.is_stopped() {
            return 0;
        }
        let run = requests.take(count);
        let parts = run.clone().filter_map(|request| request.operation.data().zip(Some(request)));
        let mut files = parts.clone().map(|(data, request)| self.file_for(request.offset, data));
        let Some(file) = files.next() else { return 0 };
        if !files.all(|other| ptr::eq(other, file)) {
            return 0;
        }
        let buffers = parts.map(|(data, _)| data);
        let moved = match first.operation {
            Operation::Write { .. } => Buffers::write_joined(buffers, file, first.offset),
            _ => Buffers::read_joined(buffers, file, first.offset),
        };
        joined::complete(run, moved.unwrap_or(0))
    }

    /// Carries out one request.
    fn finish(&self, Completion { request, transferred, result }: &mut Completion) {
        let is_refused = self.stop.is_stopped() && !matches!(request.operation, Operation::Flush);
        let (done, outcome) =
            if is_refused { (0, Err(Failure::Stopped)) } else { self.perform(request) };
        *transferred = done;
        *result = outcome.map_err(|failure| match failure {
            Failure::Host(source) => BlockError::Host { offset: request.offset + done, source },
            Failure::Sync(source) => BlockError::Sync(source),
            Failure::Stopped => BlockError::Stopped,
        });
    }
}

impl Engine for SyncEngine {
    fn push(&mut self, request: Request) {
        // No success, until there is one.
        self.queued.push(Completion { request, transferred: 0, result: Err(BlockError::Stopped) });
    }

    fn commit(&mut self) {
        let mut queued = mem::take(&mut self.queued);
        let mut started = 0;
        while let Some(rest) = queued.get_mut(started..).filter(|rest| !rest.is_empty()) {
            started += self.carry_out(rest);
        }
        hand_over(&mut queued, &mut self.done);
        self.queued = queued;
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        hand_over(&mut self.done, done);
    }

    fn wait(&mut self, _limit: Duration) {}

    fn wake(&self) -> Option<Arc<EventFd>> {
        None
    }
}

/// The result of an operation without buffers: all or nothing.
fn whole(len: u64, outcome: Outcome) -> (u64, Outcome) {
    (if outcome.is_ok() { len } else { 0 }, outcome)
}

/// Calls `fallocate`, unless it is known to be unsupported. Returns false if it is unsupported.
fn unless_unsupported(
    unsupported: &AtomicBool,
    mut fallocate: impl FnMut() -> rustix::io::Result<()>,
) -> Result<bool, Failure> {
    while !unsupported.load(Ordering::Relaxed) {
        match fallocate() {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => unsupported.store(true, Ordering::Relaxed),
            // A block device with sectors larger than 512 bytes accepts only whole sectors of its own: this range is
            // refused, but another one may succeed.
            Err(Errno::INVAL) => return Ok(false),
            Err(error) => return Err(Failure::Host(error.into())),
        }
    }
    Ok(false)
}

/// Moves `len` bytes: calls `step` with the bytes moved so far and the most to move now, until all are moved. The host
/// may move fewer bytes than requested, which is no success. Returns the bytes moved, and the reason if these are not
/// all.
fn transfer(
    len: u64,
    stop: &Stop,
    mut step: impl FnMut(u64, u64) -> io::Result<u64>,
) -> (u64, Outcome) {
    let mut done = 0;
    while done < len {
        if done > 0 && stop.is_stopped() {
            return (done, Err(Failure::Stopped));
        }
        match step(done, (len - done).min(PIECE)) {
            Ok(0) => {
                let error = io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the image ends here: it was cut off while in use",
                );
                return (done, Err(error.into()));
            }
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (done, Err(e.into())),
        }
    }
    (done, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replays answers of the host, and checks that each call continues where the last one stopped.
    fn play(len: u64, answers: &[Result<u64, i32>]) -> (u64, Option<io::ErrorKind>) {
        let mut answers = answers.iter();
        let mut expected = 0;
        let (done, outcome) = transfer(len, &Stop::default(), |at, most| {
            assert_eq!((at, most), (expected, (len - expected).min(PIECE)));
            let answer = answers.next().expect("one call too many");
            expected += answer.unwrap_or(0);
            answer.map_err(io::Error::from_raw_os_error)
        });
        assert!(answers.next().is_none(), "stopped too early");
        let kind = |failure| match failure {
            Failure::Host(error) => error.kind(),
            other => panic!("{other:?}"),
        };
        (done, outcome.err().map(kind))
    }

    #[test]
    fn short_transfers_go_on_until_all_is_moved() {
        assert_eq!(play(0, &[]), (0, None));
        assert_eq!(play(10, &[Ok(10)]), (10, None));
        assert_eq!(play(10, &[Ok(3), Err(libc::EINTR), Ok(6), Ok(1)]), (10, None));
        assert_eq!(play(2 * PIECE, &[Ok(PIECE), Ok(PIECE)]), (2 * PIECE, None));
    }

    #[test]
    fn a_short_transfer_that_cannot_go_on_is_an_error() {
        assert_eq!(play(10, &[Ok(3), Ok(0)]), (3, Some(io::ErrorKind::UnexpectedEof)));
        assert_eq!(play(10, &[Ok(3), Err(libc::ENOSPC)]), (3, Some(io::ErrorKind::StorageFull)));
    }

    #[test]
    fn a_long_transfer_is_stopped_between_two_pieces() {
        let stop = Stop::default();
        let (done, outcome) = transfer(100 * PIECE, &stop, |at, most| {
            if at == 2 * PIECE {
                stop.stop();
            }
            Ok(most)
        });
        assert!(matches!((done, outcome), (done, Err(Failure::Stopped)) if done == 3 * PIECE));
    }

    #[test]
    fn what_the_host_cannot_do_is_asked_once_and_what_it_cannot_do_here_each_time() {
        let unsupported = AtomicBool::new(false);
        let mut answers =
            [Err(Errno::INTR), Ok(()), Err(Errno::NOSPC), Err(Errno::INVAL), Err(Errno::OPNOTSUPP)]
                .into_iter();
        let mut ask =
            || unless_unsupported(&unsupported, || answers.next().expect("asked too often"));
        assert!(ask().unwrap());
        assert!(matches!(ask(), Err(Failure::Host(e)) if e.kind() == io::ErrorKind::StorageFull));
        assert!(!ask().unwrap());
        assert!(!ask().unwrap());
        assert!(!ask().unwrap());
    }
}
