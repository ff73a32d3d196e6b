//! The console on a GPU's display.
//!
//! The picture on the host is twice as high as the ring of rows (`terminal.rs`), and each line is in it twice, one ring
//! apart. So, wherever the first line of the screen is in the ring, all lines of the screen lie below one another, and
//! to scroll is to show another part of the picture:
//!
//! ```text
//!   rows of the picture   0 1 2 3 4 | 0 1 2 3 4      a screen of 4 rows: a ring of 5
//!   lines                 5 6 2 3 4 | 5 6 2 3 4      lines 3 to 6 are seen, line 2 has gone
//!   shown                       [--------]
//! ```
//!
//! The guest's own memory for the picture has one row only. A row is drawn there, then copied to both of its places.
//!
//! Text is painted when the shell waits for input or ends, and every tenth of a second or so: what scrolls by faster
//! than that is not drawn at all.

use core::sync::atomic::{AtomicU32, Ordering};

use drivers::Quiet;
use drivers::virtio::spec::gpu::FORMAT_B8G8R8X8;
use drivers::virtio::{Area, Command, Cursor, Error, Gpu};
use rt::command_line::VirtioSlot;
use rt::console::{self, Mirror};
use rt::dma::Dma;
use rt::lock::Lock;
use rt::{interrupts, tsc};

use crate::font::{self, HEIGHT, WIDTH};
use crate::terminal::{COLUMNS_MAX, Piece, ROWS_MAX, Terminal};

/// The numbers of the pictures with text come after this one; the pointer has a lower one.
const PICTURES: u32 = 1;
/// Bytes in a pixel.
const PIXEL: usize = 4;
/// The colours: 0x00RRGGBB. The background is what a new picture is filled with.
const TEXT: u32 = 0x00d0_d0d0;
const BACKGROUND: u32 = 0;
/// Bytes in a row of a cell.
const CELL_ROW: usize = WIDTH * PIXEL;
/// The longest piece whose blanks are drawn as any other glyph.
const SHORT: usize = 4;
/// Cycles of the time-stamp counter between two paintings while text streams: about a tenth of a second.
const PAINT_INTERVAL: u64 = 1 << 28;

/// A row of a glyph, bit 7 at the left, as pixels, two in each word.
static ROWS_OF_PIXELS: [[u64; WIDTH / 2]; 256] = {
    let mut rows = [[0; WIDTH / 2]; 256];
    let mut bits = 0;
    while bits < rows.len() {
        let mut n = 0;
        while n < WIDTH {
            let colour = if bits >> (WIDTH - 1 - n) & 1 != 0 { TEXT } else { BACKGROUND };
            rows[bits][n / 2] |= (colour as u64) << (n % 2 * 32);
            n += 1;
        }
        bits += 1;
    }
    rows
};

/// What the display is drawn with.
struct Output {
    gpu: Gpu,
    /// The memory of one row of cells, [`COLUMNS_MAX`] of them.
    memory: Dma,
    /// The picture's number; 0 where there is none.
    picture: u32,
    width: u32,
    height: u32,
    /// How many lines had gone off the upper end when the picture's part was last chosen.
    scrolled: Option<usize>,
    painted_at: u64,
    error: Option<Error>,
}

static OUTPUT: Lock<Option<Output>> = Lock::new(None);
static TEXTS: Lock<Terminal> = Lock::new(Terminal::new());
static MIRROR: Mirror = Mirror { text: write, show: paint };
/// The display's width and height, for the pointer: 0 where it shows nothing.
static SIZE: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

/// Sets the GPU of `slot` up, and shows the console on its display from now on. `before` is the text that it has printed
/// so far. Returns the pointer of that display.
pub(crate) fn open(slot: VirtioSlot, before: &str) -> Option<Cursor> {
    if OUTPUT.with(|output| output.is_some()) {
        // One screen is enough.
        return None;
    }
    let (mut gpu, mut cursor) = Gpu::new(slot)?;
    let error = gpu.handshake(&mut cursor, &mut Quiet).err();
    let usable = error.is_none();
    let row = COLUMNS_MAX * CELL_ROW * HEIGHT;
    OUTPUT.with(|output| {
        *output = Some(Output {
            gpu,
            memory: Dma::new(row, 8),
            picture: 0,
            width: 0,
            height: 0,
            scrolled: None,
            painted_at: 0,
            error,
        });
    });
    if !usable {
        return None;
    }
    resize();
    console::mirror_to(&MIRROR);
    write(before.as_bytes());
    Some(cursor)
}

/// The display's width and height in pixels; 0 where it shows nothing.
pub(crate) fn size() -> (u32, u32) {
    (SIZE[0].load(Ordering::Relaxed), SIZE[1].load(Ordering::Relaxed))
}

/// What is known of the GPU.
pub(crate) struct Summary {
    pub(crate) base: u64,
    pub(crate) line: u8,
    /// Columns and rows of text.
    pub(crate) cells: (usize, usize),
    pub(crate) error: Option<Error>,
}

/// What is known of the GPU, where there is one.
pub(crate) fn summary() -> Option<Summary> {
    let cells = TEXTS.with(|terminal| terminal.size());
    OUTPUT.with(|output| {
        output.as_ref().map(|output| Summary {
            base: output.gpu.window().base(),
            line: output.gpu.line(),
            cells,
            error: output.error,
        })
    })
}

/// Whether the display has changed since the last call: then [`resize`] is due.
fn has_changed() -> bool {
    let changed = |output: &mut Option<Output>| {
        output.as_ref().is_some_and(|output| output.gpu.has_changed())
    };
    OUTPUT.with(changed)
}

/// Takes the size that the display has now.
fn resize() {
    OUTPUT.with(|output| {
        let Some(output) = output else { return };
        TEXTS.with(|terminal| output.attempt(|output| output.resize(terminal)));
    });
}

/// Shows all that was written; nothing where a panic in here calls it.
fn paint() {
    OUTPUT.try_with(|output| {
        let Some(output) = output else { return };
        TEXTS.try_with(|terminal| output.attempt(|output| output.paint(terminal)));
    });
}

/// Runs commands for another picture. False where the GPU does not do them: then it is used no more.
pub(crate) fn run(commands: &[Command]) -> bool {
    OUTPUT.with(|output| {
        let Some(output) = output else { return false };
        output.attempt(|output| output.gpu.run(commands));
        output.error.is_none()
    })
}

/// The next byte that is typed. Until there is one, shows what was written, and sleeps.
pub(crate) fn wait_for_byte() -> u8 {
    let mut changed = false;
    loop {
        if let Some(byte) = console::read() {
            return byte;
        }
        if core::mem::take(&mut changed) {
            resize();
        }
        paint();
        interrupts::sleep_unless(|| {
            changed = has_changed();
            changed || console::has_byte()
        });
    }
}

/// Takes text from the console.
fn write(text: &[u8]) {
    TEXTS.try_with(|terminal| terminal.write(text));
    if text.ends_with(b"\n") {
        let due = |output: &mut Option<Output>| {
            output
                .as_ref()
                .is_some_and(|output| tsc::now().wrapping_sub(output.painted_at) > PAINT_INTERVAL)
        };
        if OUTPUT.try_with(due) == Some(true) {
            paint();
        }
    }
}

impl Output {
    /// Does `work` on the display, unless it has failed before.
    fn attempt(&mut self, work: impl FnOnce(&mut Output) -> Result<(), Error>) {
        if self.error.is_none() {
            self.error = work(self).err();
        }
    }

    fn resize(&mut self, terminal: &mut Terminal) -> Result<(), Error> {
        // A display that is off keeps what it had.
        let Some((width, height)) = self.gpu.display()? else { return Ok(()) };
        let width = width.min((COLUMNS_MAX * WIDTH) as u32);
        let height = height.min((ROWS_MAX * HEIGHT) as u32);
        if (width, height) == (self.width, self.height) {
            return Ok(());
        }
        terminal.resize(width as usize / WIDTH, height as usize / HEIGHT);
        let old = self.picture;
        self.picture = old.max(PICTURES) + 1;
        (self.width, self.height, self.scrolled) = (width, height, None);
        self.gpu.run(&[
            Command::Create {
                resource: self.picture,
                format: FORMAT_B8G8R8X8,
                width: self.stride(),
                height: (2 * terminal.ring() * HEIGHT) as u32,
            },
            Command::Attach(
                self.picture,
                self.memory.part(0, self.stride() as usize * PIXEL * HEIGHT),
            ),
        ])?;
        self.paint(terminal)?;
        if old != 0 {
            self.gpu.run(&[Command::Unref(old)])?;
        }
        SIZE[0].store(width, Ordering::Relaxed);
        SIZE[1].store(height, Ordering::Relaxed);
        Ok(())
    }

    /// The width of the picture: the display's, in whole cells.
    fn stride(&self) -> u32 {
        self.width.next_multiple_of(WIDTH as u32)
    }

    fn paint(&mut self, terminal: &mut Terminal) -> Result<(), Error> {
        let ring = terminal.ring();
        let mut result = Ok(());
        let mut seen = Area::default();
        terminal.paint(|piece| {
            if result.is_ok() {
                result = self.draw(ring, piece);
                seen = around(seen, place(piece, piece.row));
            }
        });
        result?;
        let top = terminal.top_row();
        let part = Area { x: 0, y: (top * HEIGHT) as u32, width: self.width, height: self.height };
        if self.scrolled != Some(terminal.scrolled()) {
            self.scrolled = Some(terminal.scrolled());
            self.gpu
                .run(&[Command::Scanout(self.picture, part), Command::Flush(self.picture, part)])?;
        } else if seen.y < self.height {
            let height = seen.height.min(self.height - seen.y);
            let seen = Area { y: part.y + seen.y, height, ..seen };
            if height > 0 {
                self.gpu.run(&[Command::Flush(self.picture, seen)])?;
            }
        }
        self.painted_at = tsc::now();
        Ok(())
    }

    /// Draws a piece of a line into memory, and has it copied to both places in the picture.
    fn draw(&mut self, ring: usize, piece: Piece<'_>) -> Result<(), Error> {
        let stride = self.stride() as usize * PIXEL;
        let start = piece.column * CELL_ROW;
        let fill = piece.cells.len() > SHORT;
        if fill {
            for row in 0..HEIGHT {
                self.memory.part(start + row * stride, piece.cells.len() * CELL_ROW).fill(0);
            }
        }
        for (n, &cell) in piece.cells.iter().enumerate() {
            let cursor = piece.cursor == Some(n);
            if fill && !cursor && matches!(cell, 0 | b' ') {
                continue;
            }
            let inverse = if cursor { 0xff } else { 0 };
            let rows =
                font::glyph(cell).iter().map(|bits| &ROWS_OF_PIXELS[usize::from(bits ^ inverse)]);
            self.memory.put_rows(start + n * CELL_ROW, stride, rows);
        }
        let copy = |row| Command::Transfer(self.picture, place(piece, row), start as u64);
        let copies = [copy(piece.ring_row), copy(piece.ring_row + ring)];
        self.gpu.run(&copies)
    }
}

/// Where a piece lies in a picture, when its line is in this row of it.
fn place(piece: Piece<'_>, row: usize) -> Area {
    Area {
        x: (piece.column * WIDTH) as u32,
        y: (row * HEIGHT) as u32,
        width: (piece.cells.len() * WIDTH) as u32,
        height: HEIGHT as u32,
    }
}

/// The smallest area around two, the first of which may be empty.
fn around(a: Area, b: Area) -> Area {
    if a == Area::default() {
        return b;
    }
    let (x, y) = (a.x.min(b.x), a.y.min(b.y));
    let (right, bottom) =
        ((a.x + a.width).max(b.x + b.width), (a.y + a.height).max(b.y + b.height));
    Area { x, y, width: right - x, height: bottom - y }
}
