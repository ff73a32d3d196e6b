//! The example in the crate's documentation works.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use cafevm_devices::bus::BusDevice;
use cafevm_devices::memory::GuestRam;
use cafevm_devices::testing::CountingLine;

#[allow(unreachable_pub, reason = "it is shown as a part of a program")]
#[path = "../docs/disk.rs"]
mod example;

#[test]
fn the_disk_of_the_example_identifies_itself() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    let ram = GuestRam::anonymous(&[(0, 0x1000)]).unwrap();
    let path = image.path().to_str().unwrap();
    let disk = example::disk(path, &ram, Arc::new(CountingLine::default())).unwrap();
    let register = |offset| {
        let mut bytes = [0; 4];
        disk.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    };
    assert_eq!((register(0), register(4), register(8)), (0x7472_6976, 2, 2));
}
