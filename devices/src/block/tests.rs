//! One suite that every engine passes, and the checks of [`Disk`].

use std::fs;

use super::*;
use crate::memory::GuestRam;
use crate::testing::FaultEngine;

fn ram() -> GuestRam {
    GuestRam::anonymous(&[(0, 64 << 10)]).unwrap()
}

/// A disk of `bytes` on each engine, and the path of its image.
fn disks(bytes: &[u8], access: Access) -> Vec<(tempfile::TempDir, Disk)> {
    let image = || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.img");
        fs::write(&path, bytes).unwrap();
        (dir, Image::open(&path, Opening::cached(access)).unwrap())
    };
    let (a, sync) = image();
    let (b, fault) = image();
    let size = bytes.len() as u64;
    let fault = FaultEngine::new(Box::new(SyncEngine::new(fault)));
    vec![
        (a, Disk::from_image(sync)),
        (b, Disk::new(Box::new(fault), "faulty".into(), size, access == Access::ReadOnly)),
    ]
}

fn write(data: Buffers) -> Operation {
    Operation::Write { data, durable: false }
}

#[test]
fn every_engine_reads_writes_and_flushes_scattered_buffers() {
    for (dir, mut disk) in disks(&[0x11; 2048], Access::ReadWrite) {
        let ram = ram();
        ram.write(0x1000, &[0xaa; 300]).unwrap();
        ram.write(0x2000, &[0xbb; 212]).unwrap();
        let scattered = || {
            let mut buffers = Buffers::single(ram.clone(), 0x1000, 300).unwrap();
            buffers.push(0x2000, 212).unwrap();
            buffers
        };
        for (offset, durable) in [(512, false), (1536, true)] {
            disk.run(Operation::Write { data: scattered(), durable }, offset).unwrap();
        }
        disk.run(Operation::Flush, 0).unwrap();
        let sector = [[0xaa; 300].as_slice(), &[0xbb; 212]].concat();
        let expected = [&[0x11; 512], &sector[..], &[0x11; 512], &sector[..]].concat();
        assert_eq!(fs::read(dir.path().join("d.img")).unwrap(), expected);

        ram.write(0x1000, &[0; 300]).unwrap();
        disk.run(Operation::Read(scattered()), 500).unwrap();
        assert_eq!(ram.read::<12>(0x1000), Ok([0x11; 12]));
        assert_eq!(ram.read::<4>(0x1000 + 12), Ok([0xaa; 4]));
        assert_eq!(ram.read::<4>(0x2000 + 208), Ok([0xbb; 4]));
    }
}

#[test]
fn every_engine_completes_every_request_once_by_its_tag() {
    for (_dir, mut disk) in disks(&[0; 4096], Access::ReadWrite) {
        let ram = ram();
        for tag in 0..20 {
            let buffers = Buffers::single(ram.clone(), 0x1000, 512).unwrap();
            // Every fourth one does not lie on the disk.
            let offset = if tag % 4 == 3 { 4096 } else { (tag % 8) * 512 };
            disk.submit(Request { tag, operation: write(buffers), offset });
        }
        let mut done = Vec::new();
        while done.len() < 20 {
            disk.wait();
            disk.reap(&mut done);
        }
        done.sort_by_key(|c| c.tag);
        for (tag, completion) in (0..).zip(&done) {
            assert_eq!(completion.tag, tag);
            assert_eq!(completion.result.is_err(), tag % 4 == 3);
            assert_eq!(completion.transferred, if tag % 4 == 3 { 0 } else { 512 });
        }
        disk.wait();
        disk.reap(&mut done);
        assert_eq!(done.len(), 20);
    }
}

#[test]
fn no_byte_past_the_end_is_ever_touched() {
    for (dir, mut disk) in disks(&[0x11; 1000], Access::ReadWrite) {
        for (offset, len) in
            [(1000, 1), (999, 2), (0, 1001), (u64::MAX, 1), (u64::MAX, 2), (1 << 63, 512)]
        {
            let data = Buffers::single(ram(), 0, len).unwrap();
            for operation in [
                Operation::Read(data.clone()),
                write(data),
                Operation::Discard { len },
                Operation::WriteZeroes { len, unmap: false, durable: false },
            ] {
                let error = disk.run(operation, offset).unwrap_err();
                assert!(matches!(error, BlockError::OutOfRange { size: 1000, .. }), "{error}");
            }
        }
        disk.run(write(Buffers::single(ram(), 0, 1).unwrap()), 999).unwrap();
        let expected = [[0x11; 999].as_slice(), &[0]].concat();
        assert_eq!(fs::read(dir.path().join("d.img")).unwrap(), expected);
    }
}

#[test]
fn a_read_only_disk_reads_and_flushes_but_never_writes() {
    for (dir, mut disk) in disks(&[0x11; 512], Access::ReadOnly) {
        let buffers = || Buffers::single(ram(), 0, 512).unwrap();
        for operation in [
            write(buffers()),
            Operation::Discard { len: 512 },
            Operation::WriteZeroes { len: 512, unmap: true, durable: false },
        ] {
            assert!(matches!(disk.run(operation, 0), Err(BlockError::ReadOnly)));
        }
        assert!(matches!(disk.grow(1024), Err(GrowError::ReadOnly)));
        disk.run(Operation::Read(buffers()), 0).unwrap();
        disk.run(Operation::Flush, 0).unwrap();
        assert_eq!(fs::read(dir.path().join("d.img")).unwrap(), [0x11; 512]);
    }
}

#[test]
fn an_image_cut_off_while_in_use_is_an_error_with_its_place() {
    let (dir, mut disk) = disks(&[0x11; 2048], Access::ReadWrite).remove(0);
    let path = dir.path().join("d.img");
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(700).unwrap();
    let error = disk.run(Operation::Read(Buffers::single(ram(), 0, 1024).unwrap()), 512);
    assert!(matches!(error, Err(BlockError::Host { offset: 700, .. })), "{error:?}");
}
