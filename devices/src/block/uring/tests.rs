use std::path::{Path, PathBuf};
use std::time::Duration;

use super::engine::{Job, RingEngine};
use super::*;
use crate::block::sync::PIECE;
use crate::block::{Access, BlockError, Completion, Disk, Lane, Opening, Operation, Request};
use crate::memory::{Buffers, GuestRam};

fn image(len: u64) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.img");
    std::fs::write(&path, pattern(0, len)).unwrap();
    (dir, path)
}

fn pattern(offset: u64, len: u64) -> Vec<u8> {
    (offset..offset + len).map(|n| (n / 512 + n % 251) as u8).collect()
}

fn open(path: &Path) -> Image {
    Image::open(path, Opening::cached(Access::ReadWrite)).unwrap()
}

fn lane(path: &Path) -> Lane {
    let image = open(path);
    let (name, size) = (image.name(), image.size());
    Disk::new(Box::new(UringStorage::new(image).unwrap()), name, size, false).lane().unwrap()
}

/// An engine with the parts that tests look into.
fn engine(path: &Path, stop: &Stop) -> RingEngine {
    let storage = UringStorage::new(open(path)).unwrap();
    let (ring, inner) = (make_ring().unwrap(), storage.image.engine(stop).unwrap());
    RingEngine::new(storage.image, inner, ring, stop.clone())
}

fn ram(len: u64) -> GuestRam {
    GuestRam::anonymous(&[(0, len as usize)]).unwrap()
}

fn finish(engine: &mut RingEngine, count: usize) -> Vec<Completion> {
    let mut done = Vec::new();
    engine.commit();
    while done.len() < count {
        engine.wait(Duration::from_secs(10));
        engine.reap(&mut done);
    }
    done
}

#[test]
fn two_thousand_requests_at_once_are_all_done() {
    let (_dir, path) = image(2000 * 512);
    let mut lane = lane(&path);
    let ram = ram(2000 * 512 + 4096);
    for tag in 0..2000 {
        let data = Buffers::single(ram.clone(), tag * 512, 512).unwrap();
        lane.push(Request { tag, operation: Operation::Read(data), offset: tag * 512 });
    }
    lane.commit();
    let mut done = Vec::new();
    while lane.in_flight() > 0 {
        lane.wait(Duration::from_secs(10));
        lane.reap(&mut done);
    }
    assert!(done.len() == 2000 && done.iter().all(|c| c.result.is_ok() && c.transferred == 512));
    let mut found = vec![0; 2000 * 512];
    ram.read_into(0, &mut found).unwrap();
    assert!(found == pattern(0, 2000 * 512));
}

#[test]
fn a_long_request_is_moved_in_pieces_and_of_more_buffers_than_one_call_takes() {
    let len = 2 * PIECE + 700;
    let (_dir, path) = image(len);
    let mut lane = lane(&path);
    let ram = ram(len.next_multiple_of(4096));
    lane.run(Operation::Read(Buffers::single(ram.clone(), 0, len).unwrap()), 0).unwrap();
    let mut found = vec![0; len as usize];
    ram.read_into(0, &mut found).unwrap();
    assert!(found == pattern(0, len));

    // Every second 512 bytes, 3000 times.
    let mut scattered = Buffers::new(ram.clone());
    for n in 0..3000 {
        scattered.push(n * 1024, 512).unwrap();
    }
    lane.run(Operation::Write { data: scattered, durable: true }, 4096).unwrap();
    let wrote: Vec<_> = (0..3000).flat_map(|n| pattern(n * 1024, 512)).collect();
    assert!(std::fs::read(&path).unwrap()[4096..][..wrote.len()] == wrote);
}

#[test]
fn a_long_request_is_stopped_between_two_pieces() {
    let (_dir, path) = image(3 * PIECE);
    let stop = Stop::default();
    let mut engine = engine(&path, &stop);
    stop.stop();
    let data = Buffers::single(ram(3 * PIECE), 0, 3 * PIECE).unwrap();
    engine.push(Request { tag: 0, operation: Operation::Read(data), offset: 0 });
    let done = finish(&mut engine, 1);
    assert!(matches!(done[0].result, Err(BlockError::Stopped)), "{done:?}");
    assert_eq!(done[0].transferred, PIECE);
}

#[test]
fn a_short_or_interrupted_transfer_goes_on_where_it_ended() {
    let (_dir, path) = image(8192);
    let ram = ram(8192);
    let data = |len| Buffers::single(ram.clone(), 0, len).unwrap();
    let job = |operation, done| Job::at(Request { tag: 0, operation, offset: 1024 }, done);
    let mut engine = engine(&path, &Stop::default());
    // The kernel has moved 100 + 200 bytes of 2000.
    engine.arrive(job(Operation::Read(data(2000)), 100), Ok(200));
    let done = finish(&mut engine, 1);
    assert!(done[0].result.is_ok() && done[0].transferred == 2000);
    let mut found = vec![0; 2000];
    ram.read_into(0, &mut found).unwrap();
    assert!(found[..300].iter().all(|byte| *byte == 0) && found[300..] == pattern(1324, 1700));

    for errno in [libc::EINTR, libc::EAGAIN, libc::ECANCELED] {
        let error = || io::Error::from_raw_os_error(errno);
        engine.arrive(job(Operation::Flush, 0), Err(error()));
        engine.arrive(job(Operation::Read(data(10)), 0), Err(error()));
        let done = finish(&mut engine, 2);
        assert!(done.iter().all(|c| c.result.is_ok()), "{done:?}");
    }
    // The host's other errors, and the end of the image, are the request's, at their place.
    engine.arrive(job(Operation::Read(data(10)), 4), Err(io::Error::from_raw_os_error(libc::EIO)));
    engine.arrive(job(Operation::Read(data(10)), 4), Ok(0));
    for completion in finish(&mut engine, 2) {
        assert_eq!(completion.transferred, 4);
        let offset = match completion.result {
            Err(BlockError::Host { offset, .. }) => offset,
            other => panic!("{other:?}"),
        };
        assert_eq!(offset, 1028);
    }
}

#[test]
fn a_failed_sync_is_told_from_bytes_that_were_not_taken() {
    let (_dir, path) = image(8192);
    let error = || io::Error::from_raw_os_error(libc::EIO);
    let mut engine = engine(&path, &Stop::default());
    let data = Buffers::single(ram(4096), 0, 512).unwrap();
    let write = |durable| Operation::Write { data: data.clone(), durable };
    let at = |offset, operation| Job::at(Request { tag: 0, operation, offset }, 0);
    engine.arrive(at(0, Operation::Flush), Err(error()));
    engine.arrive(at(0, write(true)), Err(error()));
    let done = finish(&mut engine, 2);
    assert!(done.iter().all(|c| matches!(c.result, Err(BlockError::Sync(_)))), "{done:?}");
    engine.arrive(at(0, write(false)), Err(error()));
    // No handle accepts bytes there.
    engine.arrive(at(u64::MAX / 2 - 10, write(true)), Err(error()));
    let done = finish(&mut engine, 2);
    assert!(done.iter().all(|c| matches!(c.result, Err(BlockError::Host { .. }))), "{done:?}");
}

#[test]
fn a_lane_that_is_dropped_finishes_its_requests_and_frees_the_image() {
    for _ in 0..20 {
        let (_dir, path) = image(256 * 4096);
        let mut lane = lane(&path);
        let ram = ram(256 * 4096);
        for tag in 0..256 {
            let data = Buffers::single(ram.clone(), tag * 4096, 4096).unwrap();
            let operation = if tag % 2 == 0 {
                Operation::Read(data)
            } else {
                Operation::Write { data, durable: tag % 64 == 1 }
            };
            lane.push(Request { tag, operation, offset: tag * 4096 });
        }
        lane.commit();
        drop(lane);
        let image = open(&path);
        for tag in (1..256).step_by(2) {
            let mut bytes = [1; 4096];
            let offset = tag * 4096;
            std::os::unix::fs::FileExt::read_exact_at(image.file(), &mut bytes, offset).unwrap();
            assert_eq!(bytes, [0; 4096]);
        }
    }
}

#[test]
fn a_host_without_io_uring_is_an_error_that_says_what_to_do() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        let (_dir, path) = image(512);
        let make: MakeRing = match errno {
            libc::ENOSYS => || Err(io::Error::from_raw_os_error(libc::ENOSYS)),
            _ => || Err(io::Error::from_raw_os_error(libc::EPERM)),
        };
        let error = UringStorage::made_by(make, open(&path)).unwrap_err().to_string();
        for says in ["d.img: engine=uring", "give engine=auto or engine=sync", "io_uring_disabled"]
        {
            assert!(error.contains(says), "{error}");
        }
    }
}

#[test]
fn a_batch_enters_the_kernel_at_the_commit() {
    let (_dir, path) = image(64 << 10);
    let mut engine = engine(&path, &Stop::default());
    let ram = ram(4096);
    let mut done = Vec::new();
    for tag in 0..10 {
        let data = Buffers::single(ram.clone(), 0, 512).unwrap();
        engine.push(Request { tag, operation: Operation::Read(data), offset: 512 * tag });
        // A device looks for completions between two requests.
        engine.reap(&mut done);
    }
    assert_eq!((engine.in_ring(), done.len()), (10, 0));
    assert_eq!(finish(&mut engine, 10).len(), 10);
}
