//! Rectangles of pixels, encoded for a client.

pub(crate) mod cursor;
mod zrle;

use cafevm_devices::display::{Cursor, Rect, Screen};

use super::pixel::PixelFormat;
use super::wire::{encoding, put_rectangle};
use zrle::{Pixels, Zrle};

/// The most pixels of a rectangle: one turn of work.
pub(super) const WIDTH_MAX: u32 = 1024;
/// See [`WIDTH_MAX`]; a row of tiles of ZRLE.
pub(super) const HEIGHT_MAX: u32 = 64;

/// Cuts `rect` into rectangles of at most [`WIDTH_MAX`] times [`HEIGHT_MAX`].
pub(super) fn pieces(rect: Rect) -> impl Iterator<Item = Rect> {
    let Rect { x, y, width, height } = rect;
    let cut = |from: u32, len: u32, most: u32| {
        (0..len).step_by(most as usize).map(move |at| (from + at, most.min(len - at)))
    };
    cut(y, height, HEIGHT_MAX).flat_map(move |(y, height)| {
        cut(x, width, WIDTH_MAX).map(move |(x, width)| Rect { x, y, width, height })
    })
}

/// Memory to encode a rectangle in; all clients share it.
#[derive(Default)]
pub struct Scratch {
    pixels: Vec<u32>,
    plain: Vec<u8>,
}

/// How a client gets its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Encoding {
    #[default]
    Raw,
    Zrle,
}

/// Encodes for one client.
pub(super) struct Encoder {
    pub(super) encoding: Encoding,
    /// None until the client gets its first rectangle.
    zrle: Option<Box<Zrle>>,
}

impl Encoder {
    pub(super) const fn new() -> Self {
        Self { encoding: Encoding::Raw, zrle: None }
    }

    /// Appends `rect` of the screen, at most [`WIDTH_MAX`] times [`HEIGHT_MAX`]; what is beyond the picture is black.
    /// `cursor` is drawn into it.
    ///
    /// # Errors
    ///
    /// If the compressor fails, which is a bug.
    pub(super) fn encode(
        &mut self,
        out: &mut Vec<u8>,
        scratch: &mut Scratch,
        format: &PixelFormat,
        (screen, rect, cursor): (&Screen, Rect, &Cursor),
    ) -> Result<(), flate2::CompressError> {
        let Scratch { pixels, plain } = scratch;
        let width = rect.width as usize;
        pixels.clear();
        pixels.resize(width * rect.height as usize, 0);
        screen.look(|picture, _| {
            for (row, y) in pixels.chunks_mut(width.max(1)).zip(rect.y..) {
                let there = picture.row(y, rect.x, rect.width);
                row.iter_mut().zip(there).for_each(|(to, from)| *to = *from);
            }
        });
        cursor::draw(cursor, rect, pixels);
        for pixel in pixels.iter_mut() {
            *pixel = format.value(*pixel);
        }
        match self.encoding {
            Encoding::Raw => {
                put_rectangle(out, rect, encoding::RAW);
                pixels.iter().for_each(|value| format.put(out, *value));
                Ok(())
            }
            Encoding::Zrle => {
                put_rectangle(out, rect, encoding::ZRLE);
                let zrle = self.zrle.get_or_insert_with(|| Box::new(Zrle::new()));
                zrle.encode(out, plain, format, Pixels { values: pixels, width })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_rectangle_once() {
        let rect = Rect { x: 5, y: 7, width: 2500, height: 130 };
        let pieces: Vec<_> = pieces(rect).collect();
        assert_eq!(pieces.len(), 9);
        assert_eq!(pieces.iter().map(|piece| piece.width * piece.height).sum::<u32>(), 2500 * 130);
        assert!(pieces.iter().all(|p| p.width <= WIDTH_MAX && p.height <= HEIGHT_MAX));
        assert_eq!(pieces.iter().fold(Rect::default(), |all, piece| all.around(*piece)), rect);
        assert_eq!(super::pieces(Rect::default()).count(), 0);
    }
}
