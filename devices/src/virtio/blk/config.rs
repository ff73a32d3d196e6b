//! The configuration space of virtio-blk (virtio 1.4, 5.2.4).

/// The bytes up to and including `write_zeroes_may_unmap`: later fields belong to features that the device does not
/// offer.
const LEN: usize = 60;

/// The most ranges of one discard.
pub(super) const DISCARD_RANGES_MAX: u32 = 32;
/// The most ranges of one write-zeroes: with [`ZEROES_SECTORS_MAX`], 128 MiB, as much as one write can have.
pub(super) const ZEROES_RANGES_MAX: u32 = 4;
/// The most sectors of one range of a discard: 2 GiB.
pub(super) const DISCARD_SECTORS_MAX: u32 = 1 << 22;
/// The most sectors of one range of a write-zeroes: 32 MiB, for a host that must write them out.
pub(super) const ZEROES_SECTORS_MAX: u32 = 1 << 16;
/// The most bytes of one buffer.
const SIZE_MAX: u32 = 4 << 20;
/// The unit that suits hosts, in bytes: a block of a file system, a page of the page cache.
const PHYSICAL_BLOCK: u32 = 4096;

/// The content of the configuration space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Config {
    /// In sectors of 512 bytes, independent of `block_size`.
    pub(super) capacity: u64,
    /// The most buffers of one request.
    pub(super) seg_max: u32,
    /// The guest's block size in bytes: 512 or 4096. It does not depend on the host's alignment.
    pub(super) block_size: u32,
    /// Whether there is a write-back cache.
    pub(super) writeback: bool,
    /// The number of queues.
    pub(super) queues: u16,
    /// Whether the host can free the space of zeros.
    pub(super) may_unmap: bool,
}

impl Config {
    fn bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let mut put = |at: usize, field: &[u8]| {
            if let Some(room) = bytes.get_mut(at..at + field.len()) {
                room.copy_from_slice(field);
            }
        };
        let blocks = PHYSICAL_BLOCK / self.block_size;
        put(0, &self.capacity.to_le_bytes()); // capacity
        put(8, &SIZE_MAX.to_le_bytes()); // size_max (SIZE_MAX)
        put(12, &self.seg_max.to_le_bytes()); // seg_max (SEG_MAX)
        put(20, &self.block_size.to_le_bytes()); // blk_size (BLK_SIZE)
        put(24, &[exponent(blocks)]); // physical_block_exp (TOPOLOGY): log2 of blocks in a physical one
        put(26, &low_half(blocks)); // min_io_size (TOPOLOGY), in blocks
        put(32, &[self.writeback.into()]); // writeback (CONFIG_WCE)
        put(34, &self.queues.to_le_bytes()); // num_queues (MQ)
        put(36, &DISCARD_SECTORS_MAX.to_le_bytes()); // max_discard_sectors (DISCARD)
        put(40, &DISCARD_RANGES_MAX.to_le_bytes()); // max_discard_seg (DISCARD)
        put(44, &(PHYSICAL_BLOCK / 512).to_le_bytes()); // discard_sector_alignment (DISCARD), in sectors
        put(48, &ZEROES_SECTORS_MAX.to_le_bytes()); // max_write_zeroes_sectors (WRITE_ZEROES)
        put(52, &ZEROES_RANGES_MAX.to_le_bytes()); // max_write_zeroes_seg (WRITE_ZEROES)
        put(56, &[self.may_unmap.into()]); // write_zeroes_may_unmap (WRITE_ZEROES)
        bytes
    }

    /// Fills `data` from the bytes at `offset`; zeros past the end.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        let from = usize::try_from(offset).unwrap_or(LEN);
        let bytes = self.bytes().into_iter().skip(from).chain(std::iter::repeat(0));
        for (to, byte) in data.iter_mut().zip(bytes) {
            *to = byte;
        }
    }

    /// Applies a driver's write at `offset`. `writeback` is the only writable field. Returns false for any other write.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> bool {
        match (offset, data) {
            (32, [value @ (0 | 1)]) => {
                self.writeback = *value == 1;
                true
            }
            _ => false,
        }
    }
}

/// log2 of 1 or 8, the two possible numbers of blocks.
const fn exponent(blocks: u32) -> u8 {
    if blocks == 1 { 0 } else { 3 }
}

const fn low_half(value: u32) -> [u8; 2] {
    let [a, b, _, _] = value.to_le_bytes();
    [a, b]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: Config = Config {
        capacity: 0x1122_3344_5566_7788,
        seg_max: 254,
        block_size: 512,
        writeback: true,
        queues: 0x0304,
        may_unmap: true,
    };

    #[test]
    fn every_byte_is_where_the_specification_has_it() {
        #[rustfmt::skip]
        let golden = [
            0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, // capacity
            0, 0, 0x40, 0,  254, 0, 0, 0,                   // size_max 4 MiB, seg_max
            0, 0, 0, 0,  0, 2, 0, 0,                        // geometry (not offered), blk_size 512
            3, 0, 8, 0,  0, 0, 0, 0,                        // topology: 8 blocks of 512, none for opt_io_size
            1, 0, 4, 3,  0, 0, 0x40, 0,                     // writeback, unused0, num_queues, max_discard_sectors
            32, 0, 0, 0,  8, 0, 0, 0,                       // max_discard_seg, discard_sector_alignment
            0, 0, 1, 0,  4, 0, 0, 0,                        // max_write_zeroes_sectors, max_write_zeroes_seg
            1, 0, 0, 0,  0, 0, 0, 0,                        // write_zeroes_may_unmap, unused1; secure erase (not)
        ];
        let mut bytes = [0xee; 256];
        CONFIG.read(0, &mut bytes);
        assert_eq!(bytes[..64], golden);
        assert_eq!(bytes[64..], [0; 192]);
        let large = Config { block_size: 4096, writeback: false, ..CONFIG };
        large.read(0, &mut bytes);
        assert_eq!((&bytes[20..28], bytes[32]), (&[0, 16, 0, 0, 0, 0, 1, 0][..], 0));
        Config { may_unmap: false, ..CONFIG }.read(0, &mut bytes);
        assert_eq!(bytes[56], 0);
    }

    #[test]
    fn any_offset_and_width_reads_the_same_bytes() {
        let mut whole = [0; 256];
        CONFIG.read(0, &mut whole);
        for width in [1, 2, 4, 8] {
            for offset in 0..256 - width {
                let mut data = vec![0xee; width];
                CONFIG.read(offset as u64, &mut data);
                assert_eq!(data, whole[offset..offset + width]);
            }
        }
        let mut data = [0xee; 8];
        CONFIG.read(u64::MAX, &mut data);
        assert_eq!(data, [0; 8]);
    }

    #[test]
    fn only_writeback_can_be_written() {
        for offset in 0..256 {
            for data in [&[0][..], &[1], &[2], &[0xff], &[0, 0], &[1, 0, 0, 0]] {
                let mut config = CONFIG;
                let taken = config.write(offset, data);
                assert_eq!(
                    taken,
                    offset == 32 && data.len() == 1 && data[0] < 2,
                    "{offset} {data:?}"
                );
                let writeback = if taken { data[0] == 1 } else { true };
                assert_eq!(config, Config { writeback, ..CONFIG });
            }
        }
    }
}
