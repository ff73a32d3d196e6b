//! A GPU's configuration, commands and answers (5.7), of the 2D ones that the driver here uses.

use crate::register::Register;

/// R: bit 0: the display has changed.
pub const EVENTS_READ: Register = Register::new(0x100, "events_read");
/// W: which of these have been seen to.
pub const EVENTS_CLEAR: Register = Register::new(0x104, "events_clear");
/// [`EVENTS_READ`]: the display has changed.
pub const EVENT_DISPLAY: u32 = 1;

/// The queue of the commands (5.7.2).
pub const CONTROL_QUEUE: u16 = 0;
/// The queue of the pointer's commands.
pub const CURSOR_QUEUE: u16 = 1;

/// Which sizes have the displays?
pub const GET_DISPLAY_INFO: u32 = 0x100;
/// Make a picture on the host.
pub const RESOURCE_CREATE_2D: u32 = 0x101;
/// Drop it.
pub const RESOURCE_UNREF: u32 = 0x102;
/// Show a part of a picture on a display.
pub const SET_SCANOUT: u32 = 0x103;
/// A part of a picture is to be seen now.
pub const RESOURCE_FLUSH: u32 = 0x104;
/// Copy pixels from the guest's memory to the picture.
pub const TRANSFER_TO_HOST_2D: u32 = 0x105;
/// Here is the guest's memory of a picture.
pub const RESOURCE_ATTACH_BACKING: u32 = 0x106;
/// Give the pointer a picture, and a place.
pub const UPDATE_CURSOR: u32 = 0x300;
/// Give the pointer a place.
pub const MOVE_CURSOR: u32 = 0x301;

/// Answer: done.
pub const OK_NODATA: u32 = 0x1100;
/// Answer: here are the displays.
pub const OK_DISPLAY_INFO: u32 = 0x1101;

/// An answer in words.
pub(crate) const fn answer(kind: u32) -> &'static str {
    match kind {
        OK_NODATA => "OK_NODATA",
        OK_DISPLAY_INFO => "OK_DISPLAY_INFO",
        0x1200 => "ERR_UNSPEC",
        0x1201 => "ERR_OUT_OF_MEMORY",
        0x1202 => "ERR_INVALID_SCANOUT_ID",
        0x1203 => "ERR_INVALID_RESOURCE_ID",
        0x1204 => "ERR_INVALID_CONTEXT_ID",
        0x1205 => "ERR_INVALID_PARAMETER",
        _ => "unknown",
    }
}

/// Bytes in the header of a command and of an answer (5.7.6.7).
pub const HEADER_SIZE: usize = 24;
/// Bytes in the answer to [`GET_DISPLAY_INFO`]: 16 displays of 24 bytes.
pub const DISPLAY_INFO_SIZE: usize = HEADER_SIZE + 16 * 24;

/// A pixel is blue, green, red, and a byte without meaning: 0x00RRGGBB.
pub const FORMAT_B8G8R8X8: u32 = 2;
/// A pixel is blue, green, red, alpha: 0xAARRGGBB.
pub const FORMAT_B8G8R8A8: u32 = 1;
