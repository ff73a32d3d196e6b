//! The EDID of the display: what a monitor tells of itself (VESA Enhanced Extended Display Identification Data,
//! release A revision 2: EDID structure 1.4).

/// The bytes of a block.
pub(super) const EDID_SIZE: usize = 128;
/// The largest width and height: a timing has 12 bits for each (3.10.2).
pub(super) const TIMING_MAX: u32 = 4095;

/// Dots per inch, for the size in millimetres.
const DPI: u32 = 100;

/// The EDID of a display whose preferred size is `width` times `height` pixels, each at most [`TIMING_MAX`], 60 times a
/// second.
pub(super) fn edid(width: u32, height: u32) -> [u8; EDID_SIZE] {
    let mut block = [0; EDID_SIZE];
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in block.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    let millimetres = |pixels: u32| pixels * 254 / (DPI * 10);
    let centimetres = |pixels: u32| byte((millimetres(pixels) / 10).clamp(1, 255));
    // The header (3.3).
    put(0, &[0, 255, 255, 255, 255, 255, 255, 0]);
    // Manufacturer (three letters of five bits), product, serial number; the year of the model is 2025 (3.4).
    let [c, v, m] = [b'C', b'V', b'M'].map(|letter| u16::from(letter - b'A' + 1));
    put(8, &(c << 10 | v << 5 | m).to_be_bytes());
    put(10, &[1, 0, 1, 0, 0, 0, 255, byte(2025 - 1990)]);
    // EDID 1.4; digital, 8 bits for each colour, DisplayPort; size; gamma 2.2; sRGB, the preferred timing is that of the
    // pixels (3.5, 3.6).
    put(18, &[1, 4, 0xa5, centimetres(width), centimetres(height), 120, 0x06]);
    // The primaries and the white of sRGB (3.7).
    put(25, &[0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54]);
    // 640x480, 800x600 and 1024x768 at 60 Hz (3.8); no standard timings (3.9).
    put(35, &[0x21, 0x08, 0]);
    put(38, &[1; 16]);
    put(54, &timing(width, height, millimetres(width), millimetres(height)));
    // The name (3.10.3.4), and two unused descriptors (3.10.3.11).
    put(72, b"\0\0\0\xfc\0cafevm\n      ");
    put(90, &[0, 0, 0, 0x10]);
    put(108, &[0, 0, 0, 0x10]);
    let sum = block.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(last) = block.last_mut() {
        *last = sum.wrapping_neg();
    }
    block
}

/// A detailed timing with reduced blanking (3.10.2).
fn timing(width: u32, height: u32, width_mm: u32, height_mm: u32) -> [u8; 18] {
    /// Pixels of a row that are not shown, from the end of the picture: until the pulse, the pulse, in all.
    const H: (u32, u32, u32) = (48, 32, 160);
    /// Rows that are not shown, as above.
    const V: (u32, u32) = (3, 5);
    /// Blanking lasts 460 microseconds at least; a picture takes 16667.
    const V_BLANK: (u32, u32) = (460, 16667);
    let v_blank = (height * V_BLANK.0 / (V_BLANK.1 - V_BLANK.0) + 1).max(V.0 + V.1 + 6);
    // In units of 10 kHz; below 2^31 before the division. The largest sizes get fewer than 60 pictures a second.
    let clock = (width + H.2) * (height + v_blank) * 60 / 10_000;
    let [clock_low, clock_high] = u16::try_from(clock).unwrap_or(u16::MAX).to_le_bytes();
    let low = |value: u32| byte(value & 0xff);
    // The high bits of two values in one byte.
    let high = |a: u32, b: u32| byte((a >> 8 & 0xf) << 4 | b >> 8 & 0xf);
    [
        clock_low,
        clock_high,
        low(width),
        low(H.2),
        high(width, H.2),
        low(height),
        low(v_blank),
        high(height, v_blank),
        low(H.0),
        low(H.1),
        byte((V.0 & 0xf) << 4 | V.1 & 0xf),
        0,
        low(width_mm),
        low(height_mm),
        high(width_mm, height_mm),
        0,
        0,
        // Not interlaced; separate pulses, the horizontal one positive.
        0x1a,
    ]
}

#[expect(clippy::cast_possible_truncation, reason = "the callers give a byte's value")]
const fn byte(value: u32) -> u8 {
    value as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_names_the_size_and_has_its_sum() {
        for (width, height) in [(16, 16), (640, 480), (1024, 768), (1366, 768), (4095, 4095)] {
            let block = edid(width, height);
            assert_eq!(block.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
            assert_eq!(block[..8], [0, 255, 255, 255, 255, 255, 255, 0]);
            let timing = block[54..72].iter().map(|byte| u32::from(*byte)).collect::<Vec<_>>();
            assert_eq!(timing[2] | (timing[4] & 0xf0) << 4, width);
            assert_eq!(timing[5] | (timing[7] & 0xf0) << 4, height);
            let blank = (timing[3] | (timing[4] & 0xf) << 8, timing[6] | (timing[7] & 0xf) << 8);
            let clock = (timing[0] | timing[1] << 8) * 10;
            // In thousands of pixels a second.
            let rate = clock * 1000 / ((width + blank.0) * (height + blank.1));
            assert!((55..=60).contains(&rate) || width == 4095 && rate >= 36, "{width}: {rate}");
            assert!(u64::from(blank.1) * 1_000_000 / u64::from(60 * (height + blank.1)) >= 459);
        }
    }
}
