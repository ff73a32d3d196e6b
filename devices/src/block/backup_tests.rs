use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::block::{Access, EngineKind, Image, Opening};
use crate::testing::{Fault, FaultStorage};

const SIZE: usize = 20 * BLOCK as usize + 1536;

fn pattern() -> Vec<u8> {
    (0..SIZE).map(|at| (at / 512 % 251) as u8 + 1).collect()
}

/// A disk with a pattern, and where copies go.
fn disk(engine: EngineKind) -> (Disk, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.img");
    fs::write(&path, pattern()).unwrap();
    let image = Image::open(&path, Opening::cached(Access::ReadWrite)).unwrap();
    let storage = engine.storage(image).unwrap();
    (Disk::new(storage, "a test's disk".into(), SIZE as u64, false), dir)
}

fn write(lane: &mut Lane, offset: u64, byte: u8, len: usize) {
    let ram = GuestRam::anonymous(&[(0, len.next_multiple_of(4096))]).unwrap();
    ram.write(0, &vec![byte; len]).unwrap();
    let data = Buffers::single(ram, 0, len as u64).unwrap();
    lane.run(Operation::Write { data, durable: false }, offset).unwrap();
}

#[test]
fn the_copy_has_what_the_disk_had_when_it_began() {
    for (_, engine) in EngineKind::ALL {
        let (disk, dir) = disk(engine);
        let path = dir.path().join("copy");
        let mut lane = disk.lane().unwrap();
        write(&mut lane, 512, 0xee, 512);
        let mut wanted = pattern();
        wanted[512..1024].fill(0xee);
        let mut backup = Backup::new(&disk, &path).unwrap();
        backup.begin().unwrap();
        // What is not copied yet, what is, the end, across blocks, zeros and a discard.
        assert!(backup.step().unwrap());
        write(&mut lane, 0, 0xaa, 4096);
        write(&mut lane, 5 * BLOCK - 512, 0xaa, 1024);
        write(&mut lane, SIZE as u64 - 512, 0xaa, 512);
        let zeros = Operation::WriteZeroes { len: 3 * BLOCK, unmap: true, durable: false };
        lane.run(zeros, 7 * BLOCK + 512).unwrap();
        lane.run(Operation::Discard { len: BLOCK }, 15 * BLOCK).unwrap();
        assert!(!path.exists());
        assert_eq!(backup.finish().unwrap().0, SIZE as u64);
        assert!(fs::read(&path).unwrap() == wanted, "{engine}");
        assert!(matches!(Backup::new(&disk, &path), Err(CopyError::Exists(_))));
    }
}

#[test]
fn a_guest_that_never_stops_writing_does_not_change_the_copy() {
    let (disk, dir) = disk(EngineKind::Sync);
    let done = AtomicBool::new(false);
    let path = dir.path().join("copy");
    let mut backup = Backup::new(&disk, &path).unwrap();
    backup.begin().unwrap();
    thread::scope(|scope| {
        for number in 0..2_u8 {
            let (done, mut lane) = (&done, disk.lane().unwrap());
            scope.spawn(move || {
                let mut at = u64::from(number) * 1000;
                while !done.load(Ordering::Relaxed) {
                    write(&mut lane, at % (SIZE as u64 / 512) * 512, 0xaa, 512);
                    at += 37;
                }
            });
        }
        backup.finish().unwrap();
        done.store(true, Ordering::Relaxed);
    });
    assert!(fs::read(&path).unwrap() == pattern());
}

#[test]
fn a_copy_that_is_given_up_leaves_nothing_and_a_second_one_waits() {
    let (disk, dir) = disk(EngineKind::Sync);
    let path = dir.path().join("copy");
    let files = || fs::read_dir(&dir).unwrap().count();
    let mut first = Backup::new(&disk, &path).unwrap();
    first.begin().unwrap();
    let mut second = Backup::new(&disk, &path).unwrap();
    assert!(matches!(second.begin(), Err(CopyError::Busy)));
    drop(second);
    assert!(first.step().unwrap());
    drop(first);
    assert_eq!(files(), 1);
    let mut third = Backup::new(&disk, &path).unwrap();
    third.begin().unwrap();
    disk.stop_handle().stop();
    assert!(matches!(third.finish(), Err(CopyError::Stopped)));
    assert_eq!(files(), 1);
}

#[test]
fn a_failure_ends_the_copy_and_not_the_guests_writes() {
    let (disk, dir) = disk(EngineKind::Sync);
    let faulty = FaultStorage::new(
        EngineKind::Sync
            .storage({
                let path = dir.path().join("e.img");
                fs::write(&path, pattern()).unwrap();
                Image::open(&path, Opening::cached(Access::ReadWrite)).unwrap()
            })
            .unwrap(),
    );
    let faults = faulty.faults();
    let faulty = Disk::new(Box::new(faulty), "a faulty disk".into(), SIZE as u64, false);
    drop(disk);
    let path = dir.path().join("copy");
    let mut backup = Backup::new(&faulty, &path).unwrap();
    backup.begin().unwrap();
    let mut lane = faulty.lane().unwrap();
    faults.push(Fault::After(0, libc::EIO));
    write(&mut lane, 3 * BLOCK, 0xaa, 512);
    let error = backup.finish().unwrap_err();
    assert!(matches!(error, CopyError::Source(_)), "{error}");
    assert!(!path.exists());
    write(&mut lane, 3 * BLOCK, 0xbb, 512);
}
