//! The kinds of input devices, and what the driver learns of each. Names, ids and codes are those of QEMU's
//! virtio-keyboard, virtio-mouse and virtio-tablet, which drivers and users know.

use std::fmt;
use std::ops::RangeInclusive;

use smallvec::SmallVec;

use crate::virtio::spec::input::{
    ABS_MAX, ABS_X, ABS_Y, BTN_EXTRA, BTN_GEAR_DOWN, BTN_GEAR_UP, BTN_LEFT, BTN_MIDDLE, BTN_RIGHT,
    BTN_SIDE, BTN_TOUCH, BUS_VIRTUAL, CFG_ABS_INFO, CFG_EV_BITS, CFG_ID_DEVIDS, CFG_ID_NAME,
    CFG_ID_SERIAL, CONFIG_DATA_MAX, EV_ABS, EV_KEY, EV_LED, EV_REL, EV_REP, LED_CAPSL, LED_NUML,
    LED_SCROLLL, REL_WHEEL, REL_X, REL_Y,
};

/// The vendor in the ids of all kinds.
const VENDOR: u16 = 0x0627;

/// The keys of a keyboard: all those for which QEMU has a name.
const KEYS: [RangeInclusive<u16>; 13] = [
    // Escape to the keypad's point.
    1..=83,
    // The key between left Shift and Z; F11, F12, Ro.
    86..=89,
    // Hiragana, Henkan, Katakana/Hiragana, Muhenkan.
    91..=94,
    // The keypad's Enter to Delete.
    96..=111,
    // Mute, volume, power, the keypad's =.
    113..=117,
    // Pause.
    119..=119,
    // The keypad's comma, Hangul, Hanja, Yen, Meta, Compose, Stop to Help, Menu, calculator.
    121..=140,
    // Sleep, wake up.
    142..=143,
    // Mail, bookmarks, computer, back, forward.
    155..=159,
    // Next, play, previous, stop.
    163..=166,
    // Home page, refresh.
    172..=173,
    // F13 to F24.
    183..=194,
    // Media.
    226..=226,
];

/// The buttons of a mouse or a tablet.
const BUTTONS: [u16; 8] =
    [BTN_LEFT, BTN_RIGHT, BTN_MIDDLE, BTN_SIDE, BTN_EXTRA, BTN_TOUCH, BTN_GEAR_DOWN, BTN_GEAR_UP];

/// A kind of input device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// A keyboard with LEDs.
    Keyboard,
    /// A mouse: relative motion, buttons, a wheel.
    Mouse,
    /// A tablet: absolute positions from 0 to [`ABS_MAX`], buttons, a wheel.
    Tablet,
}

impl InputKind {
    /// Each kind with its name on the command line.
    pub const ALL: [(&str, Self); 3] =
        [("keyboard", Self::Keyboard), ("mouse", Self::Mouse), ("tablet", Self::Tablet)];

    /// The name that the driver reads.
    pub const fn product_name(self) -> &'static str {
        match self {
            Self::Keyboard => "QEMU Virtio Keyboard",
            Self::Mouse => "QEMU Virtio Mouse",
            Self::Tablet => "QEMU Virtio Tablet",
        }
    }

    /// The kind in words.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Keyboard => "a keyboard",
            Self::Mouse => "a mouse",
            Self::Tablet => "a tablet",
        }
    }

    /// Product and version.
    const fn ids(self) -> (u16, u16) {
        match self {
            Self::Keyboard => (1, 1),
            Self::Mouse => (2, 2),
            Self::Tablet => (3, 2),
        }
    }

    /// The codes of a type of events. None if the device has no such events.
    fn codes(self, kind: u16) -> Option<Vec<u16>> {
        let codes: &[u16] = match (self, kind) {
            (Self::Keyboard, EV_KEY) => return Some(KEYS.into_iter().flatten().collect()),
            // The driver repeats keys.
            (Self::Keyboard, EV_REP) => &[],
            (Self::Keyboard, EV_LED) => &[LED_NUML, LED_CAPSL, LED_SCROLLL],
            (Self::Mouse | Self::Tablet, EV_KEY) => &BUTTONS,
            (Self::Mouse, EV_REL) => &[REL_X, REL_Y, REL_WHEEL],
            (Self::Tablet, EV_REL) => &[REL_WHEEL],
            (Self::Tablet, EV_ABS) => &[ABS_X, ABS_Y],
            _ => return None,
        };
        Some(codes.to_vec())
    }

    /// What the configuration space shows for `select` and `subsel` (5.8.4); nothing if the device has no such
    /// information.
    pub(super) fn information(
        self,
        select: u8,
        subsel: u8,
        serial: &str,
    ) -> SmallVec<[u8; CONFIG_DATA_MAX]> {
        let mut data: SmallVec<[u8; CONFIG_DATA_MAX]> = match (select, subsel) {
            (CFG_ID_NAME, 0) => self.product_name().bytes().collect(),
            (CFG_ID_SERIAL, 0) => serial.bytes().collect(),
            (CFG_ID_DEVIDS, 0) => {
                let (product, version) = self.ids();
                let ids = [BUS_VIRTUAL, VENDOR, product, version];
                ids.into_iter().flat_map(u16::to_le_bytes).collect()
            }
            (CFG_EV_BITS, kind) => self.codes(kind.into()).map_or_else(SmallVec::new, |codes| {
                let mut bits = SmallVec::new();
                // Without codes, the size says that there are such events.
                bits.push(0);
                codes.into_iter().for_each(|code| set_bit(&mut bits, code));
                bits
            }),
            (CFG_ABS_INFO, axis) if self == Self::Tablet && u16::from(axis) <= ABS_Y => {
                // Minimum, maximum, fuzz, flat, resolution.
                [0, ABS_MAX, 0, 0, 0].into_iter().flat_map(u32::to_le_bytes).collect()
            }
            _ => SmallVec::new(),
        };
        data.truncate(CONFIG_DATA_MAX);
        data
    }
}

impl fmt::Display for InputKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keyboard => "keyboard",
            Self::Mouse => "mouse",
            Self::Tablet => "tablet",
        })
    }
}

/// Sets a bit; the bytes get as long as that needs.
fn set_bit(bits: &mut SmallVec<[u8; CONFIG_DATA_MAX]>, bit: u16) {
    let (at, bit) = (usize::from(bit / 8), bit % 8);
    if bits.len() <= at {
        bits.resize(at + 1, 0);
    }
    if let Some(byte) = bits.get_mut(at) {
        *byte |= 1 << bit;
    }
}
