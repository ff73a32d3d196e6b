//! The registers that store the driver's values: selectors, and those of the legacy interface only.

use super::registers::Half;
use crate::virtio::queue::QueueLayout;
use crate::virtio::spec::ring::{AVAIL_ELEM, DESC_SIZE, LEGACY_ALIGN, RING_EVENT, RING_HEADER};
use crate::virtio::transport::{QueueSetup, Setup};

/// The registers that a reset clears, in addition to the set-up of every transport.
#[derive(Debug, Default)]
pub(super) struct Registers {
    pub(super) device_features_sel: u32,
    pub(super) driver_features_sel: u32,
    pub(super) queue_sel: u32,
    /// Legacy: GuestPageSize, if it was written.
    pub(super) guest_page_size: Option<u32>,
    /// Legacy, by queue. Queues at the end that were never set up may be missing.
    legacy: Vec<LegacyQueue>,
}

/// The set-up, with these registers.
pub(super) type Session = Setup<Registers>;

/// Registers of one queue that only the legacy interface has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LegacyQueue {
    /// QueueAlign, the alignment of the used ring in bytes, if it was written.
    pub(super) align: Option<u32>,
    /// QueuePFN.
    pub(super) pfn: u32,
}

impl LegacyQueue {
    /// The alignment of the used ring in bytes. A driver that writes 0 gets the default, like one that writes nothing.
    pub(super) fn align(self) -> u32 {
        self.align.filter(|align| *align != 0).unwrap_or(LEGACY_ALIGN)
    }

    /// The addresses of a queue of `size` entries (2.7.2): all parts follow each other from page `pfn` on. None if they
    /// exceed the address space, or the registers contradict each other.
    pub(super) fn layout(self, size: u32, page_size: u32, pfn: u32) -> Option<QueueLayout> {
        let align = u64::from(self.align());
        if !page_size.is_power_of_two() || !align.is_power_of_two() {
            return None;
        }
        let desc = u64::from(pfn).checked_mul(page_size.into())?;
        let entries = u64::from(size);
        let avail = desc.checked_add(entries.checked_mul(DESC_SIZE.into())?)?;
        let avail_len = RING_HEADER + AVAIL_ELEM * entries + RING_EVENT;
        let used = avail.checked_add(avail_len)?.checked_next_multiple_of(align)?;
        Some(QueueLayout { size, desc, avail, used })
    }
}

impl Registers {
    /// Legacy: the unit of QueuePFN, in bytes. If the driver wrote none, QueuePFN is an address in bytes.
    pub(super) fn page_size(&self) -> u32 {
        self.guest_page_size.unwrap_or(1)
    }

    /// The legacy registers of the queue selected by QueueSel.
    pub(super) fn legacy(&self) -> LegacyQueue {
        let index = usize::try_from(self.queue_sel).ok();
        index.and_then(|n| self.legacy.get(n)).copied().unwrap_or_default()
    }

    /// Forgets the legacy registers of a queue.
    pub(super) fn forget_legacy(&mut self, index: u32) {
        if let Some(queue) = usize::try_from(index).ok().and_then(|n| self.legacy.get_mut(n)) {
            *queue = LegacyQueue::default();
        }
    }

    /// Changes the legacy registers of the selected queue, which must exist.
    pub(super) fn change_legacy(&mut self, change: impl FnOnce(&mut LegacyQueue)) {
        let Ok(index) = usize::try_from(self.queue_sel) else { return };
        if self.legacy.len() <= index {
            self.legacy.resize(index + 1, LegacyQueue::default());
        }
        if let Some(queue) = self.legacy.get_mut(index) {
            change(queue);
        }
    }
}

/// The queue selected by QueueSel, if it exists.
pub(super) fn selected(setup: &Session) -> Option<&QueueSetup> {
    setup.queue(setup.registers.queue_sel)
}

/// The driver's features with 32 of them replaced. None if `value` has bits that no feature has.
pub(super) fn with_features(setup: &Session, value: u32) -> Option<u64> {
    let half = match setup.registers.driver_features_sel {
        0 => Half::Low,
        1 => Half::High,
        _ => return (value == 0).then_some(setup.driver_features),
    };
    Some(half.set(setup.driver_features, value))
}
