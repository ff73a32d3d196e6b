//! Commits of an overlay into its base.

use std::fs;

use super::{content, data, open};
use crate::block::format::{Backing, Base, Qcow2Storage};
use crate::block::{Access, Commit, Disk, Image, ImageError, Opening, Operation};

const SIZE: usize = 40 << 16;

#[test]
fn the_base_has_the_disk_and_the_overlay_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (base, path) = (dir.path().join("base.img"), dir.path().join("overlay.qcow2"));
    fs::write(&base, vec![7; SIZE]).unwrap();
    let read = || Image::open(&base, Opening::cached(Access::ReadOnly));
    let below = Base { image: read().unwrap(), qcow2: None };
    let storage = Qcow2Storage::overlay(&path, Opening::cached(Access::ReadWrite), below).unwrap();
    let disk = Disk::new(Box::new(storage), "d".into(), SIZE as u64, false);
    let mut lane = disk.lane().unwrap();
    let mut wanted = vec![7; SIZE];
    let mut write = |at: usize, len: usize, byte: u8| {
        let data = data(&vec![byte; len]);
        lane.run(Operation::Write { data, durable: false }, at as u64).unwrap();
        wanted[at..at + len].fill(byte);
        (content(&mut lane), wanted.clone())
    };
    write(512, 1024, 1);
    write(5 << 16, 3 << 16, 2);

    let other = read().unwrap();
    assert!(matches!(Commit::new(&disk), Err(ImageError::InUse { .. })));
    drop(other);
    let mut commit = Commit::new(&disk).unwrap();
    assert!(matches!(read(), Err(ImageError::InUse { .. })), "the base is locked");
    commit.begin().unwrap();
    while commit.step().unwrap() {}
    // Changed after it was written, and new.
    write(512, 512, 3);
    write(30 << 16, 512, 4);
    let (seen, wanted) = write(SIZE - 512, 512, 5);
    assert!(commit.finish().unwrap() >= 3 << 16);
    assert!(fs::read(&base).unwrap() == wanted && seen == wanted);
    drop(commit);
    drop(read().unwrap());
    // Zeros hide the base, too.
    let mut lane = disk.lane().unwrap();
    let zeros = Operation::WriteZeroes { len: 4 << 16, unmap: true, durable: false };
    lane.run(zeros, 10 << 16).unwrap();
    let mut commit = Commit::new(&disk).unwrap();
    commit.begin().unwrap();
    while commit.step().unwrap() {}
    commit.finish().unwrap();
    assert!(fs::read(&base).unwrap() == content(&mut lane));
}

#[test]
fn only_a_raw_base_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    super::create(&path("base"), 16, 1 << 20, None);
    super::New { backing: Some(("base", "qcow2")), size: 1 << 20, cluster_bits: 16 }
        .create(&path("top"))
        .unwrap();
    let image = Image::open(&path("top"), Opening::cached(Access::ReadWrite)).unwrap();
    let storage = Qcow2Storage::open(image, Backing::Allow).unwrap();
    let disk = Disk::new(Box::new(storage), "d".into(), 1 << 20, false);
    assert!(matches!(Commit::new(&disk), Err(ImageError::BackingNotRaw { .. })));
    let alone = open(&path("base"), Access::ReadOnly).unwrap();
    let disk = Disk::new(Box::new(alone), "d".into(), 1 << 20, true);
    assert!(matches!(Commit::new(&disk), Err(ImageError::NoBacking)));
}
