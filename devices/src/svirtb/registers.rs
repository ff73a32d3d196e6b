//! The six registers, and the values of the status register.

/// A register: a little-endian u32 (section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// The state of the handshake; a [`Status`].
    Status,
    /// The number of entries in the ring.
    QueueSize,
    /// The ring's guest-physical address, bits 63 to 32.
    QueueAddrHi,
    /// The ring's guest-physical address, bits 31 to 0.
    QueueAddrLo,
    /// The doorbell: the index after the last entry that the driver has queued.
    QueueHead,
    /// The index after the last entry that the device has finished.
    QueueTail,
}

impl Register {
    /// All registers, in the order of their offsets.
    pub const ALL: [Self; 6] = [
        Self::Status,
        Self::QueueSize,
        Self::QueueAddrHi,
        Self::QueueAddrLo,
        Self::QueueHead,
        Self::QueueTail,
    ];

    /// The width of every register in bytes.
    pub const WIDTH: usize = 4;

    /// The offset of the register's first byte from [`super::BASE`].
    pub const fn offset(self) -> u64 {
        match self {
            Self::Status => 0x00,
            Self::QueueSize => 0x04,
            Self::QueueAddrHi => 0x08,
            Self::QueueAddrLo => 0x0c,
            Self::QueueHead => 0x10,
            Self::QueueTail => 0x14,
        }
    }

    /// The register's name in the specification.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::QueueSize => "queue_size",
            Self::QueueAddrHi => "queue_addr_hi",
            Self::QueueAddrLo => "queue_addr_lo",
            Self::QueueHead => "queue_head",
            Self::QueueTail => "queue_tail",
        }
    }

    /// The register for an access of `width` bytes at `offset`.
    ///
    /// # Errors
    ///
    /// If no register begins there, or the access does not have the width of a register.
    pub fn decode(offset: u64, width: usize) -> Result<Self, AccessError> {
        match Self::ALL.into_iter().find(|r| r.offset() == offset) {
            None => Err(AccessError::NoRegister { offset, width }),
            Some(register) if width != Self::WIDTH => Err(AccessError::Width { register, width }),
            Some(register) => Ok(register),
        }
    }
}

/// Why an access within the page is not an access to a register. It reads as zeros, or is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No register begins at the offset.
    #[error(
        "an access of {} at offset {offset:#x} meets no register; \
         the six registers begin at 0x0, 0x4, 0x8, 0xc, 0x10 and 0x14",
        bytes(*width)
    )]
    NoRegister {
        /// Bytes from the start of the page.
        offset: u64,
        /// The bytes accessed.
        width: usize,
    },
    /// A register begins there, but the access has another width.
    #[error("an access of {} to {}; every register takes accesses of 4 bytes", bytes(*width), register.name())]
    Width {
        /// The register that begins at the offset.
        register: Register,
        /// The bytes accessed.
        width: usize,
    },
}

/// "1 byte", "2 bytes".
fn bytes(count: usize) -> String {
    format!("{count} byte{}", if count == 1 { "" } else { "s" })
}

/// A value of the status register (section 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The device is present and in its initial state; only the device sets this value.
    Magic,
    /// The driver has started, and describes its ring.
    DriverOk,
    /// The device has accepted the ring and accepts doorbells.
    Ready,
    /// Written: start again. Read: the error state, which only a write of RESET ends.
    Reset,
}

impl Status {
    /// All values, in the order of the specification.
    pub const ALL: [Self; 4] = [Self::Magic, Self::DriverOk, Self::Ready, Self::Reset];

    /// The value in the register.
    pub const fn value(self) -> u32 {
        match self {
            Self::Magic => 0x7472_6976, // "virt"
            Self::DriverOk => 0,
            Self::Ready => 1,
            Self::Reset => 2,
        }
    }

    /// The status with this value; none for an unknown value.
    pub fn decode(value: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.value() == value)
    }

    /// The name in the specification.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Magic => "MAGIC",
            Self::DriverOk => "DRIVER_OK",
            Self::Ready => "READY",
            Self::Reset => "RESET",
        }
    }
}
