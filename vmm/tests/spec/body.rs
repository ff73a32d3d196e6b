//! Properties of any text as a value of `--disk` or `--virtio-mmio`: for the fuzzer and for the replay of its corpus.
#![allow(clippy::expect_used, reason = "a test may panic")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use cafevm::cli::{bank, spec};
use cafevm::config::{DiskBus, DiskConfig};

/// Parses `bytes` as both kinds of values.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        // A path may hold any bytes.
        if let Err(error) = spec::parse(OsStr::from_bytes(bytes)) {
            is_said(&error.to_string());
        }
        return;
    };
    match spec::parse(text) {
        Ok(disk) => {
            assert!(!disk.path.as_os_str().is_empty());
            if let DiskBus::Virtio(options) = &disk.bus {
                options.check().expect("what is accepted can be a device");
            }
            written_out_it_is_the_same(&disk, text);
        }
        Err(error) => is_said(&error.to_string()),
    }
    match bank::parse(text) {
        Ok(bank) => assert!(bank.stride >= 0x200 && (1..=32).contains(&bank.slots)),
        Err(error) => is_said(&error.to_string()),
    }
}

/// The path with its commas doubled parses to the same path.
fn written_out_it_is_the_same(disk: &DiskConfig, text: &str) {
    if text.contains("path=") {
        return;
    }
    let path = disk.path.to_str().expect("from text");
    let escaped = path.replace(',', ",,");
    let again = spec::parse(format!("path={escaped}")).expect("a path alone is enough");
    assert_eq!(again.path, disk.path, "{text:?}");
}

fn is_said(error: &str) {
    assert_eq!(error.lines().count(), 1, "{error:?}");
}
