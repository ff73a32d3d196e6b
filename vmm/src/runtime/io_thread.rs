//! The I/O thread: what devices leave undone in a doorbell, what the host finishes later, and jobs of the main thread.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use event_manager::{EventOps, EventSet, Events};
use vmm_sys_util::eventfd::EventFd;

use crate::error::HostError;
use crate::machine::disks::Disks;
use crate::machine::register_pages::RegisterPages;
use crate::runtime::event_loop::{AtTheEnd, Concern, EventLoop, failed, watch};
use crate::runtime::jobs::{Jobs, Unsettled};
use crate::threads::ending::Ending;
use crate::threads::roll::Roll;
use crate::threads::wake::WakeFd;

/// What messages call the thread.
pub(crate) const NAME: &str = "the I/O thread";

/// What the thread needs, beside its jobs.
pub(crate) struct IoThread {
    pub(crate) ending: Arc<Ending>,
    pub(crate) roll: Arc<Roll>,
    /// Woken when a doorbell has left work undone.
    pub(crate) leftover: Arc<WakeFd>,
    /// Woken when a driver has taken over a disk.
    pub(crate) taken_over: Arc<WakeFd>,
    pub(crate) jobs: Jobs,
}

impl IoThread {
    /// Starts the thread; it ends with the machine.
    ///
    /// # Errors
    ///
    /// Where the host does not give what it needs.
    pub(crate) fn spawn(self) -> Result<JoinHandle<Result<(), HostError>>, HostError> {
        let Self { ending, roll, leftover, taken_over, jobs } = self;
        let (disks, pages) = (jobs.disks.clone(), jobs.pages.clone());
        let mut events: EventLoop<dyn Concern + Send> = EventLoop::new()?;
        events.add(Box::new(AtTheEnd(ending.clone())))?;
        events.add(Box::new(Leftover { wake: leftover, disks: disks.clone() }))?;
        events.add(Box::new(Finished::new(&disks, jobs.unsettled.clone())))?;
        events.add(Box::new(TakenOver { wake: taken_over, pages }))?;
        events.add(Box::new(jobs))?;
        let present = roll.enter(NAME.to_owned(), &ending);
        let run = move || {
            // Dropped last.
            let _present = present;
            let (mut events, disks) = (events, disks);
            let served = events.run(&ending);
            // What an engine has not finished is answered, or known to be left behind.
            disks.settle();
            served
        };
        let thread = std::thread::Builder::new().name("io".to_owned()).spawn(run);
        thread.map_err(HostError::os("start the I/O thread"))
    }
}

/// Serves what a doorbell left undone.
struct Leftover {
    wake: Arc<WakeFd>,
    disks: Disks,
}

impl Concern for Leftover {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        watch(ops, &*self.wake)
    }

    fn serve(&mut self, _: Events, _: &mut EventOps<'_>) -> Result<(), HostError> {
        self.wake.clear();
        for disk in &self.disks.virtio {
            disk.device.service_unfinished();
        }
        Ok(())
    }
}

/// Answers what the host has finished.
struct Finished {
    /// Which disk and queue, and what becomes readable.
    queues: Vec<(usize, u16, Arc<EventFd>)>,
    disks: Disks,
    unsettled: Arc<Unsettled>,
}

impl Finished {
    fn new(disks: &Disks, unsettled: Arc<Unsettled>) -> Self {
        let of_disk = |(number, disk): (usize, &crate::machine::disks::VirtioDisk)| {
            let wakes = (0..).zip(disk.device.wakes());
            wakes.filter_map(move |(queue, wake)| Some((number, queue, wake?)))
        };
        let queues = disks.virtio.iter().enumerate().flat_map(of_disk).collect();
        Self { queues, disks: disks.clone(), unsettled }
    }
}

impl Concern for Finished {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        for (index, (_, _, wake)) in (0..).zip(&self.queues) {
            ops.add(Events::with_data(&**wake, index, EventSet::IN)).map_err(failed)?;
        }
        Ok(())
    }

    fn serve(&mut self, event: Events, _: &mut EventOps<'_>) -> Result<(), HostError> {
        let index = usize::try_from(event.data()).unwrap_or(usize::MAX);
        let Some((disk, queue, wake)) = self.queues.get(index) else { return Ok(()) };
        // First, so that what is finished from now on wakes again. It fails where the engine has read it.
        let _count = wake.read();
        if let Some(disk) = self.disks.virtio.get(*disk) {
            disk.device.service_finished(*queue);
        }
        self.unsettled.answered();
        Ok(())
    }
}

/// Shows register pages whose disks were all taken over.
struct TakenOver {
    wake: Arc<WakeFd>,
    pages: Arc<Mutex<RegisterPages>>,
}

impl Concern for TakenOver {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        watch(ops, &*self.wake)
    }

    fn serve(&mut self, _: Events, _: &mut EventOps<'_>) -> Result<(), HostError> {
        self.wake.clear();
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).look();
        Ok(())
    }
}
