//! The mouse pointer: drawn by the GPU, moved by the events of mice and tablets. It is hidden until the first of them.

use drivers::virtio::spec::gpu::FORMAT_B8G8R8A8;
use drivers::virtio::spec::input::{AXIS_X, AXIS_Y, EV_ABS, EV_REL, EV_SYN};
use drivers::virtio::{Area, CURSOR_SIDE, Command, Cursor, Event, Input};
use rt::dma::Dma;
use rt::lock::Lock;

use crate::screen;

/// The number of the pointer's picture; the screen's have higher ones.
const PICTURE: u32 = 1;
/// Opaque black and opaque white: 0xAARRGGBB.
const EDGE: u32 = 0xff00_0000;
const INSIDE: u32 = 0xffff_ffff;

/// It points with its upper left pixel.
const ARROW: [&[u8]; 16] = [
    b"#",
    b"##",
    b"#o#",
    b"#oo#",
    b"#ooo#",
    b"#oooo#",
    b"#ooooo#",
    b"#oooooo#",
    b"#ooooooo#",
    b"#oooooooo#",
    b"#ooooo#####",
    b"#oo#oo#",
    b"#o# #oo#",
    b"##  #oo#",
    b"#    #oo#",
    b"     ####",
];

struct Pointer {
    cursor: Option<Cursor>,
    place: [u32; 2],
    moved: bool,
    shown: bool,
}

static POINTER: Lock<Pointer> =
    Lock::new(Pointer { cursor: None, place: [0; 2], moved: false, shown: false });

/// Draws the pointer's picture; from then on the pointer may be moved. Called before the first event.
pub(crate) fn set_up(cursor: Cursor) {
    let side = CURSOR_SIDE as usize;
    let memory = Dma::new(side * side * 4, 8);
    for (y, row) in ARROW.iter().enumerate() {
        for (x, dot) in row.iter().enumerate().filter(|(_, dot)| **dot != b' ') {
            memory.write(4 * (y * side + x), if *dot == b'#' { EDGE } else { INSIDE });
        }
    }
    let whole = Area { x: 0, y: 0, width: CURSOR_SIDE, height: CURSOR_SIDE };
    let (width, height) = (CURSOR_SIDE, CURSOR_SIDE);
    let made = screen::run(&[
        Command::Create { resource: PICTURE, format: FORMAT_B8G8R8A8, width, height },
        Command::Attach(PICTURE, memory),
        Command::Transfer(PICTURE, whole, 0),
    ]);
    if made {
        POINTER.with(|pointer| pointer.cursor = Some(cursor));
    }
}

/// Takes an event of `input`: for interrupt handlers.
pub(crate) fn event(input: &Input, event: Event) {
    POINTER.try_with(|pointer| pointer.event(input, event));
}

impl Pointer {
    fn event(&mut self, input: &Input, event: Event) {
        let (width, height) = screen::size();
        let axis = match event.code {
            AXIS_X => 0,
            AXIS_Y => 1,
            _ => 2,
        };
        match (event.kind, self.place.get_mut(axis)) {
            (EV_SYN, _) if core::mem::take(&mut self.moved) => self.show(),
            (EV_REL, Some(place)) => {
                let size = [width, height][axis];
                *place = place.saturating_add_signed(event.value.cast_signed());
                *place = (*place).min(size.saturating_sub(1));
                self.moved = true;
            }
            (EV_ABS, Some(place)) => {
                let (range, size) = (input.axes()[axis], [width, height][axis]);
                let along = event.value.clamp(range.min, range.max.max(range.min)) - range.min;
                let values = u64::from(range.max.saturating_sub(range.min)) + 1;
                // Less than the size, because `along` is less than `values`.
                *place = (u64::from(along) * u64::from(size) / values) as u32;
                self.moved = true;
            }
            _ => {}
        }
    }

    fn show(&mut self) {
        let Some(cursor) = &mut self.cursor else { return };
        let [x, y] = self.place;
        if self.shown {
            cursor.move_to(PICTURE, x, y);
        } else {
            self.shown = cursor.show(PICTURE, x, y);
        }
    }
}
