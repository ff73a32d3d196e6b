//! Guest RAM in the model: ranges of plain bytes.

use super::machine::RAM;

/// Guest RAM. Its ranges do not touch each other.
#[derive(Debug, Clone)]
pub(super) struct Memory(Vec<(u64, Vec<u8>)>);

impl Memory {
    pub(super) fn new() -> Self {
        Self(RAM.iter().map(|&(base, len)| (base, vec![0; len])).collect())
    }

    /// The ranges of RAM: the start of each, and its bytes.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.0.iter().map(|(base, bytes)| (*base, &bytes[..]))
    }

    /// The `len` bytes at `addr`, if all of them are RAM.
    pub(super) fn bytes(&mut self, addr: u64, len: u64) -> Option<&mut [u8]> {
        if len == 0 {
            return Some(&mut []);
        }
        let (from, to) = (u128::from(addr), u128::from(addr) + u128::from(len));
        self.0.iter_mut().find_map(|(base, bytes)| {
            let base = u128::from(*base);
            let inside = from >= base && to <= base + bytes.len() as u128;
            inside.then(|| &mut bytes[(from - base) as usize..(to - base) as usize])
        })
    }

    /// Whether the `len` bytes at `addr` are RAM.
    pub(super) fn has(&mut self, addr: u64, len: u64) -> bool {
        self.bytes(addr, len).is_some()
    }

    /// Writes bytes that are known to be RAM.
    pub(super) fn put(&mut self, addr: u64, bytes: &[u8]) {
        self.bytes(addr, bytes.len() as u64).unwrap().copy_from_slice(bytes);
    }

    /// A little-endian number of `len` bytes, known to be RAM.
    pub(super) fn number(&mut self, addr: u64, len: u64) -> u64 {
        let bytes = self.bytes(addr, len).unwrap();
        bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    /// A ring index or a ring's flags, known to be RAM.
    pub(super) fn u16(&mut self, addr: u64) -> u16 {
        self.number(addr, 2) as u16
    }
}
