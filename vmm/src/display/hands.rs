//! What a client presses and moves, as events of the guest's input devices.

use std::collections::BTreeSet;
use std::sync::Arc;

use cafevm_devices::virtio::input::Input;
use cafevm_devices::virtio::input::{InputEvent, InputKind};
use cafevm_devices::virtio::spec::input::{ABS_MAX, ABS_X, ABS_Y, REL_WHEEL, REL_X, REL_Y};

use super::keys::codes::{self, Button};
use super::keys::keysym::{self, Meaning};
use super::keys::us::Stroke;

/// The input devices that clients use: the first of each kind. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hands {
    pub(crate) keyboard: Option<Arc<Input>>,
    pub(crate) tablet: Option<Arc<Input>>,
    pub(crate) mouse: Option<Arc<Input>>,
}

impl Hands {
    /// The devices among all those of a machine.
    pub(crate) fn of(inputs: &[Arc<Input>]) -> Self {
        let first = |kind| inputs.iter().find(|input| input.kind() == kind).cloned();
        Self {
            keyboard: first(InputKind::Keyboard),
            tablet: first(InputKind::Tablet),
            mouse: first(InputKind::Mouse),
        }
    }

    /// The device for a motion: places are those of a tablet, steps those of a mouse.
    pub(crate) fn pointer(&self, motion: Motion) -> Option<&Arc<Input>> {
        match motion {
            Motion::To { .. } => self.tablet.as_ref(),
            Motion::By(..) => self.mouse.as_ref(),
            Motion::None => self.tablet.as_ref().or(self.mouse.as_ref()),
        }
    }
}

/// A motion of the pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Motion {
    /// To a pixel of a picture of this width and height.
    To { at: (u32, u32), size: (u32, u32) },
    /// By so many steps of a mouse, to the right and down.
    By(i32, i32),
    /// No motion.
    None,
}

/// The buttons that are held: a bit for each of [`Button::ALL`].
pub(crate) type Buttons = u8;

/// The bits of an RFB client that are buttons, each with the button (RFC 6143, 7.5.5; bit 7 as noVNC sends it). The
/// others are the wheel.
const RFB_BUTTONS: [(u8, Button); 4] =
    [(0x01, Button::Left), (0x02, Button::Middle), (0x04, Button::Right), (0x80, Button::Side)];
const RFB_WHEEL_UP: u8 = 0x08;
const RFB_WHEEL_DOWN: u8 = 0x10;

/// The bit of a button in [`Buttons`].
pub(crate) fn bit(button: Button) -> Buttons {
    Button::ALL.iter().position(|known| *known == button).map_or(0, |at| 1 << at)
}

/// The hand of one client: it releases what the client holds when it goes away.
#[derive(Debug)]
pub(crate) struct Hand {
    hands: Hands,
    keys: BTreeSet<u16>,
    on_tablet: Buttons,
    on_mouse: Buttons,
    /// Where the client last pointed, and with which bits.
    pointed: Option<(u16, u16)>,
    rfb_bits: u8,
}

impl Hand {
    /// A client that holds nothing.
    pub(crate) const fn new(hands: Hands) -> Self {
        let keys = BTreeSet::new();
        Self { hands, keys, on_tablet: 0, on_mouse: 0, pointed: None, rfb_bits: 0 }
    }

    /// The devices.
    pub(crate) const fn devices(&self) -> &Hands {
        &self.hands
    }

    /// Presses or releases a key. Without a keyboard, nothing happens.
    pub(crate) fn key(&mut self, code: u16, down: bool) {
        let Some(keyboard) = &self.hands.keyboard else { return };
        // A second press is that of a client that repeats keys. Linux ignores it, as it repeats keys itself.
        if down {
            self.keys.insert(code);
        } else if !self.keys.remove(&code) {
            return;
        }
        keyboard.send(&[InputEvent::key(code, down)]);
    }

    /// Whether the key for a character needs another state of Shift than the guest's Caps Lock suggests.
    pub(crate) fn needs_shift(&self, Stroke { code, shift }: Stroke) -> bool {
        let caps = self.hands.keyboard.as_ref().is_some_and(|input| input.leds().caps_lock);
        shift != (caps && codes::is_letter(code))
    }

    /// Presses or releases the key of a keysym. Returns whether there is such a key.
    ///
    /// A client that wants a character sends its keysym, and keys such as Shift before it. Programs that type send the
    /// keysym alone; Shift is then pressed for them.
    pub(crate) fn keysym(&mut self, keysym: u32, down: bool) -> bool {
        let Some(meaning) = keysym::meaning(keysym) else { return false };
        match meaning {
            Meaning::Character(stroke) if down && self.lacks_shift(stroke) => {
                self.key(codes::LEFT_SHIFT, true);
                self.key(stroke.code, true);
                self.key(codes::LEFT_SHIFT, false);
            }
            _ => self.key(meaning.code(), down),
        }
        true
    }

    /// Whether a client wants a character, and did not press Shift for it.
    fn lacks_shift(&self, stroke: Stroke) -> bool {
        let holds = |codes: &[u16]| codes.iter().any(|code| self.keys.contains(code));
        // Ctrl-A is the same key with and without Shift.
        let is_command = codes::is_letter(stroke.code) && holds(&codes::COMMANDS);
        !holds(&codes::SHIFTS) && !is_command && self.needs_shift(stroke)
    }

    /// Moves the pointer as an RFB client does: to a pixel, with the bits of buttons and wheel.
    pub(crate) fn point(&mut self, at: (u16, u16), size: (u32, u32), bits: u8) {
        let before = (self.pointed, self.rfb_bits);
        if before == (Some(at), bits) {
            return;
        }
        let buttons = RFB_BUTTONS.iter().filter(|(mask, _)| bits & mask != 0);
        let buttons = buttons.fold(0, |all, (_, button)| all | bit(*button));
        let pressed = bits & !self.rfb_bits;
        let wheel =
            i32::from(pressed & RFB_WHEEL_UP != 0) - i32::from(pressed & RFB_WHEEL_DOWN != 0);
        let motion = match (&self.hands.tablet, self.pointed) {
            (Some(_), _) => Motion::To { at: (at.0.into(), at.1.into()), size },
            (None, Some((x, y))) => {
                Motion::By(i32::from(at.0) - i32::from(x), i32::from(at.1) - i32::from(y))
            }
            (None, None) => Motion::None,
        };
        (self.pointed, self.rfb_bits) = (Some(at), bits);
        self.pointer(motion, Some(buttons), wheel);
    }

    /// Moves the pointer, holds these buttons, or the same ones as before, and turns the wheel, up if positive: one group
    /// of events.
    pub(crate) fn pointer(&mut self, motion: Motion, buttons: Option<Buttons>, wheel: i32) {
        let Some(device) = self.hands.pointer(motion) else { return };
        let mut events = Vec::new();
        match motion {
            Motion::To { at, size } => events.extend([
                InputEvent::abs(ABS_X, scaled(at.0, size.0)),
                InputEvent::abs(ABS_Y, scaled(at.1, size.1)),
            ]),
            Motion::By(x, y) => {
                let axes = [(REL_X, x), (REL_Y, y)].into_iter().filter(|(_, steps)| *steps != 0);
                events.extend(axes.map(|(axis, steps)| InputEvent::rel(axis, steps)));
            }
            Motion::None => {}
        }
        let is_tablet = device.kind() == InputKind::Tablet;
        let held = if is_tablet { &mut self.on_tablet } else { &mut self.on_mouse };
        let buttons = buttons.unwrap_or(*held);
        events.extend(changes(*held, buttons));
        *held = buttons;
        if wheel != 0 {
            events.push(InputEvent::rel(REL_WHEEL, wheel));
        }
        if !events.is_empty() {
            device.send(&events);
        }
    }

    /// Releases all keys that are held.
    pub(crate) fn release_keys(&mut self) {
        while let Some(code) = self.keys.last().copied() {
            self.key(code, false);
        }
    }

    /// Releases all that is held.
    fn release(&mut self) {
        self.release_keys();
        for (device, held) in
            [(&self.hands.tablet, &mut self.on_tablet), (&self.hands.mouse, &mut self.on_mouse)]
        {
            let events: Vec<_> = changes(std::mem::take(held), 0).collect();
            if let (Some(device), false) = (device, events.is_empty()) {
                device.send(&events);
            }
        }
        self.rfb_bits = 0;
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.release();
    }
}

/// The events of the buttons that are held after and not before, or the other way round.
fn changes(before: Buttons, after: Buttons) -> impl Iterator<Item = InputEvent> {
    let changed = move |button: &Button| (before ^ after) & bit(*button) != 0;
    let event = move |button: Button| InputEvent::key(button.code(), after & bit(button) != 0);
    Button::ALL.into_iter().filter(changed).map(event)
}

/// A place of `len` pixels on the axis of a tablet: the edges are its ends. Rounded up, so that a driver that rounds
/// down finds the same pixel.
fn scaled(at: u32, len: u32) -> i32 {
    let last = u64::from(len.saturating_sub(1));
    let at = u64::from(at).min(last);
    let place = (at * u64::from(ABS_MAX)).div_ceil(last.max(1));
    i32::try_from(place).unwrap_or_default()
}

#[cfg(test)]
#[path = "hands_tests.rs"]
mod tests;
