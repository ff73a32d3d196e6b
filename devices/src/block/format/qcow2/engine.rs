//! The engine of a lane: turns requests to the disk into requests to the files of its chain.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use imago::Mapping;
use vmm_sys_util::eventfd::EventFd;

use super::Format;
use super::file::ImageFile;
use super::writing::Place;
use crate::block::sync::ZEROS;
use crate::block::{BlockError, Completion, Engine, Operation, Request, Stop, Storage};
use crate::memory::Buffers;

/// The most bytes of a compressed piece that are unpacked together: the largest cluster.
const UNPACKED: u64 = 2 << 20;

/// Serves a lane on the calling thread. A request is finished when `commit` returns.
#[derive(Debug)]
pub(super) struct Qcow2Engine {
    format: Arc<Format>,
    stop: Stop,
    /// The engine of each file of the chain.
    files: Vec<Box<dyn Engine>>,
    /// Submitted, and not started.
    queued: Vec<Request>,
    /// The tags and offsets of the requests that were handed to a file as they are.
    passed: Vec<(u64, u64)>,
    /// Reused, to avoid allocations.
    fresh: Vec<Completion>,
    done: Vec<Completion>,
}

type Outcome = Result<(), BlockError>;

impl Qcow2Engine {
    pub(super) fn new(format: Arc<Format>, stop: &Stop) -> io::Result<Self> {
        let files = format.files.iter().map(|file| file.storage().engine(stop));
        let files = files.collect::<io::Result<_>>()?;
        let (queued, passed, fresh, done) = Default::default();
        Ok(Self { format, stop: stop.clone(), files, queued, passed, fresh, done })
    }

    /// The number of a file in the chain.
    fn number(&self, file: &ImageFile) -> usize {
        self.format.files.iter().position(|other| other.is(file)).unwrap_or(usize::MAX)
    }

    /// Where a request can be handed to one file as it is: the file's number, and the first byte there.
    fn passes(&self, request: &Request) -> Option<(usize, u64)> {
        let len = request.operation.len();
        match &request.operation {
            Operation::Read(_) if len > 0 => {
                match self.format.top.get_mapping(request.offset, len) {
                    Ok((Mapping::Raw { storage, offset, .. }, got)) if got >= len => {
                        Some((self.number(storage), offset))
                    }
                    _ => None,
                }
            }
            Operation::Write { durable: false, .. } if len > 0 => {
                match self.format.place(request.offset, len) {
                    Ok((Place::Here(at), got)) if got >= len => Some((0, at)),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Hands as many of the first requests to one file as go to the same file as they are. Returns their number.
    fn pass(&mut self, requests: &mut std::vec::Drain<'_, Request>) -> usize {
        let mut to = None;
        self.passed.clear();
        while let Some(next) = requests.as_slice().first()
            && let Some((file, offset)) = self.passes(next)
            && *to.get_or_insert(file) == file
            && let Some(engine) = self.files.get_mut(file)
            && let Some(request) = requests.next()
        {
            self.passed.push((request.tag, request.offset));
            let tag = self.passed.len() as u64 - 1;
            engine.push(Request { tag, operation: request.operation, offset });
        }
        if let Some(engine) = to.and_then(|file| self.files.get_mut(file)) {
            engine.commit();
            engine.reap(&mut self.fresh);
        }
        let mut fresh = std::mem::take(&mut self.fresh);
        let count = fresh.len();
        for mut completion in fresh.drain(..) {
            let number = usize::try_from(completion.request.tag).ok();
            let Some((tag, offset)) = number.and_then(|number| self.passed.get(number)) else {
                continue;
            };
            (completion.request.tag, completion.request.offset) = (*tag, *offset);
            if completion.result.is_err() {
                // Done again in pieces, to find out which bytes are at fault, and whether the file just ends early.
                self.finish(completion.request);
            } else {
                self.done.push(completion);
            }
        }
        self.fresh = fresh;
        count
    }

    /// Carries out one request.
    fn finish(&mut self, request: Request) {
        let is_refused = self.stop.is_stopped() && !matches!(request.operation, Operation::Flush);
        let offset = request.offset;
        let (transferred, result) = match &request.operation {
            _ if is_refused => (0, Err(BlockError::Stopped)),
            Operation::Read(data) => self
                .pieces(data.len(), |this, done, rest| this.read(data, offset + done, done, rest)),
            Operation::Write { data, durable } => {
                let written = self.pieces(data.len(), |this, done, rest| {
                    this.write(data, offset + done, done, rest)
                });
                self.made_durable(written, *durable)
            }
            &Operation::Discard { len } => {
                self.pieces(len, |this, done, rest| this.discard(offset + done, rest))
            }
            &Operation::WriteZeroes { len, unmap, durable } => {
                let written = self
                    .pieces(len, |this, done, rest| this.write_zeroes(offset + done, rest, unmap));
                self.made_durable(written, durable)
            }
            Operation::Flush => (0, self.flush()),
        };
        self.done.push(Completion { request, transferred, result });
    }

    /// Does `len` bytes in pieces, from the bytes done so far on.
    fn pieces(
        &mut self,
        len: u64,
        mut piece: impl FnMut(&mut Self, u64, u64) -> Result<u64, BlockError>,
    ) -> (u64, Outcome) {
        let mut done = 0;
        while done < len {
            if done > 0 && self.stop.is_stopped() {
                return (done, Err(BlockError::Stopped));
            }
            match piece(self, done, len - done) {
                Ok(count) => done += count.min(len - done),
                Err(error) => return (done, Err(error)),
            }
        }
        (done, Ok(()))
    }

    fn made_durable(&mut self, (done, outcome): (u64, Outcome), durable: bool) -> (u64, Outcome) {
        (done, outcome.and_then(|()| if durable { self.flush() } else { Ok(()) }))
    }

    fn flush(&self) -> Outcome {
        self.format.flush().map_err(|failure| failure.at(0))
    }

    /// Reads at most `most` bytes at `offset` into the buffers after their first `skip` bytes. Returns the number.
    fn read(
        &mut self,
        data: &Buffers,
        offset: u64,
        skip: u64,
        most: u64,
    ) -> Result<u64, BlockError> {
        let format = self.format.clone();
        let host = |source| BlockError::Host { offset, source };
        match format.top.get_mapping(offset, most).map_err(host)? {
            (Mapping::Raw { storage, offset: at, .. }, len) => {
                let part = Operation::Read(data.part(skip, len));
                let (done, result) = self.run(self.number(storage), part, at);
                match result {
                    Err(BlockError::Host { source, .. })
                        if source.kind() == io::ErrorKind::UnexpectedEof && !storage.is_raw() =>
                    {
                        // The file ends within its last cluster.
                        zero(data, skip + done, len - done);
                    }
                    result => result.map_err(|error| at_offset(error, offset + done))?,
                }
                Ok(len)
            }
            (Mapping::Special { layer, offset: at, .. }, len) => {
                let len = len.min(UNPACKED);
                let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
                layer.read(&mut bytes[..], at).map_err(host)?;
                data.part(skip, len).copy_from(&bytes);
                Ok(len)
            }
            (Mapping::Zero { .. }, len) if len > 0 => {
                zero(data, skip, len);
                Ok(len)
            }
            _ => Err(host(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Writes at most `most` bytes of the buffers, after their first `skip`, at `offset`. Returns the number.
    fn write(
        &mut self,
        data: &Buffers,
        offset: u64,
        skip: u64,
        most: u64,
    ) -> Result<u64, BlockError> {
        let format = self.format.clone();
        let host = |source| BlockError::Host { offset, source };
        let mut fill = |at, done, len| {
            let part = Operation::Write { data: data.part(skip + done, len), durable: false };
            self.run(0, part, at).1.map_err(|error| at_offset(error, offset))
        };
        match format.place(offset, most).map_err(host)? {
            (Place::Here(at), len) => fill(at, 0, len).map(|()| len),
            (_, len) => format.write_new(offset, len, &mut fill),
        }
    }

    fn write_zeroes(&mut self, offset: u64, most: u64, unmap: bool) -> Result<u64, BlockError> {
        let format = self.format.clone();
        let host = |source| BlockError::Host { offset, source };
        let mut fill = |at, _, len| {
            let part = Operation::WriteZeroes { len, unmap, durable: false };
            self.run(0, part, at).1.map_err(|error| at_offset(error, offset))
        };
        match format.place(offset, most).map_err(host)? {
            (Place::Here(at), len) => fill(at, 0, len).map(|()| len),
            (Place::Zeros, len) => Ok(len),
            (Place::Below | Place::Elsewhere, len) => {
                let zeros = format.zero_clusters(offset, len)?;
                if zeros > 0 {
                    return Ok(zeros);
                }
                // A part of a cluster.
                let rest = format.cluster - offset % format.cluster;
                format.write_new(offset, len.min(rest), &mut fill)
            }
        }
    }

    fn discard(&mut self, offset: u64, most: u64) -> Result<u64, BlockError> {
        let format = self.format.clone();
        let host = |source| BlockError::Host { offset, source };
        match format.place(offset, most).map_err(host)? {
            (Place::Here(at), len) => {
                let hole = self.run(0, Operation::Discard { len }, at).1;
                hole.map_err(|error| at_offset(error, offset)).map(|()| len)
            }
            // There is nothing to free.
            (_, len) => Ok(len),
        }
    }

    /// Carries out one request to a file. Returns the bytes done.
    fn run(&mut self, file: usize, operation: Operation, offset: u64) -> (u64, Outcome) {
        let missing = || io::Error::other("a file that is not of the chain");
        let lost = |source| (0, Err(BlockError::Host { offset, source }));
        let Some(engine) = self.files.get_mut(file) else { return lost(missing()) };
        engine.push(Request { tag: 0, operation, offset });
        engine.commit();
        engine.reap(&mut self.fresh);
        match self.fresh.pop() {
            Some(completion) => (completion.transferred, completion.result),
            None => lost(io::Error::other("a request without a completion")),
        }
    }
}

/// Fills `len` bytes of the buffers after their first `skip` with zeros.
fn zero(data: &Buffers, mut skip: u64, mut len: u64) {
    while len > 0 {
        let count = len.min(ZEROS.len() as u64);
        let zeros = usize::try_from(count).ok().and_then(|count| ZEROS.get(..count));
        data.part(skip, count).copy_from(zeros.unwrap_or_default());
        (skip, len) = (skip + count, len - count);
    }
}

/// The error of a file, with the disk's offset.
fn at_offset(error: BlockError, offset: u64) -> BlockError {
    match error {
        BlockError::Host { source, .. } => BlockError::Host { offset, source },
        other => other,
    }
}

impl Engine for Qcow2Engine {
    fn push(&mut self, request: Request) {
        self.queued.push(request);
    }

    fn commit(&mut self) {
        let mut queued = std::mem::take(&mut self.queued);
        let mut requests = queued.drain(..);
        while !requests.as_slice().is_empty() {
            let is_stopped = self.stop.is_stopped();
            if (is_stopped || self.pass(&mut requests) == 0)
                && let Some(request) = requests.next()
            {
                self.finish(request);
            }
        }
        drop(requests);
        self.queued = queued;
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.done);
    }

    fn wait(&mut self, _limit: Duration) {}

    fn wake(&self) -> Option<Arc<EventFd>> {
        None
    }
}
