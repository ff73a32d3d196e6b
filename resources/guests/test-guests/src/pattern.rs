//! What the test disks hold, so that each byte shows where it belongs: the 64-bit little-endian word number w of a disk
//! (byte 8 * w) is `seed << 48 | w`. An image may end within a word.

use rt::dma::Dma;

use crate::{Outcome, ensure_eq, fail};

/// The seed of a guest's only disk.
pub const SEED: u64 = 1;

/// The word that byte `offset` of the disk is in.
pub fn word(seed: u64, offset: u64) -> u64 {
    seed << 48 | (offset / 8)
}

/// Fills `memory`, whole words, with what the disk of this seed holds from byte `offset` on, a multiple of 8.
pub fn fill(memory: Dma, seed: u64, offset: u64) {
    for (value, at) in (word(seed, offset)..).zip((0..memory.len()).step_by(8)) {
        memory.write(at, value);
    }
}

/// Fails where `memory` does not hold that.
pub fn check(memory: Dma, seed: u64, offset: u64) -> Outcome {
    let mut value = word(seed, offset);
    let words = memory.len() / 8 * 8;
    for at in (0..words).step_by(8) {
        let seen = memory.read::<u64>(at);
        if seen != value {
            ensure_eq!(seen, value, "the word at byte {}", offset + at as u64);
        }
        value += 1;
    }
    for at in words..memory.len() {
        let wanted = value.to_le_bytes()[at - words];
        ensure_eq!(memory.read::<u8>(at), wanted, "byte {}", offset + at as u64);
    }
    Ok(())
}

/// Fails where a byte of `memory`, from a multiple of 8 on, is not `byte`.
pub fn check_all(memory: Dma, byte: u8) -> Outcome {
    if memory.is_all(u64::from(byte) * 0x0101_0101_0101_0101) {
        return Ok(());
    }
    for at in 0..memory.len() {
        ensure_eq!(memory.read::<u8>(at), byte, "byte {at} of the buffer");
    }
    fail!("the buffer held something else a moment ago")
}
