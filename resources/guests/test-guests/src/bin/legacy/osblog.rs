//! A driver as "The Adventures of OS" (osblog) has it.
//!
//! | write | value |
//! |---|---|
//! | Status | 0, 1, then 5: DRIVER_OK where DRIVER is meant |
//! | GuestFeatures | what HostFeatures reads, without RO |
//! | Status | 13; FEATURES_OK must read back |
//! | QueueNum, QueueSel | 128, 0 |
//! | GuestPageSize | 4096 |
//! | QueuePFN | the queue's address in pages |
//! | Status | 13 |
//!
//! Descriptors are taken one after the other, around the table, from number 1 on. It begins requests without a look at
//! those before, and an interrupt makes it walk the used ring.
//!
//! What bends the rules: DRIVER_OK comes before DRIVER, which is never set, before the features and before the queue
//! (3.1.1). QueueAlign is never written (4.2.4). EVENT_IDX is accepted, yet used_event stays 0 (2.7.7): what interrupts
//! is NOTIFY_ON_EMPTY, accepted unknowingly (6.3). No interrupt is ever acknowledged (4.2.3.4). FEATURES_OK is no bit
//! of the legacy interface. No feature-select register is written.

use rt::dma::Dma;
use rt::mmio::Mmio;
use scenario::{Outcome, ensure};

use crate::queue::{PAGE, Queue};
use crate::registers::{
    ACKNOWLEDGE, DRIVER_OK, FEATURES_OK, GUEST_FEATURES, GUEST_PAGE_SIZE, HOST_FEATURES,
    QUEUE_NOTIFY, QUEUE_NUM, QUEUE_NUM_MAX, QUEUE_PFN, QUEUE_SEL, STATUS, check_is_legacy_disk,
};
use crate::waiting::Waiter;
use crate::{AT_ONCE_MAX, Driver};

const ENTRIES: u16 = 128;
const READ_ONLY: u32 = 1 << 5;

pub(crate) struct Disk {
    registers: Mmio,
    queue: Queue,
    waiter: Waiter,
    /// The descriptor that was taken last.
    last: u16,
}

impl Disk {
    pub(crate) fn new(registers: Mmio, line: u8) -> Disk {
        let waiter = Waiter::new(registers, line, false);
        Disk { registers, queue: Queue::new(ENTRIES), waiter, last: 0 }
    }

    fn next(&mut self) -> u16 {
        self.last = (self.last + 1) % ENTRIES;
        self.last
    }
}

impl Driver for Disk {
    fn init(&mut self) -> Outcome {
        let r = self.registers;
        check_is_legacy_disk(r)?;
        r.write32(STATUS, 0);
        r.write32(STATUS, ACKNOWLEDGE);
        r.write32(STATUS, ACKNOWLEDGE | DRIVER_OK);
        r.write32(GUEST_FEATURES, r.read32(HOST_FEATURES) & !READ_ONLY);
        r.write32(STATUS, ACKNOWLEDGE | DRIVER_OK | FEATURES_OK);
        let status = r.read32(STATUS);
        ensure!(status & FEATURES_OK != 0, "FEATURES_OK was taken back: Status {status:#x}");
        let max = r.read32(QUEUE_NUM_MAX);
        r.write32(QUEUE_NUM, ENTRIES.into());
        ensure!(max >= ENTRIES.into(), "QueueNumMax is {max}, and the queue has {ENTRIES}");
        r.write32(QUEUE_SEL, 0);
        self.queue.clear();
        self.last = 0;
        r.write32(GUEST_PAGE_SIZE, PAGE as u32);
        r.write32(QUEUE_PFN, self.queue.address() / PAGE as u32);
        r.write32(STATUS, ACKNOWLEDGE | DRIVER_OK | FEATURES_OK);
        Ok(())
    }

    fn at_once(&self) -> usize {
        AT_ONCE_MAX
    }

    fn begin(&mut self, _n: usize, sector: u64, data: Dma, write: bool) -> Outcome {
        let at = [self.next(), self.next(), self.next()];
        self.queue.fill(at, sector, data, write);
        self.queue.offer(at[0]);
        self.registers.write32(QUEUE_NOTIFY, 0);
        Ok(())
    }

    fn finish(&mut self) -> Outcome {
        self.waiter.sleep(&mut self.queue)
    }
}
