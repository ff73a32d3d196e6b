//! virtio-rng (virtio 1.4, 5.4): random bytes from the host's kernel, for the guest's pool of entropy.
//!
//! It has one queue, no configuration space, and no features of its own. A request is a chain of writable buffers; the
//! device writes at least one random byte, and reports the number in the used length.

use std::fmt;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use vmm_sys_util::eventfd::EventFd;

use super::chain::Chain;
use super::device::{Activation, Live, ServiceResult, VirtioDevice};
use super::inline_queue::{Answer, InlineQueue};
use super::queue::{Progress, SplitQueue};
use super::rules;
use super::spec::feature;
use crate::memory::GuestRam;
use crate::observe::{Event, Outcome, Reporter, RequestInfo, Tap, Words};
use crate::stuck::Stuck;

/// The device id (5).
const DEVICE_ID: u32 = 4;
/// The entries of the queue.
const QUEUE_SIZE: u16 = 64;
/// The most bytes for one request. With [`QUEUE_SIZE`] it limits the work of a doorbell.
const MOST_BYTES: u64 = 4096;

/// A source of random bytes, such as the host's kernel: fills the whole buffer or fails.
type Source = fn(&mut [u8]) -> Result<(), Errno>;

/// A virtio-rng device.
#[derive(Debug)]
pub struct Rng {
    reporter: Reporter,
    source: Source,
    queue: InlineQueue,
}

impl Rng {
    /// Creates a device with the name `name` in the log, which returns random bytes of the host's kernel
    /// (getrandom(2)). Observers attach to `tap`.
    pub fn new(name: &str, tap: Tap) -> Self {
        Self::with_source(name, tap, from_kernel)
    }

    fn with_source(name: &str, tap: Tap, source: Source) -> Self {
        let reporter = Reporter::new(name, tap);
        Self { queue: InlineQueue::new(0, reporter.clone()), reporter, source }
    }

    /// Answers a request.
    fn answer(&self, chain: &Chain, ram: &GuestRam) -> Answer {
        let written = self.fill(chain, ram);
        self.reporter.emit(|| {
            let (operation, sector, bytes) = ("random bytes", 0, written.into());
            let index = chain.head.into();
            let request = RequestInfo { queue: 0, index, operation, sector, bytes };
            // A writable chain gets at least one byte.
            let failed = Outcome::Failed(Words(&"no byte is written"));
            let outcome = if written == 0 { failed } else { Outcome::Done };
            Event::Finished { request, outcome }
        });
        Answer { written, work: written.into() }
    }

    /// Writes random bytes into the buffers of a chain. Returns the number of bytes.
    fn fill(&self, chain: &Chain, ram: &GuestRam) -> u32 {
        let head = chain.head;
        let report = |rule, what: &dyn fmt::Display| {
            self.reporter.broken(rule, format_args!("the request at descriptor {head}: {what}"));
        };
        if let Some(flaw) = &chain.flaw {
            report(rules::FRAMING, &format_args!("{flaw}; no byte is written"));
            return 0;
        }
        if !chain.readable.is_empty() {
            let len = chain.readable.len();
            report(
                rules::RNG_BUFFERS,
                &format_args!("it has {len} bytes for the device to read, which it ignores"),
            );
        }
        if chain.writable.is_empty() {
            let what = "it has no byte for the device to write (WRITE flag missing?)";
            report(rules::RNG_BUFFERS, &what);
            return 0;
        }
        let len = chain.writable.len().min(MOST_BYTES);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
        match (self.source)(&mut bytes) {
            Ok(()) => {
                let buffers = chain.writable.clone().in_ram(ram.clone());
                u32::try_from(buffers.copy_from(&bytes)).unwrap_or_default()
            }
            Err(error) => {
                report(
                    rules::HOST,
                    &format_args!(
                        "the host's kernel returns no random bytes: {error}; the request gets none"
                    ),
                );
                0
            }
        }
    }
}

/// Returns random bytes of the host's kernel. Does not block: it is an error if the kernel's own pool is not ready.
fn from_kernel(bytes: &mut [u8]) -> Result<(), Errno> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::NONBLOCK) {
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl VirtioDevice for Rng {
    fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    fn device_id(&self) -> u32 {
        DEVICE_ID
    }

    fn kind(&self) -> &'static str {
        "a source of random bytes"
    }

    fn features(&self) -> u64 {
        feature::RING_INDIRECT_DESC | feature::RING_EVENT_IDX
    }

    fn feature_names(&self) -> &'static [(u64, &'static str)] {
        &[]
    }

    fn queue_max(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn read_config(&self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write_config(&self, _: u64, _: &[u8]) -> bool {
        false
    }

    fn activate(&self, activation: Activation) {
        let Activation { live, queues } = activation;
        if let Some(queue) = queues.into_iter().next().flatten() {
            self.start_queue(0, queue, live);
        }
    }

    fn service(&self, index: u16) -> ServiceResult {
        if index != 0 {
            return ServiceResult::NotRunning;
        }
        self.queue
            .service(|queue| queue.answer_each(u64::MAX, |chain, ram, _| self.answer(chain, ram)))
    }

    fn start_queue(&self, _: u16, queue: SplitQueue, live: Live) {
        self.queue.start(queue, live);
    }

    fn stop_queue(&self, _: u16) -> Result<(), Stuck> {
        self.queue.stop()
    }

    fn reset(&self) -> Result<(), Stuck> {
        self.queue.stop()
    }

    fn hold(&self) {
        self.queue.hold();
    }

    fn quiesce(&self) -> Result<(), Stuck> {
        self.queue.quiesce()
    }

    fn release(&self) {
        self.queue.release();
    }

    fn wakes(&self) -> Vec<Option<Arc<EventFd>>> {
        vec![None]
    }

    fn progress(&self, _: u16) -> Option<(Progress, bool)> {
        self.queue.progress()
    }
}

#[cfg(test)]
mod tests;
