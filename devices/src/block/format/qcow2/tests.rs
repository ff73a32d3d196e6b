//! The disk against a vector of bytes, with several lanes, reopened, killed and cut from power at every step.

mod committed;
mod hostile;

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::create::New;
use super::*;
use crate::block::{Access, Disk, Lane, Operation};
use crate::memory::{Buffers, GuestRam};

const SECTOR: usize = 512;
/// The sectors of a test's disk.
const SECTORS: usize = 300;

/// A step of a checkpoint.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Write(u64, Vec<u8>),
    Sync,
}

/// Opens the image at `path`.
pub(super) fn open(path: &Path, access: Access) -> Result<Qcow2Storage, ImageError> {
    Qcow2Storage::open(Image::open(path, Opening::cached(access))?, Backing::Allow)
}

/// An image at `path`, over the content `below`, if there is any.
pub(super) fn create(path: &Path, cluster_bits: u32, size: u64, below: Option<&[u8]>) {
    let backing = below.map(|below| {
        fs::write(path.with_file_name("base.img"), below).unwrap();
        ("base.img", "raw")
    });
    New { backing, size, cluster_bits }.create(path).unwrap();
}

/// A disk on the storage, and lanes to it.
fn lanes(storage: Qcow2Storage) -> Vec<Lane> {
    let size = storage.size();
    let disk = Disk::new(Box::new(storage), "a test's disk".into(), size, false);
    (0..2).map(|_| disk.lane().unwrap()).collect()
}

fn data(bytes: &[u8]) -> Buffers {
    let len = bytes.len() as u64;
    let ram = GuestRam::anonymous(&[(0, bytes.len().next_multiple_of(4096) + 4096)]).unwrap();
    let mut buffers = Buffers::new(ram.clone());
    buffers.push(16, len / 3).unwrap();
    buffers.push(16 + len / 3, len - len / 3).unwrap();
    ram.write(16, bytes).unwrap();
    buffers
}

pub(super) fn read(lane: &mut Lane, offset: usize, len: usize) -> Vec<u8> {
    let (buffers, mut bytes) = (data(&vec![0xee; len]), vec![0; len]);
    lane.run(Operation::Read(buffers.clone()), offset as u64).unwrap();
    assert_eq!(buffers.copy_to(&mut bytes), len);
    bytes
}

fn content(lane: &mut Lane) -> Vec<u8> {
    let len = lane.disk().size() as usize;
    read(lane, 0, len)
}

/// The refcounts of the file that are too high, and too low.
fn wrong_refcounts(path: &Path) -> (u64, u64) {
    let file = fs::File::open(path).unwrap();
    let header = header::Header::read(&file).unwrap();
    let found = refcounts::audit(&file, &header).unwrap();
    (found.high, found.low)
}

#[derive(Debug, Clone)]
enum Act {
    Write { sector: usize, count: usize, byte: u8, durable: bool },
    Zero { sector: usize, count: usize, unmap: bool },
    Discard { sector: usize, count: usize },
    Read { sector: usize, count: usize },
    Flush,
    Reopen,
    Grow,
    Kill,
}

fn act() -> impl Strategy<Value = Act> {
    let range = || {
        let count = prop_oneof![4 => 1..20_usize, 1 => 1..150_usize];
        (0..SECTORS, count).prop_map(|(sector, count)| (sector, count.min(SECTORS - sector)))
    };
    prop_oneof![
        8 => (range(), 1..255_u8, prop::bool::weighted(0.1)).prop_map(|((sector, count), byte, durable)| {
            Act::Write { sector, count, byte, durable }
        }),
        2 => (range(), any::<bool>())
            .prop_map(|((sector, count), unmap)| Act::Zero { sector, count, unmap }),
        1 => range().prop_map(|(sector, count)| Act::Discard { sector, count }),
        4 => range().prop_map(|(sector, count)| Act::Read { sector, count }),
        2 => Just(Act::Flush),
        1 => Just(Act::Reopen),
        1 => Just(Act::Grow),
        2 => Just(Act::Kill),
    ]
}

/// A disk, and what it must have.
struct Model {
    path: PathBuf,
    storage: Qcow2Storage,
    lanes: Vec<Lane>,
    /// The content, as far as it is known: a discarded sector may have old bytes or zeros.
    now: Vec<Option<u8>>,
    /// For each sector, what it had at the last flush and since then.
    since: Vec<Vec<Option<u8>>>,
    turn: usize,
    _dir: tempfile::TempDir,
}

impl Model {
    fn new(cluster_bits: u32, below: Option<usize>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.qcow2");
        let mut now = vec![Some(0); SECTORS];
        let below = below.map(|sectors| {
            let byte = |sector: usize| (sector % 200) as u8 + 1;
            now.iter_mut().take(sectors).enumerate().for_each(|(n, b)| *b = Some(byte(n)));
            (0..sectors).flat_map(|sector| [byte(sector); SECTOR]).collect::<Vec<_>>()
        });
        create(&path, cluster_bits, (SECTORS * SECTOR) as u64, below.as_deref());
        let storage = open(&path, Access::ReadWrite).unwrap();
        let (since, lanes) = (now.iter().map(|b| vec![*b]).collect(), lanes(storage.clone()));
        Self { path, storage, lanes, now, since, turn: 0, _dir: dir }
    }

    fn lane(&mut self) -> &mut Lane {
        self.turn += 1;
        let count = self.lanes.len();
        &mut self.lanes[self.turn % count]
    }

    fn set(&mut self, sector: usize, count: usize, byte: Option<u8>) {
        for n in sector..sector + count {
            self.now[n] = byte;
            self.since[n].push(byte);
        }
    }

    fn flushed(&mut self) {
        self.since = self.now.iter().map(|b| vec![*b]).collect();
    }

    fn perform(&mut self, act: &Act) {
        let at = |sector: usize| (sector * SECTOR) as u64;
        match *act {
            Act::Write { sector, count, byte, durable } => {
                let data = data(&vec![byte; count * SECTOR]);
                self.lane().run(Operation::Write { data, durable }, at(sector)).unwrap();
                self.set(sector, count, Some(byte));
                if durable {
                    (sector..sector + count).for_each(|n| self.since[n] = vec![Some(byte)]);
                }
            }
            Act::Zero { sector, count, unmap } => {
                let zeros = Operation::WriteZeroes { len: at(count), unmap, durable: false };
                self.lane().run(zeros, at(sector)).unwrap();
                self.set(sector, count, Some(0));
            }
            Act::Discard { sector, count } => {
                self.lane().run(Operation::Discard { len: at(count) }, at(sector)).unwrap();
                let seen = read(self.lane(), sector * SECTOR, count * SECTOR);
                for (n, bytes) in (sector..).zip(seen.chunks(SECTOR)) {
                    assert!(bytes.iter().all(|b| *b == 0 || Some(*b) == self.now[n]));
                    self.set(n, 1, Some(bytes[0]));
                }
            }
            Act::Read { sector, count } => {
                let seen = read(self.lane(), sector * SECTOR, count * SECTOR);
                compare(&seen, &self.now[sector..sector + count]);
            }
            Act::Flush => {
                self.lane().run(Operation::Flush, 0).unwrap();
                self.flushed();
            }
            Act::Reopen => self.reopen(),
            Act::Grow => {
                let size = self.now.len() * SECTOR + 7 * SECTOR;
                if size < 4 * SECTORS * SECTOR {
                    self.lanes[0].disk().grow(size as u64).unwrap();
                    self.now.resize(size / SECTOR, Some(0));
                    self.flushed();
                }
            }
            Act::Kill => self.kill(),
        }
    }

    fn reopen(&mut self) {
        self.lanes.clear();
        let empty = open(&self.path.with_file_name("base2"), Access::ReadOnly);
        assert!(empty.is_err());
        let path = self.path.clone();
        let other = path.with_file_name("other.qcow2");
        if !other.exists() {
            create(&other, 16, 512, None);
        }
        self.storage = open(&other, Access::ReadOnly).unwrap();
        assert_eq!(wrong_refcounts(&path), (0, 0));
        assert!(!header::Header::read(&fs::File::open(&path).unwrap()).unwrap().dirty);
        self.storage = open(&path, Access::ReadWrite).unwrap();
        self.lanes = lanes(self.storage.clone());
        let seen = content(&mut self.lanes[0]);
        compare(&seen, &self.now);
        self.flushed();
    }

    /// Looks at what a process that is killed now, or at each step of a flush, leaves; or a power cut.
    fn kill(&mut self) {
        let before = self.path.with_file_name("killed.qcow2");
        self.storage.0.file().steps();
        fs::copy(&self.path, &before).unwrap();
        let image = fs::read(&before).unwrap();
        assert_eq!(wrong_refcounts(&before), (0, 0), "nothing changes between checkpoints");
        self.look_at(&before);
        self.lanes[0].run(Operation::Flush, 0).unwrap();
        let steps = self.storage.0.file().steps();
        // Killed between two steps.
        for count in 0..steps.len() {
            let mut killed = image.clone();
            steps[..count].iter().for_each(|step| apply(&mut killed, step, |_| true));
            fs::write(&before, &killed).unwrap();
            assert_eq!(wrong_refcounts(&before).1, 0, "only leaks, at step {count} of {steps:?}");
            self.look_at(&before);
        }
        // Without power, within each step: what was written since the last sync is there or not.
        for seed in 0..3_u64 {
            let mut synced = image.clone();
            for group in steps.split_inclusive(|step| matches!(step, Step::Sync)) {
                let mut cut = synced.clone();
                let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                for step in group {
                    apply(&mut cut, step, |_| {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        random >> 63 == 0
                    });
                    apply(&mut synced, step, |_| true);
                }
                fs::write(&before, &cut).unwrap();
                self.look_at(&before);
            }
        }
        self.flushed();
    }

    /// Opens a copy of the image: each sector has what it had at the last flush, or later.
    fn look_at(&self, copy: &Path) {
        let storage = open(copy, Access::ReadWrite).unwrap();
        let seen = content(&mut lanes(storage)[0]);
        for (n, bytes) in seen.chunks(SECTOR).enumerate() {
            let allowed = |b: &Option<u8>| b.is_none_or(|b| bytes.iter().all(|byte| *byte == b));
            assert!(self.since[n].iter().any(allowed), "sector {n}: {:?}", self.since[n]);
        }
        assert_eq!(wrong_refcounts(copy), (0, 0));
    }
}

/// Applies the sectors of a write that `keeps` keeps.
fn apply(image: &mut Vec<u8>, step: &Step, mut keeps: impl FnMut(usize) -> bool) {
    let Step::Write(offset, bytes) = step else { return };
    let mut at = *offset as usize;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let len = (SECTOR - at % SECTOR).min(rest.len());
        if keeps(at) {
            image.resize(image.len().max(at + len), 0);
            image[at..at + len].copy_from_slice(&rest[..len]);
        }
        (at, rest) = (at + len, &rest[len..]);
    }
}

fn compare(seen: &[u8], wanted: &[Option<u8>]) {
    for (n, (bytes, wanted)) in seen.chunks(SECTOR).zip(wanted).enumerate() {
        if let Some(byte) = wanted {
            assert!(bytes.iter().all(|b| b == byte), "sector {n}: {:?}, not {byte}", &bytes[..4]);
        }
    }
}

fn play(cluster_bits: u32, below: Option<usize>, acts: &[Act]) {
    let mut model = Model::new(cluster_bits, below);
    acts.iter().for_each(|act| model.perform(act));
    model.reopen();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn small_clusters(acts in prop::collection::vec(act(), 0..60)) {
        play(9, None, &acts);
    }

    #[test]
    fn large_clusters(acts in prop::collection::vec(act(), 0..40)) {
        play(16, None, &acts);
    }

    #[test]
    fn over_an_image(acts in prop::collection::vec(act(), 0..60)) {
        play(12, Some(SECTORS), &acts);
    }

    #[test]
    fn over_a_smaller_image(acts in prop::collection::vec(act(), 0..60)) {
        play(11, Some(SECTORS / 2 + 3), &acts);
    }
}
