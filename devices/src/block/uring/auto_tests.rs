use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

use super::*;
use crate::block::{Access, Disk, Lane, Opening};
use crate::memory::GuestRam;
use crate::testing::LogLines;

const LEN: u64 = 64 << 10;

fn image() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.img");
    std::fs::write(&path, pattern(0, LEN)).unwrap();
    File::open(&path).unwrap().sync_all().unwrap();
    (dir, path)
}

fn pattern(offset: u64, len: u64) -> Vec<u8> {
    (offset..offset + len).map(|n| (n / 512 + n % 251) as u8).collect()
}

fn open(path: &Path, direct: bool) -> Image {
    Image::open(path, Opening { direct, ..Opening::cached(Access::ReadWrite) }).unwrap()
}

fn engine(path: &Path, direct: bool) -> AutoEngine {
    let storage = AutoStorage::new(open(path, direct));
    storage.auto_engine(&Stop::default()).unwrap().unwrap()
}

/// Drops the bytes from `offset` on from the page cache. A file system in memory keeps them.
fn forget(path: &Path, offset: u64) {
    let file = File::open(path).unwrap();
    fadvise(&file, offset, None, Advice::DontNeed).unwrap();
}

fn ram() -> GuestRam {
    GuestRam::anonymous(&[(0, 2 * LEN as usize)]).unwrap()
}

fn read(tag: u64, ram: &GuestRam, offset: u64, len: u64) -> Request {
    let data = Buffers::single(ram.clone(), offset, len).unwrap();
    Request { tag, operation: Operation::Read(data), offset }
}

fn finish(engine: &mut AutoEngine, count: usize) -> Vec<Completion> {
    let mut done = Vec::new();
    engine.commit();
    while done.len() < count {
        engine.reap(&mut done);
        engine.wait(Duration::from_secs(10));
    }
    done
}

#[test]
fn what_is_cached_is_read_at_once_and_the_rest_by_the_ring() {
    let (_dir, path) = image();
    let mut engine = engine(&path, false);
    let ram = ram();
    engine.begin(read(1, &ram, 0, LEN));
    if !engine.tells.0.load(Ordering::Relaxed) {
        return; // The file system cannot tell what it has cached.
    }
    assert_eq!((engine.done.len(), engine.ring.in_ring()), (1, 0), "cached");
    for from in [0, LEN / 2] {
        // The host may still have a page: a read-ahead of another reader, or a file system in memory.
        for _ in 0..10 {
            engine.done.clear();
            forget(&path, from);
            engine.begin(read(2, &ram, 0, LEN));
            if engine.ring.in_ring() == 1 {
                assert!(engine.done.is_empty(), "not cached from {from}");
                break;
            }
        }
        let done = finish(&mut engine, 1);
        assert!(done.iter().all(|c| c.result.is_ok() && c.transferred == LEN), "{done:?}");
        let mut found = vec![0; LEN as usize];
        ram.read_into(0, &mut found).unwrap();
        assert!(found == pattern(0, LEN));
    }
}

#[test]
fn a_read_sees_the_writes_of_its_batch() {
    let (_dir, path) = image();
    let mut engine = engine(&path, false);
    let ram = ram();
    ram.write(LEN, &[0xaa; 512]).unwrap();
    let data = || Buffers::single(ram.clone(), LEN, 512).unwrap();
    for (tag, operation) in [
        (1, Operation::Write { data: data(), durable: false }),
        (2, Operation::WriteZeroes { len: 512, unmap: true, durable: false }),
    ] {
        engine.push(Request { tag, operation, offset: 512 * tag });
    }
    engine.push(read(3, &ram, 0, 2048));
    let done = finish(&mut engine, 3);
    assert!(done.iter().all(|c| c.result.is_ok()), "{done:?}");
    let expected = [&pattern(0, 512)[..], &[0xaa; 512], &[0; 512], &pattern(1536, 512)].concat();
    let mut found = vec![0; 2048];
    ram.read_into(0, &mut found).unwrap();
    assert!(found == expected);
}

#[test]
fn cached_neighbours_are_read_together_and_the_rest_of_a_run_one_by_one() {
    const PART: u64 = 4096;
    let (_dir, path) = image();
    let mut engine = engine(&path, false);
    let ram = ram();
    let run: Vec<_> = (0..LEN / PART).map(|n| read(n, &ram, n * PART, PART)).collect();
    engine.begin(read(99, &ram, 0, LEN));
    finish(&mut engine, 1);
    if !engine.tells.0.load(Ordering::Relaxed) {
        return; // The file system cannot tell what it has cached.
    }
    // Neighbours, then a gap, then one of its own.
    let requests = [&run[..6], &run[8..9]].concat();
    assert_eq!(engine.read_together(&requests), (6, 6));
    assert_eq!(engine.read_together(&requests[6..]), (0, 1));
    // Cut in the middle of the third: the first two are complete, and the image is read no further.
    File::options().write(true).open(&path).unwrap().set_len(2 * PART + 512).unwrap();
    assert_eq!(engine.read_together(&requests), (2, 6));
    File::options().write(true).open(&path).unwrap().set_len(LEN).unwrap();
    std::fs::write(&path, pattern(0, LEN)).unwrap();
    ram.write(0, &vec![0; LEN as usize]).unwrap();
    for from in [LEN, 4 * PART, 0] {
        forget(&path, from);
        run.iter().for_each(|request| engine.push(request.clone()));
        let done = finish(&mut engine, run.len());
        assert!(done.iter().all(|c| c.result.is_ok() && c.transferred == PART), "{done:?}");
        let mut tags: Vec<_> = done.iter().map(|c| c.request.tag).collect();
        tags.sort_unstable();
        assert_eq!(tags, (0..LEN / PART).collect::<Vec<_>>());
        let mut found = vec![0; LEN as usize];
        ram.read_into(0, &mut found).unwrap();
        assert!(found == pattern(0, LEN), "from {from}");
    }
}

#[test]
fn what_waits_for_the_storage_goes_to_the_ring_and_a_cached_write_does_not() {
    let (_dir, path) = image();
    let ram = ram();
    let write = |durable| {
        let data = Buffers::single(ram.clone(), 0, 4096).unwrap();
        Operation::Write { data, durable }
    };
    for (direct, operation, by_ring) in [
        (false, write(false), 0),
        (false, write(true), 1),
        (false, Operation::Flush, 1),
        (false, Operation::Discard { len: 4096 }, 0),
        (true, write(false), 1),
        (true, Operation::Read(Buffers::single(ram.clone(), 0, 4096).unwrap()), 1),
    ] {
        let mut engine = engine(&path, direct);
        let what = format!("{direct} {operation:?}");
        engine.begin(Request { tag: 1, operation, offset: 4096 });
        assert_eq!(engine.ring.in_ring(), by_ring, "{what}");
        assert!(finish(&mut engine, 1)[0].result.is_ok(), "{what}");
    }
}

#[test]
fn without_io_uring_the_synchronous_engine_serves_and_one_line_says_so() {
    let (_dir, path) = image();
    let make: MakeRing = || Err(io::Error::from_raw_os_error(libc::ENOSYS));
    let lines = LogLines::of(|| {
        let storage = AutoStorage::made_by(make, open(&path, false));
        let disk = Disk::new(Box::new(storage), "d.img".into(), LEN, false);
        let mut lanes: [Lane; 2] = std::array::from_fn(|_| disk.lane().unwrap());
        let ram = ram();
        for lane in &mut lanes {
            assert!(lane.wake().is_none());
            lane.run(Operation::Read(Buffers::single(ram.clone(), 0, 512).unwrap()), 512).unwrap();
            lane.run(Operation::Flush, 0).unwrap();
        }
        let mut found = vec![0; 512];
        ram.read_into(0, &mut found).unwrap();
        assert!(found == pattern(512, 512));
    });
    assert_eq!(lines, 1);
}
