//! Any access to any register of virtio-mmio.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cafevm_devices::testing::fuzz::mmio_registers(bytes));
