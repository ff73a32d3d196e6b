//! A driver that does as much wrong as it can, as fast as it can, on both devices, without end: for a host that looks
//! what that costs it.
//!
//! The disks are the first over virtio and the one over svirtb; their content does not matter. It prints
//! `flooding`, and then nothing. Whatever a device may write to is in one buffer, or no RAM: it does not hurt itself.
#![no_std]
#![no_main]

use drivers::svirtb;
use rt::mmio::Mmio;
use rt::println;
use scenario::block::{Block, INDIRECT_DESC};
use scenario::{Outcome, Random, Report, Tangle, scribble};

/// Entries of svirtb's ring.
const ENTRIES: u32 = 16;

rt::entry!(main);

struct Flood {
    random: Random,
    virtio: Block,
    svirtb: Mmio,
    tangle: Tangle,
}

fn main() -> u32 {
    let mut report = Report::new();
    report.run("flood", || {
        let (svirtb, tangle) = (svirtb::window(), Tangle::new(&[0]));
        let mut flood = Flood { random: Random::new(1), virtio: Block::first()?, svirtb, tangle };
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
    /// A live device, and a few doorbells with chains of chance.
    fn break_virtio(&mut self) -> Outcome {
        let features = if self.random.once_in(2) { INDIRECT_DESC } else { 0 };
        self.tangle.start(*self.virtio, features, 1)?;
        self.tangle.ring(*self.virtio, 1, &mut self.random);
        Ok(())
    }

    /// The same with a ring of svirtb's.
    fn break_svirtb(&mut self) {
        let (window, memory) = (self.svirtb, self.tangle.memory);
        let ring = memory.address() + Tangle::OWN as u64;
        svirtb::STATUS.write(window, svirtb::RESET);
        svirtb::STATUS.write(window, svirtb::DRIVER_OK);
        svirtb::QUEUE_ADDR_HI.write(window, 0);
        svirtb::QUEUE_ADDR_LO.write(window, (ring & 0xffff_ffff) as u32);
        svirtb::QUEUE_SIZE.write(window, ENTRIES);
        svirtb::STATUS.write(window, svirtb::READY);
        for _ in 0..self.random.within(1, 16) {
            let word = Tangle::OWN + 8 * self.random.below(4 * u64::from(ENTRIES)) as usize;
            let value = match self.random.below(3) {
                0 => self.tangle.address(&mut self.random),
                1 => self.tangle.length(&mut self.random).into(),
                _ => self.random.below(4),
            };
            memory.write(word, value);
            svirtb::QUEUE_HEAD.write(window, self.random.below(18) as u32);
        }
    }

    /// Registers of either device.
    fn scribble(&mut self) {
        for _ in 0..16 {
            let (window, size) = match self.random.below(2) {
                0 => (self.virtio.window, 0x200),
                _ => (self.svirtb, 0x1000),
            };
            scribble(window, size, &mut self.random);
        }
    }
}
