//! Commands to a GPU: some as they should be, most with something wrong in them, over rings that are as they should be.
//! The device must answer each of them.

use drivers::virtio::spec::gpu::{
    CONTROL_QUEUE, CURSOR_QUEUE, HEADER_SIZE, MOVE_CURSOR, RESOURCE_ATTACH_BACKING,
    RESOURCE_CREATE_2D, RESOURCE_FLUSH, RESOURCE_UNREF, SET_SCANOUT, TRANSFER_TO_HOST_2D,
    UPDATE_CURSOR,
};
use drivers::virtio::spec::{QUEUE_READY, QUEUE_SEL};
use rt::dma::Dma;
use rt::println;
use scenario::{Device, NO_RAM, Outcome, Piece, Random, Ring, ensure, fail};

use crate::wait_for_all;

/// RESOURCE_DETACH_BACKING.
const DETACH_BACKING: u32 = 0x107;
/// The feature that GET_EDID needs.
const EDID: u64 = 1 << 1;
/// Answers: out of memory.
const OUT_OF_MEMORY: u32 = 0x1201;

/// Commands at once.
const COMMANDS: u16 = 32;
/// Bytes for each, and for its answer: the longest is that of GET_EDID.
const COMMAND: usize = 256;
const ANSWER: usize = HEADER_SIZE + 8 + 1024;
/// Entries of a backing in a page, and how many such pages the longest list has.
const ENTRIES: usize = 256;
const PAGES: u16 = 200;
/// Width and height of most resources: those of a cursor.
const SIDE: u32 = 64;

/// Numbers in place of what should be there.
const WILD: [u32; 14] =
    [0, 1, 2, 16, 63, 65, 128, 1024, 2048, 8192, 8193, 0x7fff_ffff, 0x8000_0000, u32::MAX];

/// A GPU, and the driver's memory.
pub(crate) struct Gpu {
    pub(crate) device: Device,
    control: Ring,
    cursor: Ring,
    commands: Dma,
    answers: Dma,
    /// A page of entries of a backing.
    list: Dma,
    /// What backings are made of.
    pixels: Dma,
    /// How often a command was done, by the last four bits of its type, cursor commands behind the others.
    done: [u32; 32],
    refused: u32,
}

impl Gpu {
    pub(crate) fn new(device: Device) -> Gpu {
        let count = usize::from(COMMANDS);
        Gpu {
            device,
            control: Ring::new(256),
            cursor: Ring::new(16),
            commands: Dma::new(count * COMMAND, 4096),
            answers: Dma::new(count * ANSWER, 8),
            list: Dma::new(16 * ENTRIES, 4096),
            pixels: Dma::new(0x1_0000, 4096),
            done: [0; 32],
            refused: 0,
        }
    }

    /// Whatever a round does seldom; and all room for resources is taken so often that the host would see it if a reset
    /// did not give it back.
    pub(crate) fn reach_limits(&mut self, random: &mut Random) -> Outcome {
        (0..4).chain([1; 8]).try_for_each(|which| {
            self.open(0)?;
            self.seldom(which, random)
        })
    }

    /// A round.
    pub(crate) fn attack(&mut self, features: u64, random: &mut Random) -> Outcome {
        self.open(features | if random.once_in(2) { EDID } else { 0 })?;
        match random.below(16) {
            which @ 0..4 => self.seldom(which, random),
            _ => (0..16).try_for_each(|_| self.burst(random)),
        }
    }

    fn seldom(&mut self, which: u64, random: &mut Random) -> Outcome {
        match which {
            0 => self.hoard(1),
            1 => self.hoard(1024),
            2 => self.hoard_entries(),
            _ => self.leave_busy(random),
        }
    }

    /// Fails unless each command was done at least once, and some were refused.
    pub(crate) fn report(&self) -> Outcome {
        let kinds = (0..8).chain([0xa, 0x10, 0x11]);
        let count = |kind: usize| self.done[kind];
        println!("commands done {}, refused {}", self.done.iter().sum::<u32>(), self.refused);
        for kind in kinds {
            ensure!(count(kind) > 0, "no command of type {kind:#x} was done");
        }
        ensure!(self.refused > 0, "no command was refused");
        Ok(())
    }

    fn open(&mut self, features: u64) -> Outcome {
        let events = features & scenario::block::EVENT_IDX != 0;
        self.device.negotiate(features)?;
        for (queue, ring) in [(CONTROL_QUEUE, &mut self.control), (CURSOR_QUEUE, &mut self.cursor)]
        {
            ring.clear(events);
            self.device.give_queue(queue, ring)?;
        }
        self.device.start()
    }

    /// Commands of chance to either queue, at once, and their answers.
    fn burst(&mut self, random: &mut Random) -> Outcome {
        let on_cursor_queue = random.once_in(4);
        let (queue, most) = if on_cursor_queue { (CURSOR_QUEUE, 4) } else { (CONTROL_QUEUE, 32) };
        let count = random.within(1, most) as u16;
        let mut spaces = [ANSWER; COMMANDS as usize];
        for (n, space) in (0..count).zip(&mut spaces) {
            let kind = match random.below(16) {
                0 => random.number() as u32,
                // Now and then one for the other queue.
                draw if on_cursor_queue == (draw > 1) => 0x300 + random.below(2) as u32,
                _ => 0x100 + random.below(11) as u32,
            };
            let id = random.within(1, 4) as u32;
            let mut body = usual(kind, id);
            while random.once_in(2) {
                body[random.below(8) as usize] = WILD[random.below(WILD.len() as u64) as usize];
            }
            self.write(n, kind, &body);
            if kind == RESOURCE_ATTACH_BACKING {
                self.write_entries(n, random);
            }
            let command = self.command(n);
            let len = if random.once_in(16) { random.below(64) as usize } else { COMMAND };
            // In one buffer or in two.
            let cut = if random.once_in(4) { random.below(len as u64 + 1) as usize } else { 0 };
            if random.once_in(16) {
                *space = random.below(64) as usize;
            }
            let answer = self.answer(n);
            answer.fill(0);
            let pieces = [
                Piece::read(command.part(0, cut)),
                Piece::read(command.part(cut, len - cut)),
                Piece::written(answer.part(0, *space)),
            ];
            // Buffers of no bytes are wrong as well.
            let pieces = if cut == 0 { &pieces[1..] } else { &pieces[..] };
            self.ring(queue).chain(pieces);
        }
        self.run(queue, count)?;
        // Of a shorter one only a part is there.
        let whole = (0..count).zip(spaces).filter(|(_, space)| *space >= HEADER_SIZE);
        whole.map(|(n, _)| n).try_for_each(|n| self.count_answer(n))
    }

    fn command(&self, n: u16) -> Dma {
        self.commands.part(usize::from(n) * COMMAND, COMMAND)
    }

    fn answer(&self, n: u16) -> Dma {
        self.answers.part(usize::from(n) * ANSWER, ANSWER)
    }

    fn ring(&mut self, queue: u16) -> &mut Ring {
        if queue == CONTROL_QUEUE { &mut self.control } else { &mut self.cursor }
    }

    /// Has the device answer the chains that were made, and waits.
    fn run(&mut self, queue: u16, chains: u16) -> Outcome {
        if self.ring(queue).publish() {
            self.device.notify(queue);
        }
        wait_for_all(self.ring(queue), chains)
    }

    /// Command `n`, with what follows its header.
    fn write(&self, n: u16, kind: u32, body: &[u32; 8]) {
        let command = self.command(n);
        command.fill(0);
        command.write(0, kind);
        for (at, word) in (HEADER_SIZE..).step_by(4).zip(body) {
            command.write(at, *word);
        }
    }

    /// Puts command `n` into the control queue.
    fn give(&mut self, n: u16, kind: u32, body: &[u32; 8]) {
        self.write(n, kind, body);
        self.control.chain(&[Piece::read(self.command(n)), Piece::written(self.answer(n))]);
    }

    /// Entries for command `n`, which may be in RAM and have a length.
    fn write_entries(&self, n: u16, random: &mut Random) {
        let command = self.command(n);
        for at in (32..COMMAND).step_by(16) {
            let (mut address, mut len) = (self.pixels.address(), 4096);
            if random.once_in(16) {
                address = NO_RAM[random.below(3) as usize];
            }
            if random.once_in(16) {
                len = WILD[random.below(WILD.len() as u64) as usize];
            }
            command.write(at, address + 4096 * random.below(16));
            command.write(at + 8, len);
        }
    }

    /// Counts the answer to command `n`. Fails if it is none.
    fn count_answer(&mut self, n: u16) -> Outcome {
        let kind = self.command(n).read::<u32>(0);
        match self.answer(n).read::<u32>(0) {
            0x1100..=0x1104 => {
                let place = kind & 0xf | if kind >= UPDATE_CURSOR { 0x10 } else { 0 };
                self.done[place as usize] += 1;
            }
            0x1200..=0x1205 => self.refused += 1,
            other => fail!("command {kind:#x} was answered by {other:#x}"),
        }
        Ok(())
    }

    /// One command as it should be; its answer.
    fn one(&mut self, kind: u32, body: &[u32; 8], pages: u16) -> Result<u32, scenario::Failure> {
        self.write(0, kind, body);
        let (command, answer, list) =
            (Piece::read(self.command(0)), Piece::written(self.answer(0)), Piece::read(self.list));
        // The entries of a long backing are those of a page, again and again.
        let mut pieces = [list; PAGES as usize + 2];
        let len = if pages == 0 { command.len } else { 32 };
        pieces[0] = Piece { len, ..command };
        pieces[usize::from(pages) + 1] = answer;
        self.control.chain(&pieces[..usize::from(pages) + 2]);
        self.run(CONTROL_QUEUE, 1)?;
        self.count_answer(0)?;
        Ok(self.answer(0).read(0))
    }

    /// Resources of this width and height, until the device has no more room for them.
    fn hoard(&mut self, side: u32) -> Outcome {
        for first in (1..10_000).step_by(COMMANDS.into()) {
            for n in 0..COMMANDS {
                let id = first + u32::from(n);
                self.give(n, RESOURCE_CREATE_2D, &[id, 1, side, side, 0, 0, 0, 0]);
            }
            self.run(CONTROL_QUEUE, COMMANDS)?;
            (0..COMMANDS).try_for_each(|n| self.count_answer(n))?;
            if (0..COMMANDS).any(|n| self.answer(n).read::<u32>(0) == OUT_OF_MEMORY) {
                return Ok(());
            }
        }
        fail!("there is no limit for resources of {side}x{side} pixels")
    }

    /// Backings as long as they can be, until the device has no more room for them.
    fn hoard_entries(&mut self) -> Outcome {
        self.write_list(16);
        let entries = u32::from(PAGES) * ENTRIES as u32;
        for id in 1..100 {
            self.one(RESOURCE_CREATE_2D, &[id, 1, 1, 1, 0, 0, 0, 0], 0)?;
            let attach = [id, entries, 0, 0, 0, 0, 0, 0];
            if self.one(RESOURCE_ATTACH_BACKING, &attach, PAGES)? == OUT_OF_MEMORY {
                return Ok(());
            }
        }
        fail!("there is no limit for the entries of backings")
    }

    /// A page of entries, none of which continues the one before.
    fn write_list(&self, len: u32) {
        for n in 0..ENTRIES {
            let entry = self.list.part(16 * n, 16);
            entry.write(0, self.pixels.address());
            entry.write(8, len);
        }
    }

    /// Transfers of many megabytes, which the device is left with: by a reset, or a queue that is taken away, or what
    /// the next round does.
    fn leave_busy(&mut self, random: &mut Random) -> Outcome {
        self.write_list(0x8000);
        let size = [0, 0, 2 * 1024, 1024];
        let create = [1, 1, size[2], size[3], 0, 0, 0, 0];
        self.one(RESOURCE_CREATE_2D, &create, 0)?;
        self.one(RESOURCE_ATTACH_BACKING, &[1, ENTRIES as u32, 0, 0, 0, 0, 0, 0], 1)?;
        self.one(SET_SCANOUT, &[0, 0, size[2], size[3], 0, 1, 0, 0], 0)?;
        for n in 0..12 {
            let (kind, body) = match n % 2 {
                0 => (TRANSFER_TO_HOST_2D, [0, 0, size[2], size[3], 0, 0, 1, 0]),
                _ => (RESOURCE_FLUSH, [0, 0, size[2], size[3], 1, 0, 0, 0]),
            };
            self.give(n, kind, &body);
        }
        self.control.publish();
        self.device.notify(CONTROL_QUEUE);
        match random.below(3) {
            0 => self.device.reset(),
            1 => {
                QUEUE_SEL.write(self.device.window, CONTROL_QUEUE.into());
                QUEUE_READY.write(self.device.window, 0);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// What follows the header of a command that is as it should be, if things before it were: all resources have
/// [`SIDE`] pixels a side, and four entries to their backing.
fn usual(kind: u32, id: u32) -> [u32; 8] {
    match kind {
        RESOURCE_CREATE_2D => [id, 1, SIDE, SIDE, 0, 0, 0, 0],
        RESOURCE_UNREF | DETACH_BACKING => [id, 0, 0, 0, 0, 0, 0, 0],
        SET_SCANOUT => [0, 0, SIDE, SIDE, 0, id, 0, 0],
        RESOURCE_FLUSH => [0, 0, SIDE, SIDE, id, 0, 0, 0],
        TRANSFER_TO_HOST_2D => [0, 0, SIDE, SIDE, 0, 0, id, 0],
        RESOURCE_ATTACH_BACKING => [id, 4, 0, 0, 0, 0, 0, 0],
        UPDATE_CURSOR => [0, 9, 9, 0, id, 1, 1, 0],
        MOVE_CURSOR => [0, 8, 8, 0, 0, 0, 0, 0],
        _ => [0; 8],
    }
}
