//! Hostile qcow2 images: opened, read, written.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cafevm_devices::testing::fuzz::qcow2_open(bytes));
