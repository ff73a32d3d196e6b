//! The ring of requests, in memory shared with the device (section 2.2).

use rt::dma::Dma;

use crate::register::low_half;

/// `cmd` of an entry: from the disk into the buffer.
pub const READ: u32 = 0;
/// From the buffer to the disk.
pub const WRITE: u32 = 1;

/// Bytes from one entry to the next. The specification has no padding, so 28; a C compiler pads the same
/// structure to 32. Devices here take both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stride {
    /// As specified.
    Packed,
    /// As a C compiler lays it out.
    Padded,
}

impl Stride {
    /// In bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Stride::Packed => 28,
            Stride::Padded => 32,
        }
    }
}

/// One request (section 2.2.1).
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Guest-physical address of the buffer.
    pub addr: u64,
    /// Length of the buffer in bytes.
    pub size: u64,
    /// Where on the disk, in units of 512 bytes.
    pub sector: u64,
    /// [`READ`] or [`WRITE`].
    pub cmd: u32,
}

/// The ring.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    memory: Dma,
    entries: u32,
    stride: Stride,
}

impl Ring {
    /// A zeroed ring of `entries` entries, at a page's start.
    pub fn new(entries: u32, stride: Stride) -> Ring {
        Ring { memory: Dma::new(entries as usize * stride.bytes(), 4096), entries, stride }
    }

    /// The same memory, taken as a ring of another shape.
    ///
    /// # Panics
    ///
    /// If it is too small for that.
    pub fn reshaped(self, entries: u32, stride: Stride) -> Ring {
        assert!(
            entries as usize * stride.bytes() <= self.memory.len(),
            "the ring's memory is too small"
        );
        Ring { entries, stride, ..self }
    }

    /// Guest-physical address of the first entry.
    pub fn address(self) -> u64 {
        self.memory.address()
    }

    /// How many entries it has.
    pub fn entries(self) -> u32 {
        self.entries
    }

    /// The distance between two.
    pub fn stride(self) -> Stride {
        self.stride
    }

    /// Fills entry `index`.
    pub fn put(self, index: u32, entry: Entry) {
        let at = index as usize * self.stride.bytes();
        // Words of 32 bits: with a stride of 28 every other entry is no multiple of 8.
        for (word, value) in [entry.addr, entry.size, entry.sector].into_iter().enumerate() {
            self.memory.write(at + 8 * word, low_half(value));
            self.memory.write(at + 8 * word + 4, low_half(value >> 32));
        }
        self.memory.write(at + 24, entry.cmd);
    }
}
