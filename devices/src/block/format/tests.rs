//! Snapshots against a vector of bytes, on every kind of engine; and requests in flight.

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

#[test]
fn a_flush_and_a_durable_write_ask_nothing_of_the_stores() {
    let (storage, base, layer) = in_memory(&[1; 1024]);
    let mut lane = disk(storage, 1024).lane().unwrap();
    lane.run(Operation::Write { data: data(&[2; 512]), durable: true }, 0).unwrap();
    lane.run(Operation::WriteZeroes { len: 512, unmap: true, durable: true }, 512).unwrap();
    lane.run(Operation::Flush, 0).unwrap();
    lane.run(Operation::Discard { len: 512 }, 0).unwrap();
    let zeros = "zero unmap 512 at";
    assert_eq!(layer.log(), ["write 512 at 0", &format!("{zeros} 512"), &format!("{zeros} 0")]);
    assert_eq!(base.log(), Vec::<String>::new());
    assert_eq!(read(&mut lane, 0, 1024), [0; 1024]);
}

#[test]
fn the_layer_has_no_name_and_takes_no_room_before_it_is_written() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let layer = Image::layer(dir.path(), 1 << 40, false).unwrap();
    let meta = layer.file().metadata().unwrap();
    assert_eq!((meta.nlink(), meta.len(), meta.blocks()), (0, 1 << 40, 0));
    assert!(!layer.syncs());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let error = Image::layer(&dir.path().join("none"), 512, false).unwrap_err();
    assert!(matches!(error, ImageError::Layer { .. }));
    assert!(
        error.to_string().contains("none: cannot make") && error.to_string().contains("TMPDIR")
    );
}

#[test]
fn several_machines_share_an_image_and_each_sees_its_own_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.img");
    fs::write(&path, [1; 1024]).unwrap();
    let lane = || {
        let image = Image::open(&path, RO).unwrap();
        disk(Snapshot::new(image, dir.path()).unwrap(), 1024).lane().unwrap()
    };
    let (mut one, mut two) = (lane(), lane());
    one.run(write(&[2; 512]), 0).unwrap();
    two.run(write(&[3; 512]), 512).unwrap();
    assert_eq!(read(&mut one, 0, 1024), [[2; 512], [1; 512]].concat());
    assert_eq!(read(&mut two, 0, 1024), [[1; 512], [3; 512]].concat());
    let writer = Image::open(&path, Opening::cached(Access::ReadWrite));
    assert!(matches!(writer, Err(ImageError::InUse { .. })));
    drop((one, two));
    assert_eq!(fs::read(&path).unwrap(), [1; 1024]);
    let writer = Image::open(&path, Opening::cached(Access::ReadWrite)).unwrap();
    assert!(matches!(Image::open(&path, RO), Err(ImageError::InUse { .. })));
    drop(writer);
}

#[test]
fn two_stores_that_finish_later_wake_one_lane_by_one_descriptor() {
    let (base, layer) = (WatchedImage::new(&[1; 1024]), WatchedImage::new(&[0; 1024]));
    let late = |image| Box::new(LateStorage::new(Box::new(image), Duration::ZERO));
    let storage = Snapshot::over(late(base), 1024, late(layer), String::new());
    let mut lane = disk(storage, 1024).lane().unwrap();
    let wake = lane.wake().unwrap();
    let operations = [write(&[2; 512]), Operation::Read(data(&[0; 512])), Operation::Flush];
    for (tag, operation) in (0..).zip(operations) {
        lane.push(Request { tag, operation, offset: tag % 2 * 512 });
        lane.commit();
        let (mut done, begin) = (Vec::new(), Instant::now());
        while done.is_empty() {
            // The descriptor does not block.
            match wake.read() {
                Ok(_) => lane.reap(&mut done),
                Err(_) => assert!(begin.elapsed().as_secs() < 10, "request {tag} woke no one"),
            }
        }
        assert!(done[0].result.is_ok() && done[0].request.tag == tag, "{done:?}");
    }
}

/// Every second kilobyte is in the layer, at another offset: a map that no snapshot has.
#[derive(Debug)]
struct Shuffled;

impl Map for Shuffled {
    fn find(&self, offset: u64, len: u64) -> Extent {
        let (number, within) = (offset / 1024, offset % 1024);
        let store = if number % 2 == 0 { Store::Base } else { Store::Layer };
        Extent { store, offset: (7 - number) / 2 * 1024 + within, len: len.min(1024 - within) }
    }

    fn moved(&self, _: u64, _: u64) {}
}

#[test]
fn a_map_may_put_any_byte_anywhere() {
    let image = |first: u8| {
        let bytes: Vec<u8> = (0..4).flat_map(|n| [first + 2 * n; 1024]).collect();
        Box::new(WatchedImage::new(&bytes))
    };
    let storage = MappedStorage::new(Shuffled, image(1), image(0), String::new());
    let mut lane = disk(storage, 8192).lane().unwrap();
    let expected: Vec<u8> = (0..8).rev().flat_map(|n| [n; 1024]).collect();
    assert_eq!(read(&mut lane, 0, 8192), expected);
    assert_eq!(read(&mut lane, 1500, 3000), expected[1500..4500]);
}
