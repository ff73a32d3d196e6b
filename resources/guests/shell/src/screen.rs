//! The console on a GPU's display.
//!
//! The picture on the host is higher than the screen, and to scroll is to show another part of it: see `terminal.rs`.
//!
//! The guest's own memory for the picture is a sheet of glyphs (`sheet.rs`). A cell is painted by having the GPU copy a
//! glyph from there to its place on the host.
//!
//! Text is painted when the shell waits for input or ends, and now and then while text streams: what scrolls by in the
//! meantime is not painted at all.

use core::sync::atomic::{AtomicU32, Ordering};

use drivers::Quiet;
use drivers::virtio::spec::gpu::FORMAT_B8G8R8X8;
use drivers::virtio::{Area, Command, Cursor, Error, Gpu};
use rt::command_line::VirtioSlot;
use rt::console::{self, Mirror};
use rt::lock::Lock;
use rt::{interrupts, tsc};

use crate::font::{HEIGHT, WIDTH};
use crate::sheet::Sheet;
use crate::terminal::{COLUMNS_MAX, Piece, ROWS_MAX, Terminal};

/// The numbers of the pictures with text come after this one; the pointer has a lower one.
const PICTURES: u32 = 1;
/// How many screens, with one row more each, lie below one another in a picture.
const SCREENS: usize = 4;
/// Bytes in a picture, on the host: fewer screens are in it where they are large, but one at least.
const PICTURE_BYTES: usize = 64 << 20;
const CELL_BYTES: usize = 4 * WIDTH * HEIGHT;
/// Cycles of the time-stamp counter between two paintings while text streams, at least: about a tenth of a second.
const PAINT_INTERVAL: u64 = 1 << 28;
/// While text streams, this part of the time at most goes into painting.
const PAINT_PART: u64 = 8;

/// What the display is drawn with.
struct Output {
    gpu: Gpu,
    sheet: Sheet,
    /// The picture's number; 0 where there is none.
    picture: u32,
    width: u32,
    height: u32,
    /// How many lines had gone off the upper end when the picture's part was last chosen.
    scrolled: Option<usize>,
    /// When the next painting is due while text streams, in cycles of the time-stamp counter.
    due_at: u64,
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
    OUTPUT.with(|output| {
        *output = Some(Output {
            gpu,
            sheet: Sheet::new(),
            picture: 0,
            width: 0,
            height: 0,
            scrolled: None,
            due_at: 0,
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
            output.as_ref().is_some_and(|output| tsc::now() > output.due_at)
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
        // Whole cells: the display may show a part of the last one.
        let columns = (width as usize).div_ceil(WIDTH);
        let rows = height as usize / HEIGHT;
        let picture_rows = (SCREENS * (rows + 1)).min(PICTURE_BYTES / (columns * CELL_BYTES));
        let old = self.picture;
        self.picture = old.max(PICTURES) + 1;
        (self.width, self.height, self.scrolled) = (width, height, None);
        let mut create = |picture_rows| {
            terminal.resize(width as usize / WIDTH, rows, picture_rows);
            self.gpu.run(&[Command::Create {
                resource: self.picture,
                format: FORMAT_B8G8R8X8,
                width: (columns * WIDTH) as u32,
                height: (terminal.picture_rows() * HEIGHT) as u32,
            }])
        };
        // A host with little memory for pictures may have enough for one screen.
        create(picture_rows).or_else(|_| create(0))?;
        self.gpu.run(&[Command::Attach(self.picture, self.sheet.begin(columns))])?;
        self.paint(terminal)?;
        if old != 0 {
            self.gpu.run(&[Command::Unref(old)])?;
        }
        SIZE[0].store(width, Ordering::Relaxed);
        SIZE[1].store(height, Ordering::Relaxed);
        Ok(())
    }

    fn paint(&mut self, terminal: &mut Terminal) -> Result<(), Error> {
        let began = tsc::now();
        let mut result = Ok(());
        let mut seen = Area::default();
        terminal.paint(|piece| {
            if result.is_ok() {
                result = self.draw(piece);
                seen = around(seen, place(piece.row, piece.column, piece.cells.len()));
            }
        });
        result?;
        let y = (terminal.top_row() * HEIGHT) as u32;
        let part = Area { x: 0, y, width: self.width, height: self.height };
        if self.scrolled != Some(terminal.scrolled()) {
            self.scrolled = Some(terminal.scrolled());
            self.gpu.push(&Command::Scanout(self.picture, part))?;
            self.gpu.push(&Command::Flush(self.picture, part))?;
        } else if seen != Area::default() {
            self.gpu.push(&Command::Flush(self.picture, seen))?;
        } else {
            return Ok(());
        }
        self.gpu.finish()?;
        let now = tsc::now();
        let took = now.saturating_sub(began);
        self.due_at = now + PAINT_INTERVAL.max(took.saturating_mul(PAINT_PART));
        Ok(())
    }

    /// Has a piece of a line copied to its place in the picture.
    fn draw(&mut self, piece: Piece<'_>) -> Result<(), Error> {
        let mut at = 0;
        while at < piece.cells.len() {
            let cursor = piece.cursor == Some(at);
            let blank = |n: usize| matches!(piece.cells[n], 0 | b' ') && piece.cursor != Some(n);
            let blanks = (at..piece.cells.len()).take_while(|n| blank(*n)).count();
            let (count, from) = match blanks {
                0 => (1, self.sheet.glyph(piece.cells[at], cursor)),
                _ => (blanks, self.sheet.blank()),
            };
            let to = place(piece.row, piece.column + at, count);
            self.gpu.push(&Command::Transfer(self.picture, to, from))?;
            at += count;
        }
        Ok(())
    }
}

/// Some cells beside one another.
fn place(row: usize, column: usize, count: usize) -> Area {
    Area {
        x: (column * WIDTH) as u32,
        y: (row * HEIGHT) as u32,
        width: (count * WIDTH) as u32,
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
