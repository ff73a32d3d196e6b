//! The text on the screen: lines of cells, the place of the cursor, and what has changed since it was last painted.
//!
//! Lines are numbered from the first one on, and never move. The screen shows as many of them as it has rows, from
//! `top` on; to scroll is to count `top` up. The line after the last row is kept blank, for a screen whose height is
//! no multiple of a cell's.
//!
//! Lines are painted in a picture that is higher than the screen, one below the other, and the screen is a part of it
//! that moves down: so scrolling paints nothing but new lines. At the end of the picture the screen begins again at its
//! first row, where all of its lines are painted once more.

use core::ops::Range;

/// The most cells in a line.
pub(crate) const COLUMNS_MAX: usize = 512;
/// The lines that are kept.
const LINES: usize = 256;
/// The most rows: one more line is kept blank, and one is written.
pub(crate) const ROWS_MAX: usize = LINES - 2;
/// The most rows of a picture.
pub(crate) const PICTURE_ROWS_MAX: usize = 512;
/// Columns from one tab stop to the next.
const TAB: usize = 8;
/// What stands for a character that has no glyph.
pub(crate) const UNKNOWN: u8 = 0x7f;

/// A part of a line that is to be painted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    /// The line's row in the picture. The screen begins at [`Terminal::top_row`].
    pub(crate) row: usize,
    /// The first column.
    pub(crate) column: usize,
    /// The cells from there on. A cell is an ASCII character, or 0 where nothing was written.
    pub(crate) cells: &'a [u8],
    /// Which of the cells has the cursor.
    pub(crate) cursor: Option<usize>,
}

/// Text on a screen. All zero where it is new, so that a static one takes no room in the image.
pub(crate) struct Terminal {
    cells: [[u8; COLUMNS_MAX]; LINES],
    /// Whether a line goes on in the next one.
    wrapped: [bool; LINES],
    /// The columns of each line that have changed.
    changed: [Range<usize>; LINES],
    /// How many columns have been painted in each row of the picture: what a line there has to paint over.
    painted: [usize; PICTURE_ROWS_MAX],
    /// The lines with changes are among these.
    changed_lines: Range<usize>,
    columns: usize,
    rows: usize,
    /// How many rows the picture has.
    picture_rows: usize,
    /// The line in the first row of the picture.
    base: usize,
    /// The first line on the screen.
    top: usize,
    /// Where the next character goes.
    line: usize,
    column: usize,
    /// Where the cursor was painted.
    cursor: (usize, usize),
}

impl Terminal {
    /// No text, and no screen.
    pub(crate) const fn new() -> Terminal {
        Terminal {
            cells: [[0; COLUMNS_MAX]; LINES],
            wrapped: [false; LINES],
            changed: [const { 0..0 }; LINES],
            painted: [0; PICTURE_ROWS_MAX],
            changed_lines: 0..0,
            columns: 0,
            rows: 0,
            picture_rows: 0,
            base: 0,
            top: 0,
            line: 0,
            column: 0,
            cursor: (0, 0),
        }
    }

    /// Takes a screen of another size, in a picture that has at most `picture_rows` rows and is blank. A screen has at
    /// least one column and one row, at most [`COLUMNS_MAX`] and [`ROWS_MAX`], and a picture one row more at least. Lines
    /// that are longer keep what is not seen of them.
    pub(crate) fn resize(&mut self, columns: usize, rows: usize, picture_rows: usize) {
        let end = if self.rows == 0 { 0 } else { self.top + self.rows + 1 };
        self.columns = columns.clamp(1, COLUMNS_MAX);
        self.rows = rows.clamp(1, ROWS_MAX);
        self.picture_rows = picture_rows.clamp(self.rows + 1, PICTURE_ROWS_MAX);
        self.column = self.column.min(self.columns - 1);
        // As many lines as there is room for, up to the cursor's.
        self.top = (self.line + 1).saturating_sub(self.rows);
        self.base = self.top;
        self.painted.fill(0);
        self.changed.fill(0..0);
        self.changed_lines = 0..0;
        for line in end..self.top + self.rows + 1 {
            self.prepare(line);
        }
        self.change_all();
        self.cursor = (self.line, self.column);
        self.change(self.line, self.column..self.column + 1);
    }

    /// How many columns and rows the screen has.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.columns, self.rows)
    }

    /// How many rows the picture has.
    pub(crate) fn picture_rows(&self) -> usize {
        self.picture_rows
    }

    /// The row of the picture that is the first on the screen, since the last painting.
    pub(crate) fn top_row(&self) -> usize {
        self.top - self.base
    }

    /// How many lines have gone off the upper end.
    pub(crate) fn scrolled(&self) -> usize {
        self.top
    }

    /// Writes text: ASCII, or UTF-8, of which each other character becomes [`UNKNOWN`]. A line feed begins a new line; a
    /// backspace goes back, to the line before where that has wrapped. Other control characters do nothing; nor does
    /// anything before the first [`Terminal::resize`].
    pub(crate) fn write(&mut self, text: &[u8]) {
        if self.columns == 0 {
            return;
        }
        let mut rest = text;
        while let Some(&byte) = rest.first() {
            let run = rest.iter().take_while(|byte| matches!(byte, b' '..=b'~')).count();
            if run > 0 {
                let (now, later) = rest.split_at(run.min(self.columns - self.column));
                self.put(now);
                rest = later;
                continue;
            }
            rest = &rest[1..];
            match byte {
                b'\n' => self.line_feed(false),
                b'\r' => self.column = 0,
                b'\t' => self.column = (self.column / TAB * TAB + TAB).min(self.columns - 1),
                0x08 => self.back(),
                // The first byte of a longer character.
                0xc0.. => self.put(&[UNKNOWN]),
                _ => {}
            }
        }
    }

    /// Gives `draw` all that has changed since the last call, and where the cursor is now.
    pub(crate) fn paint(&mut self, mut draw: impl FnMut(Piece<'_>)) {
        if self.top + self.rows + 1 > self.base + self.picture_rows {
            self.base = self.top;
            self.change_all();
        }
        let cursor = (self.line, self.column);
        if self.cursor != cursor {
            self.change(self.cursor.0, self.cursor.1..self.cursor.1 + 1);
            self.change(self.line, self.column..self.column + 1);
            self.cursor = cursor;
        }
        let lines = core::mem::replace(&mut self.changed_lines, 0..0);
        for line in lines.start.max(self.top)..lines.end.min(self.top + self.rows + 1) {
            let columns = core::mem::replace(&mut self.changed[line % LINES], 0..0);
            let (from, to) = (columns.start, columns.end);
            if from == to {
                continue;
            }
            let row = line - self.base;
            self.painted[row] = self.painted[row].max(to);
            draw(Piece {
                row,
                column: from,
                cells: &self.cells[line % LINES][from..to],
                cursor: (line == self.line && (from..to).contains(&self.column))
                    .then(|| self.column - from),
            });
        }
    }

    /// Writes text that has room in the line.
    fn put(&mut self, text: &[u8]) {
        let columns = self.column..self.column + text.len();
        self.cells[self.line % LINES][columns.clone()].copy_from_slice(text);
        self.change(self.line, columns.clone());
        self.column = columns.end;
        if self.column == self.columns {
            self.line_feed(true);
        }
    }

    fn line_feed(&mut self, wrapped: bool) {
        self.wrapped[self.line % LINES] = wrapped;
        (self.line, self.column) = (self.line + 1, 0);
        if self.line == self.top + self.rows {
            self.top += 1;
            self.prepare(self.top + self.rows);
        }
    }

    fn back(&mut self) {
        if self.column > 0 {
            self.column -= 1;
        } else if self.line > self.top && self.wrapped[(self.line - 1) % LINES] {
            (self.line, self.column) = (self.line - 1, self.columns - 1);
        }
    }

    /// Makes a line blank that comes after all others.
    fn prepare(&mut self, line: usize) {
        self.cells[line % LINES].fill(0);
        self.wrapped[line % LINES] = false;
        self.changed[line % LINES] = 0..0;
        self.change(line, 0..self.painted_before(line));
    }

    /// How many columns were painted in a line's row of the picture; 0 where the line comes after the picture's end.
    fn painted_before(&self, line: usize) -> usize {
        let rows = &self.painted[..self.picture_rows];
        rows.get(line - self.base).copied().unwrap_or(0)
    }

    /// Has all lines painted.
    fn change_all(&mut self) {
        for line in self.top..self.top + self.rows + 1 {
            let cells = &self.cells[line % LINES][..self.columns];
            // After the cursor's line there is nothing yet.
            let written = cells.iter().rposition(|cell| *cell != 0).filter(|_| line <= self.line);
            let before = self.painted_before(line);
            self.change(line, 0..written.map_or(0, |last| last + 1).max(before));
        }
    }

    fn change(&mut self, line: usize, columns: Range<usize>) {
        if columns.start < columns.end {
            add(&mut self.changed[line % LINES], columns);
            add(&mut self.changed_lines, line..line + 1);
        }
    }
}

/// Makes `all` contain `more`, which is not empty.
fn add(all: &mut Range<usize>, more: Range<usize>) {
    if all.start == all.end {
        *all = more;
    } else {
        *all = all.start.min(more.start)..all.end.max(more.end);
    }
}
