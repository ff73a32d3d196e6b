//! Hostile qcow2 images.
//!
//! The first byte says what the image is: the bytes themselves, or a small image that is right, with patches. The next
//! ones are what is done with it.

use std::fs;
use std::path::Path;

use crate::block::format::{Backing, Qcow2Storage};
use crate::block::{Access, Disk, Image, Opening, Operation};
use crate::memory::{Buffers, GuestRam};

/// The bytes before the image: its kind, and what is done.
const SCRIPT: usize = 16;
/// The sectors of the image that is patched.
const SECTORS: u64 = 400;
/// The most bytes of one request.
const MOST: u64 = 16 << 10;

/// Opens an image that nobody should trust, first for reading and then for writing, and uses it.
///
/// # Panics
///
/// If the host cannot make a file.
pub fn qcow2_open(bytes: &[u8]) {
    let Some((script, image)) = bytes.split_at_checked(SCRIPT) else { return };
    let Some((kind, script)) = script.split_first() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.qcow2");
    if kind % 4 == 0 {
        fs::write(&path, image).unwrap();
    } else {
        patched(&path, image, 9 + u32::from(kind % 4 - 1));
    }
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let Ok(image) = Image::open(&path, Opening { sync: false, ..Opening::cached(access) })
        else {
            return;
        };
        let Ok(storage) = Qcow2Storage::open(image, Backing::Refuse) else { continue };
        use_it(storage, access, script);
    }
}

/// A small image with some clusters, and then other bytes in some places.
fn patched(path: &Path, patches: &[u8], cluster_bits: u32) {
    Qcow2Storage::create(path, SECTORS * 512, cluster_bits).unwrap();
    let image = Image::open(path, Opening { sync: false, ..Opening::cached(Access::ReadWrite) });
    let storage = Qcow2Storage::open(image.unwrap(), Backing::Refuse).unwrap();
    use_it(storage, Access::ReadWrite, &[0x00, 0x30, 0x41, 0x92, 0x17]);
    let mut file = fs::read(path).unwrap();
    for patch in patches.chunks(11) {
        let [high, low, count, bytes @ ..] = patch else { break };
        let at = usize::from(u16::from_be_bytes([*high, *low])) % file.len();
        for (to, from) in file[at..].iter_mut().zip(bytes.iter().take(usize::from(count % 9))) {
            *to = *from;
        }
    }
    fs::write(path, file).unwrap();
}

/// Each byte is a request.
fn use_it(storage: Qcow2Storage, access: Access, script: &[u8]) {
    let size = storage.size();
    let disk = Disk::new(Box::new(storage), "fuzzed".to_owned(), size, access == Access::ReadOnly);
    let mut lane = disk.lane().unwrap();
    let ram = GuestRam::anonymous(&[(0, MOST as usize)]).unwrap();
    let len = size.min(MOST);
    let (first, last) = (0, (size - len) / 512 * 512);
    for step in script {
        let sectors = u64::from(step >> 4);
        let offset = match step & 3 {
            0 => first,
            1 => last,
            n => (size / 512 / u64::from(n)) * 512 % (last + 1) / 512 * 512,
        };
        let len = ((sectors + 1) * 512).min(size - offset);
        let data = Buffers::single(ram.clone(), 0, len).unwrap();
        let operation = match step >> 2 & 3 {
            0 => Operation::Write { data, durable: sectors == 3 },
            1 => Operation::Read(data),
            2 if sectors % 2 == 0 => Operation::WriteZeroes { len, unmap: true, durable: false },
            2 => Operation::Discard { len },
            _ if sectors == 7 => {
                let _grown = disk.grow(size + 512);
                Operation::Flush
            }
            _ => Operation::Flush,
        };
        // Whether it succeeds is not the question.
        let _result = lane.run(operation, offset);
    }
}
