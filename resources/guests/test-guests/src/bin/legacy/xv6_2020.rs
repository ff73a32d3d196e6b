//! A driver as xv6-riscv had it from 2019 until it moved to version 2 in October 2021.
//!
//! | write | value |
//! |---|---|
//! | Status | 1, then 3 |
//! | GuestFeatures | what HostFeatures reads, without seven features that it does not know |
//! | Status | 11, then 15 |
//! | GuestPageSize | 4096 |
//! | QueueSel, QueueNum | 0, 8 |
//! | QueuePFN | the queue's address in pages |
//!
//! It wants the vendor "QEMU". A request takes any three free descriptors of 8; an interrupt, which it acknowledges,
//! makes it walk the used ring.
//!
//! What bends the rules: the queue is set up after DRIVER_OK (3.1.1, 4.2.3.2). QueueAlign is never written (4.2.4). It
//! does not reset the device first. FEATURES_OK is no bit of the legacy interface. No feature-select register is
//! written.

use rt::dma::Dma;
use rt::mmio::Mmio;
use scenario::{Outcome, ensure, ensure_eq, fail};

use crate::Driver;
use crate::queue::{PAGE, Queue};
use crate::registers::{
    ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, GUEST_FEATURES, GUEST_PAGE_SIZE, HOST_FEATURES,
    QUEUE_NOTIFY, QUEUE_NUM, QUEUE_NUM_MAX, QUEUE_PFN, QUEUE_SEL, STATUS, VENDOR_ID,
    check_is_legacy_disk,
};
use crate::waiting::Waiter;

/// RO, SCSI, CONFIG_WCE, MQ, ANY_LAYOUT, INDIRECT_DESC, EVENT_IDX.
const NOT_TAKEN: u32 = 1 << 5 | 1 << 7 | 1 << 11 | 1 << 12 | 1 << 27 | 1 << 28 | 1 << 29;
const ENTRIES: usize = 8;

pub(crate) struct Disk {
    registers: Mmio,
    queue: Queue,
    waiter: Waiter,
    free: [bool; ENTRIES],
}

impl Disk {
    pub(crate) fn new(registers: Mmio, line: u8) -> Disk {
        let waiter = Waiter::new(registers, line, true);
        Disk { registers, queue: Queue::new(ENTRIES as u16), waiter, free: [true; ENTRIES] }
    }
}

impl Driver for Disk {
    fn init(&mut self) -> Outcome {
        let r = self.registers;
        check_is_legacy_disk(r)?;
        ensure_eq!(r.read32(VENDOR_ID), 0x554d_4551, "VendorID");
        r.write32(STATUS, ACKNOWLEDGE);
        r.write32(STATUS, ACKNOWLEDGE | DRIVER);
        r.write32(GUEST_FEATURES, r.read32(HOST_FEATURES) & !NOT_TAKEN);
        r.write32(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        r.write32(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        r.write32(GUEST_PAGE_SIZE, PAGE as u32);
        r.write32(QUEUE_SEL, 0);
        let max = r.read32(QUEUE_NUM_MAX);
        ensure!(max >= ENTRIES as u32, "QueueNumMax is {max}, and the queue has {ENTRIES}");
        r.write32(QUEUE_NUM, ENTRIES as u32);
        self.queue.clear();
        r.write32(QUEUE_PFN, self.queue.address() / PAGE as u32);
        self.free = [true; ENTRIES];
        Ok(())
    }

    fn at_once(&self) -> usize {
        ENTRIES / 3
    }

    fn begin(&mut self, _n: usize, sector: u64, data: Dma, write: bool) -> Outcome {
        let mut at = [0; 3];
        for descriptor in &mut at {
            let free = self.free.iter().position(|free| *free);
            let Some(index) = free else { fail!("no three descriptors are free") };
            self.free[index] = false;
            *descriptor = index as u16;
        }
        self.queue.fill(at, sector, data, write);
        self.queue.offer(at[0]);
        self.registers.write32(QUEUE_NOTIFY, 0);
        Ok(())
    }

    fn finish(&mut self) -> Outcome {
        self.waiter.sleep(&mut self.queue)?;
        self.free = [true; ENTRIES];
        Ok(())
    }
}
