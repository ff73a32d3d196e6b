//! What the guest `resources/guests/test-guests/src/bin/numbered.rs` leaves on its disk: sector n modulo
//! [`SECTORS`] has number n, so that lost and torn writes are seen.

use crate::process::Ended;
use crate::{Failed, Outcome, SECTOR, ensure, fail};

/// Sectors of the disk: few, so that each is written often.
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

/// Fails unless each sector is whole, has one of its numbers, and none older than what was `safe`.
///
/// # Errors
///
/// The first sector that is not as it must be.
pub fn has_all(disk: &[u8], safe: u64) -> Outcome {
    for (sector, number) in (0..).zip(numbers(disk)?) {
        let newest = newest(sector, safe);
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
    let last = numbers.iter().copied().max().unwrap_or(0);
    for (sector, number) in (0..).zip(numbers) {
        let newest = newest(sector, last);
        ensure!(
            number == newest,
            "sector {sector} holds {number}, not {newest}, when the last number was {last}"
        );
    }
    Ok(last)
}

/// The last number up to `last` that goes to this sector; 0 if there was none.
const fn newest(sector: u64, last: u64) -> u64 {
    let sectors = SECTORS as u64;
    ((last + sectors - sector) / sectors * sectors + sector).saturating_sub(sectors)
}

/// The number of each sector.
fn numbers(disk: &[u8]) -> Result<Vec<u64>, Failed> {
    ensure!(disk.len() == SECTORS * SECTOR, "the disk has {} bytes", disk.len());
    let sectors = (0..).zip(disk.as_chunks::<SECTOR>().0);
    let number = |(sector, bytes): (u64, &[u8; SECTOR])| {
        let number = number_of(bytes).map_err(|why| format!("sector {sector}: {why}"))?;
        if number % SECTORS as u64 != sector && number != 0 {
            fail!("sector {sector} holds {number}");
        }
        Ok(number)
    };
    sectors.map(number).collect()
}

/// The number that a sector holds, whole; 0 where it was never written.
fn number_of(sector: &[u8; SECTOR]) -> Result<u64, String> {
    let words: Vec<u64> =
        sector.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    match words.as_slice() {
        [number, between @ .., last] => {
            let check = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let whole = *last == !number && between.iter().all(|word| *word == check);
            let empty = words.iter().all(|word| *word == 0);
            if whole || empty { Ok(*number) } else { Err(format!("it is torn: {words:x?}")) }
        }
        _ => Err("it has no words".to_owned()),
    }
}
