//! The glyphs of the screen: ASCII, and a box for what is not. They were drawn for cafevm, in `font.txt`.

/// The width of a cell in pixels.
pub(crate) const WIDTH: usize = 8;
/// The height of a cell in pixels.
pub(crate) const HEIGHT: usize = 16;

/// Six bands of sixteen glyphs from space on, `#` for each pixel that is set; a blank between two glyphs.
const DRAWN: &[u8] = include_bytes!("font.txt");
const FIRST: usize = b' ' as usize;
const COUNT: usize = 96;
const IN_BAND: usize = 16;
/// Bytes from a row of a band to the next one.
const ROW: usize = IN_BAND * (WIDTH + 1);

/// A byte for each row, bit 7 at the left.
static GLYPHS: [[u8; HEIGHT]; COUNT] = {
    assert!(DRAWN.len() == COUNT / IN_BAND * HEIGHT * ROW, "font.txt has another size");
    let mut glyphs = [[0; HEIGHT]; COUNT];
    let mut n = 0;
    while n < COUNT * HEIGHT * WIDTH {
        let (glyph, row, column) = (n / (HEIGHT * WIDTH), n / WIDTH % HEIGHT, n % WIDTH);
        let band = glyph / IN_BAND * HEIGHT + row;
        match DRAWN[band * ROW + glyph % IN_BAND * (WIDTH + 1) + column] {
            b'#' => glyphs[glyph][row] |= 0x80 >> column,
            b'.' => {}
            _ => panic!("font.txt: neither # nor ."),
        }
        n += 1;
    }
    glyphs
};

/// The glyph of an ASCII character, a byte for each row, bit 7 at the left: a box for 0x7f, and nothing for a control
/// character.
pub(crate) fn glyph(character: u8) -> &'static [u8; HEIGHT] {
    &GLYPHS[usize::from(character).saturating_sub(FIRST).min(COUNT - 1)]
}
