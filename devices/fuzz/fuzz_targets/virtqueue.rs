//! A whole virtqueue, against the oracle.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cafevm_devices::testing::fuzz::virtqueue(bytes));
