//! The client of NBD, against a server that may lie.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cafevm_devices::testing::fuzz::nbd(bytes));
