//! A driver that does as much wrong as it can, as fast as it can, on both devices, without end: for a host that looks
//! what that costs it.
//!
//! The disks are the first over virtio and the one over svirtb; their content does not matter. It prints
//! `flooding`, and then nothing. Whatever a device may write to is in one buffer, or no RAM: it does not hurt itself.
#![no_std]
#![no_main]

use drivers::svirtb;
use drivers::virtio::spec;
use rt::dma::Dma;
use rt::mmio::Mmio;
use rt::println;
use scenario::block::{Block, INDIRECT_DESC};
use scenario::{Outcome, Random, Report};

/// Entries of either ring.
const ENTRIES: u32 = 16;
/// Where no RAM is, and where the address space ends.
const NO_RAM: [u64; 3] = [0xcafe_0000, 0xffff_ffff_0000, u64::MAX - 100];

rt::entry!(main);

struct Flood {
    random: Random,
    virtio: Block,
    svirtb: Mmio,
    /// Rings, tables, headers and data, all over each other.
    memory: Dma,
}

fn main() -> u32 {
    let mut report = Report::new();
    report.run("flood", || {
        let (svirtb, memory) = (svirtb::window(), Dma::new(0x1_0000, 4096));
        let mut flood = Flood { random: Random::new(1), virtio: Block::first()?, svirtb, memory };
        println!("flooding");
        loop {
            flood.break_virtio()?;
            flood.break_svirtb();
            flood.scribble();
        }
    });
    report.code()
}

impl Flood {
    /// An address in the buffer, usually.
    fn address(&mut self) -> u64 {
        match self.random.below(4) {
            0 => NO_RAM[self.random.below(3) as usize],
            // So far from its end that no length below spoils what is behind.
            _ => self.memory.address() + self.random.below(0x8000),
        }
    }

    fn length(&mut self) -> u32 {
        [0, 1, 16, 17, 512, 1024, 0x4000, u32::MAX][self.random.below(8) as usize]
    }

    /// A live device, and a few doorbells with chains of chance.
    fn break_virtio(&mut self) -> Outcome {
        let (block, start) = (self.virtio, self.memory.address());
        block.negotiate(if self.random.once_in(2) { INDIRECT_DESC } else { 0 })?;
        spec::QUEUE_SEL.write(block.window, 0);
        spec::QUEUE_NUM.write(block.window, ENTRIES);
        block.place_queue([start, start + 0x400, start + 0x800]);
        spec::QUEUE_READY.write(block.window, 1);
        block.start()?;
        let mut index: u16 = 0;
        for _ in 0..self.random.within(1, 64) {
            // A little is new each time, for the guest's own time is none of the flood.
            let descriptor = 16 * self.random.below(ENTRIES.into()) as usize;
            let (address, length) = (self.address(), self.length());
            self.memory.write(descriptor, address);
            self.memory.write(descriptor + 8, length);
            self.memory.write(descriptor + 12, self.random.below(9) as u16);
            self.memory.write(descriptor + 14, self.random.below(18) as u16);
            let place = 0x404 + 2 * self.random.below(ENTRIES.into()) as usize;
            self.memory.write(place, self.random.below(18) as u16);
            // Types that there are and that there are not, where a header may be read.
            let header = 0x1000 + 16 * self.random.below(64) as usize;
            self.memory.write(header, self.random.below(20) as u32);
            // Seldom further ahead than there are entries, after which nothing is served.
            index = index.wrapping_add(if self.random.once_in(32) { 20 } else { 1 });
            self.memory.write(0x402, index);
            block.notify(if self.random.once_in(8) { u16::MAX } else { 0 });
        }
        Ok(())
    }

    /// The same with a ring of svirtb's.
    fn break_svirtb(&mut self) {
        let (window, ring) = (self.svirtb, self.memory.address() + 0xc000);
        svirtb::STATUS.write(window, svirtb::RESET);
        svirtb::STATUS.write(window, svirtb::DRIVER_OK);
        svirtb::QUEUE_ADDR_HI.write(window, 0);
        svirtb::QUEUE_ADDR_LO.write(window, (ring & 0xffff_ffff) as u32);
        svirtb::QUEUE_SIZE.write(window, ENTRIES);
        svirtb::STATUS.write(window, svirtb::READY);
        for _ in 0..self.random.within(1, 16) {
            let word = 0xc000 + 8 * self.random.below(4 * u64::from(ENTRIES)) as usize;
            let value = match self.random.below(3) {
                0 => self.address(),
                1 => self.length().into(),
                _ => self.random.below(4),
            };
            self.memory.write(word, value);
            svirtb::QUEUE_HEAD.write(window, self.random.below(18) as u32);
        }
    }

    /// Registers of either device, anywhere, in any width.
    fn scribble(&mut self) {
        for _ in 0..16 {
            let (window, size) = match self.random.below(2) {
                0 => (self.virtio.window, 0x200),
                _ => (self.svirtb, 0x1000),
            };
            let offset = self.random.below(size - 8);
            // No address that is RAM comes of this.
            let value = 0xf000_0000 | self.random.number();
            match self.random.below(5) {
                0 => window.write8(offset, self.random.below(256) as u8),
                1 => window.write16(offset, (value & 0xffff) as u16),
                2 => window.write32(offset & !3, (value & 0xffff_ffff) as u32),
                3 => window.write64(offset, value),
                _ => drop(window.read32(offset)),
            }
        }
    }
}
