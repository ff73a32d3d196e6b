//! A whole virtqueue, against the oracle that knows the right answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cafevm_devices::testing::fuzz::virtqueue(bytes));
