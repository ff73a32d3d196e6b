//! Damaged images and hostile images.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use proptest::prelude::*;

use super::{create, open, read};
use crate::block::format::Qcow2Error;
use crate::block::format::{Backing, Base, Qcow2Storage};
use crate::block::{Access, Disk, Image, ImageError, Opening};
use crate::testing::fuzz::qcow2_open;

/// Opens an image with these bytes at these places for writing.
fn with(patches: &[(u64, &[u8])]) -> Result<Qcow2Storage, Qcow2Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.qcow2");
    create(&path, 16, 1 << 20, None);
    let file = fs::File::options().write(true).open(&path).unwrap();
    patches.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).unwrap());
    inner(open(&path, Access::ReadWrite))
}

fn inner(opened: Result<Qcow2Storage, ImageError>) -> Result<Qcow2Storage, Qcow2Error> {
    opened.map_err(|error| match error {
        ImageError::Qcow2 { error, .. } => error,
        other => panic!("{other}"),
    })
}

#[test]
fn each_feature_that_is_not_supported_is_named() {
    assert!(with(&[]).is_ok());
    let text = |patches: &[(u64, &[u8])]| with(patches).unwrap_err().to_string();
    assert!(text(&[(0, b"raw!")]).starts_with("is no qcow2 image; leave format=qcow2 out"));
    assert!(text(&[(4, &[0, 0, 0, 4])]).starts_with("is of version 4"));
    assert!(text(&[(4, &[0, 0, 0, 2])]).contains("qemu-img amend -o compat=1.1"));
    assert!(text(&[(32, &[0, 0, 0, 2])]).starts_with("is encrypted"));
    assert!(text(&[(60, &[0, 0, 0, 3])]).starts_with("has 3 internal snapshots"));
    for (bits, word) in [
        (2, "marked as corrupt"),
        (4, "data_file"),
        (8, "another algorithm"),
        (16, "extended_l2"),
        (32, "does not know"),
    ] {
        let text = text(&[(79, &[bits])]);
        assert!(text.contains(word) && text.contains("qemu-img"), "{text}");
    }
}

#[test]
fn no_table_is_larger_than_the_file_or_usual() {
    for patch in [
        (20, &[0, 0, 0, 8][..]),
        (20, &[0, 0, 0, 22]),
        (24, &[0; 8]),
        (24, &[0, 0, 0, 0, 0, 16, 0, 1]),
        (24, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0]),
        (36, &[0, 0, 0, 0]),
        (36, &[0xff, 0xff, 0xff, 0xff]),
        (36, &[0, 0x30, 0, 0]),
        (40, &[0; 8]),
        (40, &[0, 0, 0, 0, 0, 3, 2, 0]),
        (40, &[0, 0, 0x7f, 0, 0, 0, 0, 0]),
        (48, &[0, 0, 0, 0, 0, 9, 0, 0]),
        (56, &[0, 0, 0, 0]),
        (56, &[0x7f, 0, 0, 0]),
        (99, &[7]),
    ] {
        let error = with(&[patch]).unwrap_err();
        assert!(matches!(error, Qcow2Error::Damaged(_)), "{patch:?}: {error}");
    }
    // A file that ends within its header, or before its tables.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("short.qcow2");
    create(&path, 16, 1 << 20, None);
    for len in [70, 90, 65536] {
        fs::File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
        assert!(open(&path, Access::ReadOnly).is_err());
    }
}

#[test]
fn refcounts_that_would_give_away_a_cluster_are_refused() {
    // Without a refcount block, with a refcount that is too low, and one that is too high, which is only a leak.
    let error = with(&[(1 << 16, &[0; 8])]).unwrap_err();
    assert!(error.to_string().contains("without refcounts"), "{error}");
    let error = with(&[((2 << 16) + 6, &[0, 0])]).unwrap_err();
    assert!(matches!(error, Qcow2Error::Refcounts(1)), "{error}");
    assert!(with(&[((2 << 16) + 20, &[0, 1])]).is_ok());
    // After a crash they are corrected.
    assert!(with(&[((2 << 16) + 6, &[0, 0]), (79, &[1])]).is_ok());
    // A cluster that the file does not have.
    let far = (1_u64 << 63 | 1 << 40).to_be_bytes();
    let error = with(&[(3 << 16, &far)]).unwrap_err();
    assert!(error.to_string().contains("beyond the end"), "{error}");
}

#[test]
fn tables_that_are_in_use_twice_are_refused() {
    let l1 = 3 << 16;
    let here = |at: u64| (at | 1 << 63).to_be_bytes();
    let error = with(&[(l1, &here(2 << 16))]).unwrap_err();
    assert!(matches!(error, Qcow2Error::Damaged(_)), "{error}");
    let error = with(&[(l1, &(2_u64 << 16).to_be_bytes())]).unwrap_err();
    assert!(error.to_string().contains("L1 entry"), "{error}");
}

/// Makes an image whose header names a backing file.
fn naming(path: &Path, name: &str, format: &str) {
    super::New { backing: Some((name, format)), size: 1 << 20, cluster_bits: 16 }
        .create(path)
        .unwrap();
}

#[test]
fn backing_files_are_opened_only_where_that_is_allowed_and_certain() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("base.img"), vec![7; 1 << 20]).unwrap();
    let opened = |name: &str, backing| {
        let image = Image::open(&path(name), Opening::cached(Access::ReadOnly)).unwrap();
        inner(Qcow2Storage::open(image, backing)).map_err(|error| error.to_string())
    };
    let refused = |name: &str| opened(name, Backing::Allow).unwrap_err();
    naming(&path("good"), "base.img", "raw");
    assert!(opened("good", Backing::Refuse).unwrap_err().contains("backing=allow"));
    let storage = opened("good", Backing::Allow).unwrap();
    let mut lane = Disk::new(Box::new(storage), "d".into(), 1 << 20, true).lane().unwrap();
    assert_eq!(read(&mut lane, 1000, 10), [7; 10]);

    for name in ["nbd:localhost:10809", "json:{}", "file:base.img", ""] {
        let file = format!("named-{}", name.len());
        naming(&path(&file), name, "raw");
        if !name.is_empty() {
            assert!(refused(&file).contains("not a path"), "{name}");
        }
    }
    naming(&path("unstated"), "base.img", "");
    assert!(refused("unstated").contains("qemu-img rebase -u -F raw -b base.img"));
    naming(&path("vmdk"), "base.img", "vmdk");
    assert!(refused("vmdk").contains("vmdk"));
    naming(&path("missing"), "nothing.img", "raw");
    assert!(refused("missing").contains("nothing.img"));
    naming(&path("itself"), "itself", "qcow2");
    assert!(refused("itself").contains("cycle"));
    naming(&path("device"), "/dev/zero", "raw");
    assert!(refused("device").contains("neither a regular file"));
    naming(&path("0"), "base.img", "raw");
    for number in 1..20 {
        naming(&path(&number.to_string()), &(number - 1).to_string(), "qcow2");
    }
    assert!(opened("14", Backing::Allow).is_ok());
    assert!(refused("19").contains("longer than 16"));
}

#[test]
fn an_overlay_is_made_once_and_belongs_to_one_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("base.img"), vec![7; (1 << 20) + 100]).unwrap();
    fs::write(path("other.img"), vec![8; 1 << 20]).unwrap();
    let over = |base: &str, name: &str| {
        let image = Image::open(&path(base), Opening::cached(Access::ReadOnly)).unwrap();
        let opening = Opening::cached(Access::ReadWrite);
        let opened = Qcow2Storage::overlay(&path(name), opening, Base { image, qcow2: None });
        opened.map_err(|error| error.to_string())
    };
    let made = over("base.img", "overlay").unwrap();
    assert_eq!(made.size(), (1 << 20) + 512);
    assert!(over("base.img", "overlay").unwrap_err().contains("in use"));
    drop(made);
    drop(over("base.img", "overlay").unwrap());
    let error = over("other.img", "overlay").unwrap_err();
    assert!(error.contains("is no overlay of") && error.contains("base.img"), "{error}");
    assert!(over("base.img", "other.img").unwrap_err().contains("is no qcow2 image"));
    assert!(over("base.img", "no/such/overlay").unwrap_err().contains("cannot be made"));
    create(&path("plain"), 16, 1 << 20, None);
    assert!(over("base.img", "plain").unwrap_err().contains("no backing file"));
    // Of another directory, by its absolute path.
    fs::create_dir(path("sub")).unwrap();
    drop(over("base.img", "sub/overlay").unwrap());
    drop(over("base.img", "sub/overlay").unwrap());
    // The base has become larger.
    let base = fs::File::options().write(true).open(path("base.img")).unwrap();
    base.set_len(2 << 20).unwrap();
    assert!(over("base.img", "overlay").unwrap_err().contains("fewer than"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_image_makes_it_panic_or_hang(
        kind in 1..4_u8,
        script in prop::collection::vec(any::<u8>(), 15),
        patches in prop::collection::vec(any::<u8>(), 0..66),
    ) {
        qcow2_open(&[&[kind][..], &script, &patches].concat());
    }
}
