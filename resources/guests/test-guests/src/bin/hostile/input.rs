//! An input device: buffers for its events that are none, garbage for its lights, and questions to its configuration
//! that have no answer, over rings that are as they should be.

use drivers::virtio::spec::input::{DATA, EVENT_QUEUE, SELECT, STATUS_QUEUE};
use rt::dma::Dma;
use scenario::{Device, Outcome, Piece, Random, Ring};

use crate::wait_for_all;

/// Entries of either ring.
const ENTRIES: u16 = 64;
/// Bytes of a buffer.
const BUFFER: usize = 64;

/// The driver's memory.
pub(crate) struct Input {
    events: Ring,
    status: Ring,
    buffers: Dma,
}

impl Input {
    pub(crate) fn new() -> Input {
        let buffers = Dma::new(usize::from(ENTRIES) * BUFFER, 8);
        Input { events: Ring::new(ENTRIES), status: Ring::new(ENTRIES), buffers }
    }

    /// A round.
    pub(crate) fn attack(&mut self, device: Device, features: u64, random: &mut Random) -> Outcome {
        device.negotiate(features)?;
        for (queue, ring) in [(EVENT_QUEUE, &mut self.events), (STATUS_QUEUE, &mut self.status)] {
            ring.clear(features & scenario::block::EVENT_IDX != 0);
            device.give_queue(queue, ring)?;
        }
        device.start()?;
        for _ in 0..random.below(u64::from(ENTRIES) + 1) {
            self.events.chain(&[self.buffer(random, true)]);
        }
        self.events.publish();
        device.notify(EVENT_QUEUE);
        for _ in 0..8 {
            let count = random.within(1, ENTRIES.into()) as u16;
            for _ in 0..count {
                let buffer = self.buffer(random, false);
                self.status.chain(&[buffer]);
            }
            if self.status.publish() {
                device.notify(STATUS_QUEUE);
            }
            wait_for_all(&mut self.status, count)?;
            for _ in 0..16 {
                device.window.write8(SELECT.offset, random.below(24) as u8);
                device.window.write8(SELECT.offset + 1, random.below(256) as u8);
                device.window.read32(DATA.offset + random.below(64));
                device.window.write16(SELECT.offset, random.number() as u16);
                device.window.read64(DATA.offset + random.below(0xf8 - 8));
            }
        }
        Ok(())
    }

    /// A buffer with numbers of chance, usually as long as an event, and usually in this direction.
    fn buffer(&self, random: &mut Random, written: bool) -> Piece {
        let buffer = self.buffers.part(BUFFER * random.below(ENTRIES.into()) as usize, BUFFER);
        // Types and codes that there are and that there are not.
        buffer.write(0, random.below(24) as u16);
        buffer.write(2, random.below(4) as u16);
        buffer.write(4, random.number() as u32);
        let len = [1, 7, 8, 8, 8, 9, BUFFER][random.below(7) as usize];
        Piece { written: written != random.once_in(8), ..Piece::read(buffer.part(0, len)) }
    }
}
