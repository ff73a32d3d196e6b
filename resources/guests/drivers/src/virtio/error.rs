//! What can go wrong between a driver and a virtio device.

use core::fmt;

use super::spec::{self, MAGIC, VERSION, gpu, request};

/// Why a device could not be set up, or a request was not done. Displayed as half a sentence about the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The magic value reads this.
    NotVirtio(u32),
    /// It speaks this version of virtio-mmio.
    Version(u32),
    /// It is of another kind than the driver.
    OtherKind {
        /// Its device ID.
        id: u32,
        /// The driver's.
        wanted: u32,
    },
    /// It offers these features, and VERSION_1 is not among them.
    Legacy(u64),
    /// It does not agree to these features.
    FeaturesRefused(u64),
    /// This queue is in use after a reset.
    QueueInUse(u32),
    /// A queue can have too few entries.
    QueueTooSmall {
        /// Which queue.
        index: u32,
        /// How many it can have.
        max: u32,
        /// How many the driver needs.
        size: u16,
    },
    /// No handshake has been done, or it failed, or a request was never answered.
    Closed,
    /// The request does not lie on the disk.
    OutOfRange {
        /// Its first sector.
        sector: u64,
        /// How many sectors the disk has.
        capacity: u64,
    },
    /// The disk cannot be written.
    ReadOnly,
    /// No answer within this many milliseconds.
    NoAnswer(u32),
    /// The device has set DEVICE_NEEDS_RESET.
    NeedsReset,
    /// The used ring names this chain, which is not the one under way.
    Confused(u32),
    /// The request's status byte.
    Status(u8),
    /// A command for a GPU was not done.
    Refused {
        /// Its type.
        command: u32,
        /// The type of the answer.
        answer: u32,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::NotVirtio(magic) => {
                write!(
                    f,
                    "its magic value reads {magic:#x}, not {MAGIC:#x}: no virtio-mmio device is there"
                )
            }
            Error::Version(version) => {
                write!(
                    f,
                    "it speaks version {version} of virtio-mmio; this driver speaks version {VERSION}"
                )
            }
            Error::OtherKind { id: 0, .. } => f.write_str("its slot is empty (DeviceID 0)"),
            Error::OtherKind { id, wanted } => {
                write!(f, "it has DeviceID {id}, and {} has {wanted}", spec::kind(wanted))
            }
            Error::Legacy(features) => {
                write!(f, "it does not offer VERSION_1 (features {features:#x}): a legacy device")
            }
            Error::FeaturesRefused(features) => {
                write!(
                    f,
                    "it took FEATURES_OK back: it does not agree to the features {features:#x}"
                )
            }
            Error::QueueInUse(index) => {
                write!(f, "its queue {index} reads as in use right after a reset")
            }
            Error::QueueTooSmall { index, max, size } => {
                write!(
                    f,
                    "its queue {index} has {max} entries at most, and the driver needs {size}"
                )
            }
            Error::Closed => f.write_str("it is not set up: the handshake or a request failed"),
            Error::OutOfRange { sector, capacity: 0 } => {
                write!(f, "sector {sector} is past its end: it has no sectors")
            }
            Error::OutOfRange { sector, capacity } => {
                write!(
                    f,
                    "sector {sector} is past its end: it has {capacity} sectors, 0 to {}",
                    capacity - 1
                )
            }
            Error::ReadOnly => f.write_str("it is read-only"),
            Error::NoAnswer(limit) => write!(f, "it did not answer within {} s", limit / 1000),
            Error::NeedsReset => {
                f.write_str("it has set DEVICE_NEEDS_RESET (the host's log has the reason)")
            }
            Error::Confused(id) => {
                write!(f, "its used ring names chain {id}, which is not the one under way")
            }
            Error::Status(request::IOERR) => f.write_str("it answered IOERR (status 1)"),
            Error::Status(request::UNSUPP) => {
                f.write_str("it answered UNSUPP (status 2): no such request")
            }
            Error::Status(status) => {
                write!(f, "it answered with status {status}, which has no meaning")
            }
            Error::Refused { command, answer } => write!(
                f,
                "it answered {answer:#x} ({}) to the command {command:#x}",
                gpu::answer(answer)
            ),
        }
    }
}
