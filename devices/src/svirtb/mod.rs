//! svirtb, the simple virtio block protocol: six registers and one ring.

/// The guest-physical address of the registers.
pub const BASE: u64 = 0xcafe_0000;
/// The bytes of guest-physical address space the device answers in: one page.
pub const LEN: u64 = 0x1000;
