//! The memory of one request, and its descriptors: in the plainest layout, or split anywhere.

use drivers::virtio::spec::request;
use rt::dma::Dma;
use scenario::{DESCRIPTOR, Piece, Random, Ring};

/// Pieces of a chain at most: header 2, data 5, status 1.
pub(crate) const PIECES: usize = 8;
/// Pieces of data at most, of what a sector's end does not cut anyway.
const DATA_PIECES: u64 = 4;
/// Sectors that one request moves at most.
pub(crate) const MOST_SECTORS: u64 = 8;
const SECTOR: usize = 512;
/// Between two pieces, so that what is written past the end of one is seen nowhere else.
const GAP: usize = 16;
const HEADER: usize = 16;

/// Memory for one request.
pub(crate) struct Memory {
    /// The header, with a gap after some word of it.
    header: Dma,
    data: Dma,
    status: Dma,
    table: Dma,
}

/// The pieces of a chain so far.
pub(crate) struct Pieces {
    pieces: [Piece; PIECES],
    count: usize,
}

impl Pieces {
    fn push(&mut self, piece: Piece) {
        self.pieces[self.count] = piece;
        self.count += 1;
    }

    pub(crate) fn all(&self) -> &[Piece] {
        &self.pieces[..self.count]
    }
}

/// Where in [`Memory::data`] the bytes of a read were put.
#[derive(Clone, Copy, Default)]
pub(crate) struct Places {
    places: [(u16, u16); DATA_PIECES as usize],
    count: usize,
}

impl Places {
    /// Each place's offset in the memory and its length, in the order of the disk's bytes.
    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, usize)> {
        self.places[..self.count].iter().map(|&(at, len)| (usize::from(at), usize::from(len)))
    }
}

impl Memory {
    pub(crate) fn new() -> Memory {
        Memory {
            header: Dma::new(HEADER + GAP, 16),
            data: Dma::new(
                MOST_SECTORS as usize * SECTOR + (DATA_PIECES as usize + 1) * GAP,
                SECTOR,
            ),
            status: Dma::new(1, 1),
            table: Dma::new(PIECES * DESCRIPTOR, 16),
        }
    }

    /// Where reads put their bytes.
    pub(crate) fn data(&self) -> Dma {
        self.data
    }

    /// The status byte.
    pub(crate) fn status(&self) -> u8 {
        self.status.read(0)
    }

    /// Begins a chain: the header, in one piece or two.
    pub(crate) fn begin(&self, kind: u32, sector: u64, split: Option<&mut Random>) -> Pieces {
        let mut pieces = Pieces { pieces: [Piece::default(); PIECES], count: 0 };
        // A status that no device gives.
        self.status.write(0, 0xaa_u8);
        let words = [kind, 0, (sector & 0xffff_ffff) as u32, (sector >> 32) as u32];
        let cut = split.map_or(4, |random| random.within(1, 4) as usize);
        for (index, word) in words.into_iter().enumerate() {
            self.header.write(4 * index + if index < cut { 0 } else { GAP }, word);
        }
        pieces.push(Piece::read(self.header.part(0, 4 * cut)));
        if cut < 4 {
            pieces.push(Piece::read(self.header.part(4 * cut + GAP, HEADER - 4 * cut)));
        }
        pieces
    }

    /// Adds room for `len` bytes from the disk, and the status byte.
    pub(crate) fn add_room(
        &self,
        pieces: &mut Pieces,
        len: usize,
        split: Option<&mut Random>,
    ) -> Places {
        let mut places = Places::default();
        let Some(random) = split else {
            places.places[0] = (0, len as u16);
            places.count = 1;
            pieces.push(Piece::written(self.data.part(0, len)));
            self.add_status(pieces);
            return places;
        };
        let wanted = random.within(1, DATA_PIECES);
        let (mut at, mut left) = (random.below(GAP as u64) as usize, len);
        for piece in 0..wanted {
            let last = piece + 1 == wanted;
            let len = if last { left } else { random.below(left as u64) as usize };
            // A descriptor of no bytes is none (2.7.5.2).
            if len == 0 {
                continue;
            }
            places.places[places.count] = (at as u16, len as u16);
            places.count += 1;
            pieces.push(Piece::written(self.data.part(at, len)));
            at += len + GAP;
            left -= len;
        }
        self.add_status(pieces);
        places
    }

    /// Adds bytes that are to be written to the disk: `first` of them and the rest in a piece each, where both are some.
    pub(crate) fn add_bytes(&self, pieces: &mut Pieces, address: u64, len: usize, first: usize) {
        for (at, len) in [(0, first), (first, len - first)] {
            if len > 0 {
                pieces.push(Piece {
                    address: address + at as u64,
                    len: len as u32,
                    written: false,
                });
            }
        }
    }

    /// Adds the status byte.
    pub(crate) fn add_status(&self, pieces: &mut Pieces) {
        pieces.push(Piece::written(self.status));
    }

    /// Puts the chain into the ring: what it is called there.
    pub(crate) fn give(&self, ring: &mut Ring, pieces: &Pieces, indirect: bool) -> u16 {
        if indirect {
            ring.indirect_chain(pieces.all(), self.table)
        } else {
            ring.chain(pieces.all())
        }
    }
}

/// What the status byte must be.
pub(crate) const OK: u8 = request::OK;

/// A request under way, and what its answer must be.
pub(crate) struct Slot {
    pub(crate) memory: Memory,
    pub(crate) places: Places,
    pub(crate) head: u16,
    pub(crate) pending: bool,
    pub(crate) kind: u32,
    pub(crate) sector: u64,
    pub(crate) status: u8,
    /// Bytes that the device is to write, without the status byte.
    pub(crate) written: u32,
}

impl Slot {
    pub(crate) fn new() -> Slot {
        Slot {
            memory: Memory::new(),
            places: Places::default(),
            head: 0,
            pending: false,
            kind: 0,
            sector: 0,
            status: OK,
            written: 0,
        }
    }
}

/// Puts a range of a discard or write-zeroes into `data` (5.2.6).
pub(crate) fn put_range(data: Dma, index: usize, sector: u64, sectors: u32, flags: u32) {
    data.write(16 * index, sector);
    data.write(16 * index + 8, sectors);
    data.write(16 * index + 12, flags);
}
