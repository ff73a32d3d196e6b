//! A broken driver: rings, tables, headers and data all over each other, and registers written at random.

use drivers::virtio::spec;
use rt::dma::Dma;
use rt::mmio::Mmio;

use crate::{Device, Outcome, Random};

/// Entries of each ring.
const ENTRIES: u32 = 16;
/// Where no RAM is, and where the address space ends.
pub const NO_RAM: [u64; 3] = [0xcafe_0000, 0xffff_ffff_0000, u64::MAX - 100];

/// Where in the memory a ring's descriptor table, its available ring and its used ring are.
const AREAS: [u64; 3] = [0, 0x400, 0x800];
/// Where headers of requests may be.
const HEADERS: usize = 0x1000;

/// The memory of such a driver. Whatever a device may write to is in there, or no RAM: the guest does not hurt itself.
#[derive(Clone, Copy, Debug)]
pub struct Tangle {
    /// All of it, [`Tangle::SIZE`] bytes.
    pub memory: Dma,
    /// The types of requests are below 20, or so much above one of these.
    kinds: &'static [u32],
}

impl Tangle {
    /// The bytes of the memory. [`Tangle::OWN`] and what follows is for the caller.
    pub const SIZE: usize = 0x1_0000;
    /// Up to here rings and buffers may be.
    pub const OWN: usize = 0xc000;

    /// Memory for a device whose requests have types from these numbers on.
    pub fn new(kinds: &'static [u32]) -> Tangle {
        Tangle { memory: Dma::new(Tangle::SIZE, 4096), kinds }
    }

    /// An address in the memory, usually.
    pub fn address(self, random: &mut Random) -> u64 {
        match random.below(4) {
            0 => NO_RAM[random.below(3) as usize],
            // So far from its end that no length below spoils what is behind.
            _ => self.memory.address() + random.below(0x8000),
        }
    }

    /// A length.
    pub fn length(self, random: &mut Random) -> u32 {
        [0, 1, 16, 17, 512, 1024, 0x4000, u32::MAX][random.below(8) as usize]
    }

    /// Makes the device live, with `queues` queues that have the same memory.
    pub fn start(self, device: Device, features: u64, queues: u32) -> Outcome {
        device.negotiate(features)?;
        for queue in 0..queues {
            spec::QUEUE_SEL.write(device.window, queue);
            spec::QUEUE_NUM.write(device.window, ENTRIES);
            device.place_queue(AREAS.map(|at| self.memory.address() + at));
            spec::QUEUE_READY.write(device.window, 1);
        }
        device.start()
    }

    /// Doorbells with chains of chance.
    pub fn ring(self, device: Device, queues: u64, random: &mut Random) {
        let mut index: u16 = 0;
        for _ in 0..random.within(1, 64) {
            // A little is new each time, for the guest's own time is none of the attack.
            let descriptor = 16 * random.below(ENTRIES.into()) as usize;
            let (address, length) = (self.address(random), self.length(random));
            self.memory.write(descriptor, address);
            self.memory.write(descriptor + 8, length);
            self.memory.write(descriptor + 12, random.below(9) as u16);
            self.memory.write(descriptor + 14, random.below(18) as u16);
            let place = AREAS[1] as usize + 4 + 2 * random.below(ENTRIES.into()) as usize;
            self.memory.write(place, random.below(18) as u16);
            // Types that there are and that there are not, where a header may be read.
            let header = HEADERS + 16 * random.below(64) as usize;
            let kind = self.kinds[random.below(self.kinds.len() as u64) as usize];
            self.memory.write(header, kind + random.below(20) as u32);
            // Seldom further ahead than there are entries, after which nothing is served.
            index = index.wrapping_add(if random.once_in(32) { 20 } else { 1 });
            self.memory.write(AREAS[1] as usize + 2, index);
            device.notify(if random.once_in(8) { u16::MAX } else { random.below(queues) as u16 });
        }
    }
}

/// Accesses a register of `window`, which has `size` bytes, anywhere and in any width.
pub fn scribble(window: Mmio, size: u64, random: &mut Random) {
    let offset = random.below(size - 8);
    // No address that is RAM comes of this.
    let value = 0xf000_0000 | random.number();
    match random.below(5) {
        0 => window.write8(offset, random.below(256) as u8),
        1 => window.write16(offset, (value & 0xffff) as u16),
        2 => window.write32(offset & !3, (value & 0xffff_ffff) as u32),
        3 => window.write64(offset, value),
        _ => drop(window.read32(offset)),
    }
}
