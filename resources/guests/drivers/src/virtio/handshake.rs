//! The handshake with a virtio device: from a reset to a live device (3.1.1, 4.2.3.1). The reasons given with each access
//! are the comments here.

use super::error::Error;
use super::queue::Queue;
use super::spec::{self, feature, status};
use crate::register::{Talk, low_half};

/// A kind of device.
pub(super) struct Kind {
    /// Its device ID.
    pub(super) id: u32,
    /// Why the driver reads the device ID.
    pub(super) which: &'static str,
    /// Which of the features 31..0 the driver takes where they are offered.
    pub(super) features: u64,
    /// Which these are.
    pub(super) takes: &'static str,
}

/// The bits of a device whose features are agreed on.
const CHOSEN: u32 = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;

/// From a reset to FEATURES_OK. Returns the features offered, and those that both agreed on.
pub(super) fn negotiate(talk: &mut Talk<'_>, kind: &Kind) -> Result<(u64, u64), Error> {
    match talk.read(spec::MAGIC_VALUE, "is it a virtio-mmio device? \"virt\"") {
        spec::MAGIC => {}
        other => return Err(Error::NotVirtio(other)),
    }
    match talk.read(spec::DEVICE_VERSION, "which register layout? 2 is the modern one") {
        spec::VERSION => {}
        other => return Err(Error::Version(other)),
    }
    match talk.read(spec::DEVICE_ID, kind.which) {
        id if id == kind.id => {}
        id => return Err(Error::OtherKind { id, wanted: kind.id }),
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
    let accepted = offered & (feature::VERSION_1 | kind.features);
    talk.write(spec::DRIVER_FEATURES_SEL, 0, "now the driver's features 31..0");
    talk.write(spec::DRIVER_FEATURES, low_half(accepted), kind.takes);
    talk.write(spec::DRIVER_FEATURES_SEL, 1, "features 63..32");
    talk.write(
        spec::DRIVER_FEATURES,
        low_half(accepted >> 32),
        "VERSION_1: both follow version 1 or later",
    );
    talk.write(spec::STATUS, CHOSEN, "FEATURES_OK: the driver has chosen");
    if talk.read(spec::STATUS, "still FEATURES_OK? then the device agrees") & status::FEATURES_OK
        == 0
    {
        return Err(Error::FeaturesRefused(accepted));
    }
    Ok((offered, accepted))
}

/// Gives queue `index` its memory. The queue is cleared, and may have buffers already.
pub(super) fn set_up_queue(
    talk: &mut Talk<'_>,
    index: u32,
    which: &'static str,
    queue: &Queue,
) -> Result<(), Error> {
    talk.write(spec::QUEUE_SEL, index, which);
    if talk.read(spec::QUEUE_READY, "not in use yet?") != 0 {
        return Err(Error::QueueInUse(index));
    }
    let (max, size) =
        (talk.read(spec::QUEUE_NUM_MAX, "how many entries can it have?"), queue.size());
    if max < u32::from(size) {
        return Err(Error::QueueTooSmall { index, max, size });
    }
    talk.write(spec::QUEUE_NUM, u32::from(size), "how many it has");
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
    Ok(())
}

/// The last step.
pub(super) fn go_live(talk: &mut Talk<'_>) {
    talk.write(spec::STATUS, CHOSEN | status::DRIVER_OK, "DRIVER_OK: the device is live");
}

/// What a driver does after a handshake that failed with `error`.
pub(super) fn give_up(talk: &mut Talk<'_>, error: &Error) {
    if matches!(error, Error::NotVirtio(_) | Error::Version(_) | Error::OtherKind { .. }) {
        return;
    }
    // The other bits stay: only a reset clears them (2.1.1).
    let bits = talk.read(spec::STATUS, "the bits that are set");
    talk.write(spec::STATUS, bits | status::FAILED, "FAILED: the driver gives the device up");
}
