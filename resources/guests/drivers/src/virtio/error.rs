//! What can go wrong between the driver and a virtio disk.

use core::fmt;

use super::spec::{BLOCK_DEVICE, MAGIC, VERSION, request};

/// Why a disk could not be set up, or a request was not done. Displayed as half a sentence about the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The magic value reads this.
    NotVirtio(u32),
    /// It speaks this version of virtio-mmio.
    Version(u32),
    /// It has this device ID.
    NotABlockDevice(u32),
    /// It offers these features, and VERSION_1 is not among them.
    Legacy(u64),
    /// It does not agree to these features.
    FeaturesRefused(u64),
    /// Queue 0 is in use after a reset.
    QueueInUse,
    /// Queue 0 can have at most this many entries, too few for a request.
    QueueTooSmall(u32),
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
            Error::NotABlockDevice(0) => f.write_str("its slot is empty (DeviceID 0)"),
            Error::NotABlockDevice(id) => {
                write!(f, "it has DeviceID {id}, and a block device has {BLOCK_DEVICE}")
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
            Error::QueueInUse => f.write_str("its queue 0 reads as in use right after a reset"),
            Error::QueueTooSmall(max) => {
                write!(f, "its queue 0 has {max} entries at most, and a request takes 3")
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
        }
    }
}
