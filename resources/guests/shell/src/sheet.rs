//! The guest's memory for the picture: the glyphs, each drawn when it is first used. To draw a cell once and have it copied
//! costs a tenth of drawing it each time, where instructions are emulated.
//!
//! Rows of pixels are as far apart as in the picture on the host. The first band of rows, as high as a cell, is blank;
//! the others have as many glyphs beside one another as there is room for.

use rt::dma::Dma;

use crate::font::{self, HEIGHT, WIDTH};
use crate::terminal::COLUMNS_MAX;

/// Bytes in a pixel.
const PIXEL: usize = 4;
/// Bytes in a row of a cell.
const CELL_ROW: usize = WIDTH * PIXEL;
/// Text is light grey on black: 0x00RRGGBB.
const TEXT: u64 = 0x00d0_d0d0;
/// ASCII without its control characters.
const CHARACTERS: usize = 96;
/// Each character as it is, and inverse.
const GLYPHS: usize = 2 * CHARACTERS;
/// Enough for every width: the blank band, the glyphs, and the rest of the last band.
const SIZE: usize = (2 * COLUMNS_MAX + GLYPHS) * CELL_ROW * HEIGHT;

/// A sheet of glyphs.
pub(crate) struct Sheet {
    memory: Dma,
    /// How many cells lie beside one another; 0 before the first picture.
    columns: usize,
    drawn: [bool; GLYPHS],
}

impl Sheet {
    /// Takes the memory.
    pub(crate) fn new() -> Sheet {
        Sheet { memory: Dma::new(SIZE, 8), columns: 0, drawn: [false; GLYPHS] }
    }

    /// Begins a sheet without glyphs, for a picture of `columns` cells in a row. Returns its memory.
    pub(crate) fn begin(&mut self, columns: usize) -> Dma {
        let bands = 1 + GLYPHS.div_ceil(columns);
        let memory = self.memory.part(0, bands * columns * CELL_ROW * HEIGHT);
        if self.columns != 0 {
            memory.fill(0);
        }
        self.columns = columns;
        self.drawn.fill(false);
        memory
    }

    /// Where a row of blank cells begins in the memory.
    pub(crate) fn blank(&self) -> u64 {
        0
    }

    /// Where the glyph of a character begins in the memory, in bytes. The control characters look like a space.
    pub(crate) fn glyph(&mut self, character: u8, inverse: bool) -> u64 {
        let index = usize::from(character).saturating_sub(0x20).min(CHARACTERS - 1);
        let number = if inverse { CHARACTERS + index } else { index };
        let stride = self.columns * CELL_ROW;
        let (band, column) = (1 + number / self.columns, number % self.columns);
        let at = band * HEIGHT * stride + column * CELL_ROW;
        if !core::mem::replace(&mut self.drawn[number], true) {
            let flip = if inverse { 0xff } else { 0 };
            for (row, bits) in font::glyph(character).iter().enumerate() {
                self.memory.put_rows(at + row * stride, 0, [&pixels(bits ^ flip)].into_iter());
            }
        }
        at as u64
    }
}

/// A row of a glyph, bit 7 at the left, as pixels: two in each word.
fn pixels(bits: u8) -> [u64; WIDTH / 2] {
    let pixel = |n: usize| if bits >> (WIDTH - 1 - n) & 1 != 0 { TEXT } else { 0 };
    core::array::from_fn(|n| pixel(2 * n + 1) << 32 | pixel(2 * n))
}
