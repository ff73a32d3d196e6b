//! Snapshots against a vector of bytes, on every kind of engine; and requests in flight.

mod layer;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::block::{
    Access, BlockError, Completion, Disk, Image, ImageError, ImageStorage, Lane, Opening,
    Operation, Request, Storage,
};
use crate::memory::{Buffers, GuestRam};
use crate::testing::{Fault, FaultStorage, HeldStorage, LateStorage, WatchedImage};

const SECTOR: u64 = 512;
const LANES: usize = 3;
const RO: Opening = Opening::cached(Access::ReadOnly);

fn ram(len: u64) -> GuestRam {
    GuestRam::anonymous(&[(0, len.next_multiple_of(4096) as usize)]).unwrap()
}

/// Buffers with these bytes, in two pieces, each of them anywhere.
fn data(bytes: &[u8]) -> Buffers {
    let len = bytes.len() as u64;
    let ram = ram(len + 16);
    let mut buffers = Buffers::new(ram.clone());
    buffers.push(16, len / 3).unwrap();
    buffers.push(16 + len / 3, len - len / 3).unwrap();
    ram.write(16, bytes).unwrap();
    buffers
}

fn write(bytes: &[u8]) -> Operation {
    Operation::Write { data: data(bytes), durable: false }
}

fn read(lane: &mut Lane, offset: u64, len: usize) -> Vec<u8> {
    let (buffers, mut bytes) = (data(&vec![0; len]), vec![0; len]);
    lane.run(Operation::Read(buffers.clone()), offset).unwrap();
    assert_eq!(buffers.copy_to(&mut bytes), len);
    bytes
}

/// Each sector has its number plus 1.
fn numbered(sectors: u64) -> Vec<u8> {
    (0..sectors * SECTOR).map(|at| (at / SECTOR % 251) as u8 + 1).collect()
}

fn disk(storage: impl Storage + 'static, size: u64) -> Disk {
    Disk::new(Box::new(storage), "a test's disk".into(), size, false)
}

/// A snapshot of `bytes` with both stores in memory, and these.
fn in_memory(bytes: &[u8]) -> (Snapshot, WatchedImage, WatchedImage) {
    let (base, layer) = (WatchedImage::new(bytes), WatchedImage::new(&vec![0; bytes.len()]));
    let stores: [Box<dyn Storage>; 2] = [Box::new(base.clone()), Box::new(layer.clone())];
    let [first, second] = stores;
    (Snapshot::over(first, bytes.len() as u64, second, "the layer".into()), base, layer)
}

/// One of several snapshots of the image at `path`.
fn snapshot(kind: u8, path: &std::path::Path) -> Box<dyn Storage> {
    let image = |direct| Image::open(path, Opening { direct, ..RO }).unwrap();
    let dir = path.parent().unwrap();
    let late =
        |storage: Image| LateStorage::new(Box::new(ImageStorage::new(storage)), Duration::ZERO);
    let held = |storage: Image| HeldStorage::new(Box::new(ImageStorage::new(storage)));
    let size = image(false).size();
    let layer = || Image::layer(dir, size, false).unwrap();
    let name = || "the layer".to_owned();
    match kind {
        0 => Box::new(Snapshot::new(image(false), dir).unwrap()),
        1 => Box::new(Snapshot::new(image(true), dir).unwrap()),
        2 => {
            let (base, layer) = (Box::new(late(image(false))), Box::new(late(layer())));
            Box::new(Snapshot::over(base, size, layer, name()))
        }
        3 => {
            let (base, layer) = (Box::new(ImageStorage::new(image(false))), late(layer()));
            Box::new(Snapshot::over(base, size, Box::new(layer), name()))
        }
        4 => {
            let (base, layer) = (Box::new(held(image(false))), Box::new(held(layer())));
            Box::new(Snapshot::over(base, size, layer, name()))
        }
        _ => {
            let whole = Snapshot::new(image(false), dir).unwrap();
            Box::new(LateStorage::new(Box::new(whole), Duration::ZERO))
        }
    }
}

/// Requests of one round: none touches a sector of another one. (kind, first byte in its part, length, value).
type Round = Vec<(u8, u16, u16, u8)>;

fn rounds() -> impl Strategy<Value = (u8, u16, Vec<(Round, u16)>)> {
    let request = (0..8u8, any::<u16>(), any::<u16>(), any::<u8>());
    let round = (prop::collection::vec(request, 1..10), 0..3000u16);
    (0..6u8, 1..20_000u16, prop::collection::vec(round, 1..12))
}

/// Waits until all requests of the lanes are completed.
fn settle(lanes: &mut [Lane]) -> Vec<Completion> {
    let mut done = Vec::new();
    for lane in lanes {
        lane.commit();
        lane.reap(&mut done);
        while lane.in_flight() > 0 {
            lane.wait(Duration::from_secs(10));
            lane.reap(&mut done);
        }
    }
    done
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_is_a_disk_and_its_image_stays((kind, size, rounds) in rounds()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.img");
        let image: Vec<u8> = (0..u32::from(size)).map(|at| (at / 512 + at % 7) as u8).collect();
        fs::write(&path, &image).unwrap();
        let disk = Disk::new(snapshot(kind, &path), "a test's disk".into(), size.into(), false);
        let mut lanes: Vec<_> = (0..LANES).map(|_| disk.lane().unwrap()).collect();
        let mut model = image.clone();
        for (round, growth) in rounds {
            let sectors = model.len().div_ceil(512);
            let part = sectors.div_ceil(round.len()) * 512;
            let mut expected = Vec::new();
            for (n, (kind, first, len, value)) in round.into_iter().enumerate() {
                let (from, to) = (n * part, ((n + 1) * part).min(model.len()));
                if from >= to {
                    continue;
                }
                // Mostly whole sectors, as the protocols have them.
                let unit = if kind % 4 == 3 { 1 } else { 512 };
                let from = from + usize::from(first) % (to - from) / unit * unit;
                let len = usize::from(len) % (to - from + 1) / unit * unit;
                let (place, bytes) = (from..from + len, vec![value; len]);
                let flag = value % 2 == 0;
                let operation = match kind % 8 {
                    0 | 3 => Operation::Write { data: data(&bytes), durable: flag },
                    1 | 7 => Operation::WriteZeroes { len: len as u64, unmap: flag, durable: !flag },
                    2 => Operation::Discard { len: len as u64 },
                    4 if flag => Operation::Flush,
                    _ => Operation::Read(data(&bytes)),
                };
                expected.push((operation.clone(), place));
                lanes[n % LANES].push(Request { tag: n as u64, operation, offset: from as u64 });
            }
            let done = settle(&mut lanes);
            prop_assert_eq!(done.len(), expected.len());
            for completion in done {
                prop_assert!(completion.result.is_ok(), "{:?}", completion);
                let at = expected.iter().position(|(_, place)| place.start as u64 == completion.request.offset);
                let (operation, place) = expected.swap_remove(at.unwrap());
                prop_assert_eq!(completion.transferred, operation.len());
                match (&completion.request.operation, operation) {
                    (Operation::Read(found), _) => {
                        let mut bytes = vec![0; place.len()];
                        found.copy_to(&mut bytes);
                        prop_assert!(bytes == model[place.clone()], "read at {:?}", place);
                    }
                    (Operation::Write { data, durable: now }, Operation::Write { durable, .. }) => {
                        data.copy_to(&mut model[place]);
                        prop_assert_eq!(*now, durable);
                    }
                    (Operation::WriteZeroes { .. }, _) => model[place].fill(0),
                    (Operation::Discard { .. }, _) if disk.frees_space() => {
                        let first = place.start.next_multiple_of(512);
                        let end = place.end / 512 * 512;
                        if first < end {
                            model[first..end].fill(0);
                        }
                    }
                    _ => {}
                }
            }
            if growth > 2000 {
                model.resize(model.len() + usize::from(growth), 0);
                disk.grow(model.len() as u64).unwrap();
            }
            for lane in &mut lanes {
                prop_assert!(read(lane, 0, model.len()) == model);
            }
        }
        prop_assert!(fs::read(&path).unwrap() == image, "the image changed");
    }
}

#[test]
fn lanes_on_several_threads_share_words_of_the_map_and_lose_no_sector() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.img");
    let sectors = 4096u64;
    fs::write(&path, vec![0xee; (sectors * SECTOR) as usize]).unwrap();
    let disk =
        disk(Snapshot::new(Image::open(&path, RO).unwrap(), dir.path()).unwrap(), sectors * SECTOR);
    thread::scope(|scope| {
        for lane in 0..4u64 {
            let disk = &disk;
            scope.spawn(move || {
                let mut mine = disk.lane().unwrap();
                for sector in (lane..sectors).step_by(4) {
                    if sector % 3 == 0 {
                        continue;
                    }
                    mine.run(write(&[lane as u8; 512]), sector * SECTOR).unwrap();
                    assert_eq!(read(&mut mine, sector * SECTOR, 512), [lane as u8; 512]);
                }
            });
        }
    });
    let bytes = read(&mut disk.lane().unwrap(), 0, (sectors * SECTOR) as usize);
    for (sector, bytes) in (0..sectors).zip(bytes.chunks(512)) {
        let expected = if sector % 3 == 0 { 0xee } else { (sector % 4) as u8 };
        assert!(bytes.iter().all(|byte| *byte == expected), "sector {sector}");
    }
}

#[test]
fn parts_of_one_sector_written_by_several_threads_are_all_there() {
    for _ in 0..50 {
        let (storage, base, _) = in_memory(&[0xee; 1024]);
        let disk = disk(storage, 1024);
        thread::scope(|scope| {
            for n in 0..4u64 {
                let disk = &disk;
                let mut lane = disk.lane().unwrap();
                scope.spawn(move || lane.run(write(&[n as u8; 100]), 500 + n * 100).unwrap());
            }
        });
        let expected = [&[0xee; 500][..], &[0; 100], &[1; 100], &[2; 100], &[3; 100], &[0xee; 124]];
        assert_eq!(read(&mut disk.lane().unwrap(), 0, 1024), expected.concat());
        assert_eq!(base.bytes(), [0xee; 1024]);
    }
}

#[test]
fn a_sector_is_in_the_map_when_its_bytes_are_in_the_layer_and_no_earlier() {
    let (base, layer) = (WatchedImage::new(&[1; 2048]), WatchedImage::new(&[0; 2048]));
    let storage = HeldStorage::new(Box::new(layer));
    let held = storage.held();
    let storage = Snapshot::over(Box::new(base), 2048, Box::new(storage), String::new());
    let disk = disk(storage, 2048);
    let (mut writer, mut reader) = (disk.lane().unwrap(), disk.lane().unwrap());
    writer.push(Request { tag: 7, operation: write(&[2; 1024]), offset: 512 });
    writer.commit();
    assert_eq!(read(&mut reader, 0, 2048), [1; 2048]);
    held.release_all();
    let mut done = Vec::new();
    writer.reap(&mut done);
    assert_eq!((done.len(), done[0].request.tag, done[0].transferred), (1, 7, 1024));
    assert_eq!(read(&mut reader, 0, 2048), [[1; 512], [2; 512], [2; 512], [1; 512]].concat());
}

/// A snapshot of 400 sectors of which the layer has every second one, and what it holds.
fn scattered() -> (Snapshot, WatchedImage, WatchedImage, Vec<u8>) {
    let mut expected = numbered(400);
    let (storage, base, layer) = in_memory(&expected);
    let disk = disk(storage.clone(), 400 * SECTOR);
    let mut lane = disk.lane().unwrap();
    for sector in (1..400).step_by(2) {
        lane.run(write(&[0xaa; 512]), sector * SECTOR).unwrap();
        expected[(sector * SECTOR) as usize..][..512].fill(0xaa);
    }
    (storage, base, layer, expected)
}

#[test]
fn parts_of_a_read_fill_buffers_that_overlap_in_their_order() {
    let (storage, _, _, expected) = scattered();
    let mut lane = disk(storage, 400 * SECTOR).lane().unwrap();
    for first in [10, 11] {
        // Two sectors, from different stores, into one place.
        let ram = ram(SECTOR);
        let mut twice = Buffers::single(ram.clone(), 0, SECTOR).unwrap();
        twice.push(0, SECTOR).unwrap();
        lane.run(Operation::Read(twice), first * SECTOR).unwrap();
        let second = &expected[((first + 1) * SECTOR) as usize..][..512];
        assert_eq!(ram.read::<512>(0).unwrap(), second);
    }
}

#[test]
fn a_read_of_scattered_sectors_is_joined_and_fails_at_its_first_bad_byte() {
    let (storage, base, layer, expected) = scattered();
    let size = 400 * SECTOR;
    assert_eq!(
        read(&mut disk(storage, size).lane().unwrap(), 100, 200_000),
        expected[100..200_100]
    );
    // The map is in the snapshot: the same bytes behind stores that can fail.
    let faulty = FaultStorage::new(Box::new(base));
    let faults = faulty.faults();
    let again = Snapshot::over(Box::new(faulty), size, Box::new(layer), "the layer".into());
    let mut lane = disk(again, size).lane().unwrap();
    for sector in (1..400).step_by(2) {
        lane.run(write(&[0xaa; 512]), sector * SECTOR).unwrap();
    }
    for n in 0..150 {
        faults.push(if n == 100 { Fault::After(40, libc::EIO) } else { Fault::None });
    }
    let buffers = data(&vec![0; size as usize]);
    lane.push(Request { tag: 9, operation: Operation::Read(buffers.clone()), offset: 0 });
    lane.commit();
    let mut done = Vec::new();
    lane.reap(&mut done);
    let [Completion { request, transferred, result: Err(BlockError::Host { offset, .. }) }] =
        &done[..]
    else {
        panic!("{done:?}")
    };
    assert_eq!((request.tag, *transferred, *offset), (9, 200 * SECTOR + 40, 200 * SECTOR + 40));
    let mut found = vec![0; size as usize];
    buffers.copy_to(&mut found);
    assert!(found[..*transferred as usize] == expected[..*transferred as usize]);
}

#[test]
fn a_read_of_scattered_sectors_is_stopped_between_two_of_them() {
    let (storage, base, _, _) = scattered();
    let disk = disk(storage, 400 * SECTOR);
    let (stop, mut lane) = (disk.stop_handle(), disk.lane().unwrap());
    let mut reads = 0;
    base.before_each(move |_| {
        reads += 1;
        if reads == 20 {
            stop.stop();
        }
    });
    let buffers = data(&vec![0; 400 * 512]);
    assert!(matches!(lane.run(Operation::Read(buffers), 0), Err(BlockError::Stopped)));
    let log = base.log();
    assert_eq!(log.last().map(String::as_str), Some("read 512 at 19456"), "{log:?}");
}

#[test]
fn a_full_layer_is_named_and_what_it_took_counts_by_whole_sectors() {
    let (base, layer) = (WatchedImage::new(&[1; 2048]), WatchedImage::new(&[0; 2048]));
    let storage = FaultStorage::new(Box::new(layer));
    let faults = storage.faults();
    let place = "the layer, in /there".to_owned();
    let storage = Snapshot::over(Box::new(base), 2048, Box::new(storage), place);
    let disk = disk(storage, 2048);
    let mut lane = disk.lane().unwrap();
    faults.push(Fault::After(700, libc::ENOSPC));
    lane.push(Request { tag: 0, operation: write(&[2; 1536]), offset: 0 });
    lane.commit();
    let mut done = Vec::new();
    lane.reap(&mut done);
    let Completion { transferred, result, .. } = &done[0];
    let error = result.as_ref().unwrap_err();
    assert!(error.no_room().is_some() && error.to_string().contains("/there"), "{error}");
    assert!(matches!(error, BlockError::Host { offset: 512, .. }), "{error}");
    assert_eq!(*transferred, 512);
    assert_eq!(read(&mut lane, 0, 1024), [[2; 512], [1; 512]].concat());
    // The sector that a write covers in part cannot be brought to the layer.
    faults.push(Fault::After(0, libc::ENOSPC));
    let error = lane.run(write(&[3; 10]), 1030).unwrap_err();
    assert!(error.no_room().is_some() && error.to_string().contains("/there"), "{error}");
    // With room again it can, also by the lane for it that failed.
    lane.run(write(&[3; 10]), 1030).unwrap();
    assert_eq!(read(&mut lane, 1024, 20), [&[1; 6][..], &[3; 10], &[1; 4]].concat());
    faults.push(Fault::After(0, libc::ENOSPC));
    assert!(disk.grow(4096).unwrap_err().to_string().contains("/there"));
}
