//! The disk of the guest `numbered`: number n is in sector n modulo the number of sectors, until a later one takes its
//! place. What a sector holds, and what it must hold.

use crate::process::Ended;
use crate::{Failed, Outcome, SECTOR, ensure};

/// Sectors of the disk in most tests: few, so that each is written often.
pub const SECTORS: usize = 64;

/// Reads the guest's output: numbers, each higher than the one before, and the first one higher than `safe`. Returns the
/// last one.
///
/// # Errors
///
/// If there is anything else.
pub fn heard(ended: &Ended, mut safe: u64) -> Result<u64, Failed> {
    let text = ended.text();
    // The last line may be cut.
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    let mut lines = whole.lines();
    ensure!(lines.next() == Some("ready"), "it began with {whole:?}");
    for line in lines {
        let number: u64 = line.parse().map_err(|e| format!("it printed {line:?}: {e}"))?;
        ensure!(number > safe, "it printed {number} after {safe}");
        safe = number;
    }
    Ok(safe)
}

/// What makes a sector that is half of one number and half of another visible.
fn check_word(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A sector that holds this number; one that was never written, for 0.
pub fn sector_with(number: u64) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    if number != 0 {
        let (words, _) = sector.as_chunks_mut::<8>();
        words.fill(check_word(number).to_le_bytes());
        if let [first, .., last] = words {
            *first = number.to_le_bytes();
            *last = (!number).to_le_bytes();
        }
    }
    sector
}

/// The number that a sector holds, whole; 0 where it was never written.
///
/// # Errors
///
/// If it is torn: not whole, and not empty.
pub fn number_in(sector: &[u8; SECTOR]) -> Result<u64, String> {
    let number = sector.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    if *sector == sector_with(number) {
        return Ok(number);
    }
    let words = sector.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    Err(format!("it is torn: {:x?}", words.collect::<Vec<_>>()))
}

/// The last number up to `last` that goes to `sector`; 0 where there is none.
pub fn newest(last: u64, sector: u64, sectors: u64) -> u64 {
    ((last + sectors - sector) / sectors * sectors + sector).saturating_sub(sectors)
}

/// Looks at a disk whose guest was told that all numbers up to `safe` are on it: each sector is whole, holds a number
/// of its own, and none older than what was safe.
///
/// # Errors
///
/// If one does not.
pub fn holds(disk: &[u8], safe: u64) -> Outcome {
    let numbers = numbers(disk)?;
    let sectors = numbers.len() as u64;
    for (sector, number) in (0..).zip(numbers) {
        let newest = newest(safe, sector, sectors);
        ensure!(
            number >= newest,
            "sector {sector} holds {number}, and {newest} was durable; the guest knew it up to {safe}"
        );
    }
    Ok(())
}

/// Fails unless the disk has what the guest had written at one moment. Returns the last number then.
///
/// # Errors
///
/// The first sector that is of another moment.
pub fn moment(disk: &[u8]) -> Result<u64, Failed> {
    let numbers = numbers(disk)?;
    let sectors = numbers.len() as u64;
    let last = numbers.iter().copied().max().unwrap_or(0);
    for (sector, number) in (0..).zip(numbers) {
        let newest = newest(last, sector, sectors);
        ensure!(
            number == newest,
            "sector {sector} holds {number}, not {newest}, when the last number was {last}"
        );
    }
    Ok(last)
}

/// The number of each sector, which is one of its own.
fn numbers(disk: &[u8]) -> Result<Vec<u64>, Failed> {
    let (chunks, rest) = disk.as_chunks::<SECTOR>();
    ensure!(rest.is_empty(), "the disk has {} bytes", disk.len());
    let sectors = chunks.len() as u64;
    let mut numbers = Vec::with_capacity(chunks.len());
    for (sector, bytes) in (0..).zip(chunks) {
        let number = number_in(bytes).map_err(|why| format!("sector {sector}: {why}"))?;
        ensure!(number % sectors == sector || number == 0, "sector {sector} holds {number}");
        numbers.push(number);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk of four sectors with these numbers.
    fn disk(numbers: [u64; 4]) -> Vec<u8> {
        numbers.map(sector_with).concat()
    }

    #[test]
    fn the_newest_number_of_a_sector_is_the_last_that_goes_there() {
        for last in 0..40 {
            for sector in 0..4 {
                let wanted = (1..=last).rev().find(|n| n % 4 == sector).unwrap_or(0);
                assert_eq!(newest(last, sector, 4), wanted, "{last} {sector}");
            }
        }
    }

    #[test]
    fn a_sector_holds_its_number_or_is_torn() {
        for number in [0, 1, 0x1234_5678_9abc_def0] {
            assert_eq!(number_in(&sector_with(number)), Ok(number));
        }
        for byte in [0, 8, 255, 511] {
            let mut sector = sector_with(5);
            sector[byte] ^= 0x40;
            assert!(number_in(&sector).is_err(), "{byte}");
        }
        let mut sector = sector_with(0);
        sector[100] = 1;
        assert!(number_in(&sector).is_err());
    }

    #[test]
    fn a_disk_may_hold_more_than_was_safe_and_never_less() {
        assert!(holds(&disk([4, 5, 2, 3]), 5).is_ok());
        assert!(holds(&disk([4, 5, 6, 3]), 5).is_ok());
        assert!(holds(&disk([0, 1, 0, 0]), 1).is_ok());
        // Lost, torn, in another's place, cut.
        assert!(holds(&disk([4, 1, 2, 3]), 5).is_err());
        let mut torn = disk([4, 5, 2, 3]);
        torn[511] ^= 1;
        assert!(holds(&torn, 5).is_err());
        assert!(holds(&disk([4, 6, 2, 3]), 5).is_err());
        assert!(holds(&disk([4, 5, 2, 3])[1..], 5).is_err());
    }

    #[test]
    fn a_copy_is_of_one_moment_or_not() {
        assert_eq!(moment(&disk([4, 5, 2, 3])).unwrap(), 5);
        assert_eq!(moment(&disk([0, 1, 0, 0])).unwrap(), 1);
        assert!(moment(&disk([4, 5, 2, 7])).is_err());
        assert!(moment(&disk([0, 1, 0, 3])).is_err());
    }
}
