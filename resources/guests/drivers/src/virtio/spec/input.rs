//! An input device's configuration and events (5.8), and the numbers of Linux's input events, which it uses.

use crate::register::Register;

/// W, 8 bits: what to show.
pub const SELECT: Register = Register::new(0x100, "select");
/// W, 8 bits: which of these.
pub const SUBSEL: Register = Register::new(0x101, "subsel");
/// R, 8 bits: how many bytes are shown; 0: there is no such thing.
pub const SIZE: Register = Register::new(0x102, "size");
/// R: the bytes.
pub const DATA: Register = Register::new(0x108, "data");
/// The most bytes that are shown.
pub const DATA_MAX: usize = 128;

/// [`SELECT`]: the device's name.
pub const ID_NAME: u8 = 0x01;
/// [`SELECT`]: which codes the events of type [`SUBSEL`] have, a bit each.
pub const EV_BITS: u8 = 0x11;
/// [`SELECT`]: the range of axis [`SUBSEL`].
pub const ABS_INFO: u8 = 0x12;

/// The queue of the events (5.8.2).
pub const EVENT_QUEUE: u16 = 0;
/// The queue of what the driver tells the device, such as its lights.
pub const STATUS_QUEUE: u16 = 1;
/// Bytes in an event: type u16, code u16, value u32 (5.8.6).
pub const EVENT_SIZE: usize = 8;

/// Event type: the events before it belong together.
pub const EV_SYN: u16 = 0;
/// Event type: a key or button. The value is 0 when it is let go, 1 when it is pressed, 2 when it repeats.
pub const EV_KEY: u16 = 1;
/// Event type: how far something has moved.
pub const EV_REL: u16 = 2;
/// Event type: where something is.
pub const EV_ABS: u16 = 3;
/// Event type: a light.
pub const EV_LED: u16 = 0x11;

/// [`EV_REL`] and [`EV_ABS`]: from left to right.
pub const AXIS_X: u16 = 0;
/// [`EV_REL`] and [`EV_ABS`]: from the top down.
pub const AXIS_Y: u16 = 1;
/// [`EV_LED`]: caps lock.
pub const LED_CAPS_LOCK: u16 = 1;
