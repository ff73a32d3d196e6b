//! Commands, as they are in the driver's buffers (5.7.6.7 to 5.7.6.10).

use std::fmt;

use super::RectWords;
use super::error::GpuError;
use crate::display::Rect;
use crate::virtio::spec::gpu::{
    CMD_GET_DISPLAY_INFO, CMD_GET_EDID, CMD_MOVE_CURSOR, CMD_RESOURCE_ATTACH_BACKING,
    CMD_RESOURCE_CREATE_2D, CMD_RESOURCE_DETACH_BACKING, CMD_RESOURCE_FLUSH, CMD_RESOURCE_UNREF,
    CMD_SET_SCANOUT, CMD_TRANSFER_TO_HOST_2D, CMD_UPDATE_CURSOR, FLAG_FENCE, HEADER_SIZE,
};

/// The bytes of the longest command, without the entries of a backing.
pub(super) const COMMAND_MAX: usize = 56;

/// The bytes of a command, copied once from the driver's buffers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes {
    bytes: [u8; COMMAND_MAX],
    /// The bytes that the driver gave in all; not all of them may be here.
    given: u64,
}

impl Bytes {
    /// The first bytes of a command of `given` bytes; those that the driver did not give are 0.
    pub(super) const fn new(bytes: [u8; COMMAND_MAX], given: u64) -> Self {
        Self { bytes, given }
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk());
        debug_assert!(bytes.is_some(), "a field behind the longest command");
        bytes.copied().unwrap_or([0; N])
    }

    fn rect(&self) -> Rect {
        let [x, y, width, height] = [0, 4, 8, 12].map(|offset| self.u32(HEADER_SIZE + offset));
        Rect { x, y, width, height }
    }
}

/// The header of a command (5.7.6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Header {
    kind: u32,
    flags: u32,
    fence: u64,
    context: u32,
}

impl Header {
    /// The header of a command.
    pub(super) fn of(bytes: &Bytes) -> Self {
        Self {
            kind: bytes.u32(0),
            flags: bytes.u32(4),
            fence: bytes.u64(8),
            context: bytes.u32(16),
        }
    }

    /// The header of a response of type `kind`: with the command's fence, if it has one.
    pub(super) fn response(self, kind: u32) -> [u8; HEADER_SIZE] {
        let fenced = self.flags & FLAG_FENCE != 0;
        let (flags, fence, context) =
            if fenced { (FLAG_FENCE, self.fence, self.context) } else { (0, 0, 0) };
        let mut bytes = [0; HEADER_SIZE];
        let fields = kind.to_le_bytes().into_iter().chain(flags.to_le_bytes());
        let fields = fields.chain(fence.to_le_bytes()).chain(context.to_le_bytes());
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        bytes
    }
}

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    GetDisplayInfo,
    Create {
        id: u32,
        format: u32,
        width: u32,
        height: u32,
    },
    Unref {
        id: u32,
    },
    SetScanout {
        rect: Rect,
        scanout: u32,
        id: u32,
    },
    Flush {
        rect: Rect,
        id: u32,
    },
    Transfer {
        rect: Rect,
        offset: u64,
        id: u32,
    },
    /// The entries follow.
    AttachBacking {
        id: u32,
        entries: u32,
    },
    DetachBacking {
        id: u32,
    },
    GetEdid {
        scanout: u32,
    },
    UpdateCursor {
        at: CursorAt,
        id: u32,
        hot_x: u32,
        hot_y: u32,
    },
    MoveCursor {
        at: CursorAt,
    },
}

/// Where the cursor is: the upper left corner of its picture, as drivers and QEMU take it. It may be outside of the scanout:
/// the specification has unsigned fields (5.7.6.10), and Linux writes negative numbers to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CursorAt {
    pub(super) scanout: u32,
    pub(super) x: i32,
    pub(super) y: i32,
}

/// The bytes of RESOURCE_ATTACH_BACKING before its entries.
pub(super) const ATTACH_SIZE: u64 = 32;

impl Command {
    /// Decodes a command.
    ///
    /// # Errors
    ///
    /// If there is no such command, or the driver's buffers are too short for it.
    pub(super) fn decode(header: Header, bytes: &Bytes) -> Result<Self, GpuError> {
        let at = |offset| bytes.u32(HEADER_SIZE + offset);
        let (command, size) = match header.kind {
            CMD_GET_DISPLAY_INFO => (Self::GetDisplayInfo, 24),
            CMD_RESOURCE_CREATE_2D => {
                let [id, format, width, height] = [0, 4, 8, 12].map(at);
                (Self::Create { id, format, width, height }, 40)
            }
            CMD_RESOURCE_UNREF => (Self::Unref { id: at(0) }, 32),
            CMD_SET_SCANOUT => {
                (Self::SetScanout { rect: bytes.rect(), scanout: at(16), id: at(20) }, 48)
            }
            CMD_RESOURCE_FLUSH => (Self::Flush { rect: bytes.rect(), id: at(16) }, 48),
            CMD_TRANSFER_TO_HOST_2D => {
                let (rect, offset) = (bytes.rect(), bytes.u64(HEADER_SIZE + 16));
                (Self::Transfer { rect, offset, id: at(24) }, 56)
            }
            CMD_RESOURCE_ATTACH_BACKING => {
                (Self::AttachBacking { id: at(0), entries: at(4) }, ATTACH_SIZE)
            }
            CMD_RESOURCE_DETACH_BACKING => (Self::DetachBacking { id: at(0) }, 32),
            CMD_GET_EDID => (Self::GetEdid { scanout: at(0) }, 32),
            CMD_UPDATE_CURSOR => {
                let [id, hot_x, hot_y] = [16, 20, 24].map(at);
                (Self::UpdateCursor { at: CursorAt::of(bytes), id, hot_x, hot_y }, 56)
            }
            CMD_MOVE_CURSOR => (Self::MoveCursor { at: CursorAt::of(bytes) }, 56),
            unknown => return Err(GpuError::Unknown(unknown)),
        };
        let (len, name) = (bytes.given, command.name());
        if len < size {
            return Err(GpuError::TooShort { name, len, needed: size });
        }
        Ok(command)
    }

    /// The name in the specification, without VIRTIO_GPU_CMD_.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::GetDisplayInfo => "GET_DISPLAY_INFO",
            Self::Create { .. } => "RESOURCE_CREATE_2D",
            Self::Unref { .. } => "RESOURCE_UNREF",
            Self::SetScanout { .. } => "SET_SCANOUT",
            Self::Flush { .. } => "RESOURCE_FLUSH",
            Self::Transfer { .. } => "TRANSFER_TO_HOST_2D",
            Self::AttachBacking { .. } => "RESOURCE_ATTACH_BACKING",
            Self::DetachBacking { .. } => "RESOURCE_DETACH_BACKING",
            Self::GetEdid { .. } => "GET_EDID",
            Self::UpdateCursor { .. } => "UPDATE_CURSOR",
            Self::MoveCursor { .. } => "MOVE_CURSOR",
        }
    }

    /// Whether it belongs to the cursor queue.
    pub(super) const fn is_for_cursor(self) -> bool {
        matches!(self, Self::UpdateCursor { .. } | Self::MoveCursor { .. })
    }
}

impl CursorAt {
    fn of(bytes: &Bytes) -> Self {
        let [scanout, x, y] = [0, 4, 8].map(|offset| bytes.u32(HEADER_SIZE + offset));
        Self { scanout, x: x.cast_signed(), y: y.cast_signed() }
    }
}

/// The command in words, for a trace.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match *self {
            Self::GetDisplayInfo => Ok(()),
            Self::Create { id, format, width, height } => {
                write!(f, " resource {id}: {width}x{height}, format {format}")
            }
            Self::Unref { id } | Self::DetachBacking { id } => write!(f, " resource {id}"),
            Self::SetScanout { scanout, id: 0, .. } => write!(f, " {scanout}: off"),
            Self::SetScanout { rect, scanout, id } => {
                write!(f, " {scanout}: resource {id}, {}", RectWords(rect))
            }
            Self::Flush { rect, id } => write!(f, " resource {id}: {}", RectWords(rect)),
            Self::Transfer { rect, offset, id } => {
                write!(f, " resource {id}: {}, from byte {offset} of its backing", RectWords(rect))
            }
            Self::AttachBacking { id, entries } => {
                write!(f, " resource {id}: {entries} entries")
            }
            Self::GetEdid { scanout } => write!(f, " of scanout {scanout}"),
            Self::UpdateCursor { at, id: 0, .. } => write!(f, ": none, at {},{}", at.x, at.y),
            Self::UpdateCursor { at, id, hot_x, hot_y } => {
                write!(f, ": resource {id}, hot spot {hot_x},{hot_y}, at {},{}", at.x, at.y)
            }
            Self::MoveCursor { at } => write!(f, " to {},{}", at.x, at.y),
        }
    }
}
