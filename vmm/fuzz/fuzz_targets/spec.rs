//! What stands behind `--disk` and `--virtio-mmio`, from any text.
#![no_main]

#[path = "../../tests/spec/body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::check(bytes));
