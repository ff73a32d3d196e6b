//! Storage with a map: each request goes to the store that has its bytes, or to both.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use super::fill::Fill;
use super::split::{Part, Split};
use super::{Map, Store};
use crate::block::slots::Slots;
use crate::block::{
    BlockError, Completion, Engine, Operation, Request, SECTOR_SIZE, Stop, Storage, StorageInfo,
};

/// How long to wait for one of two stores before the other one is checked.
const SLICE: Duration = Duration::from_millis(5);

/// A base that never changes, a layer that receives all changes, and the map. Clones share them.
#[derive(Debug)]
pub struct MappedStorage<M>(Arc<Shared<M>>);

#[derive(Debug)]
struct Shared<M> {
    map: M,
    base: Box<dyn Storage>,
    layer: Box<dyn Storage>,
    /// The layer's name in messages.
    place: String,
    fill: Fill,
}

impl<M> Clone for MappedStorage<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Map + 'static> MappedStorage<M> {
    /// Storage with its bytes in `base` and `layer`, as `map` states. `place` is the layer's name in messages.
    pub fn new(map: M, base: Box<dyn Storage>, layer: Box<dyn Storage>, place: String) -> Self {
        Self(Arc::new(Shared { map, base, layer, place, fill: Fill::default() }))
    }
}

impl<M: Map + 'static> Storage for MappedStorage<M> {
    fn engine(&self, stop: &Stop) -> io::Result<Box<dyn Engine>> {
        let base = self.0.base.engine(stop)?;
        let mut layer = self.0.layer.engine(stop)?;
        let wake = match (base.wake(), layer.wake()) {
            (Some(wake), Some(_)) => {
                // The lane has one descriptor for both.
                layer.wake_by(&wake);
                if !layer.wake().is_some_and(|now| Arc::ptr_eq(&now, &wake)) {
                    let why = "the layer's engine cannot signal the base's wake descriptor";
                    return Err(io::Error::new(io::ErrorKind::Unsupported, why));
                }
                Some(wake)
            }
            (one, other) => one.or(other),
        };
        Ok(Box::new(MappedEngine {
            shared: self.0.clone(),
            stop: stop.clone(),
            base: Inner { engine: base, in_flight: 0 },
            layer: Inner { engine: layer, in_flight: 0 },
            wake,
            queued: Vec::new(),
            parts: Slots::default(),
            splits: Slots::default(),
            fresh: Vec::new(),
            done: Vec::new(),
        }))
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        self.0.layer.grow(size).map_err(|error| self.0.of_layer(&error))
    }

    fn frees_space(&self) -> bool {
        self.0.layer.frees_space()
    }

    fn info(&self) -> StorageInfo {
        self.0.base.info()
    }
}

impl<M> Shared<M> {
    /// Adds the layer's name to its errors.
    fn name_place(&self, store: Store, error: &mut BlockError) {
        if let (Store::Layer, BlockError::Host { source, .. }) = (store, error) {
            *source = self.of_layer(source);
        }
    }

    /// The host's error with the place where it happened, which is not the image.
    fn of_layer(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{error} ({})", self.place))
    }
}

/// The engine of one store.
#[derive(Debug)]
struct Inner {
    engine: Box<dyn Engine>,
    /// The number of its requests.
    in_flight: usize,
}

#[derive(Debug)]
struct MappedEngine<M> {
    shared: Arc<Shared<M>>,
    stop: Stop,
    base: Inner,
    layer: Inner,
    wake: Option<Arc<EventFd>>,
    /// Submitted, and not started.
    queued: Vec<Request>,
    /// The purpose of each request to a store, by that request's tag.
    parts: Slots<Part>,
    splits: Slots<Split>,
    /// Reused, to avoid allocations.
    fresh: Vec<Completion>,
    done: Vec<Completion>,
}

impl<M: Map> MappedEngine<M> {
    fn begin(&mut self, request: Request) {
        match &request.operation {
            // No data has to outlive the machine.
            Operation::Flush => self.succeed(request),
            operation if operation.is_empty() => self.succeed(request),
            Operation::Read(_) => self.read(request),
            Operation::Write { .. } | Operation::WriteZeroes { .. } => self.change(request),
            Operation::Discard { .. } => self.discard(request),
        }
    }

    /// Submits one request to a store, which starts it.
    fn send(&mut self, store: Store, part: Part, operation: Operation, offset: u64) {
        let tag = self.parts.insert(part) as u64;
        let inner = match store {
            Store::Base => &mut self.base,
            Store::Layer => &mut self.layer,
        };
        inner.in_flight += 1;
        inner.engine.push(Request { tag, operation, offset });
        // Parts are started in their order, so that the stores of one thread fill the buffers in that order.
        inner.engine.commit();
    }

    fn read(&mut self, request: Request) {
        let Request { tag, offset, .. } = request;
        let extent = self.shared.map.find(offset, request.operation.len());
        if extent.len >= request.operation.len() {
            let part = Part::Whole { tag, offset, durable: false };
            return self.send(extent.store, part, request.operation, extent.offset);
        }
        let split = self.splits.insert(Split::new(request));
        self.hand_over(split);
        // Stores that finish immediately have finished these: submit the next ones.
        self.collect();
    }

    /// Submits the next parts of a read.
    fn hand_over(&mut self, number: usize) {
        while let Some(split) = self.splits.get_mut(number)
            && let Some((at, offset, rest)) = split.next()
        {
            if at > 0 && self.stop.is_stopped() {
                split.fail(at, BlockError::Stopped);
                return;
            }
            let extent = self.shared.map.find(offset, rest);
            let Some(data) = split.take(extent.len) else { return };
            let part = Part::Of { split: number, at };
            self.send(extent.store, part, Operation::Read(data), extent.offset);
        }
    }

    /// Writes and zeros go to the layer completely.
    fn change(&mut self, mut request: Request) {
        let Request { tag, offset, .. } = request;
        let end = offset.saturating_add(request.operation.len());
        for edge in [offset, end] {
            if edge.is_multiple_of(SECTOR_SIZE) {
                continue;
            }
            let Shared { map, base, layer, fill, .. } = &*self.shared;
            let sector = edge - edge % SECTOR_SIZE;
            let filled = fill.sector(map, [&**base, &**layer], &self.stop, sector);
            if let Err((store, mut error)) = filled {
                self.shared.name_place(store, &mut error);
                self.done.push(Completion { request, transferred: 0, result: Err(error) });
                return;
            }
        }
        let mut was = false;
        if let Operation::Write { durable, .. } | Operation::WriteZeroes { durable, .. } =
            &mut request.operation
        {
            // The layer is discarded at the end.
            was = std::mem::take(durable);
        }
        let part = Part::Whole { tag, offset, durable: was };
        self.send(Store::Layer, part, request.operation, offset);
    }

    /// Whole sectors become holes in the layer, which read as zeros.
    fn discard(&mut self, request: Request) {
        let end = request.offset.saturating_add(request.operation.len());
        let Some((from, to)) = whole_sectors(request.offset, end) else {
            return self.succeed(request);
        };
        if !self.shared.layer.frees_space() {
            return self.succeed(request);
        }
        let zeros = Operation::WriteZeroes { len: to - from, unmap: true, durable: false };
        self.send(Store::Layer, Part::Discard(request), zeros, from);
    }

    fn succeed(&mut self, request: Request) {
        let transferred = request.operation.len();
        self.done.push(Completion { request, transferred, result: Ok(()) });
    }

    /// Handles the completions of the stores until there are no more.
    fn collect(&mut self) {
        let mut fresh = std::mem::take(&mut self.fresh);
        loop {
            for (store, inner) in [(Store::Base, &mut self.base), (Store::Layer, &mut self.layer)] {
                let before = fresh.len();
                inner.engine.reap(&mut fresh);
                inner.in_flight = inner.in_flight.saturating_sub(fresh.len() - before);
                for completion in fresh.iter_mut().skip(before) {
                    if let Err(error) = &mut completion.result {
                        self.shared.name_place(store, error);
                    }
                }
            }
            if fresh.is_empty() {
                break;
            }
            for completion in fresh.drain(..) {
                self.arrive(completion);
            }
            // Follow-up requests have started; their completions may be available already.
        }
        self.fresh = fresh;
    }

    /// Handles a completion of a store.
    fn arrive(&mut self, mut completion: Completion) {
        let part = usize::try_from(completion.request.tag).ok();
        match part.and_then(|part| self.parts.remove(part)) {
            Some(Part::Whole { tag, offset, durable }) => {
                self.enter(&mut completion);
                completion.request.tag = tag;
                if let Err(BlockError::Host { offset: at, .. }) = &mut completion.result {
                    *at = offset + completion.transferred;
                }
                completion.request.offset = offset;
                match &mut completion.request.operation {
                    Operation::Write { durable: now, .. }
                    | Operation::WriteZeroes { durable: now, .. } => *now = durable,
                    Operation::Read(_) | Operation::Discard { .. } | Operation::Flush => {}
                }
                self.done.push(completion);
            }
            Some(Part::Discard(request)) => {
                self.enter(&mut completion);
                let transferred =
                    if completion.result.is_ok() { request.operation.len() } else { 0 };
                self.done.push(Completion { request, transferred, result: completion.result });
            }
            Some(Part::Of { split: number, at }) => {
                let Some(split) = self.splits.get_mut(number) else { return };
                split.arrive(at, completion);
                self.hand_over(number);
                if self.splits.get_mut(number).is_some_and(|split| split.is_over()) {
                    let split = self.splits.remove(number);
                    self.done.extend(split.map(Split::into_completion));
                }
            }
            None => debug_assert!(false, "a completion of no request"),
        }
    }

    /// Updates the map with the sectors that the layer has now. After a change that failed half way, the whole sectors
    /// before the failure count, and those that were copied first.
    fn enter(&self, completion: &mut Completion) {
        if !completion.request.operation.changes() {
            return;
        }
        let offset = completion.request.offset;
        let mut end = offset.saturating_add(completion.transferred);
        let last = end - end % SECTOR_SIZE;
        if last < end && self.shared.map.find(last, SECTOR_SIZE).store == Store::Base {
            end = last.max(offset);
            completion.transferred = end - offset;
        }
        if let Some((from, to)) = whole_sectors(offset, end) {
            self.shared.map.moved(from, to - from);
        }
    }
}

/// The first and the last end of the whole sectors between two bytes, if there are any.
fn whole_sectors(from: u64, to: u64) -> Option<(u64, u64)> {
    let from = from.checked_next_multiple_of(SECTOR_SIZE)?;
    let to = to - to % SECTOR_SIZE;
    (from < to).then_some((from, to))
}

impl<M: Map> Engine for MappedEngine<M> {
    fn push(&mut self, request: Request) {
        self.queued.push(request);
    }

    fn commit(&mut self) {
        let mut queued = std::mem::take(&mut self.queued);
        for request in queued.drain(..) {
            self.begin(request);
            // A store that has finished the request has changed the map before the next one.
            self.collect();
        }
        self.queued = queued;
        // Some requests finish without a store that would signal it.
        if let (Some(wake), false) = (&self.wake, self.done.is_empty()) {
            // The one possible error is a full counter; the descriptor is readable then, too.
            let _written = wake.write(1);
        }
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        self.collect();
        done.append(&mut self.done);
    }

    fn wait(&mut self, limit: Duration) {
        let begin = Instant::now();
        loop {
            self.collect();
            let left = limit.saturating_sub(begin.elapsed());
            if !self.done.is_empty() || left.is_zero() {
                return;
            }
            match (self.base.in_flight > 0, self.layer.in_flight > 0) {
                (false, false) => return,
                (true, false) => self.base.engine.wait(left),
                (false, true) => self.layer.engine.wait(left),
                (true, true) => {
                    self.base.engine.wait(left.min(SLICE));
                    self.layer.engine.wait(left.min(SLICE));
                }
            }
        }
    }

    fn wake(&self) -> Option<Arc<EventFd>> {
        self.wake.clone()
    }

    fn wake_by(&mut self, wake: &Arc<EventFd>) {
        for inner in [&mut self.base, &mut self.layer] {
            inner.engine.wake_by(wake);
        }
        if self.wake.is_some() {
            self.wake = Some(wake.clone());
        }
    }
}
