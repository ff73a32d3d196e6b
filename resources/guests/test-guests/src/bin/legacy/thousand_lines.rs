//! The driver that "Operating System in 1,000 Lines" teaches, as it was until the end of 2025 and as it is since.
//!
//! | write | value until then | value since |
//! |---|---|---|
//! | Status | 0, then 1, 2 and 8 on top of what it reads | 0, then 1 and 2 on top of what it reads |
//! | GuestPageSize | | 4096 |
//! | QueueSel, QueueNum | 0, 16 | 0, 16 |
//! | QueueAlign | 0 | |
//! | QueuePFN | the queue's address in bytes | the queue's address in pages |
//! | Status | 4, alone | 4, alone |
//!
//! It looks at nothing of what it wrote. One request at a time, always in descriptors 0, 1 and 2; it polls.
//!
//! What bends the rules, until then: GuestPageSize is never written, and QueueAlign 0 is no power of two (4.2.4): QEMU
//! takes the address as it is and an alignment of 4096. FEATURES_OK is no bit of the legacy interface. Since: QueueAlign
//! is never written (4.2.4); the used ring lies at the next page, where QEMU looks for it. In both the last write of
//! Status clears bits that are set (2.1.1).

use rt::dma::Dma;
use rt::mmio::Mmio;
use rt::println;
use scenario::Outcome;

use crate::Driver;
use crate::queue::{PAGE, Queue};
use crate::registers::{
    ACKNOWLEDGE, CONFIG, DRIVER, DRIVER_OK, FEATURES_OK, GUEST_PAGE_SIZE, QUEUE_ALIGN,
    QUEUE_NOTIFY, QUEUE_NUM, QUEUE_PFN, QUEUE_SEL, STATUS, check_is_legacy_disk,
};
use crate::waiting::poll;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edition {
    /// Until the end of 2025.
    Old,
    New,
}

pub(crate) struct Disk {
    registers: Mmio,
    queue: Queue,
    edition: Edition,
}

impl Disk {
    pub(crate) fn new(registers: Mmio, edition: Edition) -> Disk {
        Disk { registers, queue: Queue::new(16), edition }
    }
}

impl Driver for Disk {
    fn init(&mut self) -> Outcome {
        let (r, old) = (self.registers, self.edition == Edition::Old);
        check_is_legacy_disk(r)?;
        r.write32(STATUS, 0);
        for bit in [ACKNOWLEDGE, DRIVER] {
            r.write32(STATUS, r.read32(STATUS) | bit);
        }
        if old {
            r.write32(STATUS, r.read32(STATUS) | FEATURES_OK);
        } else {
            r.write32(GUEST_PAGE_SIZE, PAGE as u32);
        }
        self.queue.clear();
        r.write32(QUEUE_SEL, 0);
        r.write32(QUEUE_NUM, self.queue.entries().into());
        if old {
            r.write32(QUEUE_ALIGN, 0);
            r.write32(QUEUE_PFN, self.queue.address());
        } else {
            r.write32(QUEUE_PFN, self.queue.address() / PAGE as u32);
        }
        r.write32(STATUS, DRIVER_OK);
        println!("capacity {} sectors", r.read32(CONFIG));
        Ok(())
    }

    fn at_once(&self) -> usize {
        1
    }

    fn begin(&mut self, _n: usize, sector: u64, data: Dma, write: bool) -> Outcome {
        self.queue.fill([0, 1, 2], sector, data, write);
        self.queue.offer(0);
        self.registers.write32(QUEUE_NOTIFY, 0);
        Ok(())
    }

    fn finish(&mut self) -> Outcome {
        poll(&mut self.queue)
    }
}
