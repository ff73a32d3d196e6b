//! A legacy driver in the right order that accepts every feature offered, and knows but few of them.
//!
//! | write | value |
//! |---|---|
//! | Status | 0, 1, 3 |
//! | GuestFeatures | what HostFeatures reads |
//! | GuestPageSize | 4096 |
//! | QueueSel, QueueNum, QueueAlign | 0, 16, 4096 |
//! | QueuePFN | the queue's address in pages |
//! | Status | 7 |
//!
//! It makes several requests available at once, rings once for them all, and sleeps until interrupts report that they are
//! done; it acknowledges each.
//!
//! What it relies on: EVENT_IDX is accepted, and used_event stays 0, so that by that alone an interrupt comes for the
//! first request of 65536 (2.7.7.2). The others come by NOTIFY_ON_EMPTY (6.3): when the available ring has run empty,
//! the device interrupts independent of used_event. It breaks no rule.

use rt::dma::Dma;
use rt::mmio::Mmio;
use scenario::{Outcome, ensure, ensure_eq};

use crate::Driver;
use crate::queue::{PAGE, Queue};
use crate::registers::{
    ACKNOWLEDGE, DRIVER, DRIVER_OK, GUEST_FEATURES, GUEST_FEATURES_SEL, GUEST_PAGE_SIZE,
    HOST_FEATURES, HOST_FEATURES_SEL, QUEUE_ALIGN, QUEUE_NOTIFY, QUEUE_NUM, QUEUE_NUM_MAX,
    QUEUE_PFN, QUEUE_SEL, STATUS, check_is_legacy_disk,
};
use crate::waiting::Waiter;

const ENTRIES: u16 = 16;
const NOTIFY_ON_EMPTY: u32 = 1 << 24;
const EVENT_IDX: u32 = 1 << 29;

pub(crate) struct Disk {
    registers: Mmio,
    queue: Queue,
    waiter: Waiter,
    /// Requests that were made available since the last doorbell.
    waiting: bool,
}

impl Disk {
    pub(crate) fn new(registers: Mmio, line: u8) -> Disk {
        let waiter = Waiter::new(registers, line, true);
        Disk { registers, queue: Queue::new(ENTRIES), waiter, waiting: false }
    }
}

impl Driver for Disk {
    fn init(&mut self) -> Outcome {
        let r = self.registers;
        check_is_legacy_disk(r)?;
        r.write32(STATUS, 0);
        r.write32(STATUS, ACKNOWLEDGE);
        r.write32(STATUS, ACKNOWLEDGE | DRIVER);
        r.write32(HOST_FEATURES_SEL, 0);
        let features = r.read32(HOST_FEATURES);
        for bit in [EVENT_IDX, NOTIFY_ON_EMPTY] {
            ensure!(features & bit != 0, "HostFeatures {features:#x} lacks {bit:#x}");
        }
        r.write32(GUEST_FEATURES_SEL, 0);
        r.write32(GUEST_FEATURES, features);
        r.write32(GUEST_PAGE_SIZE, PAGE as u32);
        r.write32(QUEUE_SEL, 0);
        ensure_eq!(r.read32(QUEUE_PFN), 0, "QueuePFN before the queue is set up");
        let max = r.read32(QUEUE_NUM_MAX);
        ensure!(max >= ENTRIES.into(), "QueueNumMax is {max}, and the queue has {ENTRIES}");
        self.queue.clear();
        let page = self.queue.address() / PAGE as u32;
        r.write32(QUEUE_NUM, ENTRIES.into());
        r.write32(QUEUE_ALIGN, PAGE as u32);
        r.write32(QUEUE_PFN, page);
        ensure_eq!(r.read32(QUEUE_PFN), page, "QueuePFN after the queue is set up");
        r.write32(STATUS, ACKNOWLEDGE | DRIVER | DRIVER_OK);
        Ok(())
    }

    fn at_once(&self) -> usize {
        usize::from(ENTRIES / 3)
    }

    fn begin(&mut self, n: usize, sector: u64, data: Dma, write: bool) -> Outcome {
        let head = 3 * n as u16;
        self.queue.fill([head, head + 1, head + 2], sector, data, write);
        self.queue.offer(head);
        self.waiting = true;
        Ok(())
    }

    fn finish(&mut self) -> Outcome {
        if core::mem::take(&mut self.waiting) {
            self.registers.write32(QUEUE_NOTIFY, 0);
        }
        self.waiter.sleep(&mut self.queue)
    }
}
