//! A chain without a status byte: the log has the descriptors and the likely mistake.

use super::*;

/// The end of the line for a chain of these descriptors (address, bytes, flags), in slot 0.
fn line(descriptors: &[(u64, u32, u16)]) -> String {
    let (blk, _) = watched(8, &named(""));
    let mut driver = VirtioDriver::new(blk).live(feature::BLK_FLUSH, 8);
    for (n, &(addr, len, flags)) in (0..).zip(descriptors) {
        driver.desc(n, addr, len, flags, n + 1);
    }
    driver.offer(0);
    driver.kick();
    assert!(driver.needs_reset());
    driver.complaints.last().unwrap()
}

#[test]
fn each_mistake_has_its_own_hint() {
    let (next, write) = (1, 2);
    for (descriptors, says) in [
        (
            &[(HEADER, 16, 0)][..],
            "slot 0 of the available ring names descriptor 0; descriptor 0 has 16 bytes at 0x8000, no flags; is NEXT \
             missing on the header's descriptor?",
        ),
        (
            &[(0, 0, 0)],
            "descriptor 0 has 0 bytes at 0x0, no flags; the descriptor is empty: was it filled in",
        ),
        (
            &[(HEADER, 16, next), (DATA, 512, next), (STATUS_BYTE, 1, 0)],
            "descriptor 2 has 1 byte at 0x9000, no flags; is WRITE missing on the status descriptor?",
        ),
        (
            &[(HEADER, 16, next), (STATUS_BYTE, 0, write)],
            "descriptor 1 has 0 bytes at 0x9000, WRITE; the status descriptor needs 1 byte",
        ),
        (
            &[(HEADER, 16, next), (DATA, 1, next), (DATA, 1, next), (DATA, 1, next), (DATA, 1, 0)],
            "NEXT, and 1 more; is WRITE missing on the status descriptor?",
        ),
    ] {
        let line = line(descriptors);
        assert!(line.contains(says) && line.contains("queue 0 is broken"), "{says}:\n{line}");
    }
}
