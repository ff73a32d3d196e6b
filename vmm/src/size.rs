//! Parses and formats sizes: 64M is 64 MiB, as in QEMU.

use std::fmt;

use crate::layout::{GIB, KIB, MIB};

const TIB: u64 = 1024 * GIB;
/// The units, largest first: the letter, the name, the bytes.
const UNITS: [(char, &str, u64); 4] =
    [('T', "TiB", TIB), ('G', "GiB", GIB), ('M', "MiB", MIB), ('K', "KiB", KIB)];

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// It is not a whole number with a unit.
    #[error("'{0}' is not a size; write a whole number with K, M, G or T, such as 64M (= 64 MiB)")]
    Unreadable(String),
    /// It has no unit: some programs read bytes, others MiB.
    #[error("'{0}' has no unit; write {0}M for MiB, or K, G, T")]
    NoUnit(String),
    /// It does not fit in 64 bits.
    #[error("'{0}' is larger than any memory; write a smaller number")]
    TooLarge(String),
}

/// Parses a size: a whole number and K, M, G or T, in upper or lower case, optionally with "iB". The units are powers
/// of 1024.
///
/// # Errors
///
/// If the text has another form.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let unreadable = || SizeError::Unreadable(text.to_owned());
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    if number.is_empty() {
        return Err(unreadable());
    }
    if unit.is_empty() {
        return Err(SizeError::NoUnit(text.to_owned()));
    }
    let letter = unit.strip_suffix("iB").unwrap_or(unit);
    let (_, _, bytes) = UNITS
        .into_iter()
        .find(|(known, ..)| letter.eq_ignore_ascii_case(known.encode_utf8(&mut [0; 4])))
        .ok_or_else(unreadable)?;
    let too_large = || SizeError::TooLarge(text.to_owned());
    // Only digits are left, so the error is an overflow.
    let number: u64 = number.parse().map_err(|_| too_large())?;
    number.checked_mul(bytes).ok_or_else(too_large)
}

/// Formats bytes exactly, in the largest unit that gives a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Human(pub u64);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitting =
            UNITS.into_iter().find(|(.., bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes));
        match fitting {
            Some((_, name, bytes)) => write!(f, "{} {name}", self.0 / bytes),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in [
            ("64M", 64 * MIB),
            ("64MiB", 64 * MIB),
            ("1g", GIB),
            ("4K", 4096),
            ("2T", 2 * TIB),
            (" 1M ", MIB),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_said() {
        for text in ["", "M", "-1M", "1.5G", "64MB", "64 M", "0x40M", "lots", "64Mi", "64X"] {
            assert!(matches!(parse(text), Err(SizeError::Unreadable(_))), "{text}");
        }
        assert_eq!(parse("64"), Err(SizeError::NoUnit("64".into())));
        for text in ["16777216T", "99999999999999999999999K"] {
            assert!(matches!(parse(text), Err(SizeError::TooLarge(_))), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_exactly() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536 * KIB, "1536 KiB"),
            (64 * MIB, "64 MiB"),
            (TIB, "1 TiB"),
        ] {
            assert_eq!(Human(bytes).to_string(), text);
        }
    }
}
