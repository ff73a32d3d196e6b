//! Messages for the screen, the keyboard and the pointer.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use cafevm_devices::display::Screen;

use super::message::Place;
use crate::display::hands::{Hands, Motion};
use crate::display::screenshot::{Screenshots, Shot};
use crate::display::typing::{Pointing, Strokes, Typist};
use crate::runtime::messages::Ticket;

/// What clients see and touch of the guest.
pub(crate) struct Seat {
    /// The screen, and what writes screenshots of it.
    pub(crate) screen: Option<(Screen, Screenshots)>,
    pub(crate) hands: Hands,
    pub(crate) typist: Rc<RefCell<Typist>>,
}

impl Seat {
    /// Writes a screenshot; the answer follows.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(super) fn screenshot(
        &mut self,
        ticket: Ticket,
        to: PathBuf,
        cursor: bool,
    ) -> Result<(), String> {
        let (_, shots) =
            self.screen.as_mut().ok_or("the machine has no screen; start it with --gpu")?;
        shots.take(Shot { ticket, to, cursor })
    }

    /// Presses keys, and releases them in the reverse order; the answer follows.
    ///
    /// # Errors
    ///
    /// Why that is not possible.
    pub(super) fn keys(&self, ticket: Ticket, codes: &[u16]) -> Result<(), String> {
        self.press(ticket, Strokes::chord(codes))
    }

    /// Types a text; the answer follows.
    ///
    /// # Errors
    ///
    /// Why that is not possible: the characters that have no key, for example. Nothing is typed then.
    pub(super) fn text(&self, ticket: Ticket, text: &str) -> Result<(), String> {
        let strokes = Strokes::text(text).map_err(|unknown| {
            let unknown: Vec<_> = unknown.iter().map(|char| format!("{char:?}")).collect();
            format!(
                "a US keyboard has no key for {}; nothing is typed: a text has printable ASCII, newlines and tabs",
                unknown.join(", ")
            )
        })?;
        self.press(ticket, strokes)
    }

    fn press(&self, ticket: Ticket, strokes: Strokes) -> Result<(), String> {
        if self.hands.keyboard.is_none() {
            return Err("the machine has no keyboard; start it with --input keyboard".to_owned());
        }
        self.begin(ticket, strokes)
    }

    /// Moves the pointer; the answer follows.
    ///
    /// # Errors
    ///
    /// Why that is not possible.
    pub(super) fn pointer(
        &self,
        ticket: Ticket,
        place: Place,
        buttons: Option<u8>,
        wheel: i32,
    ) -> Result<(), String> {
        let motion = match place {
            Place::At(x, y) => Motion::To { at: (x, y), size: self.size_around(x, y)? },
            Place::By(x, y) => Motion::By(x, y),
            Place::Here => Motion::None,
        };
        if self.hands.pointer(motion).is_none() {
            let (no, flag) = match motion {
                Motion::To { .. } => ("tablet, whose pointer has a place", "--input tablet"),
                Motion::By(..) => ("mouse, whose pointer moves by steps", "--input mouse"),
                Motion::None => ("pointer", "--input tablet or --input mouse"),
            };
            return Err(format!("the machine has no {no}; start it with {flag}"));
        }
        self.begin(ticket, Strokes::pointing(Pointing { motion, buttons, wheel }))
    }

    /// The size of the screen, which has this pixel.
    fn size_around(&self, x: u32, y: u32) -> Result<(u32, u32), String> {
        let (screen, _) = self.screen.as_ref().ok_or(
            "\"x\" and \"y\" are pixels of the screen, and the machine has none; start it with --gpu",
        )?;
        let (width, height) = screen.look(|picture, _| (picture.width(), picture.height()));
        if x < width && y < height {
            return Ok((width, height));
        }
        Err(format!("pixel {x}, {y} is outside of the screen, which has {width}x{height}"))
    }

    fn begin(&self, ticket: Ticket, strokes: Strokes) -> Result<(), String> {
        self.typist.borrow_mut().begin(ticket, strokes)
    }
}
