use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

use super::*;
use crate::block::{Access, Disk, Lane, Opening};
use crate::memory::GuestRam;

const PAGE: u64 = 4096;

/// An image of `len` bytes: byte n is n / 512 + n % 251, cut to 8 bits.
fn image(len: u64) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.img");
    std::fs::write(&path, pattern(0, len)).unwrap();
    (dir, path)
}

fn pattern(offset: u64, len: u64) -> Vec<u8> {
    (offset..offset + len).map(|n| (n / 512 + n % 251) as u8).collect()
}

fn disk(path: &std::path::Path) -> Disk {
    let image = Image::open(path, Opening::cached(Access::ReadWrite)).unwrap();
    let (name, size) = (image.name(), image.size());
    Disk::new(Box::new(MmapStorage::new(image).unwrap()), name, size, false)
}

fn read(lane: &mut Lane, offset: u64, len: u64) -> Result<Vec<u8>, BlockError> {
    let ram = GuestRam::anonymous(&[(0, len.max(1).next_multiple_of(PAGE) as usize)]).unwrap();
    lane.run(Operation::Read(Buffers::single(ram.clone(), 0, len).unwrap()), offset)?;
    let mut bytes = vec![0; len as usize];
    ram.read_into(0, &mut bytes).unwrap();
    Ok(bytes)
}

fn cut(path: &std::path::Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[test]
fn a_read_anywhere_finds_the_images_bytes_also_at_its_ragged_end() {
    for len in [1, 700, PAGE, PAGE + 1, 3 * PAGE, 3 * PAGE + 700] {
        let (_dir, path) = image(len);
        let mut lane = disk(&path).lane().unwrap();
        for (offset, n) in [(0, len), (len - 1, 1), (0, 1), (len / 2, len - len / 2), (len, 0)] {
            assert!(read(&mut lane, offset, n).unwrap() == pattern(offset, n), "{offset} {n}");
        }
    }
}

/// Not only the bytes: a read of cached pages must not be a read of the file.
#[test]
fn reads_come_from_the_mapping_except_for_those_that_reach_the_last_page() {
    let (_dir, path) = image(4 * PAGE);
    let mapping = Mapping::new(&File::open(&path).unwrap(), 4 * PAGE).unwrap();
    let ram = GuestRam::anonymous(&[(0, 4 * PAGE as usize)]).unwrap();
    let data = |len| Buffers::single(ram.clone(), 0, len).unwrap();
    let stop = Stop::default();
    assert_eq!(mapping.read(0, &data(3 * PAGE), &stop), Copied::All);
    assert_eq!(mapping.read(100, &data(3 * PAGE - 100), &stop), Copied::All);
    assert_eq!(mapping.read(100, &data(3 * PAGE), &stop), Copied::No);
    assert_eq!(mapping.read(3 * PAGE, &data(1), &stop), Copied::No);
    assert_eq!(mapping.read(u64::MAX, &data(1), &stop), Copied::No);
    // A stop counts between two pieces only.
    stop.stop();
    assert_eq!(mapping.read(0, &data(3 * PAGE), &stop), Copied::All);
}

#[test]
fn a_long_read_is_stopped_between_two_pieces() {
    let len = super::super::sync::PIECE;
    let dir = tempfile::tempdir().unwrap();
    let file = File::create_new(dir.path().join("d.img")).unwrap();
    file.set_len(4 * len).unwrap();
    let file = OpenOptions::new().read(true).open(dir.path().join("d.img")).unwrap();
    let mapping = Mapping::new(&file, 4 * len).unwrap();
    let ram = GuestRam::anonymous(&[(0, 3 * len as usize)]).unwrap();
    let data = Buffers::single(ram, 0, 3 * len).unwrap();
    let stop = Stop::default();
    stop.stop();
    assert_eq!(mapping.read(0, &data, &stop), Copied::Stopped(len));
}

#[test]
fn a_read_after_a_write_in_one_batch_sees_it_and_so_does_one_after_a_discard() {
    let (_dir, path) = image(8 * PAGE);
    let mut lane = disk(&path).lane().unwrap();
    let ram = GuestRam::anonymous(&[(0, 64 << 10)]).unwrap();
    ram.write(0, &[0xaa; 512]).unwrap();
    let data = |addr| Buffers::single(ram.clone(), addr, 512).unwrap();
    let operations = [
        Operation::Write { data: data(0), durable: false },
        Operation::Read(data(0x1000)),
        Operation::WriteZeroes { len: 512, unmap: true, durable: false },
        Operation::Read(data(0x2000)),
    ];
    for (tag, operation) in (0..).zip(operations) {
        lane.push(Request { tag, operation, offset: 1024 });
    }
    lane.commit();
    let mut done = Vec::new();
    lane.reap(&mut done);
    assert_eq!((done.len(), done.iter().all(|c| c.result.is_ok())), (4, true));
    assert_eq!(ram.read::<512>(0x1000), Ok([0xaa; 512]));
    assert_eq!(ram.read::<512>(0x2000), Ok([0; 512]));
}

#[test]
fn a_cut_image_is_an_error_with_its_place_and_never_zeros_for_every_lane_and_thread() {
    // In a page that reads use, at a page's end, in the last page.
    for left in [0, 3 * PAGE + 700, 4 * PAGE, 9 * PAGE + 100] {
        for first in [0, 2 * PAGE, 3 * PAGE + 512, 8 * PAGE] {
            let (_dir, path) = image(10 * PAGE);
            let disk = disk(&path);
            let mut lanes: Vec<_> = (0..3).map(|_| disk.lane().unwrap()).collect();
            // Its pages are mapped already.
            assert_eq!(read(&mut lanes[0], 0, 9 * PAGE).unwrap(), pattern(0, 9 * PAGE));
            cut(&path, left);
            std::thread::scope(|scope| {
                for lane in &mut lanes {
                    scope.spawn(move || {
                        for offset in [first, 0, 3 * PAGE + 512, 9 * PAGE, 9 * PAGE + 512] {
                            let found = read(lane, offset, 512);
                            if offset + 512 <= left {
                                assert_eq!(found.unwrap(), pattern(offset, 512));
                            } else {
                                let end = left.max(offset);
                                assert!(
                                    matches!(found, Err(BlockError::Host { offset, .. }) if offset == end),
                                    "{found:?} at {offset}, cut to {left}"
                                );
                            }
                        }
                    });
                }
            });
            // What is written afterwards makes the file longer, as with the synchronous engine.
            let ram = GuestRam::anonymous(&[(0, 4096)]).unwrap();
            let data = Buffers::single(ram, 0, 512).unwrap();
            let write = Operation::Write { data, durable: true };
            lanes[1].run(write, 4 * PAGE).unwrap();
            assert_eq!(read(&mut lanes[2], 4 * PAGE, 512).unwrap(), [0; 512]);
        }
    }
}

#[test]
fn an_image_that_is_cut_during_reads_kills_nobody() {
    let (_dir, path) = image(64 * PAGE);
    let disk = disk(&path);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let mut lane = disk.lane().unwrap();
            scope.spawn(move || {
                for n in 0..3000_u64 {
                    let offset = n * 7 % 60 * PAGE;
                    match read(&mut lane, offset, 2 * PAGE) {
                        Ok(found) => {
                            // Old bytes, or the zeros of the file as it was made longer again.
                            let old = pattern(offset, 2 * PAGE);
                            let same = |(found, old)| found == old || found == 0;
                            assert!(found.into_iter().zip(old).all(same));
                        }
                        Err(error) => {
                            assert!(matches!(error, BlockError::Host { .. }), "{error}");
                        }
                    }
                }
            });
        }
        for n in 0..200 {
            cut(&path, n * 13 % 64 * PAGE + 100);
            cut(&path, 64 * PAGE);
        }
    });
}

#[test]
fn a_disk_that_grows_is_mapped_anew_for_lanes_that_exist() {
    let (_dir, path) = image(PAGE + 100);
    let disk = disk(&path);
    let (mut one, mut two) = (disk.lane().unwrap(), disk.lane().unwrap());
    assert_eq!(read(&mut one, 0, 512).unwrap(), pattern(0, 512));
    disk.grow(100 * PAGE + 7).unwrap();
    File::options().write(true).open(&path).unwrap().write_at(&[5; 512], 50 * PAGE).unwrap();
    for lane in [&mut one, &mut two] {
        assert_eq!(read(lane, 50 * PAGE, 512).unwrap(), [5; 512]);
        assert_eq!(read(lane, 100 * PAGE, 7).unwrap(), [0; 7]);
        assert_eq!(read(lane, 0, 512).unwrap(), pattern(0, 512));
    }
    // After a fault, a new mapping can be trusted again.
    cut(&path, 0);
    assert!(read(&mut one, 50 * PAGE, 512).is_err());
    disk.grow(101 * PAGE).unwrap();
    assert_eq!(read(&mut one, 50 * PAGE, 512).unwrap(), [0; 512]);
}

#[test]
fn an_image_of_16_tib_is_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.img");
    // The largest file of ext4 is a page shorter.
    let size = (16 << 40) - PAGE;
    let file = File::create(&path).unwrap();
    if file.set_len(size).is_err() {
        return; // The host's file system has no files of this size.
    }
    file.write_at(&[7; 512], size - 2 * PAGE).unwrap();
    let mut lane = disk(&path).lane().unwrap();
    assert_eq!(read(&mut lane, size - 2 * PAGE, 512).unwrap(), [7; 512]);
    assert_eq!(read(&mut lane, 8 << 40, PAGE).unwrap(), [0; PAGE as usize]);
}

#[test]
fn what_cannot_be_mapped_is_an_error_that_names_the_flag() {
    let (_dir, path) = image(PAGE);
    let direct = Opening { direct: true, ..Opening::cached(Access::ReadWrite) };
    let error = MmapStorage::new(Image::open(&path, direct).unwrap()).unwrap_err().to_string();
    assert!(error.contains("engine=mmap") && error.contains("cache=none"), "{error}");
    assert!(Mapping::new(&File::open(&path).unwrap(), u64::MAX / 2).is_err());
    // A file that is open for writing only cannot be mapped.
    let unreadable = OpenOptions::new().write(true).open(&path).unwrap();
    assert!(Mapping::new(&unreadable, PAGE).is_err());
}

/// Faults outside of every image, for the test below.
fn fault_elsewhere() {
    let (_dir, path) = image(PAGE);
    let mut lane = disk(&path).lane().unwrap();
    read(&mut lane, 0, 1).unwrap();
    let file = tempfile::tempfile().unwrap();
    file.set_len(PAGE).unwrap();
    let file = FileOffset::new(file, 0);
    let other = MmapRegion::<()>::build(Some(file), 4096, libc::PROT_READ, libc::MAP_SHARED);
    let other = other.unwrap();
    other.file_offset().unwrap().file().set_len(0).unwrap();
    other.get_slice(0, 1).unwrap().copy_to(&mut [0_u8]);
}

/// The process dies, as it would without this engine. It is a second one, with this test alone.
#[test]
fn a_fault_of_another_mapping_goes_to_the_handler_before() {
    const SECOND: &str = "CAFEVM_TEST_FAULTS";
    if std::env::var_os(SECOND).is_some() {
        return fault_elsewhere();
    }
    let test = "block::mmap::tests::a_fault_of_another_mapping_goes_to_the_handler_before";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(SECOND, "1")
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
}
