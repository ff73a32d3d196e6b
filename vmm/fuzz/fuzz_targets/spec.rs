//! Parses any text as the value of `--disk` and of `--virtio-mmio`.
#![no_main]

#[path = "../../tests/spec/body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::check(bytes));
