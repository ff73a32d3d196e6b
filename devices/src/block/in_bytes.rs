//! A likely mistake in a sector past the end of a disk.

use std::fmt;

use super::SECTOR_SIZE;

/// The likely mistake in a sector past the end of a disk of `disk_size` bytes, as the rest of a sentence; empty if the
/// sector shows none.
pub(crate) fn in_bytes(sector: u64, disk_size: u64) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        if sector.is_multiple_of(SECTOR_SIZE) && sector < disk_size {
            let sectors = sector / SECTOR_SIZE;
            write!(f, " (is the sector given in bytes? Byte {sector} is in sector {sectors})")
        } else {
            Ok(())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_may_be_a_byte() {
        let hint = |sector| in_bytes(sector, 1 << 20).to_string();
        assert_eq!(hint(4096), " (is the sector given in bytes? Byte 4096 is in sector 8)");
        assert_eq!((hint(4097), hint(1 << 20)), (String::new(), String::new()));
    }
}
