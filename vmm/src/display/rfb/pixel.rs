//! The formats of pixels that clients ask for (RFC 6143, 7.4).

/// A client's format of pixels: bits, byte order and the place of each colour.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PixelFormat {
    /// Bytes of a pixel: 1, 2 or 4.
    bytes: usize,
    big_endian: bool,
    /// The first byte of a pixel that ZRLE sends, and their number (RFC 6143, 7.7.6, CPIXEL).
    compact: (usize, usize),
    /// The value of each level of red, green and blue, at its place in the pixel.
    levels: Box<[[u32; 256]; 3]>,
    /// Whether the client has a map of colours, which the server sets to [`colour_map`].
    mapped: bool,
}

/// A format that this server cannot send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A number of bits that RFB does not have.
    #[error("pixels of {0} bits are asked for; RFB has 8, 16 and 32")]
    Bits(u8),
    /// A map of colours for large pixels.
    #[error(
        "a map of colours is asked for, with pixels of {0} bits; ask for 8, or for true colour"
    )]
    Map(u8),
    /// A colour that does not fit into a pixel.
    #[error(
        "a colour with {max} as its largest value and a shift of {shift} does not fit into {bits} bits"
    )]
    Colour {
        /// The largest value.
        max: u16,
        /// The shift.
        shift: u8,
        /// The bits of a pixel.
        bits: u8,
    },
}

/// One of the three colours in a pixel.
#[derive(Debug, Clone, Copy)]
struct Colour {
    max: u16,
    shift: u8,
}

impl PixelFormat {
    /// The server's own format: 32 bits, little-endian, 0x00RRGGBB.
    pub(super) fn native() -> Self {
        let colour = |shift| Colour { max: 255, shift };
        Self::new(4, false, 24, [colour(16), colour(8), colour(0)])
    }

    /// [`PixelFormat::native`], as ServerInit has it.
    pub(super) const NATIVE: [u8; 16] = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];

    /// Parses PIXEL_FORMAT.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn parse(bytes: &[u8; 16]) -> Result<Self, FormatError> {
        let [bits, depth, big_endian, true_colour, r1, r0, g1, g0, b1, b0, red, green, blue, ..] =
            *bytes;
        let len = match bits {
            8 => 1,
            16 => 2,
            32 => 4,
            _ => return Err(FormatError::Bits(bits)),
        };
        if true_colour == 0 {
            if bits != 8 {
                return Err(FormatError::Map(bits));
            }
            let [red, green, blue] = MAP;
            return Ok(Self { mapped: true, ..Self::new(1, false, 8, [red, green, blue]) });
        }
        let colour = |high, low, shift: u8| {
            let max = u16::from_be_bytes([high, low]);
            let is_all_ones = max & max.wrapping_add(1) == 0 && max > 0;
            let end = u32::from(shift) + max.count_ones();
            if is_all_ones && end <= u32::from(bits) {
                Ok(Colour { max, shift })
            } else {
                Err(FormatError::Colour { max, shift, bits })
            }
        };
        let colours = [colour(r1, r0, red)?, colour(g1, g0, green)?, colour(b1, b0, blue)?];
        Ok(Self::new(len, big_endian != 0, depth, colours))
    }

    fn new(bytes: usize, big_endian: bool, depth: u8, colours: [Colour; 3]) -> Self {
        let used =
            colours.iter().fold(0, |used, Colour { max, shift }| used | u32::from(*max) << shift);
        let compact = if bytes == 4 && depth <= 24 && used & 0xff00_0000 == 0 {
            (usize::from(big_endian), 3)
        } else if bytes == 4 && depth <= 24 && used & 0x0000_00ff == 0 {
            (usize::from(!big_endian), 3)
        } else {
            (0, bytes)
        };
        let level = |Colour { max, shift }: Colour, level: u32| {
            ((level * u32::from(max) + 127) / 255) << shift
        };
        let levels = colours.map(|colour| {
            let mut levels = [0; 256];
            for (n, value) in (0..).zip(&mut levels) {
                *value = level(colour, n);
            }
            levels
        });
        Self { bytes, big_endian, compact, levels: Box::new(levels), mapped: false }
    }

    /// The pixel for 0x00RRGGBB.
    pub(super) fn value(&self, pixel: u32) -> u32 {
        let [_, red, green, blue] = pixel.to_be_bytes();
        let [reds, greens, blues] = &*self.levels;
        // The index is a byte, and there are 256 levels.
        reds[usize::from(red)] | greens[usize::from(green)] | blues[usize::from(blue)]
    }

    /// Appends a pixel that [`PixelFormat::value`] made.
    pub(super) fn put(&self, out: &mut Vec<u8>, value: u32) {
        let bytes = self.in_order(value);
        out.extend_from_slice(bytes.get(..self.bytes).unwrap_or_default());
    }

    /// Appends a pixel as ZRLE has it.
    pub(super) fn put_compact(&self, out: &mut Vec<u8>, value: u32) {
        let (first, len) = self.compact;
        let bytes = self.in_order(value);
        out.extend_from_slice(bytes.get(first..first + len).unwrap_or_default());
    }

    /// The bytes that [`PixelFormat::put_compact`] appends.
    pub(super) const fn compact_len(&self) -> usize {
        self.compact.1
    }

    /// Whether the client needs [`colour_map`].
    pub(super) const fn is_mapped(&self) -> bool {
        self.mapped
    }

    /// The bytes of a pixel, from the front.
    fn in_order(&self, value: u32) -> [u8; 4] {
        if self.big_endian {
            // The pixel's bytes are the last ones.
            (value << (8 * (4 - self.bytes))).to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }
}

/// The colours in the index of a map of colours.
const MAP: [Colour; 3] =
    [Colour { max: 7, shift: 0 }, Colour { max: 7, shift: 3 }, Colour { max: 3, shift: 6 }];

/// The message SetColourMapEntries with 256 colours: 3 bits of red and of green, 2 of blue (RFC 6143, 7.6.2).
pub(super) fn colour_map() -> Vec<u8> {
    let mut message = vec![1, 0, 0, 0, 1, 0];
    for index in 0..256_u32 {
        for Colour { max, shift } in MAP {
            let max = u32::from(max);
            let level = (index >> shift & max) * 0xffff / max;
            message.extend(u16::try_from(level).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(bits: u8, depth: u8, big: u8, max: [u16; 3], shift: [u8; 3]) -> [u8; 16] {
        let [r, g, b] = max.map(u16::to_be_bytes);
        [
            bits, depth, big, 1, r[0], r[1], g[0], g[1], b[0], b[1], shift[0], shift[1], shift[2],
            0, 0, 0,
        ]
    }

    fn put(bytes: &[u8; 16], pixel: u32) -> (Vec<u8>, Vec<u8>) {
        let format = PixelFormat::parse(bytes).unwrap();
        let (mut whole, mut compact) = (Vec::new(), Vec::new());
        format.put(&mut whole, format.value(pixel));
        format.put_compact(&mut compact, format.value(pixel));
        assert_eq!(compact.len(), format.compact_len());
        (whole, compact)
    }

    #[test]
    fn a_pixel_has_the_clients_bits_and_order() {
        let eight = [255; 3];
        let native = format(32, 24, 0, eight, [16, 8, 0]);
        assert_eq!(native, PixelFormat::NATIVE);
        assert!(PixelFormat::parse(&native).unwrap() == PixelFormat::native());
        assert_eq!(put(&native, 0x0012_3456), (vec![0x56, 0x34, 0x12, 0], vec![0x56, 0x34, 0x12]));
        let big = format(32, 24, 1, eight, [16, 8, 0]);
        assert_eq!(put(&big, 0x0012_3456), (vec![0, 0x12, 0x34, 0x56], vec![0x12, 0x34, 0x56]));
        // The colours in the upper three bytes.
        let upper = format(32, 24, 0, eight, [8, 16, 24]);
        assert_eq!(put(&upper, 0x0012_3456), (vec![0, 0x12, 0x34, 0x56], vec![0x12, 0x34, 0x56]));
        let upper = format(32, 24, 1, eight, [8, 16, 24]);
        assert_eq!(put(&upper, 0x0012_3456), (vec![0x56, 0x34, 0x12, 0], vec![0x56, 0x34, 0x12]));
        // With a depth of 32 all bytes are sent.
        let deep = format(32, 32, 0, eight, [16, 8, 0]);
        assert_eq!(put(&deep, 0x0012_3456).1, [0x56, 0x34, 0x12, 0]);
        let rgb565 = format(16, 16, 0, [31, 63, 31], [11, 5, 0]);
        assert_eq!(put(&rgb565, 0x00ff_8000).0, (31_u16 << 11 | 32 << 5).to_le_bytes());
        let rgb565 = format(16, 16, 1, [31, 63, 31], [11, 5, 0]);
        assert_eq!(put(&rgb565, 0x00ff_8000).1, (31_u16 << 11 | 32 << 5).to_be_bytes());
        let bgr233 = format(8, 8, 0, [7, 7, 3], [0, 3, 6]);
        assert_eq!(put(&bgr233, 0x00ff_ffff).0, [0xff]);
        assert_eq!(put(&bgr233, 0x00ff_0000).0, [7]);
    }

    #[test]
    fn wide_colours_reach_their_largest_value() {
        let wide = format(32, 30, 0, [1023; 3], [20, 10, 0]);
        assert_eq!(put(&wide, 0x00ff_ffff).0, 0x3fff_ffff_u32.to_le_bytes());
        let widest = format(32, 32, 0, [0xffff, 255, 255], [16, 8, 0]);
        assert_eq!(put(&widest, 0x00ff_0000).0, 0xffff_0000_u32.to_le_bytes());
    }

    #[test]
    fn a_map_of_colours_is_made_for_8_bits_only() {
        let mut mapped = format(8, 8, 0, [0; 3], [0; 3]);
        mapped[3] = 0;
        let parsed = PixelFormat::parse(&mapped).unwrap();
        assert!(parsed.is_mapped());
        let map = colour_map();
        assert_eq!(map.len(), 6 + 256 * 6);
        // The entry of the index for a colour is that colour, as far as the bits go.
        for pixel in [0, 0x00ff_ffff, 0x00ff_0000, 0x0000_ff00, 0x0000_00ff] {
            let at = 6 + 6 * parsed.value(pixel) as usize;
            assert_eq!([map[at], map[at + 2], map[at + 4]], pixel.to_be_bytes()[1..], "{pixel:x}");
        }
        mapped[0] = 16;
        assert_eq!(PixelFormat::parse(&mapped).err(), Some(FormatError::Map(16)));
    }

    #[test]
    fn wrong_formats_are_refused() {
        for bits in [0, 1, 24, 64, 255] {
            let wrong = format(bits, 24, 0, [255; 3], [16, 8, 0]);
            assert_eq!(PixelFormat::parse(&wrong).err(), Some(FormatError::Bits(bits)));
        }
        for (max, shift) in [(0, 0), (2, 0), (255, 25), (0xffff, 17), (1, 32), (255, 255)] {
            let wrong = format(32, 24, 0, [255, max, 255], [16, shift, 0]);
            let error = FormatError::Colour { max, shift, bits: 32 };
            assert_eq!(PixelFormat::parse(&wrong).err(), Some(error));
        }
        let wrong = format(8, 8, 0, [7, 7, 7], [0, 3, 6]);
        assert!(PixelFormat::parse(&wrong).is_err());
    }
}
