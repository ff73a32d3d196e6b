//! The I/O thread: work that a doorbell left, requests that the host finishes later, and jobs of the main thread.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use cafevm_devices::virtio::mmio::Mmio;
use event_manager::{EventOps, EventSet, Events};
use vmm_sys_util::eventfd::EventFd;

use crate::config::Server;
use crate::error::HostError;
use crate::machine::devices::{Devices, VirtioDisk};
use crate::machine::doorbells::Doorbells;
use crate::machine::register_pages::RegisterPages;
use crate::runtime::event_loop::{AtExit, EventLoop, Subscriber, failed, watch};
use crate::runtime::jobs::{Jobs, Unsettled};
use crate::runtime::rung::Rung;
use crate::threads::ending::Ending;
use crate::threads::pacer::Pacer;
use crate::threads::roll::Roll;
use crate::threads::wake::WakeFd;

/// The thread's name in messages.
pub(crate) const NAME: &str = "the I/O thread";

/// The parts that the thread works with, beside its jobs.
pub(crate) struct IoThread {
    pub(crate) ending: Arc<Ending>,
    pub(crate) roll: Arc<Roll>,
    /// Woken when a doorbell leaves work.
    pub(crate) leftover: Arc<WakeFd>,
    /// Woken when a driver completes its handshake.
    pub(crate) handshake: Arc<WakeFd>,
    /// Expires when requests of a limited disk may begin.
    pub(crate) pacer: Arc<Pacer>,
    pub(crate) doorbells: Doorbells,
    pub(crate) jobs: Jobs,
}

impl IoThread {
    /// Starts the thread, which ends with the machine.
    ///
    /// # Errors
    ///
    /// If the host does not provide a resource.
    pub(crate) fn spawn(self) -> Result<JoinHandle<Result<(), HostError>>, HostError> {
        let Self { ending, roll, leftover, handshake, pacer, doorbells, jobs } = self;
        let (devices, pages) = (jobs.devices.clone(), jobs.pages.clone());
        let mut events: EventLoop<dyn Subscriber + Send> = EventLoop::new()?;
        events.add(Box::new(AtExit(ending.clone())))?;
        events.add(Box::new(Leftover { wake: leftover, devices: devices.clone() }))?;
        events.add(Box::new(Finished::new(&devices, jobs.unsettled.clone())))?;
        events.add(Box::new(Delayed { pacer, devices: devices.clone() }))?;
        for disk in doorbells.disks.iter().filter(|disk| disk.by == Server::IoThread) {
            events.add(Box::new(Rung::new(disk.clone(), &ending)))?;
        }
        events.add(Box::new(Handshake { wake: handshake, pages, doorbells }))?;
        events.add(Box::new(jobs))?;
        let present = roll.enter(NAME.to_owned(), &ending);
        let run = move || {
            // Dropped last.
            let _present = present;
            let (mut events, devices) = (events, devices);
            let served = events.run(&ending);
            // Requests that an engine has not finished are answered, or known to be left behind.
            devices.settle();
            served
        };
        let thread = std::thread::Builder::new().name("io".to_owned()).spawn(run);
        thread.map_err(HostError::os("start the I/O thread"))
    }
}

/// Carries out work that a doorbell left.
struct Leftover {
    wake: Arc<WakeFd>,
    devices: Devices,
}

impl Subscriber for Leftover {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        watch(ops, &*self.wake)
    }

    fn handle(&mut self, _: Events, _: &mut EventOps<'_>) -> Result<(), HostError> {
        self.wake.clear();
        for device in &self.devices.virtio {
            device.mmio.service_unfinished();
        }
        Ok(())
    }
}

/// Services the limited disks that have requests which may begin.
struct Delayed {
    pacer: Arc<Pacer>,
    devices: Devices,
}

impl Subscriber for Delayed {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        watch(ops, &*self.pacer)
    }

    fn handle(&mut self, _: Events, _: &mut EventOps<'_>) -> Result<(), HostError> {
        // Cleared first: a disk that still has requests sets it again.
        self.pacer.clear()?;
        let disks = self.devices.disks.iter();
        disks.filter(|disk| disk.blk.disk().delayed() > 0).for_each(VirtioDisk::service);
        Ok(())
    }
}

/// Answers requests that the host has finished.
struct Finished {
    /// The device, the queue, and the descriptor that becomes readable.
    queues: Vec<(Arc<Mmio>, u16, Arc<EventFd>)>,
    unsettled: Arc<Unsettled>,
}

impl Finished {
    fn new(devices: &Devices, unsettled: Arc<Unsettled>) -> Self {
        let of_device = |device: &Arc<Mmio>| {
            let (device, wakes) = (device.clone(), (0..).zip(device.wakes()));
            wakes.filter_map(move |(queue, wake)| Some((device.clone(), queue, wake?)))
        };
        let queues = devices.virtio.iter().map(|device| &device.mmio).flat_map(of_device).collect();
        Self { queues, unsettled }
    }
}

impl Subscriber for Finished {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        for (index, (_, _, wake)) in (0..).zip(&self.queues) {
            ops.add(Events::with_data(&**wake, index, EventSet::IN)).map_err(failed)?;
        }
        Ok(())
    }

    fn handle(&mut self, event: Events, _: &mut EventOps<'_>) -> Result<(), HostError> {
        let index = usize::try_from(event.data()).unwrap_or(usize::MAX);
        let Some((device, queue, wake)) = self.queues.get(index) else { return Ok(()) };
        // Reset first, so that later completions wake the loop again. The read fails if the engine has already read it.
        let _count = wake.read();
        device.service_queue(*queue);
        self.unsettled.answered();
        Ok(())
    }
}

/// Maps the register pages and connects the doorbells of drivers that have completed their handshake.
struct Handshake {
    wake: Arc<WakeFd>,
    pages: Arc<Mutex<RegisterPages>>,
    doorbells: Doorbells,
}

impl Subscriber for Handshake {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        watch(ops, &*self.wake)
    }

    fn handle(&mut self, _: Events, _: &mut EventOps<'_>) -> Result<(), HostError> {
        self.wake.clear();
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).look();
        self.doorbells.look();
        Ok(())
    }
}
