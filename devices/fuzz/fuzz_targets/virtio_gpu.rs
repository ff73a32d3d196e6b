//! Any commands to a GPU, against its model.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    cafevm_devices::testing::fuzz::virtio_gpu(bytes);
});
