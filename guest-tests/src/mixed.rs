//! What is on the disk of the guest `mixed`, before and after: `resources/guests/test-guests/src/bin/mixed`.

use crate::SECTOR;

/// Sectors that requests are about; behind them the guest puts its model.
pub const SECTORS: usize = 1024;
/// The bytes of the model: 4 for each sector.
pub const MODEL: usize = 4 * SECTORS;

/// What a sector must hold, by the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Zeros.
    Zeros,
    /// It was discarded.
    Anything,
    /// The bytes of the stock from this place on.
    Stock(usize),
}

/// Random bytes, from which all that is written is taken: the guest's initrd.
pub fn stock() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    });
    words.take(8 * 1024).flat_map(u64::to_le_bytes).collect()
}

/// Where in a stock of this length the first bytes of sector `n` come from.
pub const fn at_first(n: usize, stock: usize) -> usize {
    61 * n % (stock - SECTOR)
}

/// The disk that the guest expects: whole sectors.
pub fn disk(stock: &[u8]) -> Vec<u8> {
    let mut disk = Vec::new();
    for n in 0..SECTORS {
        let bytes = stock.iter().skip(at_first(n, stock.len())).take(SECTOR);
        disk.extend(bytes);
    }
    disk.resize(SECTORS * SECTOR + MODEL, 0x77);
    disk
}

/// The model that the guest has left on its disk, sector by sector: nothing if the disk is too short.
pub fn model(disk: &[u8]) -> Option<impl Iterator<Item = Holds>> {
    let model = disk.get(SECTORS * SECTOR..SECTORS * SECTOR + MODEL)?;
    Some(model.as_chunks::<4>().0.iter().map(|entry| match u32::from_le_bytes(*entry) {
        0xffff_ffff => Holds::Zeros,
        0xffff_fffe => Holds::Anything,
        from => Holds::Stock(from as usize),
    }))
}
