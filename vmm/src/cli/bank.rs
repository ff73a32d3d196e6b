//! The value of `--virtio-mmio`: `key=value,...`, which describes the bank of virtio slots.

use cafevm_devices::virtio::mmio::Version;

use crate::config::VirtioBank;
use crate::nearest::do_you_mean;

const KEYS: [&str; 4] = ["version", "base", "stride", "slots"];

/// Why a value of `--virtio-mmio` is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BankError {
    /// An unknown key.
    #[error("unknown key '{}'{}; the keys are version, base, stride and slots", .0.escape_debug(), do_you_mean(.0, KEYS))]
    UnknownKey(String),
    /// A comma without a key after it, or an empty value.
    #[error("a key is missing; give version=..., base=..., stride=... or slots=...")]
    Empty,
    /// A key without a value.
    #[error("'{}' needs a value: version=..., base=..., stride=... or slots=...", .0.escape_debug())]
    NoValue(String),
    /// An unknown value.
    #[error("bad value '{}' for {key}; it is {known}", value.escape_debug())]
    BadValue {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// The known values.
        known: &'static str,
    },
}

/// Parses the value. Keys that it leaves out have the values of QEMU's microvm.
///
/// # Errors
///
/// The first key or value that is wrong.
pub fn parse(text: &str) -> Result<VirtioBank, BankError> {
    let mut bank = VirtioBank::default();
    for item in text.split(',') {
        if item.is_empty() {
            return Err(BankError::Empty);
        }
        let (key, value) =
            item.split_once('=').ok_or_else(|| BankError::NoValue(item.to_owned()))?;
        let bad = |key, known| BankError::BadValue { key, value: value.to_owned(), known };
        match key {
            "version" => {
                bank.version = match value {
                    "modern" => Version::Modern,
                    "legacy" => Version::Legacy,
                    _ => return Err(bad("version", "modern or legacy")),
                };
            }
            "base" => {
                let base = number(value).filter(|n| n.is_multiple_of(0x1000));
                bank.base = base.ok_or_else(|| bad("base", "an address, a multiple of 0x1000"))?;
            }
            "stride" => {
                let stride = number(value)
                    .filter(|n| (0x200..=0x10_0000).contains(n) && n.is_multiple_of(8));
                bank.stride = stride
                    .ok_or_else(|| bad("stride", "from 0x200 to 0x100000, a multiple of 8"))?;
            }
            "slots" => {
                let slots = value.parse().ok().filter(|n| (1..=32).contains(n));
                bank.slots = slots.ok_or_else(|| bad("slots", "a number from 1 to 32"))?;
            }
            _ => return Err(BankError::UnknownKey(key.to_owned())),
        }
    }
    Ok(bank)
}

/// A decimal number, or a hexadecimal one with 0x.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bank_is_where_and_how_the_text_says() {
        let bank = parse("base=0x0a000000,stride=0x400,slots=8,version=legacy").unwrap();
        let expected = VirtioBank {
            base: 0x0a00_0000,
            stride: 0x400,
            slots: 8,
            version: Version::Legacy,
            ..VirtioBank::default()
        };
        assert_eq!(bank, expected);
        assert_eq!(parse("version=modern"), Ok(VirtioBank::default()));
        assert_eq!(parse("stride=512"), Ok(VirtioBank::default()));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_way_out() {
        for (text, says) in [
            ("", "a key is missing"),
            ("slot=8", "unknown key 'slot' (do you mean 'slots'?); the keys"),
            ("legacy", "'legacy' needs a value"),
            ("irq=5", "unknown key 'irq'; the keys are version, base, stride and slots"),
            ("version=2", "bad value '2' for version; it is modern or legacy"),
            ("base=0xfeb00200", "a multiple of 0x1000"),
            ("base=here", "bad value 'here' for base"),
            ("stride=0x100", "from 0x200"),
            ("stride=0x201", "a multiple of 8"),
            ("slots=0", "a number from 1 to 32"),
            ("slots=33", "a number from 1 to 32"),
            ("slots=1,", "a key is missing"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
