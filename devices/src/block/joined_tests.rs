//! Requests that are submitted together, on an image file.

use std::fs;

use super::super::{Access, Completion, Disk, Image, Lane, Opening};
use super::*;
use crate::memory::{Buffers, GuestRam};

const SECTOR: u64 = 512;

fn lane(dir: &tempfile::TempDir, access: Access, sectors: u64) -> Lane {
    let path = dir.path().join("d.img");
    let content: Vec<u8> = (0..sectors).flat_map(|n| [n as u8 + 1; SECTOR as usize]).collect();
    fs::write(&path, content).unwrap();
    Disk::from_image(Image::open(&path, Opening::cached(access)).unwrap()).lane().unwrap()
}

fn request(tag: u64, operation: Operation) -> Request {
    Request { tag, operation, offset: tag * SECTOR }
}

/// Submits all requests together. Returns the completions in the order of their tags.
fn submit(lane: &mut Lane, requests: impl IntoIterator<Item = Request>) -> Vec<Completion> {
    requests.into_iter().for_each(|request| lane.push(request));
    let mut done = Vec::new();
    lane.commit();
    lane.reap(&mut done);
    done.sort_by_key(|completion| completion.request.tag);
    done
}

/// The buffer of sector `n`, in reverse order in RAM.
fn place(ram: &GuestRam, n: u64) -> Buffers {
    Buffers::single(ram.clone(), (63 - n) * SECTOR, SECTOR).unwrap()
}

#[test]
fn neighbours_keep_their_own_buffers_and_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut lane = lane(&dir, Access::ReadWrite, 64);
    let ram = GuestRam::anonymous(&[(0, 64 << 10)]).unwrap();
    let reads = (0..40).map(|n| request(n, Operation::Read(place(&ram, n))));
    assert!(submit(&mut lane, reads).iter().all(|c| c.result.is_ok() && c.transferred == SECTOR));
    for n in 0..40 {
        assert_eq!(ram.read::<1>((63 - n) * SECTOR).unwrap(), [n as u8 + 1]);
    }
    // A read after a write of the same sectors sees the new bytes, and a write after a read does not change it.
    ram.write(0, &[0xaa; 1024]).unwrap();
    let write = |n: u64| {
        let data = Buffers::single(ram.clone(), n % 2 * SECTOR, SECTOR).unwrap();
        request(n, Operation::Write { data, durable: false })
    };
    let read = |n: u64, at: u64| {
        let data = Buffers::single(ram.clone(), at, SECTOR).unwrap();
        Request { tag: at, ..request(n, Operation::Read(data)) }
    };
    let both = [read(2, 0x1000), write(2), write(3), read(2, 0x2000), read(3, 0x2200)];
    assert!(submit(&mut lane, both).iter().all(|c| c.result.is_ok()));
    let found = [0x1000, 0x2000, 0x2200].map(|at| ram.read::<1>(at).unwrap()[0]);
    assert_eq!(found, [3, 0xaa, 0xaa]);
}

#[test]
fn a_short_transfer_fails_the_request_in_which_it_ends_and_those_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut lane = lane(&dir, Access::ReadWrite, 16);
    let ram = GuestRam::anonymous(&[(0, 64 << 10)]).unwrap();
    let image = fs::OpenOptions::new().write(true).open(dir.path().join("d.img")).unwrap();
    image.set_len(2 * SECTOR + 100).unwrap();
    let done = submit(&mut lane, (0..5).map(|n| request(n, Operation::Read(place(&ram, n)))));
    let outcomes: Vec<_> = done.iter().map(|c| (c.result.is_ok(), c.transferred)).collect();
    assert_eq!(outcomes, [(true, 512), (true, 512), (false, 100), (false, 0), (false, 0)]);
}

#[test]
fn a_refused_write_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut lane = lane(&dir, Access::ReadOnly, 16);
    let ram = GuestRam::anonymous(&[(0, 64 << 10)]).unwrap();
    let write = |n| request(n, Operation::Write { data: place(&ram, n), durable: true });
    let read = |n| request(n, Operation::Read(place(&ram, n)));
    let done = submit(&mut lane, [write(0), read(1), read(2), write(3)]);
    let outcomes: Vec<_> = done.iter().map(|c| c.result.is_ok()).collect();
    assert_eq!(outcomes, [false, true, true, false]);
}
