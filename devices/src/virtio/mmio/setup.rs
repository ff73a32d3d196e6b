//! What a driver has told the registers since the last reset: features, and where its queues are.

use super::registers::Half;
use crate::virtio::device::VirtioDevice;
use crate::virtio::queue::QueueLayout;
use crate::virtio::spec::ring::{AVAIL_ELEM, DESC_SIZE, LEGACY_ALIGN, RING_EVENT, RING_HEADER};

/// All that a reset forgets.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) device_features_sel: u32,
    pub(super) driver_features_sel: u32,
    /// As the driver wrote them.
    pub(super) driver_features: u64,
    /// What both sides have. Decided once: by FEATURES_OK, or by DRIVER_OK where there was none.
    pub(super) accepted: Option<u64>,
    pub(super) queue_sel: u32,
    /// Legacy: GuestPageSize, where it was written.
    pub(super) guest_page_size: Option<u32>,
    pub(super) queues: Vec<QueueSetup>,
    /// Whether the device was activated. A legacy device is that by its first queue, where DRIVER_OK came before.
    pub(super) active: bool,
    /// Whether a vCPU waits for the device's reset: until it is done, other vCPUs set nothing up.
    pub(super) resetting: bool,
}

/// One queue's registers.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueSetup {
    /// QueueNumMax.
    pub(super) max: u16,
    /// QueueReady; legacy: whether QueuePFN is not 0.
    pub(super) ready: bool,
    /// Whether it was reset by itself (QueueReset), and may be set up again while the device is live.
    pub(super) was_reset: bool,
    pub(super) layout: QueueLayout,
    /// Legacy: QueueAlign, the alignment of the used ring in bytes, where it was written.
    pub(super) align: Option<u32>,
    /// Legacy: QueuePFN.
    pub(super) pfn: u32,
}

impl QueueSetup {
    fn new(max: u16) -> Self {
        let layout = QueueLayout::default();
        Self { max, ready: false, was_reset: false, layout, align: None, pfn: 0 }
    }

    /// As after a reset of this queue alone (2.6.1).
    pub(super) fn reset(&mut self) {
        *self = Self { was_reset: true, ..Self::new(self.max) };
    }

    /// Legacy: the alignment of the used ring in bytes. 0 says no more than nothing does.
    pub(super) fn legacy_align(&self) -> u32 {
        self.align.filter(|align| *align != 0).unwrap_or(LEGACY_ALIGN)
    }

    /// Where a legacy driver's queue lies (2.7.2): all parts from one page on. None where that leaves the
    /// address space, or the registers make no sense together.
    pub(super) fn legacy_layout(&self, page_size: u32, pfn: u32) -> Option<QueueLayout> {
        let size = self.layout.size;
        let align = u64::from(self.legacy_align());
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

impl Session {
    pub(super) fn new(device: &dyn VirtioDevice) -> Self {
        Self {
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: 0,
            accepted: None,
            queue_sel: 0,
            guest_page_size: None,
            queues: device.queue_max().iter().map(|max| QueueSetup::new(*max)).collect(),
            active: false,
            resetting: false,
        }
    }

    /// The features that both sides have; none until that is decided.
    pub(super) fn features(&self) -> u64 {
        self.accepted.unwrap_or(0)
    }

    /// Legacy: the unit of QueuePFN, in bytes. Where the driver says none, QueuePFN is an address in bytes.
    pub(super) fn page_size(&self) -> u32 {
        self.guest_page_size.unwrap_or(1)
    }

    /// The queue that QueueSel means, if the device has it.
    pub(super) fn queue(&self) -> Option<&QueueSetup> {
        self.queues.get(usize::try_from(self.queue_sel).ok()?)
    }

    /// The same, to be changed.
    pub(super) fn queue_mut(&mut self) -> Option<&mut QueueSetup> {
        self.queues.get_mut(usize::try_from(self.queue_sel).ok()?)
    }

    /// Takes 32 of the driver's features. False where there are no such features, and `value` names some.
    pub(super) fn take_features(&mut self, value: u32) -> bool {
        let half = match self.driver_features_sel {
            0 => Half::Low,
            1 => Half::High,
            _ => return value == 0,
        };
        self.driver_features = half.set(self.driver_features, value);
        true
    }
}
