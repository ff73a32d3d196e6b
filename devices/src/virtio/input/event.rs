//! Events, as Linux's evdev has them.

use std::fmt;

use crate::virtio::spec::input::{EV_ABS, EV_KEY, EV_LED, EV_REL, EV_SYN, EVENT_SIZE, SYN_REPORT};

/// One event (5.8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputEvent {
    /// The type: [`EV_KEY`], [`EV_REL`], ...
    pub kind: u16,
    /// The key or the axis.
    pub code: u16,
    /// For a key 1 (pressed) or 0 (released), for an axis the motion or the position.
    pub value: i32,
}

impl InputEvent {
    /// The end of a group.
    pub(super) const REPORT: Self = Self { kind: EV_SYN, code: SYN_REPORT, value: 0 };

    /// A key or button is pressed or released.
    pub const fn key(code: u16, pressed: bool) -> Self {
        Self { kind: EV_KEY, code, value: if pressed { 1 } else { 0 } }
    }

    /// A motion along an axis.
    pub const fn rel(axis: u16, value: i32) -> Self {
        Self { kind: EV_REL, code: axis, value }
    }

    /// A position on an axis.
    pub const fn abs(axis: u16, value: i32) -> Self {
        Self { kind: EV_ABS, code: axis, value }
    }

    /// The event as it is in a buffer.
    pub const fn to_bytes(self) -> [u8; EVENT_SIZE as usize] {
        let ([a, b], [c, d]) = (self.kind.to_le_bytes(), self.code.to_le_bytes());
        let [e, f, g, h] = self.value.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }

    /// The event in the bytes of a buffer.
    pub const fn from_bytes([a, b, c, d, e, f, g, h]: [u8; EVENT_SIZE as usize]) -> Self {
        Self {
            kind: u16::from_le_bytes([a, b]),
            code: u16::from_le_bytes([c, d]),
            value: i32::from_le_bytes([e, f, g, h]),
        }
    }
}

/// The event in words, for a trace.
impl fmt::Display for InputEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, code, value } = self;
        match (*kind, *code, *value) {
            (EV_SYN, SYN_REPORT, _) => f.write_str("SYN_REPORT"),
            (EV_KEY, _, 0) => write!(f, "key {code} released"),
            (EV_KEY, _, 1) => write!(f, "key {code} pressed"),
            (EV_KEY, ..) => write!(f, "key {code} repeated"),
            (EV_REL, ..) => write!(f, "axis {code} moves by {value}"),
            (EV_ABS, ..) => write!(f, "axis {code} is at {value}"),
            (EV_LED, ..) => write!(f, "LED {code} is {}", if *value == 0 { "off" } else { "on" }),
            _ => write!(f, "type {kind:#x}, code {code:#x}, value {value}"),
        }
    }
}
