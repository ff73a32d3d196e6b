//! Jobs of the main thread for the I/O thread: everything that may wait for a disk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cafevm_devices::block::Limits;
use cafevm_devices::irq::Wake;
use event_manager::{EventOps, Events};
use serde_json::json;

use crate::error::HostError;
use crate::machine::devices::Devices;
use crate::machine::register_pages::RegisterPages;
use crate::runtime::event_loop::{Subscriber, watch};
use crate::runtime::messages::{self, Answer, Done, Job};
use crate::threads::gate::{Full, Gate};
use crate::threads::mailbox::{Inbox, Outbox};
use crate::threads::wake::WakeFd;

/// Signalled when requests were answered late after [`Job::Quiesce`] has failed.
#[derive(Debug)]
pub(crate) struct Unsettled {
    wanted: AtomicBool,
    wake: WakeFd,
}

impl Unsettled {
    /// Without a job that waits.
    ///
    /// # Errors
    ///
    /// If the host cannot create an eventfd.
    pub(crate) fn new() -> Result<Self, HostError> {
        Ok(Self { wanted: AtomicBool::new(false), wake: WakeFd::new()? })
    }

    /// Reports that requests were answered.
    pub(crate) fn answered(&self) {
        if self.wanted.load(Ordering::Acquire) {
            self.wake.wake();
        }
    }
}

/// Carries out jobs, on the I/O thread.
pub(crate) struct Jobs {
    pub(crate) devices: Devices,
    pub(crate) pages: Arc<Mutex<RegisterPages>>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) unsettled: Arc<Unsettled>,
    pub(crate) inbox: Inbox<Job>,
    pub(crate) results: Outbox<Done>,
}

impl Jobs {
    /// Carries out one job.
    pub(crate) fn perform(&self, job: &Job) {
        let done = match job {
            Job::Resize { ticket, disk, id, bytes } => {
                Done::Answered { ticket: *ticket, answer: self.resize(*disk, id, *bytes) }
            }
            Job::Limit { ticket, disk, id, limits } => {
                Done::Answered { ticket: *ticket, answer: self.limit(*disk, id, *limits) }
            }
            Job::Quiesce => {
                let quiet = self.quiesce();
                self.unsettled.wanted.store(quiet.is_err(), Ordering::Release);
                Done::Quiesced(quiet)
            }
            Job::Release => {
                self.unsettled.wanted.store(false, Ordering::Release);
                Done::Released(self.release())
            }
        };
        self.results.send(done);
    }

    /// After requests were answered late: checks whether nothing is in flight any more.
    fn look_again(&self) {
        if self.unsettled.wanted.load(Ordering::Acquire) && self.devices.unfinished().is_none() {
            self.perform(&Job::Quiesce);
        }
    }

    fn resize(&self, disk: usize, id: &str, bytes: u64) -> Answer {
        let disk = self.devices.disks.get(disk).ok_or_else(|| format!("{id}: no such disk"))?;
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages
            .hidden(|| disk.resize(bytes))
            .map_err(|error| format!("{id}: KVM does not hide its registers: {error}"))?
            .map_err(|error| format!("{id}: {error}"))?;
        Ok(json!({ "id": id, "size": bytes }))
    }

    fn limit(&self, disk: Option<usize>, id: &str, limits: Limits) -> Answer {
        let disk = self.devices.any(disk).ok_or_else(|| format!("{id}: no such disk"))?;
        disk.set_limits(limits);
        let mut answer = messages::limits(limits);
        answer.insert("id".to_owned(), id.into());
        Ok(answer.into())
    }

    fn quiesce(&self) -> Result<(), String> {
        // Hold all devices first, so that none takes requests while another one is waited for. svirtb has nothing in
        // flight outside of a vCPU's access.
        for device in &self.devices.virtio {
            device.mmio.hold();
        }
        for device in &self.devices.virtio {
            device.mmio.quiesce().map_err(|stuck| stuck.to_string())?;
        }
        Ok(())
    }

    fn release(&self) -> Result<(), Full> {
        self.gate.forget_full();
        for device in &self.devices.virtio {
            device.mmio.release();
        }
        if let Some(svirtb) = &self.devices.svirtb {
            svirtb.device.go_on();
        }
        self.gate.full_disk().map_or(Ok(()), Err)
    }
}

impl Subscriber for Jobs {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        watch(ops, &self.inbox)?;
        watch(ops, &self.unsettled.wake)
    }

    fn handle(&mut self, _: Events, _: &mut EventOps<'_>) -> Result<(), HostError> {
        for job in self.inbox.take() {
            self.perform(&job);
        }
        if self.unsettled.wake.clear() {
            self.look_again();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::mailbox::mailbox;

    /// A machine without disks, on which one pause has failed.
    #[test]
    fn a_pause_that_was_given_up_is_told_when_the_last_request_is_answered() {
        let (_, inbox) = mailbox().unwrap();
        let (results, done) = mailbox().unwrap();
        let jobs = Jobs {
            devices: Devices::default(),
            pages: Arc::new(Mutex::new(RegisterPages::default())),
            gate: Arc::new(Gate::new().unwrap()),
            unsettled: Arc::new(Unsettled::new().unwrap()),
            inbox,
            results,
        };
        let sent = || done.take().collect::<Vec<_>>();
        // Without a pause there is no message.
        jobs.unsettled.answered();
        assert!(!jobs.unsettled.wake.clear());
        jobs.look_again();
        assert_eq!(sent(), []);

        jobs.unsettled.wanted.store(true, Ordering::Release);
        jobs.unsettled.answered();
        assert!(jobs.unsettled.wake.clear());
        jobs.look_again();
        assert_eq!(sent(), [Done::Quiesced(Ok(()))]);
        // Only once.
        jobs.unsettled.answered();
        assert!(!jobs.unsettled.wake.clear());
        jobs.look_again();
        assert_eq!(sent(), []);
    }
}
