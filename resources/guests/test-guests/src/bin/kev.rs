//! A svirtb driver that behaves as the KeV course's: a ring of 4096 entries of 32 bytes; the queue registers in the
//! order high, low, size; one entry a request; the head is written, the tail read once, the status compared with
//! READY, and then the buffer is used. It never polls and takes no interrupt. It knows no capacity: it reads past the
//! end and looks whether the buffer was left untouched.
//!
//! The image holds [`scenario::pattern`] with seed 1, of any length. The guest prints `size N bytes`. Afterwards
//! sector 2 is all 0x22, the last sector all 0x99 as far as there is one, and the image as long as before.
//! The image has 4 sectors at least.
#![no_std]
#![no_main]

use drivers::svirtb::{BASE, window};
use rt::dma::Dma;
use rt::mmio::Mmio;
use rt::println;
use scenario::pattern::{self, SEED};
use scenario::{Outcome, Report, ensure, ensure_eq, fail};

const STATUS: u64 = 0x00;
const QUEUE_SIZE: u64 = 0x04;
const QUEUE_ADDR_HI: u64 = 0x08;
const QUEUE_ADDR_LO: u64 = 0x0c;
const QUEUE_HEAD: u64 = 0x10;
const QUEUE_TAIL: u64 = 0x14;

const MAGIC: u32 = 0x7472_6976;
const DRIVER_OK: u32 = 0;
const READY: u32 = 1;
const RESET: u32 = 2;

const ENTRIES: u32 = 0x1000;
const ENTRY_SIZE: usize = 32;
const SECTOR: usize = 512;

rt::entry!(main);

struct Driver {
    registers: Mmio,
    ring: Dma,
    head: u32,
}

impl Driver {
    fn start(&mut self) -> Outcome {
        let registers = self.registers;
        ensure_eq!(registers.read32(STATUS), MAGIC, "status at {BASE:#x}");
        registers.write32(STATUS, DRIVER_OK);
        ensure_eq!(registers.read32(STATUS), DRIVER_OK, "status after DRIVER_OK");
        registers.write32(QUEUE_ADDR_HI, (self.ring.address() >> 32) as u32);
        registers.write32(QUEUE_ADDR_LO, (self.ring.address() & 0xffff_ffff) as u32);
        registers.write32(QUEUE_SIZE, ENTRIES);
        registers.write32(STATUS, READY);
        ensure_eq!(registers.read32(STATUS), READY, "status after READY");
        self.head = 0;
        Ok(())
    }

    fn finish(&mut self) {
        self.registers.write32(STATUS, RESET);
    }

    fn request(&mut self, sector: u64, buffer: Dma, cmd: u32) -> Outcome {
        let at = self.head as usize * ENTRY_SIZE;
        self.ring.write(at, buffer.address());
        self.ring.write(at + 8, buffer.len() as u64);
        self.ring.write(at + 16, sector);
        self.ring.write(at + 24, cmd);
        // What a C compiler's padding holds is anything.
        self.ring.write(at + 28, 0xdead_beef_u32);
        self.head = (self.head + 1) % ENTRIES;
        self.registers.write32(QUEUE_HEAD, self.head);
        let tail = self.registers.read32(QUEUE_TAIL);
        ensure_eq!(tail, self.head, "queue_tail, read once after the doorbell");
        ensure_eq!(self.registers.read32(STATUS), READY, "status after the doorbell");
        Ok(())
    }

    fn read(&mut self, sector: u64, buffer: Dma) -> Outcome {
        self.request(sector, buffer, 0)
    }

    fn write(&mut self, sector: u64, buffer: Dma) -> Outcome {
        self.request(sector, buffer, 1)
    }

    /// Bytes of `sector` that are there: those that two reads into buffers of different bytes did not leave alone.
    fn bytes_there(&mut self, sector: u64, buffer: Dma) -> Result<usize, scenario::Failure> {
        let mut there = 0;
        for blank in [0x00_u8, 0xff] {
            buffer.fill(blank);
            self.read(sector, buffer)?;
            let touched = (0..SECTOR).rev().find(|&at| buffer.read::<u8>(at) != blank);
            there = there.max(touched.map_or(0, |at| at + 1));
        }
        Ok(there)
    }

    /// The size in bytes, by reading sector after sector until one is not whole.
    fn find_size(&mut self, buffer: Dma) -> Result<u64, scenario::Failure> {
        /// More than any image of these tests.
        const MOST: u64 = 8192;
        for sector in 0..MOST {
            let there = self.bytes_there(sector, buffer)?;
            if there < SECTOR {
                return Ok(sector * SECTOR as u64 + there as u64);
            }
        }
        fail!("sector {MOST} is still there")
    }
}

fn main() -> u32 {
    let mut report = Report::new();
    let mut driver = Driver {
        registers: window(),
        ring: Dma::new(ENTRIES as usize * ENTRY_SIZE, 4096),
        head: 0,
    };
    let buffer = Dma::new(SECTOR, SECTOR);
    let mut size = 0;
    report.run("start", || driver.start());
    report.run("the-size-by-reading-past-the-end", || {
        size = driver.find_size(buffer)?;
        println!("size {size} bytes");
        ensure!(size >= 4 * SECTOR as u64, "the image has {size} bytes, too few for this guest");
        Ok(())
    });
    if size == 0 {
        return report.code();
    }
    let last = (size - 1) / SECTOR as u64;
    let last_bytes = (size - last * SECTOR as u64) as usize;
    report.run("every-sector", || {
        for sector in 0..=last {
            let there = if sector == last { last_bytes } else { SECTOR };
            buffer.fill(0xee);
            driver.read(sector, buffer)?;
            pattern::check(buffer.part(0, there), SEED, sector * SECTOR as u64)?;
        }
        Ok(())
    });
    report.run("write-and-read-back", || {
        buffer.fill(0x22);
        driver.write(2, buffer)?;
        buffer.fill(0xee);
        driver.read(2, buffer)?;
        pattern::check_all(buffer, 0x22)
    });
    report.run("the-last-sector", || {
        buffer.fill(0x99);
        driver.write(last, buffer)?;
        buffer.fill(0xee);
        driver.read(last, buffer)?;
        pattern::check_all(buffer.part(0, last_bytes), 0x99)?;
        for at in last_bytes..SECTOR {
            ensure_eq!(
                buffer.read::<u8>(at),
                0xee,
                "byte {at} of the last sector, which has {last_bytes}"
            );
        }
        Ok(())
    });
    report.run("finish-and-start-again", || {
        driver.finish();
        driver.start()?;
        driver.read(1, buffer)?;
        pattern::check(buffer, SEED, SECTOR as u64)
    });
    report.run("around-the-ring-of-4096", || {
        for request in 0..ENTRIES + 10 {
            let sector = u64::from(request) % 2;
            buffer.write(0, 0_u64);
            driver.read(sector, buffer)?;
            ensure_eq!(
                buffer.read::<u64>(0),
                pattern::word(SEED, sector * SECTOR as u64),
                "word 0 of sector {sector}"
            );
        }
        ensure_eq!(driver.head, 11, "the driver's head");
        Ok(())
    });
    report.run("finish", || {
        driver.finish();
        ensure_eq!(driver.registers.read32(STATUS), MAGIC, "status after RESET");
        Ok(())
    });
    report.code()
}
