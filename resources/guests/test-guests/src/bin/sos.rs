//! A virtio driver that behaves as SOS's (Stephen's OS).
//!
//! It looks at each of 32 slots of 0x200 bytes, wants magic and version 2 of every one, also of an empty one, and a
//! DeviceID of 2 of a disk. It adds each status bit to what it reads back, chooses features in the low word only,
//! without VERSION_1, and writes them twice; its queue of 128 entries lies in one page, its rings not aligned beyond
//! what they need; it never asks for QueueNumMax; it reads the capacity as one 64-bit number.
//!
//! The bank is at 0xfeb00000 and has 32 slots; `bank=ADDRESS` and `slots=N` change that. The first disk in it holds [`scenario::pattern`] with
//! seed 1 and has 32 sectors at least. Afterwards sector 3 begins with "this_is_a_test" and is zero from there.
//! The guest prints `slots N disks M` and `capacity N sectors`.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};

use rt::command_line;
use rt::dma::Dma;
use rt::interrupts;
use rt::mmio::Mmio;
use rt::println;
use rt::wait::{DEVICE_LIMIT, Wait};
use scenario::pattern::{self, SEED};
use scenario::{Outcome, Report, ensure, ensure_eq, fail};

const SLOTS: u64 = 32;
const SLOT_SIZE: u64 = 0x200;
const LEN: u16 = 128;
const SECTOR: usize = 512;
/// FLUSH is no feature that SOS knows how to use; of what it knows it takes none.
const TAKEN: u32 = 0;

/// Offsets in the page of the queue: SOS keeps 40 bytes of its own before the descriptors.
const DESC: usize = 48;
const AVAIL: usize = DESC + 16 * LEN as usize;
const USED: usize = (AVAIL + 4 + 2 * LEN as usize + 2).next_multiple_of(4);

static INTERRUPTS: AtomicU32 = AtomicU32::new(0);

rt::entry!(main);

struct Disk {
    registers: Mmio,
    page: Dma,
    requests: Dma,
    seen_used: u16,
}

/// How SOS steps through the used ring.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Steps {
    /// As it first did: the ring index and the device's index are one number. Right for 128 requests, and no more.
    Plain,
    /// As it does since: both modulo the queue's length.
    Modulo,
}

impl Disk {
    /// From a found device to a live one.
    fn init(&mut self) -> Result<u64, scenario::Failure> {
        let r = self.registers;
        let add = |bit: u32| r.write32(0x070, r.read32(0x070) | bit);
        r.write32(0x070, 0);
        add(1);
        add(2);
        // Its table of features goes through the low word twice and through the high word never.
        for _ in 0..2 {
            r.write32(0x014, 0);
            r.read32(0x010);
            r.write32(0x024, 0);
            r.write32(0x020, TAKEN);
        }
        add(8);
        ensure!(
            r.read32(0x070) & 8 != 0,
            "FEATURES_OK was taken back: Status {:#x}",
            r.read32(0x070)
        );
        self.page.fill(0);
        self.seen_used = 0;
        r.write32(0x030, 0);
        r.write32(0x038, u32::from(LEN));
        for (low, offset) in [(0x080, DESC), (0x090, AVAIL), (0x0a0, USED)] {
            r.write32(low, (self.page.address() & 0xffff_ffff) as u32 + offset as u32);
            r.write32(low + 4, 0);
        }
        r.write32(0x044, 1);
        let capacity = loop {
            let before = r.read32(0x0fc);
            let capacity = r.read64(0x100);
            if r.read32(0x0fc) == before {
                break capacity;
            }
        };
        add(4);
        Ok(capacity)
    }

    /// One request of one sector in descriptors 3n, 3n + 1, 3n + 2, waited for by interrupt.
    fn request(&mut self, n: u16, sector: u64, data: Dma, write: bool, steps: Steps) -> Outcome {
        let first = n * 3 % (LEN - 2);
        let header = self.requests.part(0, 16);
        let status = self.requests.part(16, 1);
        header.write(0, u32::from(write));
        header.write(4, 0_u32);
        header.write(8, sector);
        status.write(0, 0xff_u8);
        self.describe(first, header, 1, first + 1);
        self.describe(first + 1, data, if write { 1 } else { 1 | 2 }, first + 2);
        self.describe(first + 2, status, 2, 0);
        let before = INTERRUPTS.load(Ordering::Acquire);
        let idx = self.page.read::<u16>(AVAIL + 2);
        self.page.write(AVAIL + 4 + 2 * usize::from(idx % LEN), first);
        self.page.write(AVAIL + 2, idx.wrapping_add(1));
        self.registers.write32(0x050, 0);
        let came =
            Wait::Interrupt.until(DEVICE_LIMIT, || INTERRUPTS.load(Ordering::Acquire) != before);
        ensure!(came, "no interrupt: InterruptStatus {:#x}", self.registers.read32(0x060));
        let used = self.page.read::<u16>(USED + 2);
        let end = if steps == Steps::Plain { used } else { used % LEN };
        ensure!(self.seen_used != end, "an interrupt, and the used index is still {used}");
        while self.seen_used != end {
            let id = self.page.read::<u32>(USED + 4 + 8 * usize::from(self.seen_used));
            ensure_eq!(id, u32::from(first), "used ring entry {}", self.seen_used);
            self.seen_used += 1;
            if steps == Steps::Modulo {
                self.seen_used %= LEN;
            }
        }
        ensure_eq!(status.read::<u8>(0), 0, "status byte");
        Ok(())
    }

    fn describe(&self, index: u16, memory: Dma, flags: u16, next: u16) {
        let entry = self.page.part(DESC + 16 * usize::from(index), 16);
        entry.write(0, memory.address());
        entry.write(8, memory.len() as u32);
        entry.write(12, flags);
        entry.write(14, next);
    }
}

fn interrupted(base: u64) {
    let Some(registers) = Mmio::outside_ram(base, SLOT_SIZE) else { return };
    registers.write32(0x064, registers.read32(0x060));
    INTERRUPTS.fetch_add(1, Ordering::AcqRel);
}

/// Every slot of the bank, and the first disk in it.
fn scan(bank: u64, slots: u64) -> Result<Mmio, scenario::Failure> {
    let (mut disks, mut first) = (0, None);
    for number in 0..slots {
        let Some(slot) = Mmio::outside_ram(bank + number * SLOT_SIZE, SLOT_SIZE) else {
            fail!("bank={bank:#x} is where RAM is")
        };
        ensure_eq!(slot.read32(0x000), 0x7472_6976, "MagicValue of slot {number}");
        ensure_eq!(slot.read32(0x004), 2, "Version of slot {number}");
        // Others are empty, or have a device that SOS has no driver for.
        if slot.read32(0x008) == 2 {
            disks += 1;
            first = first.or(Some(slot));
        }
    }
    println!("slots {slots} disks {disks}");
    match first {
        Some(slot) => Ok(slot),
        None => fail!("no disk in the bank at {bank:#x}"),
    }
}

fn main() -> u32 {
    let mut report = Report::new();
    interrupts::init();
    let bank = command_line::number("bank").unwrap_or(0xfeb0_0000);
    let mut found = None;
    report.run("scan", || {
        found = Some(scan(bank, command_line::number("slots").unwrap_or(SLOTS))?);
        Ok(())
    });
    let Some(registers) = found else { return report.code() };
    // SOS knows the line from the slot's number; here the command line gives it.
    let Some(slot) = command_line::virtio_slots().find(|slot| slot.base == registers.base()) else {
        report.run("line", || {
            fail!("the command line does not name the disk at {:#x}", registers.base())
        });
        return report.code();
    };
    interrupts::handle(slot.line, interrupted, slot.base);
    let mut disk =
        Disk { registers, page: Dma::new(4096, 4096), requests: Dma::new(32, 16), seen_used: 0 };
    let buffer = Dma::new(SECTOR, 16);
    report.run("init", || {
        println!("capacity {} sectors", disk.init()?);
        Ok(())
    });
    if report.code() != 0 {
        return report.code();
    }
    report.run("128-requests-with-an-index-that-is-not-taken-modulo", || {
        for n in 0..LEN {
            let sector = u64::from(n % 32);
            disk.request(n, sector, buffer, false, Steps::Plain)?;
            pattern::check(buffer.part(0, 64), SEED, sector * SECTOR as u64)?;
        }
        Ok(())
    });
    report.run("300-requests-modulo-128", || {
        disk.init()?;
        for n in 0..300 {
            let sector = u64::from(n % 32);
            disk.request(n, sector, buffer, false, Steps::Modulo)?;
            pattern::check(buffer.part(0, 64), SEED, sector * SECTOR as u64)?;
        }
        Ok(())
    });
    report.run("blkwrite-and-blkread", || {
        disk.init()?;
        buffer.fill(0);
        buffer.put(0, b"this_is_a_test");
        disk.request(0, 3, buffer, true, Steps::Modulo)?;
        buffer.fill(0xee);
        disk.request(1, 3, buffer, false, Steps::Modulo)?;
        let mut text = [0; 15];
        buffer.get(0, &mut text);
        ensure!(&text == b"this_is_a_test\0", "sector 3 reads {text:x?}");
        Ok(())
    });
    report.code()
}
