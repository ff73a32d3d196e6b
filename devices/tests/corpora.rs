//! Replays the fuzzers' committed corpora in a plain test.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its corpus fails")]

use std::fs;
use std::path::Path;

use cafevm_devices::testing::fuzz;

/// Replays a target's corpus; its bytes.
fn replay(target: &str, body: fn(&[u8])) -> u64 {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut bytes = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        bytes += input.len() as u64;
        // Printed to standard output, so that a failure names the input.
        println!("{}", path.display());
        body(&input);
    }
    assert_ne!(bytes, 0, "{} is empty", dir.display());
    assert!(bytes < 40 << 10, "{} has {bytes} bytes; minimise it", dir.display());
    bytes
}

#[test]
fn any_access_to_any_register() {
    replay("mmio_registers", fuzz::mmio_registers);
}

#[test]
fn a_whole_virtqueue() {
    replay("virtqueue", fuzz::virtqueue);
}

#[test]
fn a_qcow2_image_that_nobody_should_trust() {
    replay("qcow2_open", fuzz::qcow2_open);
}

#[test]
fn the_teaching_protocol() {
    replay("svirtb", fuzz::svirtb);
}

#[test]
fn an_nbd_server() {
    replay("nbd", fuzz::nbd);
}

#[test]
fn a_gpu() {
    replay("virtio_gpu", |bytes| {
        fuzz::virtio_gpu(bytes);
    });
}

#[test]
fn an_input_device() {
    replay("virtio_input", |bytes| {
        fuzz::virtio_input(bytes);
    });
}
