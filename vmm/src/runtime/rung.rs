//! Serves the doorbells of a disk on a thread of the host: the I/O thread (doorbell=thread), or a thread of the disk.
//! With doorbell=spin the latter then looks at the queues for a short time without doorbells.

use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cafevm_devices::virtio::device::PollResult;
use cafevm_devices::virtio::mmio::Mmio;
use event_manager::{EventOps, Events};

use crate::config::Server;
use crate::error::HostError;
use crate::machine::doorbells::RungDisk;
use crate::runtime::event_loop::{AtExit, EventLoop, Subscriber, watch};
use crate::threads::ending::Ending;
use crate::threads::roll::Roll;

/// How long the thread of a disk looks at idle queues: longer than a guest needs between two requests, and short for a
/// host that has other work.
const SPIN: Duration = Duration::from_micros(50);
/// The looks at idle queues between two readings of the clock.
const LOOKS: u32 = 16;

/// The subscriber for the doorbells of a disk.
pub(crate) struct Rung {
    disk: RungDisk,
    ending: Arc<Ending>,
}

impl Rung {
    /// For the doorbells of `disk`.
    pub(crate) fn new(disk: RungDisk, ending: &Arc<Ending>) -> Self {
        Self { disk, ending: ending.clone() }
    }

    /// Starts a thread for the doorbells of `disk`, which ends with the machine. Returns its name, too.
    ///
    /// # Errors
    ///
    /// If the host does not provide a resource.
    pub(crate) fn spawn(
        disk: RungDisk,
        ending: &Arc<Ending>,
        roll: &Arc<Roll>,
    ) -> Result<RungThread, HostError> {
        let name = format!("the doorbell thread of {}", disk.name);
        let short = format!("bell {}", disk.name);
        let mut events: EventLoop<dyn Subscriber + Send> = EventLoop::new()?;
        events.add(Box::new(AtExit(ending.clone())))?;
        events.add(Box::new(Self::new(disk, ending)))?;
        let (present, ending) = (roll.enter(name.clone(), ending), ending.clone());
        let run = move || {
            // Dropped last.
            let _present = present;
            let mut events = events;
            events.run(&ending)
        };
        let thread = std::thread::Builder::new().name(short).spawn(run);
        Ok((name, thread.map_err(HostError::os("start a doorbell thread"))?))
    }
}

/// The name of a thread for doorbells, and the thread.
pub(crate) type RungThread = (String, JoinHandle<Result<(), HostError>>);

impl Subscriber for Rung {
    fn begin(&mut self, ops: &mut EventOps<'_>) -> Result<(), HostError> {
        self.disk.queues.iter().try_for_each(|event| watch(ops, &**event))
    }

    fn handle(&mut self, event: Events, _: &mut EventOps<'_>) -> Result<(), HostError> {
        let rung = (0..).zip(&self.disk.queues).find(|(_, queue)| queue.as_raw_fd() == event.fd());
        let Some((queue, bell)) = rung else { return Ok(()) };
        // Cleared first, so that a later doorbell wakes the thread again.
        let _count = bell.read();
        if self.disk.by != (Server::OwnThread { spins: true }) {
            self.disk.device.service_queue(queue);
            return Ok(());
        }
        let queues = 0..self.disk.device.queues();
        spin(&self.disk.device, &queues, || self.ending.requested());
        queues.for_each(|queue| self.disk.device.service_queue(queue));
        Ok(())
    }
}

/// Serves the queues until all have been idle for a while, or none runs.
fn spin(device: &Mmio, queues: &Range<u16>, ended: impl Fn() -> bool) {
    let (mut looks, mut idle_since) = (0u32, None);
    while !ended() {
        let (mut runs, mut worked) = (false, false);
        for result in queues.clone().map(|queue| device.poll(queue)) {
            runs |= result != PollResult::NotRunning;
            worked |= result == PollResult::Worked;
        }
        if !runs {
            return;
        }
        if worked {
            (looks, idle_since) = (0, None);
            continue;
        }
        looks += 1;
        if looks == LOOKS {
            looks = 0;
            if idle_since.get_or_insert_with(Instant::now).elapsed() >= SPIN {
                return;
            }
        }
        std::hint::spin_loop();
    }
}
