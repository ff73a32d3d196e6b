//! A suite for every engine, and the checks of [`Disk`].

use std::fs;
use std::time::Duration;

use super::format::Snapshot;
use super::*;
use crate::memory::GuestRam;
use crate::testing::{Fault, FaultStorage, Faults, HeldStorage, LateStorage, WatchedImage};

fn ram() -> GuestRam {
    GuestRam::anonymous(&[(0, 64 << 10)]).unwrap()
}

/// The image of a test's disk, and its permanent content if the disk is a snapshot of it.
struct Place {
    dir: tempfile::TempDir,
    snapshot_of: Option<Vec<u8>>,
}

impl Place {
    fn image(&self) -> std::path::PathBuf {
        self.dir.path().join("d.img")
    }

    /// The current content of the disk.
    fn bytes(&self, lane: &mut Lane) -> Vec<u8> {
        let Some(image) = &self.snapshot_of else { return fs::read(self.image()).unwrap() };
        assert!(fs::read(self.image()).unwrap() == *image, "the image of a snapshot changed");
        let len = lane.disk().size();
        let ram = GuestRam::anonymous(&[(0, 64 << 10)]).unwrap();
        let mut bytes = vec![0; len as usize];
        lane.run(Operation::Read(Buffers::single(ram.clone(), 0, len).unwrap()), 0).unwrap();
        ram.read_into(0, &mut bytes).unwrap();
        bytes
    }
}

/// A lane to a disk of `bytes` on each engine, and on a snapshot by each engine; and where its image is.
fn disks(bytes: &[u8], access: Access) -> Vec<(Place, Lane)> {
    let cached = Opening::cached(access);
    let direct = Opening { direct: true, ..cached };
    type Make = fn(Box<dyn Storage>) -> Box<dyn Storage>;
    let kinds: [(Opening, EngineKind, Make); 10] = [
        (cached, EngineKind::Sync, |storage| storage),
        (direct, EngineKind::Sync, |storage| storage),
        (cached, EngineKind::Mmap, |storage| storage),
        (cached, EngineKind::Uring, |storage| storage),
        (direct, EngineKind::Uring, |storage| storage),
        (cached, EngineKind::Auto, |storage| storage),
        (direct, EngineKind::Auto, |storage| storage),
        (cached, EngineKind::Sync, |storage| Box::new(FaultStorage::new(storage))),
        (cached, EngineKind::Sync, |storage| Box::new(HeldStorage::new(storage))),
        (cached, EngineKind::Sync, |storage| Box::new(LateStorage::new(storage, Duration::ZERO))),
    ];
    let disk = |(opening, engine, make): (Opening, EngineKind, Make), snapshot| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.img");
        fs::write(&path, bytes).unwrap();
        let size = bytes.len() as u64;
        let storage = if snapshot {
            // The engine in question moves the bytes of both stores.
            let opening = Opening { access: Access::ReadOnly, ..opening };
            let base = make(engine.storage(Image::open(&path, opening).unwrap()).unwrap());
            let layer = Image::layer(dir.path(), size, opening.direct).unwrap();
            let layer = make(engine.storage(layer).unwrap());
            Box::new(Snapshot::over(base, size, layer, "the layer".into()))
        } else {
            make(engine.storage(Image::open(&path, opening).unwrap()).unwrap())
        };
        let disk = Disk::new(storage, "a test's disk".into(), size, access == Access::ReadOnly);
        let snapshot_of = snapshot.then(|| bytes.to_vec());
        (Place { dir, snapshot_of }, disk.lane().unwrap())
    };
    // A snapshot is there to be written.
    let snapshots = kinds.into_iter().filter(|_| access == Access::ReadWrite);
    let raw = kinds.into_iter().map(|kind| disk(kind, false));
    raw.chain(snapshots.map(|kind| disk(kind, true))).collect()
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
        assert_eq!(dir.bytes(&mut disk), expected);

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
            disk.push(Request { tag, operation: write(buffers), offset });
        }
        disk.commit();
        let mut done = Vec::new();
        while done.len() < 20 {
            disk.wait(Duration::from_secs(10));
            disk.reap(&mut done);
        }
        done.sort_by_key(|c| c.request.tag);
        for (tag, completion) in (0..).zip(&done) {
            assert_eq!(completion.request.tag, tag);
            assert_eq!(completion.result.is_err(), tag % 4 == 3);
            assert_eq!(completion.transferred, if tag % 4 == 3 { 0 } else { 512 });
        }
        disk.wait(Duration::from_secs(10));
        disk.reap(&mut done);
        assert_eq!((done.len(), disk.in_flight(), disk.disk().in_flight()), (20, 0, 0));
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
        assert_eq!(dir.bytes(&mut disk), expected);
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
        assert!(matches!(disk.disk().grow(1024), Err(GrowError::ReadOnly)));
        disk.run(Operation::Read(buffers()), 0).unwrap();
        disk.run(Operation::Flush, 0).unwrap();
        assert_eq!(dir.bytes(&mut disk), [0x11; 512]);
    }
}

#[test]
fn an_image_cut_off_while_in_use_is_an_error_with_its_place() {
    for (dir, mut disk) in disks(&[0x11; 2048], Access::ReadWrite) {
        if dir.snapshot_of.is_some() {
            continue;
        }
        fs::OpenOptions::new().write(true).open(dir.image()).unwrap().set_len(700).unwrap();
        let error = disk.run(Operation::Read(Buffers::single(ram(), 0, 1024).unwrap()), 512);
        assert!(matches!(error, Err(BlockError::Host { offset: 700, .. })), "{error:?}");
    }
}

#[test]
fn every_engine_makes_zeros_and_only_where_it_was_told() {
    for (offset, len) in
        [(0, 512), (512, 8192), (4096, 4096), (100, 1), (5000, 7000), (0, 20_000), (0, 0)]
    {
        for (unmap, durable) in [(false, false), (true, false), (false, true), (true, true)] {
            for (dir, mut disk) in disks(&[0x11; 20_000], Access::ReadWrite) {
                disk.run(Operation::WriteZeroes { len, unmap, durable }, offset).unwrap();
                let mut expected = vec![0x11; 20_000];
                expected[offset as usize..][..len as usize].fill(0);
                let found = dir.bytes(&mut disk);
                assert!(found == expected, "{offset} {len} {unmap} {durable}");
            }
        }
    }
}

#[test]
fn every_engine_leaves_old_bytes_or_zeros_where_it_discards_and_the_rest_alone() {
    for (offset, len) in [(0, 512), (512, 8192), (4096, 4096), (100, 1), (0, 20_000), (0, 0)] {
        for (dir, mut disk) in disks(&[0x11; 20_000], Access::ReadWrite) {
            disk.run(Operation::Discard { len }, offset).unwrap();
            let found = dir.bytes(&mut disk);
            assert_eq!(found.len(), 20_000);
            for (at, byte) in (0..).zip(found) {
                let told = (offset..offset + len).contains(&at);
                assert!(byte == 0x11 || told && byte == 0, "{byte} at {at}");
            }
        }
    }
}

#[test]
fn every_engine_grows_its_image_by_zeros() {
    for (dir, mut disk) in disks(&[0x11; 1000], Access::ReadWrite) {
        for size in [0, 999, 1000] {
            assert!(matches!(disk.disk().grow(size), Err(GrowError::NotLarger { now: 1000, .. })));
        }
        disk.disk().grow(3000).unwrap();
        assert_eq!(disk.disk().size(), 3000);
        disk.run(write(Buffers::single(ram(), 0, 10).unwrap()), 2990).unwrap();
        assert!(disk.run(write(Buffers::single(ram(), 0, 10).unwrap()), 2991).is_err());
        let expected = [&[0x11; 1000][..], &[0; 2000]].concat();
        assert_eq!(dir.bytes(&mut disk), expected);
    }
}

#[test]
fn buffers_and_places_of_any_alignment_reach_the_image() {
    // Aligned to a page, to 512 bytes, to nothing; in one buffer and in several.
    let layouts: [&[(u64, u64)]; 6] = [
        &[(0x4000, 4096)],
        &[(0x4000, 8192), (0x8000, 4096)],
        &[(0x4200, 512)],
        &[(0x4001, 4096)],
        &[(0x4000, 4096), (0x6003, 512)],
        &[(0x4000, 100), (0x5000, 3996)],
    ];
    for layout in layouts {
        for offset in [0, 4096, 512, 1, 20_480 - 16] {
            for (dir, mut disk) in disks(&[0x11; 40_001], Access::ReadWrite) {
                let ram = ram();
                let mut buffers = Buffers::new(ram.clone());
                let mut sent = Vec::new();
                for (n, &(addr, len)) in (1..).zip(layout) {
                    let bytes: Vec<_> = (0..len).map(|at| (at % 251) as u8 ^ n).collect();
                    ram.write(addr, &bytes).unwrap();
                    buffers.push(addr, len).unwrap();
                    sent.extend(bytes);
                }
                disk.run(write(buffers.clone()), offset).unwrap();
                let mut expected = vec![0x11; 40_001];
                expected[offset as usize..][..sent.len()].copy_from_slice(&sent);
                assert!(dir.bytes(&mut disk) == expected, "{layout:x?} at {offset}");
                for &(addr, len) in layout {
                    ram.write(addr, &vec![0; len as usize]).unwrap();
                }
                disk.run(Operation::Read(buffers.clone()), offset).unwrap();
                let mut found = vec![0; sent.len()];
                assert_eq!(buffers.copy_to(&mut found), sent.len());
                assert!(found == sent, "{layout:x?} at {offset}");
            }
        }
    }
}

#[test]
fn a_write_at_a_ragged_end_never_makes_the_image_longer() {
    for (dir, mut disk) in disks(&[0x11; 4096 + 700], Access::ReadWrite) {
        let path = dir.image();
        for (offset, len) in [(4096, 700), (4608, 188), (0, 4796), (4795, 1)] {
            disk.run(write(Buffers::single(ram(), 0, len).unwrap()), offset).unwrap();
            let zeroes = Operation::WriteZeroes { len, unmap: true, durable: true };
            disk.run(zeroes, offset).unwrap();
            disk.run(Operation::Discard { len }, offset).unwrap();
            disk.run(Operation::Read(Buffers::single(ram(), 0, len).unwrap()), offset).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().len(), 4796);
        }
    }
}

#[test]
fn what_an_image_holds_is_never_looked_at() {
    // The first bytes of qcow2, QED, VMDK, VHDX, VHD, VDI and parallels images, as a guest may write them.
    let magics: [&[u8]; 8] = [
        b"QFI\xfb\0\0\0\x03",
        b"QED\0",
        b"KDMV",
        b"# Disk DescriptorFile",
        b"vhdxfile",
        b"conectix",
        b"<<< Oracle VM VirtualBox Disk Image >>>",
        b"WithoutFreeSpace",
    ];
    for magic in magics {
        let mut bytes = vec![0x11; 4096];
        bytes[..magic.len()].copy_from_slice(magic);
        for (dir, mut disk) in disks(&bytes, Access::ReadWrite) {
            assert_eq!(disk.disk().size(), 4096);
            let ram = ram();
            disk.run(Operation::Read(Buffers::single(ram.clone(), 0, 4096).unwrap()), 0).unwrap();
            let mut found = vec![0; 4096];
            ram.read_into(0, &mut found).unwrap();
            assert!(found == bytes, "{magic:?}");
            // And not when the image is opened again, after the guest wrote it.
            disk.run(write(Buffers::single(ram.clone(), 0, 512).unwrap()), 0).unwrap();
            drop(disk);
            let path = dir.image();
            let again = Image::open(&path, Opening::cached(Access::ReadWrite)).unwrap();
            assert_eq!(again.size(), 4096);
            assert!(fs::read(path).unwrap() == bytes, "{magic:?}");
        }
    }
}

/// A disk of 1024 bytes in memory whose requests can be made to fail.
fn faulty() -> (Disk, WatchedImage, Faults) {
    let image = WatchedImage::new(&[0x11; 1024]);
    let storage = FaultStorage::new(Box::new(image.clone()));
    let faults = storage.faults();
    (Disk::new(Box::new(storage), "a test's disk".into(), 1024, false), image, faults)
}

#[test]
fn a_failed_flush_is_final_for_every_lane_and_what_needs_no_flush_goes_on() {
    let (disk, image, faults) = faulty();
    let (mut one, mut two) = (disk.lane().unwrap(), disk.lane().unwrap());
    let data = || Buffers::single(ram(), 0, 512).unwrap();
    one.run(write(data()), 0).unwrap();
    faults.push(Fault::After(0, libc::EIO));
    assert!(matches!(two.run(Operation::Flush, 0), Err(BlockError::Sync(_))));
    // The kernel has marked the pages as clean: a second flush would succeed although the data is lost.
    for lane in [&mut one, &mut two] {
        let durable = Operation::Write { data: data(), durable: true };
        let zeroes = Operation::WriteZeroes { len: 512, unmap: false, durable: true };
        for operation in [Operation::Flush, durable, zeroes] {
            let error = lane.run(operation, 0).unwrap_err();
            assert!(matches!(error, BlockError::Lost(_)), "{error}");
            assert!(error.to_string().contains("Input/output error"), "{error}");
        }
        lane.run(Operation::Read(data()), 0).unwrap();
        lane.run(write(data()), 512).unwrap();
    }
    assert!(disk.lane().unwrap().run(Operation::Flush, 0).is_err(), "a new lane knows, too");
    assert_eq!(image.stable(), [0x11; 1024]);
    assert!(!image.log().contains(&"flush".to_owned()));
}

#[test]
fn a_failed_flush_fails_those_that_were_submitted_with_it() {
    let (disk, _, faults) = faulty();
    let mut lane = disk.lane().unwrap();
    faults.push(Fault::None);
    faults.push(Fault::After(0, libc::EIO));
    for tag in 0..3 {
        lane.push(Request { tag, operation: Operation::Flush, offset: 0 });
    }
    lane.commit();
    let mut done = Vec::new();
    lane.reap(&mut done);
    assert_eq!(done.len(), 3);
    assert!(done.iter().all(|completion| completion.result.is_err()), "{done:?}");
}

#[test]
fn what_is_stopped_begins_nothing_but_makes_safe_what_was_done() {
    let (disk, image, _) = faulty();
    let mut lane = disk.lane().unwrap();
    let data = || Buffers::single(ram(), 0, 512).unwrap();
    lane.run(write(data()), 0).unwrap();
    disk.stop_handle().stop();
    for operation in [Operation::Read(data()), write(data()), Operation::Discard { len: 512 }] {
        assert!(matches!(lane.run(operation, 512), Err(BlockError::Stopped)));
    }
    lane.run(Operation::Flush, 0).unwrap();
    assert_eq!(image.stable(), [[0; 512], [0x11; 512]].concat());
}

#[test]
fn only_a_full_host_is_worth_waiting_for() {
    let host = |errno| BlockError::Host { offset: 0, source: io::Error::from_raw_os_error(errno) };
    assert!(host(libc::ENOSPC).no_room().is_some() && host(libc::EDQUOT).no_room().is_some());
    assert!(host(libc::EIO).no_room().is_none());
    assert!(BlockError::Sync(io::Error::from_raw_os_error(libc::ENOSPC)).no_room().is_none());
}
