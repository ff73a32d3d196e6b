//! The registers of virtio-mmio (virtio 1.4, 4.2.2 table 4.1; legacy 4.2.4 table 4.2), decoded once.

use super::Version;
use crate::virtio::queue::Area;
use crate::virtio::spec::mmio::{CONFIG, QUEUE_NOTIFY};

/// Whether a driver may read a register, write it, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Read only.
    R,
    /// Write only.
    W,
    /// Both.
    RW,
}

/// Half of a 64-bit register pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    /// Bits 31..0.
    Low,
    /// Bits 63..32.
    High,
}

impl Half {
    /// `whole` with this half replaced.
    pub(super) fn set(self, whole: u64, value: u32) -> u64 {
        match self {
            Self::Low => whole & !0xffff_ffff | u64::from(value),
            Self::High => whole & 0xffff_ffff | u64::from(value) << 32,
        }
    }

    /// This half of `whole`.
    pub(super) fn get(self, whole: u64) -> u32 {
        let [a, b, c, d, e, f, g, h] = whole.to_le_bytes();
        match self {
            Self::Low => u32::from_le_bytes([a, b, c, d]),
            Self::High => u32::from_le_bytes([e, f, g, h]),
        }
    }
}

/// A register below the configuration space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Register {
    /// 0x000: "virt".
    MagicValue,
    /// 0x004: the version of this layout.
    Version,
    /// 0x008: the kind of device; 0 for none.
    DeviceId,
    /// 0x00c: the vendor.
    VendorId,
    /// 0x010: 32 of the features offered, chosen by DeviceFeaturesSel.
    DeviceFeatures,
    /// 0x014
    DeviceFeaturesSel,
    /// 0x020: 32 of the features accepted, chosen by DriverFeaturesSel.
    DriverFeatures,
    /// 0x024
    DriverFeaturesSel,
    /// 0x028, legacy only: the unit of QueuePFN, in bytes.
    GuestPageSize,
    /// 0x030: selects the queue for the queue registers.
    QueueSel,
    /// 0x034: the most entries the queue can have.
    QueueNumMax,
    /// 0x038: the entries the queue has.
    QueueNum,
    /// 0x03c, legacy only: the alignment of the used ring, in bytes.
    QueueAlign,
    /// 0x040, legacy only: the first page of the queue.
    QueuePfn,
    /// 0x044: whether the queue is in use.
    QueueReady,
    /// 0x050: the doorbell.
    QueueNotify,
    /// 0x060: the reasons for the interrupt.
    InterruptStatus,
    /// 0x064: the reasons that the driver has handled.
    InterruptAck,
    /// 0x070: the device status field; 0 resets.
    Status,
    /// 0x080, 0x084, 0x090, 0x094, 0x0a0, 0x0a4: the addresses of the queue's parts.
    QueueAddr(Area, Half),
    /// 0x0ac: shared memory regions.
    ShmSel,
    /// 0x0b0, 0x0b4
    ShmLen(Half),
    /// 0x0b8, 0x0bc
    ShmBase(Half),
    /// 0x0c0: resets one queue (with RING_RESET).
    QueueReset,
    /// 0x0fc: changes whenever the configuration space does.
    ConfigGeneration,
}

impl Register {
    /// The register at `offset`; none if the specification has none there.
    pub(super) const fn decode(offset: u64) -> Option<Self> {
        Some(match offset {
            0x000 => Self::MagicValue,
            0x004 => Self::Version,
            0x008 => Self::DeviceId,
            0x00c => Self::VendorId,
            0x010 => Self::DeviceFeatures,
            0x014 => Self::DeviceFeaturesSel,
            0x020 => Self::DriverFeatures,
            0x024 => Self::DriverFeaturesSel,
            0x028 => Self::GuestPageSize,
            0x030 => Self::QueueSel,
            0x034 => Self::QueueNumMax,
            0x038 => Self::QueueNum,
            0x03c => Self::QueueAlign,
            0x040 => Self::QueuePfn,
            0x044 => Self::QueueReady,
            QUEUE_NOTIFY => Self::QueueNotify,
            0x060 => Self::InterruptStatus,
            0x064 => Self::InterruptAck,
            0x070 => Self::Status,
            0x080 => Self::QueueAddr(Area::Desc, Half::Low),
            0x084 => Self::QueueAddr(Area::Desc, Half::High),
            0x090 => Self::QueueAddr(Area::Driver, Half::Low),
            0x094 => Self::QueueAddr(Area::Driver, Half::High),
            0x0a0 => Self::QueueAddr(Area::Device, Half::Low),
            0x0a4 => Self::QueueAddr(Area::Device, Half::High),
            0x0ac => Self::ShmSel,
            0x0b0 => Self::ShmLen(Half::Low),
            0x0b4 => Self::ShmLen(Half::High),
            0x0b8 => Self::ShmBase(Half::Low),
            0x0bc => Self::ShmBase(Half::High),
            0x0c0 => Self::QueueReset,
            0x0fc => Self::ConfigGeneration,
            _ => return None,
        })
    }

    /// The register's name in the specification.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::MagicValue => "MagicValue",
            Self::Version => "Version",
            Self::DeviceId => "DeviceID",
            Self::VendorId => "VendorID",
            Self::DeviceFeatures => "DeviceFeatures",
            Self::DeviceFeaturesSel => "DeviceFeaturesSel",
            Self::DriverFeatures => "DriverFeatures",
            Self::DriverFeaturesSel => "DriverFeaturesSel",
            Self::GuestPageSize => "GuestPageSize",
            Self::QueueAlign => "QueueAlign",
            Self::QueuePfn => "QueuePFN",
            Self::QueueSel => "QueueSel",
            Self::QueueNumMax => "QueueNumMax",
            Self::QueueNum => "QueueNum",
            Self::QueueReady => "QueueReady",
            Self::QueueNotify => "QueueNotify",
            Self::InterruptStatus => "InterruptStatus",
            Self::InterruptAck => "InterruptACK",
            Self::Status => "Status",
            Self::QueueAddr(Area::Desc, Half::Low) => "QueueDescLow",
            Self::QueueAddr(Area::Desc, Half::High) => "QueueDescHigh",
            Self::QueueAddr(Area::Driver, Half::Low) => "QueueDriverLow",
            Self::QueueAddr(Area::Driver, Half::High) => "QueueDriverHigh",
            Self::QueueAddr(Area::Device, Half::Low) => "QueueDeviceLow",
            Self::QueueAddr(Area::Device, Half::High) => "QueueDeviceHigh",
            Self::ShmSel => "SHMSel",
            Self::ShmLen(Half::Low) => "SHMLenLow",
            Self::ShmLen(Half::High) => "SHMLenHigh",
            Self::ShmBase(Half::Low) => "SHMBaseLow",
            Self::ShmBase(Half::High) => "SHMBaseHigh",
            Self::QueueReset => "QueueReset",
            Self::ConfigGeneration => "ConfigGeneration",
        }
    }

    /// Whether the layout of `version` has the register.
    pub(super) const fn is_in(self, version: Version) -> bool {
        match self {
            Self::GuestPageSize | Self::QueueAlign | Self::QueuePfn => {
                matches!(version, Version::Legacy)
            }
            Self::QueueReady
            | Self::QueueAddr(..)
            | Self::ShmSel
            | Self::ShmLen(_)
            | Self::ShmBase(_)
            | Self::QueueReset
            | Self::ConfigGeneration => matches!(version, Version::Modern),
            Self::MagicValue
            | Self::Version
            | Self::DeviceId
            | Self::VendorId
            | Self::DeviceFeatures
            | Self::DeviceFeaturesSel
            | Self::DriverFeatures
            | Self::DriverFeaturesSel
            | Self::QueueSel
            | Self::QueueNumMax
            | Self::QueueNum
            | Self::QueueNotify
            | Self::InterruptStatus
            | Self::InterruptAck
            | Self::Status => true,
        }
    }

    /// Whether a driver may read it, write it, or both.
    pub(super) const fn direction(self) -> Direction {
        match self {
            Self::MagicValue
            | Self::Version
            | Self::DeviceId
            | Self::VendorId
            | Self::DeviceFeatures
            | Self::QueueNumMax
            | Self::InterruptStatus
            | Self::ShmLen(_)
            | Self::ShmBase(_)
            | Self::ConfigGeneration => Direction::R,
            Self::DeviceFeaturesSel
            | Self::DriverFeatures
            | Self::DriverFeaturesSel
            | Self::QueueSel
            | Self::QueueNum
            | Self::QueueNotify
            | Self::InterruptAck
            | Self::QueueAddr(..)
            | Self::GuestPageSize
            | Self::QueueAlign
            | Self::ShmSel => Direction::W,
            Self::QueuePfn | Self::QueueReady | Self::Status | Self::QueueReset => Direction::RW,
        }
    }
}

/// The two registers of a write of 8 bytes at `offset`, if there are two: many monitors take such a write as two.
pub(super) fn pair(offset: u64, width: usize) -> Option<(Register, Register)> {
    let is_pair = width == 8 && offset.is_multiple_of(8);
    is_pair.then(|| Register::decode(offset).zip(Register::decode(offset + 4)))?
}

/// The target of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// A register.
    Register(Register),
    /// The configuration space, at this offset in bytes.
    Config(u64),
    /// No register.
    Nothing,
    /// A register or the configuration space, with a width or an offset that the specification forbids (4.2.2.2:
    /// registers are accessed with 32 bits, aligned; the configuration space with 8, 16 or 32 bits, aligned).
    Misaccess,
}

impl Target {
    /// Decodes an access of `width` bytes at `offset`.
    pub(super) const fn decode(offset: u64, width: usize) -> Self {
        if offset >= CONFIG {
            // 8 bytes count as two accesses of 4, which are harmless.
            return match width {
                1 | 2 | 4 | 8 if offset.is_multiple_of(width as u64) => {
                    Self::Config(offset - CONFIG)
                }
                _ => Self::Misaccess,
            };
        }
        if width != 4 || !offset.is_multiple_of(4) {
            return Self::Misaccess;
        }
        match Register::decode(offset) {
            Some(register) => Self::Register(register),
            None => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_make_a_whole() {
        let whole = Half::High.set(Half::Low.set(u64::MAX, 0x1234_5678), 0x9abc_def0);
        assert_eq!(whole, 0x9abc_def0_1234_5678);
        assert_eq!((Half::Low.get(whole), Half::High.get(whole)), (0x1234_5678, 0x9abc_def0));
    }

    #[test]
    fn registers_are_accessed_with_32_bits_and_the_configuration_with_any() {
        assert_eq!(Target::decode(0x70, 4), Target::Register(Register::Status));
        for (offset, width) in [
            (0x70, 1),
            (0x70, 2),
            (0x70, 8),
            (0x72, 4),
            (0x71, 4),
            (0x101, 2),
            (0x102, 4),
            (0x104, 8),
            (0x100, 3),
        ] {
            assert_eq!(Target::decode(offset, width), Target::Misaccess, "{offset:#x} {width}");
        }
        assert_eq!(Target::decode(0x18, 4), Target::Nothing);
        for (offset, width) in [(0x101, 1), (0x102, 2), (0x104, 4), (0x108, 8)] {
            assert_eq!(Target::decode(offset, width), Target::Config(offset - 0x100));
        }
    }

    #[test]
    fn every_offset_below_the_configuration_has_the_specifications_register() {
        // Tables 4.1 and 4.2: offset, name, direction.
        let table = [
            (0x000, "MagicValue", Direction::R),
            (0x004, "Version", Direction::R),
            (0x008, "DeviceID", Direction::R),
            (0x00c, "VendorID", Direction::R),
            (0x010, "DeviceFeatures", Direction::R),
            (0x014, "DeviceFeaturesSel", Direction::W),
            (0x020, "DriverFeatures", Direction::W),
            (0x024, "DriverFeaturesSel", Direction::W),
            (0x028, "GuestPageSize", Direction::W),
            (0x030, "QueueSel", Direction::W),
            (0x034, "QueueNumMax", Direction::R),
            (0x038, "QueueNum", Direction::W),
            (0x03c, "QueueAlign", Direction::W),
            (0x040, "QueuePFN", Direction::RW),
            (0x044, "QueueReady", Direction::RW),
            (0x050, "QueueNotify", Direction::W),
            (0x060, "InterruptStatus", Direction::R),
            (0x064, "InterruptACK", Direction::W),
            (0x070, "Status", Direction::RW),
            (0x080, "QueueDescLow", Direction::W),
            (0x084, "QueueDescHigh", Direction::W),
            (0x090, "QueueDriverLow", Direction::W),
            (0x094, "QueueDriverHigh", Direction::W),
            (0x0a0, "QueueDeviceLow", Direction::W),
            (0x0a4, "QueueDeviceHigh", Direction::W),
            (0x0ac, "SHMSel", Direction::W),
            (0x0b0, "SHMLenLow", Direction::R),
            (0x0b4, "SHMLenHigh", Direction::R),
            (0x0b8, "SHMBaseLow", Direction::R),
            (0x0bc, "SHMBaseHigh", Direction::R),
            (0x0c0, "QueueReset", Direction::RW),
            (0x0fc, "ConfigGeneration", Direction::R),
        ];
        for offset in (0..CONFIG).step_by(4) {
            let known = table.iter().find(|(at, ..)| *at == offset);
            let found = Register::decode(offset);
            assert_eq!(
                found.map(|r| (offset, r.name(), r.direction())),
                known.copied(),
                "{offset:#x}"
            );
        }
    }
}
