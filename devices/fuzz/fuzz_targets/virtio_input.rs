//! A keyboard, typed on while its driver does anything.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cafevm_devices::testing::fuzz::virtio_input(bytes);
});
