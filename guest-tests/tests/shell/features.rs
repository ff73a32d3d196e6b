//! The registers and the configuration space of a disk, as the shell shows them.

use cafevm_guest_tests::{Guest, Outcome, SECTOR, Scratch, ensure};

/// Lines of the shell's `status`: a register or a field, its value, and what that means.
type Says = [&'static str];

const LARGE: &Says = &[
    "SIZE_MAX, SEG_MAX, BLK_SIZE, FLUSH, TOPOLOGY, CONFIG_WCE, MQ, DISCARD, WRITE_ZEROES, INDIRECT_DESC, EVENT_IDX",
    "VERSION_1, RING_RESET",
    "  0x034  QueueNumMax              0x00000040  64 entries at most in queue 0",
    "  0x108  size_max                 0x00400000  4194304 bytes at most in a segment",
    "  0x10c  seg_max                  0x0000003e  62 segments at most in a request",
    "  0x114  blk_size                 0x00001000  4096 bytes in a block",
    "  0x119  alignment_offset         0x00000000  0 blocks before the first physical block",
    "  0x120  writeback                0x00000001  1 (1: writes may stay in a cache until a flush)",
    "  0x122  num_queues               0x00000003  3 queues",
    "  0x124  max_discard_sectors      0x00400000  4194304 sectors at most in a discard",
    "  0x128  max_discard_seg          0x00000020  32 ranges at most in a discard",
    "  0x130  max_write_zeroes_sectors 0x00010000  65536 sectors at most in a write of zeros",
    "  0x134  max_write_zeroes_seg     0x00000004  4 ranges at most in a write of zeros",
    "  0x138  write_zeroes_may_unmap   0x00000001  1 (1: zeroed sectors may be given back to the host)",
];

/// Nothing that would change it is offered.
const READ_ONLY: &Says = &[
    "SIZE_MAX, SEG_MAX, RO, BLK_SIZE, FLUSH, TOPOLOGY, CONFIG_WCE, INDIRECT_DESC, EVENT_IDX",
    "  0x034  QueueNumMax              0x00000100  256 entries at most in queue 0",
    "  0x10c  seg_max                  0x000000fe  254 segments at most in a request",
    "  0x114  blk_size                 0x00000200  512 bytes in a block",
];

const WRITTEN_THROUGH: &Says = &[
    "  0x120  writeback                0x00000000  0 (1: writes may stay in a cache until a flush)",
];

pub(crate) fn what_the_device_offers() -> Outcome {
    let scratch = Scratch::new()?;
    let image = scratch.image("d.img", 64 * SECTOR)?;
    for (keys, says) in [
        ("queues=3,queue-size=64,block-size=4096", LARGE),
        ("ro", READ_ONLY),
        ("cache=writethrough", WRITTEN_THROUGH),
    ] {
        let run = Guest::shell("status; exit").disk(&image, keys).run()?;
        run.powered_off()?;
        for line in says {
            ensure!(
                run.text.contains(&format!("{line}\n")),
                "{keys}: it must print '{line}': {run}"
            );
        }
        let (fields, of_writes) = (["num_queues", "discard", "write_zeroes"], keys != "ro");
        let several = keys.starts_with("queues");
        for (field, there) in fields.into_iter().zip([several, of_writes, of_writes]) {
            ensure!(run.text.contains(field) == there, "{keys}: {field}: {run}");
        }
    }
    image.is_untouched()
}
