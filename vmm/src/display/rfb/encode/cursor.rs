//! The cursor: sent for the client to draw, or drawn into the picture.

use cafevm_devices::display::{Cursor, CursorImage, Rect};

use super::super::pixel::PixelFormat;
use super::super::wire::{encoding, put_rectangle};

/// The least alpha of a pixel that is shown where there is no alpha.
const OPAQUE: u32 = 0x80;

/// Appends the rectangle that says how the cursor looks (RFC 6143, 7.8.1). A hidden cursor has no pixels.
pub(in super::super) fn put(out: &mut Vec<u8>, format: &PixelFormat, image: Option<&CursorImage>) {
    let Some(image) = image else {
        return put_rectangle(out, Rect::default(), encoding::CURSOR);
    };
    let side = CursorImage::SIDE;
    let (x, y) = (image.hot_x.min(side - 1), image.hot_y.min(side - 1));
    put_rectangle(out, Rect { x, y, width: side, height: side }, encoding::CURSOR);
    let pixel = |at: usize| image.pixels.get(at).copied().unwrap_or_default();
    let count = (side * side) as usize;
    for at in 0..count {
        format.put(out, format.value(pixel(at)));
    }
    for at in (0..count).step_by(8) {
        out.push((at..at + 8).fold(0, |bits, at| bits << 1 | u8::from(pixel(at) >> 24 >= OPAQUE)));
    }
}

/// The part of a picture that the cursor covers.
pub(crate) fn covered(cursor: &Cursor) -> Rect {
    if cursor.image.is_none() {
        return Rect::default();
    }
    let (left, top) = (i64::from(cursor.x), i64::from(cursor.y));
    let side = i64::from(CursorImage::SIDE);
    let clip = |at: i64| u32::try_from(at.max(0)).unwrap_or(u32::MAX);
    let (x, y) = (clip(left), clip(top));
    let (width, height) = (clip(left + side) - x, clip(top + side) - y);
    Rect { x, y, width, height }
}

/// Draws the cursor into `pixels`, which are those of `rect`, row by row. The pixels of a cursor are multiplied with
/// their alpha, as Linux has them.
pub(crate) fn draw(cursor: &Cursor, rect: Rect, pixels: &mut [u32]) {
    let Some(image) = &cursor.image else { return };
    let (left, top) = (i64::from(cursor.x), i64::from(cursor.y));
    let side = CursorImage::SIDE as usize;
    let place = |x: i64, y: i64| {
        let x = u32::try_from(x - i64::from(rect.x)).ok().filter(|x| *x < rect.width)?;
        let y = u32::try_from(y - i64::from(rect.y)).ok()?;
        Some(y as usize * rect.width as usize + x as usize)
    };
    for (row, y) in image.pixels.chunks(side).zip(top..) {
        for (pixel, x) in row.iter().zip(left..).filter(|(pixel, _)| **pixel >> 24 != 0) {
            if let Some(below) = place(x, y).and_then(|at| pixels.get_mut(at)) {
                *below = over(*pixel, *below);
            }
        }
    }
}

/// `pixel`, 0xAARRGGBB, over one that is opaque.
fn over(pixel: u32, below: u32) -> u32 {
    let [alpha, above @ ..] = pixel.to_be_bytes().map(u32::from);
    let [_, below @ ..] = below.to_be_bytes().map(u32::from);
    above.into_iter().zip(below).fold(0, |all, (above, below)| {
        // A colour above its alpha is not multiplied: its guest means it so, or is hostile.
        let colour = above.min(alpha) + (below * (255 - alpha) + 127) / 255;
        all << 8 | colour.min(255)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn cursor(hot: (u32, u32), at: (i32, i32), pixel: u32) -> Cursor {
        let side = CursorImage::SIDE as usize;
        let image = CursorImage { pixels: vec![pixel; side * side], hot_x: hot.0, hot_y: hot.1 };
        Cursor { image: Some(Arc::new(image)), x: at.0, y: at.1 }
    }

    #[test]
    fn it_is_drawn_from_its_corner_on_wherever_it_points() {
        let cursor = cursor((2, 1), (-1, 0), 0xff01_0203);
        assert_eq!(covered(&cursor), Rect { x: 0, y: 0, width: 63, height: 64 });
        let rect = Rect { x: 60, y: 62, width: 5, height: 4 };
        let mut pixels = [9; 20];
        draw(&cursor, rect, &mut pixels);
        let (new, old) = (0x0001_0203, 9);
        assert_eq!(pixels[..5], [new, new, new, old, old]);
        assert_eq!(pixels[5..10], [new, new, new, old, old]);
        assert_eq!(pixels[10..], [old; 10]);
    }

    #[test]
    fn any_place_and_hot_spot_is_fine() {
        for hot in [0, 63, 64, u32::MAX] {
            for at in [i32::MIN, -64, -1, 0, 63, i32::MAX] {
                let cursor = cursor((hot, hot), (at, at), u32::MAX);
                let Rect { width, height, .. } = covered(&cursor);
                assert!(width <= 64 && height <= 64);
                let mut pixels = [0; 4];
                draw(&cursor, Rect { x: 0, y: 0, width: 2, height: 2 }, &mut pixels);
            }
        }
        assert_eq!(covered(&Cursor::default()), Rect::default());
    }

    #[test]
    fn alpha_mixes_with_what_is_below() {
        assert_eq!(over(0xff10_2030, 0x00ff_ffff), 0x0010_2030);
        assert_eq!(over(0x8080_0000, 0x0000_00ff), 0x0080_007f);
        // Not multiplied with its alpha.
        assert_eq!(over(0x01ff_ffff, 0x0000_0000), 0x0001_0101);
        assert_eq!(over(0x80ff_ffff, 0x00ff_ffff), 0x00ff_ffff);
    }

    #[test]
    fn the_mask_has_a_bit_for_each_pixel() {
        let mut out = Vec::new();
        put(&mut out, &PixelFormat::native(), None);
        assert_eq!(out, [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x11]);
        out.clear();
        let mut shown = CursorImage { pixels: vec![0x7fff_ffff; 64 * 64], hot_x: 3, hot_y: 99 };
        shown.pixels[8] = 0x8000_0000;
        put(&mut out, &PixelFormat::native(), Some(&shown));
        assert_eq!(out.len(), 12 + 64 * 64 * 4 + 64 * 8);
        assert_eq!(out[..8], [0, 3, 0, 63, 0, 64, 0, 64]);
        let mask = &out[12 + 64 * 64 * 4..];
        assert_eq!(mask[..3], [0, 0x80, 0]);
        assert!(mask[2..].iter().all(|byte| *byte == 0));
    }
}
