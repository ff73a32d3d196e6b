//! The configuration space of virtio-blk (virtio 1.2, 5.2.4).

/// The bytes up to and with `num_queues`: what comes behind belongs to features that are not offered.
const LEN: usize = 36;

/// The block size that the guest is shown, in bytes: the unit of the protocol.
const BLK_SIZE: u32 = 512;

/// The configuration space, as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Config([u8; LEN]);

impl Config {
    /// For a disk of `capacity` sectors, and requests of at most `seg_max` buffers.
    ///
    /// Fields of features that are not offered are 0.
    pub(super) fn new(capacity: u64, seg_max: u32) -> Self {
        let mut bytes = [0; LEN];
        let mut put = |at: usize, field: &[u8]| {
            if let Some(room) = bytes.get_mut(at..at + field.len()) {
                room.copy_from_slice(field);
            }
        };
        put(0, &capacity.to_le_bytes()); // capacity, in sectors of 512 bytes whatever blk_size is
        put(12, &seg_max.to_le_bytes()); // seg_max (SEG_MAX)
        put(20, &BLK_SIZE.to_le_bytes()); // blk_size, in bytes (BLK_SIZE)
        Self(bytes)
    }

    /// Fills `data` from the bytes at `offset`; zeros past the end.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        let from = usize::try_from(offset).unwrap_or(LEN);
        let bytes = self.0.iter().skip(from).copied().chain(std::iter::repeat(0));
        for (to, byte) in data.iter_mut().zip(bytes) {
            *to = byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_where_the_specification_has_it() {
        let config = Config::new(0x1122_3344_5566_7788, 254);
        let mut bytes = [0xee; 256];
        config.read(0, &mut bytes);
        let mut expected = [0; 256];
        expected[..8].copy_from_slice(&[0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
        expected[12] = 254;
        expected[21] = 2; // 512
        assert_eq!(bytes, expected);
    }

    #[test]
    fn any_offset_and_width_reads_the_same_bytes() {
        let config = Config::new(0x1122_3344_5566_7788, 254);
        let mut whole = [0; 256];
        config.read(0, &mut whole);
        for width in [1, 2, 4, 8] {
            for offset in 0..256 - width {
                let mut data = vec![0xee; width];
                config.read(offset as u64, &mut data);
                assert_eq!(data, whole[offset..offset + width]);
            }
        }
        let mut data = [0xee; 8];
        config.read(u64::MAX, &mut data);
        assert_eq!(data, [0; 8]);
    }
}
