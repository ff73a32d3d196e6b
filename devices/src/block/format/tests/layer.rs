//! The layer of a snapshot, and maps of other kinds.

use super::*;

#[test]
fn a_flush_and_a_durable_write_ask_nothing_of_the_stores() {
    let (storage, base, layer) = in_memory(&[1; 1024]);
    let mut lane = disk(storage, 1024).lane().unwrap();
    lane.run(Operation::Write { data: data(&[2; 512]), durable: true }, 0).unwrap();
    lane.run(Operation::WriteZeroes { len: 512, unmap: true, durable: true }, 512).unwrap();
    lane.run(Operation::Flush, 0).unwrap();
    lane.run(Operation::Discard { len: 512 }, 0).unwrap();
    let zeros = "zero unmap 512 at";
    assert_eq!(layer.log(), ["write 512 at 0", &format!("{zeros} 512"), &format!("{zeros} 0")]);
    assert_eq!(base.log(), Vec::<String>::new());
    assert_eq!(read(&mut lane, 0, 1024), [0; 1024]);
}

#[test]
fn the_layer_has_no_name_and_takes_no_room_before_it_is_written() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let layer = Image::layer(dir.path(), 1 << 40, false).unwrap();
    let meta = layer.file().metadata().unwrap();
    assert_eq!((meta.nlink(), meta.len(), meta.blocks()), (0, 1 << 40, 0));
    assert!(!layer.syncs());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let error = Image::layer(&dir.path().join("none"), 512, false).unwrap_err();
    assert!(matches!(error, ImageError::Layer { .. }));
    assert!(
        error.to_string().contains("none: cannot make") && error.to_string().contains("TMPDIR")
    );
}

#[test]
fn several_machines_share_an_image_and_each_sees_its_own_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.img");
    fs::write(&path, [1; 1024]).unwrap();
    let lane = || {
        let image = Image::open(&path, RO).unwrap();
        disk(Snapshot::new(image, dir.path()).unwrap(), 1024).lane().unwrap()
    };
    let (mut one, mut two) = (lane(), lane());
    one.run(write(&[2; 512]), 0).unwrap();
    two.run(write(&[3; 512]), 512).unwrap();
    assert_eq!(read(&mut one, 0, 1024), [[2; 512], [1; 512]].concat());
    assert_eq!(read(&mut two, 0, 1024), [[1; 512], [3; 512]].concat());
    let writer = Image::open(&path, Opening::cached(Access::ReadWrite));
    assert!(matches!(writer, Err(ImageError::InUse { .. })));
    drop((one, two));
    assert_eq!(fs::read(&path).unwrap(), [1; 1024]);
    let writer = Image::open(&path, Opening::cached(Access::ReadWrite)).unwrap();
    assert!(matches!(Image::open(&path, RO), Err(ImageError::InUse { .. })));
    drop(writer);
}

#[test]
fn two_stores_that_finish_later_wake_one_lane_by_one_descriptor() {
    let (base, layer) = (WatchedImage::new(&[1; 1024]), WatchedImage::new(&[0; 1024]));
    let late = |image| Box::new(LateStorage::new(Box::new(image), Duration::ZERO));
    let storage = Snapshot::over(late(base), 1024, late(layer), String::new());
    let mut lane = disk(storage, 1024).lane().unwrap();
    let wake = lane.wake().unwrap();
    let operations = [write(&[2; 512]), Operation::Read(data(&[0; 512])), Operation::Flush];
    for (tag, operation) in (0..).zip(operations) {
        lane.push(Request { tag, operation, offset: tag % 2 * 512 });
        lane.commit();
        let (mut done, begin) = (Vec::new(), Instant::now());
        while done.is_empty() {
            // The descriptor does not block.
            match wake.read() {
                Ok(_) => lane.reap(&mut done),
                Err(_) => assert!(begin.elapsed().as_secs() < 10, "request {tag} woke no one"),
            }
        }
        assert!(done[0].result.is_ok() && done[0].request.tag == tag, "{done:?}");
    }
}

/// Every second kilobyte is in the layer, at another offset: a map that no snapshot has.
#[derive(Debug)]
struct Shuffled;

impl Map for Shuffled {
    fn find(&self, offset: u64, len: u64) -> Extent {
        let (number, within) = (offset / 1024, offset % 1024);
        let store = if number % 2 == 0 { Store::Base } else { Store::Layer };
        Extent { store, offset: (7 - number) / 2 * 1024 + within, len: len.min(1024 - within) }
    }

    fn moved(&self, _: u64, _: u64) {}
}

#[test]
fn a_map_may_put_any_byte_anywhere() {
    let image = |first: u8| {
        let bytes: Vec<u8> = (0..4).flat_map(|n| [first + 2 * n; 1024]).collect();
        Box::new(WatchedImage::new(&bytes))
    };
    let storage = MappedStorage::new(Shuffled, image(1), image(0), String::new());
    let mut lane = disk(storage, 8192).lane().unwrap();
    let expected: Vec<u8> = (0..8).rev().flat_map(|n| [n; 1024]).collect();
    assert_eq!(read(&mut lane, 0, 8192), expected);
    assert_eq!(read(&mut lane, 1500, 3000), expected[1500..4500]);
}
