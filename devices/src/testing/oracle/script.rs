//! A machine with one disk, twice: the device and its model; and the steps of its guest.

use std::path::Path;
use std::sync::Arc;

use super::machine::{DATA_END, Machine, RAM, RINGS};
use super::model::{Model, Queue, Tally};
use crate::block::format::Snapshot;
use crate::block::{Access, Disk, EngineKind, Image, Opening, Operation, Storage};
use crate::bus::BusDevice;
use crate::memory::{Buffers, GuestRam};
use crate::observe::Tap;
use crate::testing::input::Input;
use crate::testing::virtio_driver::reg;
use crate::testing::{CountingLine, Held, HeldStorage, SettledStorage, WatchedImage};
use crate::virtio::blk::{self, Blk};
use crate::virtio::mmio::{Mmio, MmioOptions, Version};

/// A ring as the guest has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ring {
    pub(super) at: Queue,
    pub(super) idx: u16,
    /// Descriptors in use since the last doorbell, and the step from one to the next.
    pub(super) in_use: u16,
    pub(super) step: u16,
}

enum Backing {
    Memory(WatchedImage),
    File(std::path::PathBuf),
    /// The disk is a snapshot of the file, which goes on to hold this.
    Snapshot(std::path::PathBuf, Vec<u8>, Snapshot),
}

impl Backing {
    /// Whether the disk holds what it does in the model.
    fn holds(&self, model: &Model) -> bool {
        match self {
            Self::Memory(image) => image.holds(&model.image, &model.stable),
            Self::File(path) => std::fs::read(path).unwrap() == model.image,
            Self::Snapshot(path, image, storage) => {
                // Seen by a lane of its own, while the guest's requests are held back.
                let len = model.image.len();
                let ram = GuestRam::anonymous(&[(0, len.next_multiple_of(4096))]).unwrap();
                let data = Buffers::single(ram.clone(), 0, len as u64).unwrap();
                let disk = Disk::new(Box::new(storage.clone()), String::new(), len as u64, true);
                disk.lane().unwrap().run(Operation::Read(data), 0).unwrap();
                let mut found = vec![0; len];
                ram.read_into(0, &mut found).unwrap();
                found == model.image && std::fs::read(path).unwrap() == *image
            }
        }
    }
}

/// The device and its model, and the guest of both.
pub(super) struct World {
    mmio: Mmio,
    blk: Arc<Blk>,
    ram: GuestRam,
    line: CountingLine,
    helper: CountingLine,
    held: Option<Held>,
    backing: Backing,
    generation: u32,
    pub(super) model: Model,
    pub(super) rings: Vec<Option<Ring>>,
    /// What the guest did, to explain a difference.
    history: Vec<String>,
}

/// Plays the script that `bytes` are, on an image in memory; what went through.
///
/// # Panics
///
/// If the device does not do as the model.
pub fn play(bytes: &[u8]) -> Tally {
    let mut input = Input::new(bytes);
    let machine = Machine::choose(&mut input);
    let contents = contents(&mut input);
    let image = WatchedImage::new(&contents);
    let storage = Box::new(image.clone());
    World::new(machine, &contents, storage, Backing::Memory(image)).run(&mut input)
}

/// The same on an image file, which is made at `path`, with `engine`.
///
/// # Panics
///
/// If the device does not do as the model, or the file cannot be used.
pub fn play_on(path: &Path, engine: EngineKind, bytes: &[u8]) -> Tally {
    let mut input = Input::new(bytes);
    let (machine, contents, direct) = on_file(path, &mut input);
    let access = if machine.read_only { Access::ReadOnly } else { Access::ReadWrite };
    let direct = direct && engine != EngineKind::Mmap;
    let image = Image::open(path, Opening { direct, ..Opening::cached(access) }).unwrap();
    let mut storage = engine.storage(image).unwrap();
    if engine != EngineKind::Sync {
        // The model carries out one request after the other.
        storage = Box::new(SettledStorage::new(storage));
    }
    World::new(machine, &contents, storage, Backing::File(path.to_owned())).run(&mut input)
}

/// The same on a snapshot of an image file, which is made at `path`.
///
/// # Panics
///
/// If the device does not do as the model, the file changes, or cannot be used.
pub fn play_on_a_snapshot_of(path: &Path, bytes: &[u8]) -> Tally {
    let mut input = Input::new(bytes);
    let (machine, contents, direct) = on_file(path, &mut input);
    let opening = Opening { direct, ..Opening::cached(Access::ReadOnly) };
    let dir = path.parent().unwrap();
    let storage = Snapshot::new(Image::open(path, opening).unwrap(), dir).unwrap();
    let backing = Backing::Snapshot(path.to_owned(), contents.clone(), storage.clone());
    World::new(machine, &contents, Box::new(storage), backing).run(&mut input)
}

/// Chooses a machine and makes its image; with them, whether it goes past the page cache.
fn on_file(path: &Path, input: &mut Input<'_>) -> (Machine, Vec<u8>, bool) {
    let mut machine = Machine::choose(input);
    let contents = contents(input);
    let direct = input.clone().one_in(2);
    std::fs::write(path, &contents).unwrap();
    // Some hosts cannot free what is discarded, and leave it as it is.
    let disk = Disk::from_image(Image::open(path, Opening::cached(Access::ReadWrite)).unwrap());
    disk.lane().unwrap().run(Operation::Discard { len: contents.len() as u64 }, 0).unwrap();
    machine.punches = std::fs::read(path).unwrap().iter().all(|byte| *byte == 0);
    std::fs::write(path, &contents).unwrap();
    (machine, contents, direct)
}

/// An image of 40 to 71 sectors, and now and then a ragged end.
fn contents(input: &mut Input<'_>) -> Vec<u8> {
    let sectors = 40 + input.below(32);
    let ragged = if input.one_in(4) { input.below(512) } else { 0 };
    (0..sectors * 512 + ragged).map(|n| (n / 512 + n % 7) as u8 | 1).collect()
}

impl World {
    fn new(machine: Machine, image: &[u8], storage: Box<dyn Storage>, backing: Backing) -> Self {
        let (line, helper) = (CountingLine::default(), CountingLine::default());
        let (storage, held): (Box<dyn Storage>, _) = if machine.held {
            let storage = HeldStorage::new(storage);
            let held = storage.held();
            (Box::new(storage), Some(held))
        } else {
            (storage, None)
        };
        let disk = Disk::new(storage, "the oracle's".into(), image.len() as u64, machine.read_only);
        let options = blk::BlkOptions {
            id: "the oracle".into(),
            queues: machine.queues,
            queue_size: machine.queue_max,
            block_size: machine.block_size,
            writeback: machine.writeback,
        };
        let blk = Blk::new("virtio0", &disk, &options, Tap::default()).unwrap();
        let blk = Arc::new(blk);
        let ram = GuestRam::anonymous(&RAM).unwrap();
        let options = MmioOptions {
            version: if machine.legacy { Version::Legacy } else { Version::Modern },
            leftover: machine.helper.then(|| Arc::new(helper.clone()) as _),
            ..MmioOptions::default()
        };
        let mmio = Mmio::new(blk.clone(), ram.clone(), Arc::new(line.clone()), options);
        let rings = vec![None; machine.queues.into()];
        let model = Model::new(machine, image);
        let (generation, history) = (0, Vec::new());
        Self { mmio, blk, ram, line, helper, held, backing, generation, model, rings, history }
    }

    fn run(mut self, input: &mut Input<'_>) -> Tally {
        let mut first = true;
        while !input.is_over() && self.history.len() < 300 {
            // A driver whose device needs a reset mostly resets it.
            let stuck = self.model.queues.is_empty() || self.model.needs_reset;
            if std::mem::take(&mut first) || stuck && !input.one_in(8) {
                self.history.push("handshake".into());
                self.handshake(input);
            } else {
                self.step(input);
            }
            self.compare();
        }
        self.model.tally
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let queue = input.below(self.model.machine.queues.into()) as usize;
        let name = match input.byte() {
            0..160 => return self.batch(input, queue),
            160..170 => {
                let addr = u64::from(input.below(DATA_END));
                self.poke(addr, &[input.byte(); 40]);
                "poke"
            }
            170..180 => {
                let bits = input.pick(&[3, 1, 2, 0, 4, u32::MAX], 3);
                self.set(reg::INTERRUPT_ACK, bits);
                self.model.pending &= !bits;
                "acknowledge"
            }
            180..188 => {
                let value = input.pick(&[0, 1, 2], 0);
                self.mmio.write(reg::CONFIG + 32, &[value]);
                if value < 2 {
                    self.model.switch(value == 1);
                }
                "switch the cache"
            }
            188..200 => {
                self.reset_queue(input, queue);
                "reset a queue"
            }
            200..208 => {
                let now = self.model.image.len();
                let bytes =
                    if input.one_in(4) { now / 2 } else { now + input.below(2000) as usize };
                let changed = self.model.resize(bytes);
                self.generation += u32::from(changed);
                let grows = bytes > now && !self.model.machine.read_only;
                let done = if self.mmio_resize(bytes) { bytes > now } else { false };
                assert_eq!(done, grows, "resize to {bytes}");
                "resize"
            }
            208..218 => {
                self.mmio.service_unfinished();
                let mut unfinished = std::mem::take(&mut self.model.unfinished);
                unfinished.sort_unstable();
                for index in unfinished {
                    self.model.serve(index);
                }
                "go on"
            }
            218..232 => {
                for _ in 0..=input.below(4) {
                    let at = input.below(3) as usize;
                    let released = self.held.as_ref().is_some_and(|held| held.release(at));
                    // Without a hold nothing waits in the model either.
                    assert_eq!(self.model.release(at), released);
                }
                "release"
            }
            232..244 => {
                if let Some(ring) = self.rings[queue] {
                    let event = ring.at.avail + 4 + 2 * u64::from(ring.at.size);
                    let next = ring.idx.wrapping_add(input.byte().into()).wrapping_sub(4);
                    self.poke(event, &next.to_le_bytes());
                    self.poke(ring.at.avail, &[input.byte() & 1, 0]);
                }
                "ask for interrupts"
            }
            244..249 => {
                let value = input.pick(&[0, 1, 2, 0xffff, 0x1_0000, u32::MAX], 0);
                self.kick(value);
                "ring"
            }
            249..252 => {
                let addr = RINGS + u64::from(input.below(0x8000));
                self.poke(addr, &[input.byte(), input.byte()]);
                "poke a ring"
            }
            252.. => {
                self.handshake(input);
                "handshake"
            }
        };
        self.history.push(format!("{name} ({queue})"));
    }

    fn mmio_resize(&mut self, bytes: usize) -> bool {
        self.mmio.reconfigure(|| self.blk.resize(bytes as u64)).is_ok()
    }

    /// A few requests, mostly with a doorbell behind them.
    fn batch(&mut self, input: &mut Input<'_>, queue: usize) {
        let mut names = Vec::new();
        for _ in 0..=input.below(4) {
            names.extend(self.offer(input, queue));
        }
        if !input.one_in(16) {
            self.kick(queue as u32);
            names.push("ring".into());
        }
        self.history.push(format!("queue {queue}: {}", names.join("; ")));
    }

    fn kick(&mut self, queue: u32) {
        self.set(reg::QUEUE_NOTIFY, queue);
        self.model.serve(queue as usize);
        if let Some(Some(ring)) = self.rings.get_mut(queue as usize) {
            ring.in_use = 0;
        }
    }

    /// The guest writes to its RAM, where it is RAM.
    pub(super) fn poke(&mut self, addr: u64, bytes: &[u8]) {
        if self.model.memory.has(addr, bytes.len() as u64) {
            self.model.memory.put(addr, bytes);
            self.ram.write(addr, bytes).unwrap();
        }
    }

    pub(super) fn set(&mut self, register: u64, value: u32) {
        self.mmio.write(register, &value.to_le_bytes());
    }

    pub(super) fn get(&mut self, register: u64) -> u32 {
        let mut data = [0; 4];
        self.mmio.read(register, &mut data);
        u32::from_le_bytes(data)
    }

    /// All that anybody can see must be as in the model.
    fn compare(&mut self) {
        let (machine, history) = (self.model.machine, std::mem::take(&mut self.history));
        let context = || format!("{machine:?}\n  {}", history.join("\n  "));
        for (base, expected) in self.model.memory.ranges() {
            let mut found = vec![0; expected.len()];
            self.ram.read_into(base, &mut found).unwrap();
            if found != expected {
                let at = (0..found.len()).find(|at| found[*at] != expected[*at]).unwrap();
                let (found, expected) = (found[at], expected[at]);
                panic!("RAM at {base:#x}+{at:#x} is {found:#x}, not {expected:#x}: {}", context());
            }
        }
        assert!(self.backing.holds(&self.model), "the images differ: {}", context());
        let raised = std::mem::take(&mut self.model.raised);
        assert_eq!([self.line.take(), self.helper.take()], raised, "interrupts: {}", context());
        let waiting = self.held.as_ref().map_or(0, Held::waiting);
        assert_eq!(waiting, self.model.waiting(), "in flight: {}", context());
        let model = &self.model;
        let (pending, needs_reset) = (model.pending, model.needs_reset);
        let expected = (pending, needs_reset, model.writeback, model.capacity);
        let mut config = [0; 40];
        for (at, bytes) in (0..).zip(config.chunks_mut(4)) {
            self.mmio.read(reg::CONFIG + 4 * at, bytes);
        }
        let capacity = u64::from_le_bytes(config[..8].try_into().unwrap());
        let status = self.get(reg::STATUS);
        let found = (self.get(reg::INTERRUPT_STATUS), status & 64 != 0, config[32] == 1, capacity);
        assert_eq!(found, expected, "interrupts, NEEDS_RESET, writeback, capacity: {}", context());
        if !self.model.machine.legacy {
            assert_eq!(
                self.get(reg::CONFIG_GENERATION),
                self.generation,
                "generation: {}",
                context()
            );
        }
        self.history = history;
    }
}
