//! Why a command fails.

use super::RectWords;
use crate::display::{Rect, SIDE_MAX};
use crate::memory::OutOfRam;
use crate::observe::Rule;
use crate::virtio::rules;
use crate::virtio::spec::gpu::{
    RESP_ERR_INVALID_PARAMETER, RESP_ERR_INVALID_RESOURCE_ID, RESP_ERR_INVALID_SCANOUT_ID,
    RESP_ERR_OUT_OF_MEMORY, RESP_ERR_UNSPEC,
};

/// Why a command fails. `Display` gives the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum GpuError {
    #[error("command {0:#x} is not one of the 2D commands, which are all that this device has")]
    Unknown(u32),
    #[error(
        "{0} is a command for the other queue: cursor commands go to queue 1, all others to queue 0"
    )]
    WrongQueue(&'static str),
    #[error("GET_EDID needs the feature EDID, which the driver did not accept")]
    NoEdid,
    #[error("the command has {len} bytes for the device to read, and {name} needs {needed}")]
    TooShort { name: &'static str, len: u64, needed: u64 },
    #[error("there is no resource {0}")]
    NoResource(u32),
    #[error("resource 0 cannot be created: 0 means no resource")]
    ResourceZero,
    #[error("resource {0} exists already")]
    ResourceExists(u32),
    #[error("format {0} is not one of the eight formats")]
    Format(u32),
    #[error("a resource of {width}x{height} pixels: each side is 1 to {SIDE_MAX}")]
    ResourceSize { width: u32, height: u32 },
    #[error("there is no scanout {0}: the device has one, scanout 0")]
    NoScanout(u32),
    #[error("the rectangle {} is not within the resource, which has {width}x{height} pixels", RectWords(*.rect))]
    Outside { rect: Rect, width: u32, height: u32 },
    #[error("a scanout of no pixels: {}", RectWords(*.0))]
    EmptyScanout(Rect),
    #[error("resource {0} has no backing: RESOURCE_ATTACH_BACKING comes first")]
    NoBacking(u32),
    #[error("resource {0} has a backing already: RESOURCE_DETACH_BACKING comes first")]
    BackingExists(u32),
    #[error("a backing entry is not in RAM: {0}")]
    BackingNotInRam(OutOfRam),
    #[error("the transfer reads to byte {end} of the backing, which has {len} bytes")]
    BackingTooShort { end: u64, len: u64 },
    #[error("a backing of {entries} entries is too long: the limit is {most}")]
    Entries { entries: u64, most: u64 },
    #[error("the resources would have {bytes} bytes, and the limit is {most} (max=)")]
    Memory { bytes: u64, most: u64 },
    #[error("the host has no memory for {0} bytes")]
    HostMemory(u64),
    #[error("there are {0} resources already, as many as there can be")]
    Resources(usize),
    #[error("resource {id} has {width}x{height} pixels; a cursor has 64x64")]
    CursorSize { id: u32, width: u32, height: u32 },
}

impl GpuError {
    /// The type of the response (5.7.6.7).
    pub(super) const fn response(self) -> u32 {
        match self {
            Self::Unknown(_)
            | Self::WrongQueue(_)
            | Self::NoEdid
            | Self::TooShort { .. }
            | Self::NoBacking(_)
            | Self::BackingExists(_) => RESP_ERR_UNSPEC,
            Self::NoResource(_) | Self::ResourceZero | Self::ResourceExists(_) => {
                RESP_ERR_INVALID_RESOURCE_ID
            }
            Self::NoScanout(_) => RESP_ERR_INVALID_SCANOUT_ID,
            Self::Format(_)
            | Self::ResourceSize { .. }
            | Self::Outside { .. }
            | Self::EmptyScanout(_)
            | Self::BackingNotInRam(_)
            | Self::BackingTooShort { .. }
            | Self::CursorSize { .. } => RESP_ERR_INVALID_PARAMETER,
            Self::Entries { .. }
            | Self::Memory { .. }
            | Self::HostMemory(_)
            | Self::Resources(_) => RESP_ERR_OUT_OF_MEMORY,
        }
    }

    /// The rule that the driver broke.
    pub(super) const fn rule(self) -> Rule {
        match self {
            Self::Unknown(_) | Self::WrongQueue(_) | Self::NoEdid => rules::GPU_COMMAND,
            Self::TooShort { .. } => rules::GPU_LAYOUT,
            Self::NoResource(_)
            | Self::ResourceZero
            | Self::ResourceExists(_)
            | Self::Format(_)
            | Self::ResourceSize { .. }
            | Self::CursorSize { .. } => rules::GPU_RESOURCE,
            Self::NoScanout(_) | Self::Outside { .. } | Self::EmptyScanout(_) => rules::GPU_RANGE,
            Self::NoBacking(_)
            | Self::BackingExists(_)
            | Self::BackingNotInRam(_)
            | Self::BackingTooShort { .. } => rules::GPU_BACKING,
            Self::Entries { .. } | Self::Memory { .. } | Self::Resources(_) => rules::GPU_MEMORY,
            Self::HostMemory(_) => rules::HOST,
        }
    }
}
