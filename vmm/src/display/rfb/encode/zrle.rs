//! The encoding ZRLE: tiles of 64 times 64 pixels with palettes and runs, compressed by zlib (RFC 6143, 7.7.6).

use flate2::{Compress, Compression, FlushCompress, Status};

use super::super::pixel::PixelFormat;

/// The width and height of a tile.
const TILE: usize = 64;
/// The most colours of a palette with runs.
const PALETTE_MAX: usize = 127;
/// The most colours of a palette without runs.
const PACKED_MAX: usize = 16;

/// A client's stream of compressed rectangles: one for the whole connection.
pub(in super::super) struct Zrle {
    zlib: Compress,
}

/// The pixels of a rectangle in the client's format, row by row, each row `width` pixels.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Pixels<'a> {
    pub(in super::super) values: &'a [u32],
    pub(in super::super) width: usize,
}

impl Zrle {
    /// A new stream.
    pub(in super::super) fn new() -> Self {
        Self { zlib: Compress::new(Compression::fast(), true) }
    }

    /// Appends the data of a rectangle. `plain` is memory to work with.
    ///
    /// # Errors
    ///
    /// If the compressor fails, which is a bug.
    pub(in super::super) fn encode(
        &mut self,
        out: &mut Vec<u8>,
        plain: &mut Vec<u8>,
        format: &PixelFormat,
        pixels: Pixels<'_>,
    ) -> Result<(), flate2::CompressError> {
        plain.clear();
        let rows: Vec<&[u32]> = pixels.values.chunks_exact(pixels.width.max(1)).collect();
        let mut tile = Vec::with_capacity(TILE * TILE);
        for band in rows.chunks(TILE) {
            for left in (0..pixels.width).step_by(TILE) {
                let width = TILE.min(pixels.width - left);
                tile.clear();
                for row in band {
                    tile.extend_from_slice(row.get(left..left + width).unwrap_or_default());
                }
                put_tile(plain, format, Pixels { values: &tile, width });
            }
        }
        self.compress(out, plain)
    }

    /// Appends the length and the compressed bytes.
    fn compress(&mut self, out: &mut Vec<u8>, plain: &[u8]) -> Result<(), flate2::CompressError> {
        let begin = out.len();
        out.extend([0; 4]);
        let mut rest = plain;
        loop {
            // What does not compress becomes a little longer.
            out.reserve(rest.len() + rest.len() / 16 + 256);
            let before = self.zlib.total_in();
            let status = self.zlib.compress_vec(rest, out, FlushCompress::Sync)?;
            let taken = usize::try_from(self.zlib.total_in() - before).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            // With room left, everything is out.
            if rest.is_empty() && (out.len() < out.capacity() || status == Status::BufError) {
                break;
            }
        }
        let len = u32::try_from(out.len() - begin - 4).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = out.get_mut(begin..begin + 4) {
            place.copy_from_slice(&len);
        }
        Ok(())
    }
}

/// The runs of equal pixels: each with its value and length.
fn runs(values: &[u32]) -> impl Iterator<Item = (u32, usize)> {
    values.chunk_by(|a, b| a == b).filter_map(|run| Some((*run.first()?, run.len())))
}

/// The bytes of a run's length.
const fn length_bytes(len: usize) -> usize {
    (len - 1) / 255 + 1
}

fn put_length(out: &mut Vec<u8>, len: usize) {
    let rest = len - 1;
    out.extend(std::iter::repeat_n(255, rest / 255));
    out.push(u8::try_from(rest % 255).unwrap_or_default());
}

/// What a tile is made of.
struct Survey {
    /// The colours, unless there are too many.
    palette: Option<Vec<u32>>,
    /// The bytes of the tile as runs, without and with the palette.
    plain_runs: usize,
    palette_runs: usize,
}

impl Survey {
    fn of(format: &PixelFormat, values: &[u32]) -> Self {
        let mut palette = Some(Vec::new());
        let (mut plain_runs, mut palette_runs) = (0, 0);
        for (value, len) in runs(values) {
            plain_runs += format.compact_len() + length_bytes(len);
            palette_runs += if len == 1 { 1 } else { 1 + length_bytes(len) };
            if let Some(colours) = &mut palette
                && !colours.contains(&value)
            {
                colours.push(value);
                if colours.len() > PALETTE_MAX {
                    palette = None;
                }
            }
        }
        Self { palette, plain_runs, palette_runs }
    }
}

/// Appends a tile in the shortest of its forms.
fn put_tile(out: &mut Vec<u8>, format: &PixelFormat, tile: Pixels<'_>) {
    let Survey { palette, plain_runs, palette_runs } = Survey::of(format, tile.values);
    let raw = tile.values.len() * format.compact_len();
    let Some(palette) = palette else {
        return if plain_runs < raw {
            put_plain_runs(out, format, tile.values);
        } else {
            put_raw(out, format, tile.values);
        };
    };
    let colours = palette.len() * format.compact_len();
    let rows = tile.values.len() / tile.width.max(1);
    let packed = match bits(palette.len()) {
        Some(bits) => colours + rows * (tile.width * bits).div_ceil(8),
        None => usize::MAX,
    };
    let runs = if palette.len() < 2 { usize::MAX } else { colours + palette_runs };
    let least = packed.min(runs).min(plain_runs).min(raw);
    if palette.len() == 1 {
        out.push(1);
        palette.iter().for_each(|colour| format.put_compact(out, *colour));
    } else if packed == least {
        put_packed(out, format, &palette, tile);
    } else if runs == least {
        put_palette_runs(out, format, &palette, tile.values);
    } else if plain_runs == least {
        put_plain_runs(out, format, tile.values);
    } else {
        put_raw(out, format, tile.values);
    }
}

/// The bits of an index into a packed palette, if there is one.
const fn bits(colours: usize) -> Option<usize> {
    match colours {
        2 => Some(1),
        3..=4 => Some(2),
        5..=PACKED_MAX => Some(4),
        _ => None,
    }
}

fn put_raw(out: &mut Vec<u8>, format: &PixelFormat, values: &[u32]) {
    out.push(0);
    values.iter().for_each(|value| format.put_compact(out, *value));
}

fn put_plain_runs(out: &mut Vec<u8>, format: &PixelFormat, values: &[u32]) {
    out.push(128);
    for (value, len) in runs(values) {
        format.put_compact(out, value);
        put_length(out, len);
    }
}

/// The place of a colour in a palette that has it.
fn index(palette: &[u32], value: u32) -> u8 {
    let at = palette.iter().position(|colour| *colour == value).unwrap_or_default();
    u8::try_from(at).unwrap_or_default()
}

fn put_palette_runs(out: &mut Vec<u8>, format: &PixelFormat, palette: &[u32], values: &[u32]) {
    out.push(128 | u8::try_from(palette.len()).unwrap_or_default());
    palette.iter().for_each(|colour| format.put_compact(out, *colour));
    for (value, len) in runs(values) {
        let index = index(palette, value);
        if len == 1 {
            out.push(index);
        } else {
            out.push(index | 128);
            put_length(out, len);
        }
    }
}

fn put_packed(out: &mut Vec<u8>, format: &PixelFormat, palette: &[u32], tile: Pixels<'_>) {
    let Some(bits) = bits(palette.len()) else { return };
    out.push(u8::try_from(palette.len()).unwrap_or_default());
    palette.iter().for_each(|colour| format.put_compact(out, *colour));
    for row in tile.values.chunks(tile.width.max(1)) {
        for pixels in row.chunks(8 / bits) {
            let byte = pixels.iter().fold(0, |byte, value| byte << bits | index(palette, *value));
            out.push(byte << (8 - bits * pixels.len()));
        }
    }
}
