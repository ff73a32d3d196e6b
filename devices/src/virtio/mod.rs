//! Standard virtio over MMIO.
