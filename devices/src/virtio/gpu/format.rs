//! The formats of pixels (5.7.6.8). Each has four bytes; the names of the specification give them in their order in
//! memory.

use crate::virtio::spec::gpu::{
    FORMAT_A8B8G8R8, FORMAT_A8R8G8B8, FORMAT_B8G8R8A8, FORMAT_B8G8R8X8, FORMAT_R8G8B8A8,
    FORMAT_R8G8B8X8, FORMAT_X8B8G8R8, FORMAT_X8R8G8B8,
};

/// A format: the places of the colours among the bytes of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    order: Order,
    has_alpha: bool,
}

/// The bytes of a pixel in their order; A may be unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Bgra,
    Argb,
    Rgba,
    Abgr,
}

impl Format {
    /// The format with this number in the specification.
    pub(super) const fn numbered(number: u32) -> Option<Self> {
        let (order, has_alpha) = match number {
            FORMAT_B8G8R8A8 => (Order::Bgra, true),
            FORMAT_B8G8R8X8 => (Order::Bgra, false),
            FORMAT_A8R8G8B8 => (Order::Argb, true),
            FORMAT_X8R8G8B8 => (Order::Argb, false),
            FORMAT_R8G8B8A8 => (Order::Rgba, true),
            FORMAT_R8G8B8X8 => (Order::Rgba, false),
            FORMAT_A8B8G8R8 => (Order::Abgr, true),
            FORMAT_X8B8G8R8 => (Order::Abgr, false),
            _ => return None,
        };
        Some(Self { order, has_alpha })
    }

    /// Writes the pixels in `bytes` to `pixels` as 0x00RRGGBB.
    pub(super) fn to_rgb(self, bytes: &[u8], pixels: &mut [u32]) {
        // One loop for each order, which the compiler makes vectors of.
        match self.order {
            Order::Bgra => convert(bytes, pixels, |[b, g, r, _]| [0, r, g, b]),
            Order::Argb => convert(bytes, pixels, |[_, r, g, b]| [0, r, g, b]),
            Order::Rgba => convert(bytes, pixels, |[r, g, b, _]| [0, r, g, b]),
            Order::Abgr => convert(bytes, pixels, |[_, b, g, r]| [0, r, g, b]),
        }
    }

    /// Writes the pixels in `bytes` to `pixels` as 0xAARRGGBB. Without alpha they are opaque.
    pub(super) fn to_argb(self, bytes: &[u8], pixels: &mut [u32]) {
        match self.order {
            Order::Bgra => convert(bytes, pixels, |[b, g, r, a]| [a, r, g, b]),
            Order::Argb => convert(bytes, pixels, |pixel| pixel),
            Order::Rgba => convert(bytes, pixels, |[r, g, b, a]| [a, r, g, b]),
            Order::Abgr => convert(bytes, pixels, |[a, b, g, r]| [a, r, g, b]),
        }
        if !self.has_alpha {
            for pixel in pixels {
                *pixel |= 0xff00_0000;
            }
        }
    }
}

/// Writes each pixel of `bytes`, with its bytes in the order that `argb` gives, to `pixels`.
#[inline]
fn convert(bytes: &[u8], pixels: &mut [u32], argb: impl Fn([u8; 4]) -> [u8; 4]) {
    for (to, from) in pixels.iter_mut().zip(bytes.as_chunks().0) {
        *to = u32::from_be_bytes(argb(*from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_format_is_the_order_of_its_bytes() {
        for (name, number) in [
            ("BGRA", 1),
            ("BGRX", 2),
            ("ARGB", 3),
            ("XRGB", 4),
            ("RGBA", 67),
            ("XBGR", 68),
            ("ABGR", 121),
            ("RGBX", 134),
        ] {
            let format = Format::numbered(number).unwrap();
            let byte = |colour| match colour {
                'A' => 0x40,
                'R' => 0x11,
                'G' => 0x22,
                'B' => 0x33,
                _ => 0x99,
            };
            let bytes: Vec<_> = name.chars().map(byte).chain([0; 4]).collect();
            let (mut rgb, mut argb) = ([7; 3], [7; 3]);
            format.to_rgb(&bytes, &mut rgb);
            format.to_argb(&bytes, &mut argb);
            let alpha = |alpha| if name.contains('A') { alpha } else { 0xff00_0000 };
            assert_eq!(rgb, [0x0011_2233, 0, 7], "{name}");
            // The last pixel is not in the bytes.
            assert_eq!(argb[..2], [0x0011_2233 | alpha(0x4000_0000), alpha(0)], "{name}");
        }
        for number in [0, 5, 66, 69, 120, 122, 133, 135, u32::MAX] {
            assert_eq!(Format::numbered(number), None);
        }
    }
}
