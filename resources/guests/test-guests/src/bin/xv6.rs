//! A virtio driver that behaves as xv6-riscv's virtio_disk.c.
//!
//! It wants version 2, a block device and the vendor "QEMU"; it never writes a feature-select register, takes what it
//! reads of the low features but for those that it does not know, and with them not VERSION_1; its queue has 8 entries
//! in three pages; a request is always three descriptors, its data 1024 bytes; an interrupt announces its end,
//! acknowledges it, and walks the used ring.
//!
//! The disk is the first on the command line; it holds [`scenario::pattern`] with seed 1 and has 32 sectors at least.
//! Afterwards block 5 (sectors 10 and 11) is all 0x55, block 6 all 0x66, block 7 all 0x77.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};

use rt::command_line::{self, VirtioSlot};
use rt::dma::Dma;
use rt::interrupts;
use rt::mmio::Mmio;
use rt::wait::{DEVICE_LIMIT, Wait};
use scenario::pattern::{self, SEED};
use scenario::{Outcome, Report, ensure, ensure_eq, fail};

// Registers by offset.
const MAGIC_VALUE: u64 = 0x000;
const VERSION: u64 = 0x004;
const DEVICE_ID: u64 = 0x008;
const VENDOR_ID: u64 = 0x00c;
const DEVICE_FEATURES: u64 = 0x010;
const DRIVER_FEATURES: u64 = 0x020;
const QUEUE_SEL: u64 = 0x030;
const QUEUE_NUM_MAX: u64 = 0x034;
const QUEUE_NUM: u64 = 0x038;
const QUEUE_READY: u64 = 0x044;
const QUEUE_NOTIFY: u64 = 0x050;
const INTERRUPT_STATUS: u64 = 0x060;
const INTERRUPT_ACK: u64 = 0x064;
const STATUS: u64 = 0x070;
const QUEUE_DESC_LOW: u64 = 0x080;
const DRIVER_DESC_LOW: u64 = 0x090;
const DEVICE_DESC_LOW: u64 = 0x0a0;

/// Read-only, SCSI, CONFIG_WCE, MQ, ANY_LAYOUT, EVENT_IDX, INDIRECT_DESC: what xv6 clears.
const NOT_TAKEN: u32 = 1 << 5 | 1 << 7 | 1 << 11 | 1 << 12 | 1 << 27 | 1 << 29 | 1 << 28;

const NUM: usize = 8;
const BLOCK: usize = 1024;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const NO_STATUS: u8 = 0xff;
const PAGE: usize = 4096;

/// How many interrupts came, each after its acknowledgement.
static INTERRUPTS: AtomicU32 = AtomicU32::new(0);

rt::entry!(main);

struct Disk {
    registers: Mmio,
    desc: Dma,
    avail: Dma,
    used: Dma,
    /// A header for each descriptor that can begin a chain.
    ops: Dma,
    /// A status byte for each.
    statuses: Dma,
    free: [bool; NUM],
    used_idx: u16,
    /// Interrupts after which the used ring was walked.
    interrupts: u32,
    done: [bool; NUM],
}

/// Blocks of one request.
#[derive(Clone, Copy)]
struct Chain([usize; 3]);

impl Disk {
    fn new(slot: VirtioSlot) -> Option<Disk> {
        Some(Disk {
            registers: Mmio::outside_ram(slot.base, slot.size)?,
            desc: Dma::new(PAGE, PAGE),
            avail: Dma::new(PAGE, PAGE),
            used: Dma::new(PAGE, PAGE),
            ops: Dma::new(16 * NUM, 16),
            statuses: Dma::new(NUM, 1),
            free: [false; NUM],
            used_idx: 0,
            interrupts: 0,
            done: [false; NUM],
        })
    }

    fn init(&mut self) -> Outcome {
        let r = self.registers;
        ensure_eq!(r.read32(MAGIC_VALUE), 0x7472_6976, "MagicValue");
        ensure_eq!(r.read32(VERSION), 2, "Version");
        ensure_eq!(r.read32(DEVICE_ID), 2, "DeviceID");
        ensure_eq!(r.read32(VENDOR_ID), 0x554d_4551, "VendorID");
        r.write32(STATUS, 0);
        r.write32(STATUS, 1);
        r.write32(STATUS, 1 | 2);
        let features = r.read32(DEVICE_FEATURES) & !NOT_TAKEN;
        r.write32(DRIVER_FEATURES, features);
        r.write32(STATUS, 1 | 2 | 8);
        let status = r.read32(STATUS);
        ensure!(
            status & 8 != 0,
            "FEATURES_OK was taken back: Status {status:#x}, features {features:#x}"
        );
        r.write32(QUEUE_SEL, 0);
        ensure_eq!(r.read32(QUEUE_READY), 0, "QueueReady before the queue is set up");
        let max = r.read32(QUEUE_NUM_MAX);
        ensure!(max >= NUM as u32, "QueueNumMax is {max}, and the queue has {NUM}");
        for page in [self.desc, self.avail, self.used] {
            page.fill(0);
        }
        r.write32(QUEUE_NUM, NUM as u32);
        for (low, page) in [
            (QUEUE_DESC_LOW, self.desc),
            (DRIVER_DESC_LOW, self.avail),
            (DEVICE_DESC_LOW, self.used),
        ] {
            r.write32(low, (page.address() & 0xffff_ffff) as u32);
            r.write32(low + 4, (page.address() >> 32) as u32);
        }
        r.write32(QUEUE_READY, 1);
        self.free = [true; NUM];
        self.used_idx = 0;
        r.write32(STATUS, status | 4);
        Ok(())
    }

    fn alloc_three(&mut self) -> Option<Chain> {
        let mut chain = [0; 3];
        for index in &mut chain {
            *index = self.free.iter().position(|free| *free)?;
            self.free[*index] = false;
        }
        Some(Chain(chain))
    }

    /// Fills three descriptors, makes them available and notifies the device.
    fn begin(&mut self, block: u64, data: Dma, write: bool) -> Result<Chain, scenario::Failure> {
        let Some(chain) = self.alloc_three() else { fail!("no three descriptors are free") };
        let Chain([head, middle, end]) = chain;
        let header = self.ops.part(16 * head, 16);
        header.write(0, u32::from(write));
        header.write(4, 0_u32);
        header.write(8, block * (BLOCK as u64 / 512));
        self.statuses.write(head, NO_STATUS);
        self.done[head] = false;
        self.describe(head, header, NEXT, middle);
        self.describe(middle, data, NEXT | if write { 0 } else { WRITE }, end);
        self.describe(end, self.statuses.part(head, 1), WRITE, 0);
        let idx = self.avail.read::<u16>(2);
        self.avail.write(4 + 2 * (usize::from(idx) % NUM), head as u16);
        self.avail.write(2, idx.wrapping_add(1));
        self.registers.write32(QUEUE_NOTIFY, 0);
        Ok(chain)
    }

    fn describe(&self, index: usize, memory: Dma, flags: u16, next: usize) {
        let entry = self.desc.part(16 * index, 16);
        entry.write(0, memory.address());
        entry.write(8, memory.len() as u32);
        entry.write(12, flags);
        entry.write(14, next as u16);
    }

    /// What xv6 does in its interrupt handler after the acknowledgement.
    fn walk_used(&mut self) -> Outcome {
        while self.used_idx != self.used.read::<u16>(2) {
            let at = 4 + 8 * (usize::from(self.used_idx) % NUM);
            let id = self.used.read::<u32>(at) as usize;
            ensure!(id < NUM, "the used ring names chain {id}");
            ensure_eq!(self.statuses.read::<u8>(id), 0, "status byte of chain {id}");
            self.done[id] = true;
            self.used_idx = self.used_idx.wrapping_add(1);
        }
        Ok(())
    }

    /// Sleeps until all of `chains` are done, as the interrupt reports, and frees them.
    fn finish(&mut self, chains: &[Chain]) -> Outcome {
        let mut outcome = Ok(());
        let in_time = Wait::Interrupt.until(DEVICE_LIMIT, || {
            let interrupts = INTERRUPTS.load(Ordering::Acquire);
            if self.interrupts != interrupts {
                self.interrupts = interrupts;
                outcome = self.walk_used();
            }
            outcome.is_err() || chains.iter().all(|chain| self.done[chain.0[0]])
        });
        outcome?;
        ensure!(
            in_time,
            "no interrupt: InterruptStatus {:#x}, used idx {}, seen {}",
            self.registers.read32(INTERRUPT_STATUS),
            self.used.read::<u16>(2),
            self.used_idx
        );
        for index in chains.iter().flat_map(|chain| chain.0) {
            self.free[index] = true;
        }
        Ok(())
    }

    fn read(&mut self, block: u64, data: Dma) -> Outcome {
        data.fill(0xee);
        let chain = self.begin(block, data, false)?;
        self.finish(&[chain])
    }

    fn write(&mut self, block: u64, data: Dma) -> Outcome {
        let chain = self.begin(block, data, true)?;
        self.finish(&[chain])
    }
}

fn interrupted(base: u64) {
    let Some(registers) = Mmio::outside_ram(base, 0x100) else { return };
    let causes = registers.read32(INTERRUPT_STATUS) & 3;
    registers.write32(INTERRUPT_ACK, causes);
    INTERRUPTS.fetch_add(1, Ordering::AcqRel);
}

fn main() -> u32 {
    let mut report = Report::new();
    interrupts::init();
    let Some((slot, mut disk)) =
        command_line::virtio_slots().find_map(|slot| Some((slot, Disk::new(slot)?)))
    else {
        report.run("find-a-disk", || fail!("no virtio_mmio.device= on the command line"));
        return report.code();
    };
    interrupts::handle(slot.line, interrupted, slot.base);
    let buffer = Dma::new(2 * BLOCK, BLOCK);
    let (one, two) = (buffer.part(0, BLOCK), buffer.part(BLOCK, BLOCK));
    report.run("init", || disk.init());
    if report.code() != 0 {
        return report.code();
    }
    report.run("read", || {
        for block in 0..16 {
            disk.read(block, one)?;
            pattern::check(one, SEED, block * BLOCK as u64)?;
        }
        Ok(())
    });
    report.run("write-and-read-back", || {
        one.fill(0x55);
        disk.write(5, one)?;
        disk.read(5, one)?;
        pattern::check_all(one, 0x55)
    });
    report.run("two-at-once", || {
        one.fill(0x66);
        two.fill(0x77);
        let chains = [disk.begin(6, one, true)?, disk.begin(7, two, true)?];
        disk.finish(&chains)?;
        buffer.fill(0xee);
        let chains = [disk.begin(7, one, false)?, disk.begin(6, two, false)?];
        disk.finish(&chains)?;
        pattern::check_all(one, 0x77)?;
        pattern::check_all(two, 0x66)
    });
    report.run("often-around-the-rings", || {
        for request in 0..100 {
            disk.read(request % 4, one)?;
            pattern::check(one.part(0, 64), SEED, request % 4 * BLOCK as u64)?;
        }
        Ok(())
    });
    report.run("an-interrupt-for-each-request", || {
        let before = INTERRUPTS.load(Ordering::Acquire);
        for _ in 0..10 {
            disk.read(0, one)?;
        }
        let came = INTERRUPTS.load(Ordering::Acquire) - before;
        ensure_eq!(came, 10, "interrupts for 10 requests, one after the other");
        ensure_eq!(
            disk.registers.read32(INTERRUPT_STATUS),
            0,
            "InterruptStatus after the last acknowledgement"
        );
        Ok(())
    });
    report.run("init-again", || {
        disk.init()?;
        disk.read(1, one)?;
        pattern::check(one, SEED, BLOCK as u64)
    });
    report.code()
}
