//! The handshake with a block device, and what it finds.

use rt::wait::Wait;

use super::error::Error;
use super::handshake::{self, Kind};
use super::queue::Queue;
use super::spec::{self, feature};
use crate::register::Talk;

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

const BLOCK: Kind = Kind {
    id: spec::BLOCK_DEVICE,
    which: "which kind of device? 2 is a block device",
    features: feature::FLUSH | feature::RO,
    takes: "what it takes of them: FLUSH and RO, where offered",
};

/// From a reset to DRIVER_OK. A request takes three entries of the queue.
pub(super) fn handshake(
    talk: &mut Talk<'_>,
    queue: &mut Queue,
    wait: Wait,
) -> Result<Config, Error> {
    let (offered, accepted) = handshake::negotiate(talk, &BLOCK)?;
    queue.clear();
    queue.want_interrupts(wait == Wait::Interrupt);
    handshake::set_up_queue(talk, 0, "queue 0, a block device's first", queue)?;
    let capacity = read_capacity(talk);
    handshake::go_live(talk);
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
