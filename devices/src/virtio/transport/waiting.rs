//! What a device and its driver wait for, for a driver's author.

use super::{Core, QueueSetup};
use crate::memory::GuestRam;
use crate::observe::Waiting;
use crate::virtio::queue::{Progress, QueueLayout};
use crate::virtio::spec::ring::{AVAIL_ELEM, AVAIL_NO_INTERRUPT, RING_HEADER, USED_ELEM};
use crate::virtio::spec::status::{DEVICE_NEEDS_RESET, DRIVER_OK, FAILED, NAMES};
use crate::virtio::spec::{bit_names, feature};

impl<R: Default> Core<R> {
    /// Examines the device, with these reasons for an interrupt that are not acknowledged. None if no driver uses it.
    pub(in crate::virtio) fn waiting(&self, interrupt_status: u32) -> Option<Waiting> {
        let (features, mut queues) = {
            let setup = self.setup();
            let queue = |(index, queue): (u32, &QueueSetup)| Queue {
                index,
                is_ready: queue.ready,
                layout: queue.layout,
                receives: u16::try_from(index).is_ok_and(|index| self.device.receives(index)),
                progress: None,
            };
            (setup.features(), (0..).zip(&setup.queues).map(queue).collect::<Vec<_>>())
        };
        for queue in queues.iter_mut().filter(|queue| queue.is_ready) {
            let Ok(index) = u16::try_from(queue.index) else { continue };
            let progress = self.device.progress(index);
            if let Some((_, true)) = progress {
                // The caller may be a thread that must not wait for the host.
                self.service_later(index);
            }
            queue.progress = progress.map(|(progress, _)| progress);
        }
        let snapshot = Snapshot { status: self.status(), interrupt_status, features, queues };
        examine(&snapshot, &self.ram)
    }
}

/// A virtio device at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Snapshot {
    status: u32,
    interrupt_status: u32,
    features: u64,
    queues: Vec<Queue>,
}

/// A queue at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Queue {
    index: u32,
    is_ready: bool,
    layout: QueueLayout,
    /// See [`VirtioDevice::receives`](crate::virtio::device::VirtioDevice::receives).
    receives: bool,
    /// None if the queue does not run, or is being serviced.
    progress: Option<Progress>,
}

/// Examines a virtio device. None if no driver uses it.
fn examine(device: &Snapshot, ram: &GuestRam) -> Option<Waiting> {
    let Snapshot { status, interrupt_status, features, ref queues } = *device;
    if status == 0 {
        return None;
    }
    let mut waiting = Waiting::default();
    if status & (DEVICE_NEEDS_RESET | FAILED) != 0 {
        waiting.outstanding(format!(
            "Status is {status:#x} ({}): the device does nothing until the driver writes 0 to Status",
            bit_names(status, &NAMES)
        ));
        return Some(waiting);
    }
    if status & DRIVER_OK == 0 {
        waiting.outstanding(format!(
            "Status is {status:#x} ({}): the driver did not set DRIVER_OK, so the device does not start",
            bit_names(status, &NAMES)
        ));
    }
    if !queues.iter().any(|queue| queue.is_ready) {
        waiting.outstanding(
            "no queue is ready: the driver did not write 1 to QueueReady (legacy: QueuePFN)"
                .to_owned(),
        );
    }
    let is_used = queues.iter().any(|queue| queue.progress.is_some_and(|at| at.taken != 0));
    for queue in queues.iter().filter(|queue| queue.is_ready && status & DRIVER_OK != 0) {
        let event_idx = features & feature::RING_EVENT_IDX != 0;
        queue.examine(event_idx, is_used, ram, &mut waiting);
    }
    if interrupt_status != 0 {
        waiting.is_unacknowledged = true;
        waiting.outstanding(format!(
            "InterruptStatus is {interrupt_status:#x}: the device interrupted the driver, which did not acknowledge it"
        ));
    }
    Some(waiting)
}

impl Queue {
    /// `is_used`: whether the device has taken a chain of any of its queues.
    fn examine(&self, event_idx: bool, is_used: bool, ram: &GuestRam, waiting: &mut Waiting) {
        let (number, QueueLayout { size, avail, used, .. }) = (self.index, self.layout);
        let Some(Progress { taken, returned }) = self.progress else {
            return waiting
                .outstanding(format!("queue {number}: the device is working on a request"));
        };
        // The addresses were checked when the queue became ready.
        let load = |at: u64| ram.load_u16(at).unwrap_or_default();
        let at = avail.saturating_add(2);
        let index = load(at);
        if self.receives && index != 0 {
            let count = index.wrapping_sub(returned);
            return waiting.lines.push(format!(
                "queue {number}: {count} buffers of the driver wait for an event of the host"
            ));
        }
        if index == 0 && taken == 0 {
            let line = format!(
                "queue {number}: the available index at {at:#x} is still 0: the driver made nothing available there"
            );
            // A device with several queues need not have work in all of them.
            return if is_used { waiting.lines.push(line) } else { waiting.outstanding(line) };
        }
        if index != taken {
            let count = index.wrapping_sub(taken);
            if u32::from(count) > size {
                return waiting.outstanding(format!(
                    "queue {number}: the available index at {at:#x} is {index}, but the device has taken {taken} chains: it \
                     is ahead by more than the queue's {size} entries"
                ));
            }
            return waiting.outstanding(format!(
                "queue {number}: the available index at {at:#x} is {index}, and the device has taken the chains before \
                 {taken}: {count} wait for a doorbell (write {number} to QueueNotify)"
            ));
        }
        if taken != returned {
            let count = taken.wrapping_sub(returned);
            return waiting.outstanding(format!(
                "queue {number}: the host has not finished {count} of the requests"
            ));
        }
        let suppressed = if event_idx {
            let event = load(avail + RING_HEADER + AVAIL_ELEM * u64::from(size));
            // The next result interrupts if used_event is the index that it gets.
            (event != returned).then(|| format!("used_event is {event}"))
        } else {
            (load(avail) & AVAIL_NO_INTERRUPT != 0)
                .then(|| "the flag NO_INTERRUPT is set".to_owned())
        };
        let entry = used
            + RING_HEADER
            + USED_ELEM * u64::from(returned.wrapping_sub(1)) % (USED_ELEM * u64::from(size));
        waiting.is_suppressed |= suppressed.is_some();
        let how = suppressed.map_or_else(String::new, |how| {
            format!("; the next result comes without an interrupt, as {how}")
        });
        waiting.lines.push(format!(
            "queue {number}: everything was answered: the used index at {:#x} is {returned}, the last entry is at \
             {entry:#x}{how}",
            used.saturating_add(2)
        ));
    }
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
