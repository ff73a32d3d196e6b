//! The handshake with a virtio block device: from a reset to a live device (3.1.1, 4.2.3.1).

use rt::wait::Wait;

use super::error::Error;
use super::queue::Queue;
use super::spec::{self, feature, status};
use crate::register::{Talk, low_half};

/// What the handshake found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Sectors of 512 bytes.
    pub capacity: u64,
    /// Features that the device offers.
    pub offered: u64,
    /// Features that both agreed on.
    pub accepted: u64,
}

impl Config {
    /// Whether the disk refuses writes.
    pub fn is_read_only(&self) -> bool {
        self.accepted & feature::RO != 0
    }

    /// Whether there is a flush command.
    pub fn has_flush(&self) -> bool {
        self.accepted & feature::FLUSH != 0
    }
}

/// From a reset to DRIVER_OK. The reasons given with each access are the comments here.
pub(super) fn run(talk: &mut Talk<'_>, queue: &mut Queue, wait: Wait) -> Result<Config, Error> {
    match talk.read(spec::MAGIC_VALUE, "is it a virtio-mmio device? \"virt\"") {
        spec::MAGIC => {}
        other => return Err(Error::NotVirtio(other)),
    }
    match talk.read(spec::DEVICE_VERSION, "which register layout? 2 is the modern one") {
        spec::VERSION => {}
        other => return Err(Error::Version(other)),
    }
    match talk.read(spec::DEVICE_ID, "which kind of device? 2 is a block device") {
        spec::BLOCK_DEVICE => {}
        other => return Err(Error::NotABlockDevice(other)),
    }

    talk.write(spec::STATUS, 0, "reset: the device forgets everything");
    let mut bits = status::ACKNOWLEDGE;
    talk.write(spec::STATUS, bits, "ACKNOWLEDGE: the guest has noticed the device");
    bits |= status::DRIVER;
    talk.write(spec::STATUS, bits, "DRIVER: it has a driver for it");

    talk.write(spec::DEVICE_FEATURES_SEL, 0, "show the device's features 31..0");
    let low = talk.read(spec::DEVICE_FEATURES, "what it offers");
    talk.write(spec::DEVICE_FEATURES_SEL, 1, "show its features 63..32");
    let high = talk.read(spec::DEVICE_FEATURES, "what it offers");
    let offered = u64::from(high) << 32 | u64::from(low);
    if offered & feature::VERSION_1 == 0 {
        return Err(Error::Legacy(offered));
    }
    let accepted = offered & (feature::VERSION_1 | feature::FLUSH | feature::RO);
    talk.write(spec::DRIVER_FEATURES_SEL, 0, "now the driver's features 31..0");
    talk.write(
        spec::DRIVER_FEATURES,
        low_half(accepted),
        "what it takes of them: FLUSH and RO, where offered",
    );
    talk.write(spec::DRIVER_FEATURES_SEL, 1, "features 63..32");
    talk.write(
        spec::DRIVER_FEATURES,
        low_half(accepted >> 32),
        "VERSION_1: both follow version 1 or later",
    );
    bits |= status::FEATURES_OK;
    talk.write(spec::STATUS, bits, "FEATURES_OK: the driver has chosen");
    if talk.read(spec::STATUS, "still FEATURES_OK? then the device agrees") & status::FEATURES_OK
        == 0
    {
        return Err(Error::FeaturesRefused(accepted));
    }

    talk.write(spec::QUEUE_SEL, 0, "queue 0, a block device's first");
    if talk.read(spec::QUEUE_READY, "not in use yet?") != 0 {
        return Err(Error::QueueInUse);
    }
    let max = talk.read(spec::QUEUE_NUM_MAX, "how many entries can it have?");
    if max < u32::from(queue.size()) {
        return Err(Error::QueueTooSmall(max));
    }
    queue.clear();
    queue.want_interrupts(wait == Wait::Interrupt);
    talk.write(spec::QUEUE_NUM, u32::from(queue.size()), "how many it has");
    let [table, available, used] = queue.addresses();
    talk.write_pair(
        spec::QUEUE_DESC_LOW,
        spec::QUEUE_DESC_HIGH,
        table,
        "where its descriptor table is",
    );
    talk.write_pair(
        spec::QUEUE_DRIVER_LOW,
        spec::QUEUE_DRIVER_HIGH,
        available,
        "where its available ring is",
    );
    talk.write_pair(
        spec::QUEUE_DEVICE_LOW,
        spec::QUEUE_DEVICE_HIGH,
        used,
        "where its used ring is",
    );
    talk.write(spec::QUEUE_READY, 1, "the queue may be used");

    let capacity = read_capacity(talk);
    bits |= status::DRIVER_OK;
    talk.write(spec::STATUS, bits, "DRIVER_OK: the device is live");
    Ok(Config { capacity, offered, accepted })
}

/// Two registers that may change between the reads: the generation shows whether they did (4.2.2.2).
fn read_capacity(talk: &mut Talk<'_>) -> u64 {
    const TRIES: u32 = 16;
    let mut capacity = 0;
    let mut before = talk.read(spec::CONFIG_GENERATION, "which state of the configuration?");
    for _ in 0..TRIES {
        let low = talk.read(spec::CAPACITY_LOW, "how many sectors of 512 bytes?");
        let high = talk.read(spec::CAPACITY_HIGH, "the high half of that");
        capacity = u64::from(high) << 32 | u64::from(low);
        let after = talk.read(spec::CONFIG_GENERATION, "still the same state?");
        if after == before {
            break;
        }
        before = after;
    }
    capacity
}
