//! virtio-rng (virtio 1.4, 5.4): random bytes from the host's kernel, for the guest's pool of entropy.
//!
//! It has one queue, no configuration space, and no features of its own. A request is a chain of writable buffers; the
//! device writes at least one random byte, and reports the number in the used length.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use vmm_sys_util::eventfd::EventFd;

use super::chain::{Chain, ChainError};
use super::device::{Activation, Live, ServiceResult, VirtioDevice};
use super::queue::{Progress, SplitQueue};
use super::rules;
use super::spec::feature;
use crate::memory::GuestRam;
use crate::observe::{Event, Outcome, Reporter, RequestInfo, Rule, Tap, Words};
use crate::stuck::Stuck;
use crate::turn::Turn;

/// The device id (5).
const DEVICE_ID: u32 = 4;
/// The entries of the queue.
const QUEUE_SIZE: u16 = 64;
/// The most bytes for one request. With [`QUEUE_SIZE`] it limits the work of a doorbell.
const MOST_BYTES: u64 = 4096;
/// How long a reset waits for a thread that services the queue. A service takes less than a millisecond.
const QUIET_WITHIN: Duration = Duration::from_secs(5);

/// A source of random bytes, such as the host's kernel: fills the whole buffer or fails.
type Source = fn(&mut [u8]) -> Result<(), Errno>;

/// A virtio-rng device.
#[derive(Debug)]
pub struct Rng {
    reporter: Reporter,
    source: Source,
    queue: Turn<Option<LiveQueue>>,
    /// Whether new requests are held.
    held: AtomicBool,
}

#[derive(Debug)]
struct LiveQueue {
    live: Live,
    queue: SplitQueue,
}

impl Rng {
    /// Creates a device with the name `name` in the log, which returns random bytes of the host's kernel
    /// (getrandom(2)). Observers attach to `tap`.
    pub fn new(name: &str, tap: Tap) -> Self {
        Self::with_source(name, tap, from_kernel)
    }

    fn with_source(name: &str, tap: Tap, source: Source) -> Self {
        Self {
            reporter: Reporter::new(name, tap),
            source,
            queue: Turn::new(None),
            held: AtomicBool::new(false),
        }
    }

    /// Changes the queue, after the thread that services it has finished.
    fn set_queue(&self, queue: Option<LiveQueue>) -> Result<(), Stuck> {
        self.queue.take_within(QUIET_WITHIN, |live| *live = queue).ok_or_else(|| self.stuck())
    }

    fn stuck(&self) -> Stuck {
        Stuck {
            name: self.reporter.device().to_string(),
            requests: "a request of queue 0".to_owned(),
            limit: QUIET_WITHIN,
        }
    }

    /// Services at most as many requests as the queue has entries, and interrupts at most once.
    fn service_live(&self, live: &mut LiveQueue) -> ServiceResult {
        let mut left = live.queue.size();
        let result = loop {
            if self.held.load(Ordering::Acquire) || live.live.notifier.is_reset_needed() {
                break ServiceResult::Drained;
            }
            if left == 0 {
                let more = live.queue.has_available() || live.queue.rearm();
                break if more { ServiceResult::MoreWork } else { ServiceResult::Drained };
            }
            match self.service_one(live) {
                Ok(true) => left -= 1,
                Ok(false) if live.queue.rearm() => {}
                Ok(false) => break ServiceResult::Drained,
                Err((rule, why)) => {
                    self.reporter.broken(
                        rule,
                        format_args!("queue 0 is broken, and the device needs a reset: {why}"),
                    );
                    live.live.notifier.needs_reset();
                }
            }
        };
        live.queue.publish();
        live.live.interrupt(&mut live.queue, 0, &self.reporter);
        result
    }

    /// Answers the next request. Returns false if there is none.
    ///
    /// # Errors
    ///
    /// If the queue is broken: the rule and the reason.
    fn service_one(&self, live: &mut LiveQueue) -> Result<bool, (Rule, Box<dyn fmt::Display>)> {
        let broken = |rule, error: Box<dyn fmt::Display>| (rule, error);
        let head = match live.queue.pop() {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(false),
            Err(error) => return Err(broken(rules::AVAIL_INDEX, Box::new(error))),
        };
        self.reporter.emit(|| live.queue.taken_event(0, head));
        let indirect = live.live.features & feature::RING_INDIRECT_DESC != 0;
        let observe =
            |descriptor| self.reporter.emit(|| Event::Descriptor { queue: 0, descriptor });
        let mut chain = Chain::default();
        chain.walk(&live.queue, head, indirect, observe).map_err(|error| {
            let too_long = matches!(error, ChainError::TooLong { .. });
            let rule = if too_long { rules::CHAIN_LENGTH } else { rules::CHAIN };
            broken(rule, Box::new(error))
        })?;
        let len = self.fill(head, chain, live.queue.ram());
        self.reporter.emit(|| {
            let (operation, sector, bytes) = ("random bytes", 0, len.into());
            let request = RequestInfo { queue: 0, index: head.into(), operation, sector, bytes };
            // A writable chain gets at least one byte.
            let failed = Outcome::Failed(Words(&"no byte is written"));
            Event::Finished { request, outcome: if len == 0 { failed } else { Outcome::Done } }
        });
        let entry = live.queue.push(head, len);
        self.reporter.emit(|| Event::ChainReturned { queue: 0, head, written: len, entry });
        Ok(true)
    }

    /// Writes random bytes into the buffers of a chain. Returns the number of bytes.
    fn fill(&self, head: u16, chain: Chain, ram: &GuestRam) -> u32 {
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
                let buffers = chain.writable.in_ram(ram.clone());
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
        let service = |live: &mut Option<LiveQueue>| match live {
            Some(live) => self.service_live(live),
            None => ServiceResult::NotRunning,
        };
        match self.queue.take(service) {
            // Another thread arrived in the meantime, and its request may have been missed.
            Some((ServiceResult::Drained, true)) => ServiceResult::MoreWork,
            Some((result, _)) => result,
            // The thread that services the queue checks it again.
            None => ServiceResult::Drained,
        }
    }

    fn start_queue(&self, _: u16, queue: SplitQueue, live: Live) {
        if let Err(stuck) = self.set_queue(Some(LiveQueue { live, queue })) {
            self.reporter.broken(rules::HOST, format_args!("queue 0 is not started: {stuck}"));
        }
    }

    fn stop_queue(&self, _: u16) -> Result<(), Stuck> {
        self.set_queue(None)
    }

    fn reset(&self) -> Result<(), Stuck> {
        self.set_queue(None)
    }

    fn hold(&self) {
        self.held.store(true, Ordering::Release);
    }

    fn quiesce(&self) -> Result<(), Stuck> {
        self.queue.take_within(QUIET_WITHIN, |_| ()).ok_or_else(|| self.stuck())
    }

    fn release(&self) {
        self.held.store(false, Ordering::Release);
    }

    fn wakes(&self) -> Vec<Option<Arc<EventFd>>> {
        vec![None]
    }

    fn progress(&self, _: u16) -> Option<(Progress, bool)> {
        let of = |live: &mut Option<LiveQueue>| live.as_ref().map(|live| live.queue.progress());
        let (progress, noted) = self.queue.take(of)?;
        Some((progress?, noted))
    }
}

#[cfg(test)]
mod tests;
