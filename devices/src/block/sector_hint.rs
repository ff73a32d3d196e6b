//! Likely mistakes in a sector past the end of a disk.

use std::fmt;

use super::SECTOR_SIZE;

/// The likely mistake in a sector past the end of a disk of `disk_size` bytes, as the rest of a sentence; empty if the
/// sector shows none.
pub(crate) fn sector_hint(sector: u64, disk_size: u64) -> impl fmt::Display {
    let on_disk = move |sector: u64| sector < disk_size / SECTOR_SIZE;
    fmt::from_fn(move |f| {
        let (high, low) = (sector >> 32, sector & u64::from(u32::MAX));
        if sector.is_multiple_of(SECTOR_SIZE) && sector < disk_size {
            let sectors = sector / SECTOR_SIZE;
            write!(f, " (is the sector given in bytes? Byte {sector} is in sector {sectors})")
        } else if low == 0 && on_disk(high) {
            write!(f, " (are its two halves exchanged? That would be sector {high})")
        } else if on_disk(sector.swap_bytes()) {
            let swapped = sector.swap_bytes();
            write!(f, " (is it big-endian? In little-endian order it is sector {swapped})")
        } else {
            Ok(())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_shows_how_it_was_made() {
        let hint = |sector| sector_hint(sector, 1 << 20).to_string();
        assert_eq!(hint(4096), " (is the sector given in bytes? Byte 4096 is in sector 8)");
        assert_eq!((hint(4097), hint(1 << 20)), (String::new(), String::new()));
        assert_eq!(hint(7 << 32), " (are its two halves exchanged? That would be sector 7)");
        let big_endian = " (is it big-endian? In little-endian order it is sector 7)";
        assert_eq!((hint(7 << 56), hint(2048 << 32)), (big_endian.to_owned(), String::new()));
    }
}
