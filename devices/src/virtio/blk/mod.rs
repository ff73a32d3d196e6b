//! virtio-blk (virtio 1.4, 5.2): a disk behind virtqueues.
//!
//! | question | file |
//! |---|---|
//! | What is in the configuration space? | `config.rs` |
//! | How is a descriptor chain parsed? | `request.rs`: it returns an owned request, and guest memory is not read again |
//! | How is a request carried out, and how is it answered? | `worker.rs`, `worker/answers.rs` |
//! | How does a queue come to rest? | `worker/settling.rs` |
//! | Which requests are started together? | `batch.rs` |
//! | What do all workers of a device share? | `shared.rs` |
//! | What belongs to a queue in use? | `live.rs` |
//! | Which requests are in flight? | `pending.rs` |
//! | Which options are there, and which are refused? | `options.rs` |

mod batch;
mod config;
mod live;
mod options;
mod pending;
mod request;
mod shared;
mod worker;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use crate::block::{Disk, GrowError, SECTOR_SIZE};
use crate::observe::Reporter;
use crate::observe::Tap;
use crate::stuck::Stuck;
use crate::turn::Turn;
use crate::virtio::device::{Activation, Live, PollResult, ServiceResult, VirtioDevice};
use crate::virtio::queue::{Progress, SplitQueue};
use crate::virtio::rules;
use crate::virtio::spec::{blk, feature};

use config::Config;
pub use options::{BlkError, BlkOptions, QUEUE_SIZE_MAX, QUEUE_SIZE_MIN, QUEUES_MAX};
use shared::{Shared, hold};
use worker::Worker;

/// How long a reset, a resize or a pause waits for requests in flight.
const QUIET_WITHIN: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 5_000 });

/// A virtio-blk device.
///
/// Each queue has its own worker, which one thread at a time uses; no other lock is held while a queue is serviced.
#[derive(Debug)]
pub struct Blk {
    shared: Arc<Shared>,
    /// The most entries of each queue.
    queue_max: Vec<u16>,
    queues: Vec<Queue>,
}

#[derive(Debug)]
struct Queue {
    worker: Turn<Worker>,
    /// Whether the queue is being stopped: its worker takes no more requests.
    retired: AtomicBool,
    wake: Option<Arc<EventFd>>,
}

impl Blk {
    /// Creates the device for `disk`, with the name `name` in the log.
    ///
    /// Observers attach to `tap`.
    ///
    /// If the disk ends with less than a whole block, the guest cannot access this rest; that is logged once.
    ///
    /// # Errors
    ///
    /// If an option is out of its range, or the disk has no whole block.
    pub fn new(name: &str, disk: &Disk, options: &BlkOptions, tap: Tap) -> Result<Self, BlkError> {
        let (size, block_size) = (disk.size(), options.block_size);
        let capacity = options.capacity(disk.name(), size)?;
        let ragged = size - capacity * SECTOR_SIZE;
        if ragged != 0 {
            tracing::warn!(
                "{name}: {} has {size} bytes; the last {ragged} are less than a block of {block_size} and out of \
                 the guest's reach",
                disk.name(),
            );
        }
        let shared = Arc::new(Shared {
            reporter: Reporter::new(name, tap),
            disk: disk.clone(),
            options: options.clone(),
            live: AtomicBool::new(false),
            writeback: AtomicBool::new(options.writeback),
            hold: AtomicU8::new(0),
        });
        let queue = |index| {
            let lane = disk.lane()?;
            let wake = lane.wake();
            let worker = Turn::new(Worker::new(index, shared.clone(), lane));
            Ok(Queue { worker, retired: AtomicBool::new(false), wake })
        };
        let queues = (0..options.queues).map(queue).collect::<io::Result<_>>();
        let queues = queues.map_err(|error| BlkError::NoEngine {
            name: disk.name().to_owned(),
            why: error.to_string(),
        })?;
        let queue_max = vec![options.queue_size; options.queues.into()];
        Ok(Self { shared, queue_max, queues })
    }

    /// Grows the disk to `bytes`. Returns true if the capacity in the configuration space changed. Waits until the
    /// device is idle. Call it inside [`Mmio::reconfigure`](crate::virtio::mmio::Mmio::reconfigure), which announces
    /// the new capacity to the driver.
    ///
    /// # Errors
    ///
    /// If the disk cannot grow; nothing has changed then.
    pub fn resize(&self, bytes: u64) -> Result<bool, GrowError> {
        self.shared.hold.fetch_or(hold::RESIZING, Ordering::AcqRel);
        let before = self.shared.capacity();
        let quiet = self.each_worker(quiet_by(), Worker::finish_all).map_err(GrowError::from);
        let grown = quiet.and_then(|()| self.shared.disk.grow(bytes));
        self.shared.hold.fetch_and(!hold::RESIZING, Ordering::AcqRel);
        grown.map(|()| self.shared.capacity() != before)
    }

    /// Holds new requests, waits until nothing is in flight, and calls `act`. One caller at a time. Call
    /// [`Mmio::service_held`](crate::virtio::mmio::Mmio::service_held) afterwards.
    ///
    /// # Errors
    ///
    /// If the host does not finish the requests in flight.
    pub fn while_idle<T>(&self, act: impl FnOnce() -> T) -> Result<T, Stuck> {
        self.shared.hold.fetch_or(hold::COPYING, Ordering::AcqRel);
        let idle = self.each_worker(quiet_by(), Worker::finish_all);
        let done = idle.map(|()| act());
        self.shared.hold.fetch_and(!hold::COPYING, Ordering::AcqRel);
        done
    }

    /// The name of the device in the log.
    pub fn name(&self) -> &str {
        self.shared.reporter.device()
    }

    /// The disk behind the device.
    pub fn disk(&self) -> &Disk {
        &self.shared.disk
    }

    /// The answer to GET_ID.
    pub fn id(&self) -> &str {
        &self.shared.options.id
    }

    fn config(&self) -> Config {
        let BlkOptions { queues, queue_size, block_size, .. } = self.shared.options;
        Config {
            capacity: self.shared.capacity(),
            // The header and the status byte of a request take one descriptor each.
            seg_max: u32::from(queue_size).saturating_sub(2).max(1),
            block_size,
            writeback: self.shared.writeback.load(Ordering::Acquire),
            queues,
            may_unmap: self.shared.disk.frees_space(),
        }
    }

    fn queue(&self, index: u16) -> Option<&Queue> {
        self.queues.get(usize::from(index))
    }

    /// Calls `work` with a queue's worker, after the thread that uses the worker has finished.
    fn visit<R>(
        &self,
        index: u16,
        queue: &Queue,
        until: Instant,
        work: impl FnOnce(&mut Worker) -> R,
    ) -> Result<R, Stuck> {
        let limit = until.saturating_duration_since(Instant::now());
        let worked = queue.worker.take_within(limit, work);
        worked.ok_or_else(|| self.shared.stuck(format!("a request of queue {index}")))
    }

    /// Calls `work` with the worker of each queue.
    fn each_worker(
        &self,
        until: Instant,
        work: fn(&mut Worker, Instant) -> Result<(), Stuck>,
    ) -> Result<(), Stuck> {
        for (index, queue) in (0..).zip(&self.queues) {
            self.visit(index, queue, until, |worker| work(worker, until))??;
        }
        Ok(())
    }

    /// Stops a queue.
    fn stop(&self, index: u16, queue: &Queue, until: Instant) -> Result<(), Stuck> {
        // A thread that services the queue at this moment takes no more requests. If it does not return in time, the
        // mark stays set: the queue is unusable until a later attempt succeeds.
        queue.retired.store(true, Ordering::Release);
        self.visit(index, queue, until, |worker| worker.stop(until))??;
        queue.retired.store(false, Ordering::Release);
        Ok(())
    }

    /// Handles the driver's switch to write-through: flushes all earlier writes.
    fn flush_all(&self) {
        let until = quiet_by();
        let Some(queue) = self.queues.first() else { return };
        let flush = || self.visit(0, queue, until, |worker| worker.flush(until))?;
        match self.each_worker(until, Worker::harden).and_then(|()| flush()) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.report_flush_failure(&error),
            // The host may finish further writes later, without a flush.
            Err(stuck) => {
                self.report_flush_failure(&stuck);
                self.shared.disk.lose(stuck.to_string());
            }
        }
    }

    /// No request asked for this flush, so its failure is only logged.
    fn report_flush_failure(&self, error: &dyn fmt::Display) {
        let name = self.shared.disk.name();
        self.shared.reporter.broken(rules::HOST, format_args!("{name}: a flush failed: {error}"));
    }
}

/// The deadline for requests in flight, from now.
fn quiet_by() -> Instant {
    Instant::now() + QUIET_WITHIN
}

impl VirtioDevice for Blk {
    fn reporter(&self) -> &Reporter {
        &self.shared.reporter
    }

    fn device_id(&self) -> u32 {
        blk::DEVICE_ID
    }

    fn kind(&self) -> &'static str {
        "a block device"
    }

    fn feature_names(&self) -> &'static [(u64, &'static str)] {
        &feature::BLK_NAMES
    }

    fn features(&self) -> u64 {
        let mut features = feature::RING_INDIRECT_DESC
            | feature::RING_EVENT_IDX
            | feature::BLK_SIZE_MAX
            | feature::BLK_SEG_MAX
            | feature::BLK_BLK_SIZE
            | feature::BLK_TOPOLOGY
            | feature::BLK_FLUSH
            | feature::BLK_CONFIG_WCE;
        features |= if self.shared.disk.read_only() {
            feature::BLK_RO
        } else {
            feature::BLK_DISCARD | feature::BLK_WRITE_ZEROES
        };
        if self.shared.options.queues > 1 {
            features |= feature::BLK_MQ;
        }
        features
    }

    fn queue_max(&self) -> &[u16] {
        &self.queue_max
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.config().read(offset, data);
    }

    fn write_config(&self, offset: u64, data: &[u8]) -> bool {
        let mut config = self.config();
        let taken = config.write(offset, data);
        if taken {
            let was = self.shared.writeback.swap(config.writeback, Ordering::AcqRel);
            // Writes that are answered from now on are durable.
            if was && !config.writeback && self.shared.live.load(Ordering::Acquire) {
                self.flush_all();
            }
        }
        taken
    }

    fn features_settled(&self, features: u64) {
        // Without FLUSH, writeback starts at 0 (5.2.5.2).
        let flushes = features & feature::BLK_FLUSH != 0;
        if features & feature::BLK_CONFIG_WCE != 0 && !flushes {
            self.shared.writeback.store(false, Ordering::Release);
        }
    }

    fn activate(&self, activation: Activation) {
        let Activation { live, queues } = activation;
        self.shared.live.store(true, Ordering::Release);
        for (index, queue) in (0..).zip(queues) {
            if let Some(queue) = queue {
                self.start_queue(index, queue, live.clone());
            }
        }
    }

    fn service(&self, index: u16) -> ServiceResult {
        let Some(queue) = self.queue(index) else { return ServiceResult::NotRunning };
        if queue.retired.load(Ordering::Acquire) {
            return ServiceResult::NotRunning;
        }
        match queue.worker.take(|worker| worker.service(&queue.retired)) {
            Some((ServiceResult::Drained, true)) => ServiceResult::MoreWork,
            Some((result, _)) => result,
            // The thread that has the worker checks the queue again.
            None => ServiceResult::Drained,
        }
    }

    fn poll(&self, index: u16) -> PollResult {
        match self.queue(index) {
            Some(queue) if !queue.retired.load(Ordering::Acquire) => {
                match queue.worker.take(|worker| worker.poll(&queue.retired)) {
                    Some((_, true)) => PollResult::Worked,
                    Some((result, false)) => result,
                    None => PollResult::Idle,
                }
            }
            _ => PollResult::NotRunning,
        }
    }

    fn start_queue(&self, index: u16, split: SplitQueue, live: Live) {
        let Some(queue) = self.queue(index) else { return };
        let start = |worker: &mut Worker| worker.start(split, live);
        let started = self.visit(index, queue, quiet_by(), start);
        if let Err(stuck) = started {
            self.shared
                .reporter
                .broken(rules::HOST, format_args!("queue {index} is not started: {stuck}"));
        }
    }

    fn stop_queue(&self, index: u16) -> Result<(), Stuck> {
        self.queue(index).map_or(Ok(()), |queue| self.stop(index, queue, quiet_by()))
    }

    fn reset(&self) -> Result<(), Stuck> {
        // All workers are marked first, so that none continues while another is waited for.
        for queue in &self.queues {
            queue.retired.store(true, Ordering::Release);
        }
        let until = quiet_by();
        for (index, queue) in (0..).zip(&self.queues) {
            self.stop(index, queue, until)?;
        }
        self.shared.live.store(false, Ordering::Release);
        self.shared.hold.fetch_and(!hold::FULL, Ordering::AcqRel);
        self.shared.writeback.store(self.shared.options.writeback, Ordering::Release);
        Ok(())
    }

    fn hold(&self) {
        self.shared.hold.fetch_or(hold::PAUSED, Ordering::AcqRel);
    }

    fn quiesce(&self) -> Result<(), Stuck> {
        self.each_worker(quiet_by(), Worker::finish_all)
    }

    fn release(&self) {
        self.shared.hold.fetch_and(!(hold::PAUSED | hold::FULL), Ordering::AcqRel);
    }

    fn wakes(&self) -> Vec<Option<Arc<EventFd>>> {
        self.queues.iter().map(|queue| queue.wake.clone()).collect()
    }

    fn progress(&self, index: u16) -> Option<(Progress, bool)> {
        let (progress, noted) = self.queue(index)?.worker.take(|worker| worker.progress())?;
        Some((progress?, noted))
    }
}

#[cfg(test)]
mod tests;
