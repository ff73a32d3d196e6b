//! What virtio 1.4 demands of a driver of a block device over virtio-mmio with split rings, and the rule that watches it.
//!
//! Each sentence of the specification with MUST or MUST NOT that binds such a driver is here, in our words. Left out are
//! sentences about features that this device does not offer: packed rings, IN_ORDER, SUSPEND, ACCESS_PLATFORM, SR_IOV,
//! shared memory, secure erase and zoned disks.

/// A demand of the specification.
#[derive(Debug)]
pub struct Must {
    /// The section of virtio 1.4 (Committee Specification, April 2026).
    pub section: &'static str,
    /// What the driver must do.
    pub text: &'static str,
    /// Who sees it.
    pub watched: Watched,
}

/// How a demand is watched.
#[derive(Debug)]
pub enum Watched {
    /// By the rules with these ids.
    By(&'static [&'static str]),
    /// Not by the device, for this reason.
    Unseen(&'static str),
}

const fn by(section: &'static str, text: &'static str, rules: &'static [&'static str]) -> Must {
    Must { section, text, watched: Watched::By(rules) }
}

const fn unseen(section: &'static str, text: &'static str, why: &'static str) -> Must {
    Must { section, text, watched: Watched::Unseen(why) }
}

/// It happens in the driver's memory or code only.
const INSIDE: &str = "it is inside the driver";
/// The processors order stores, and the guest's memory has no trace of a barrier.
const ORDER: &str = "the memory does not show in which order another processor wrote it; x86 keeps the order of stores";

/// The device stops a queue before the write returns.
const STOPPED: &str = "the queue has stopped when the write returns, so nothing depends on it here";

/// All demands, in the order of the specification.
pub const MUSTS: &[Must] = &[
    by(
        "2.1.1",
        "set the status bits in the order of the initialization",
        &["virtio.order", "virtio.steps"],
    ),
    by("2.1.1", "clear no status bit, except all by a reset", &["virtio.status-cleared"]),
    by(
        "2.1.1",
        "reset the device after FAILED, before a new initialization",
        &["virtio.status-cleared", "virtio.reset-first"],
    ),
    by("2.2.1", "accept no feature that is not offered", &["virtio.features-offered"]),
    unseen(
        "2.2.1",
        "accept no feature without the features that it needs",
        "no offered feature needs another one",
    ),
    by("2.2.1", "look at the offered features", &["virtio.features-selector"]),
    by(
        "2.2.1",
        "accept no feature that is unknown, reserved, or not for this device",
        &["virtio.features-offered"],
    ),
    unseen("2.2.1", "set FAILED and stop if a feature that it needs is missing", INSIDE),
    unseen("2.2.1", "not fail because an unknown feature is offered", INSIDE),
    unseen(
        "2.5.1",
        "take no field of more than 32 bits, and no two fields, for one atomic read",
        INSIDE,
    ),
    unseen(
        "2.5.1",
        "check a feature before it uses a field that depends on it",
        "a driver may read all fields for a listing; the device does not know what it uses",
    ),
    unseen("2.5.1", "not limit the size of the configuration space", INSIDE),
    unseen("2.6.1.1.2", "check that a queue was reset", STOPPED),
    by("2.6.1.2.2", "set a queue up again completely after its reset", &["virtio.queue-layout"]),
    by("2.7.1", "align the three parts of a queue", &["virtio.queue-layout"]),
    by("2.7.4.2", "put readable buffers before writable ones", &["virtio.readable-first"]),
    by(
        "2.7.5.2",
        "make no chain of more than 2^32 bytes, so none with a loop",
        &["virtio.chain-length", "virtio.blk-size"],
    ),
    by(
        "2.7.5.3.1",
        "set INDIRECT only if it was negotiated, and not in an indirect table",
        &["virtio.chain"],
    ),
    by("2.7.5.3.1", "make no chain that is longer than the queue", &["virtio.chain-length"]),
    by("2.7.5.3.1", "not set INDIRECT and NEXT together", &["virtio.chain"]),
    by("2.7.6.1", "not decrement the available index", &["virtio.avail-index"]),
    by(
        "2.7.7.1",
        "with EVENT_IDX, leave the flags of the available ring 0 and use used_event; otherwise set them to 0 or 1",
        &["virtio.used-event", "guest.sleeps"],
    ),
    unseen("2.7.7.1", "expect interrupts without a reason", INSIDE),
    unseen("2.7.8.2", "expect nothing in a buffer behind the length of the used entry", INSIDE),
    unseen(
        "2.7.10.1",
        "set the flags of the used ring to 0 at first",
        "the device does not read them",
    ),
    unseen("2.7.10.1", "without EVENT_IDX, ignore avail_event; with it, ignore the flag", INSIDE),
    by("2.7.10.1", "ring the doorbell if the flags, or avail_event, ask for it", &["guest.waits"]),
    unseen("2.7.13.3.1", "put a barrier before the update of the available index", ORDER),
    unseen("2.7.13.4.1", "put a barrier before it looks whether to ring the doorbell", ORDER),
    by(
        "3.1.1",
        "follow the steps: reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK, queues, DRIVER_OK",
        &[
            "virtio.reset-first",
            "virtio.steps",
            "virtio.order",
            "virtio.queue-early",
            "virtio.queues-first",
        ],
    ),
    by("3.1.1", "not write the configuration space before FEATURES_OK", &["virtio.config-early"]),
    by("3.1.1", "accept no new feature after FEATURES_OK", &["virtio.features-final"]),
    by(
        "3.1.1",
        "stop if FEATURES_OK does not read back",
        &["virtio.features-ok-read", "virtio.order"],
    ),
    by("3.1.1", "ring no doorbell before DRIVER_OK", &["virtio.notify"]),
    by(
        "3.3.1",
        "not change the descriptors of buffers that the device has",
        &["virtio.head-in-use", "virtio.buffer-shared"],
    ),
    unseen(
        "3.3.1",
        "stop a queue before it takes buffers back",
        "memory that the driver uses for something else looks like any memory",
    ),
    by(
        "4.2.2.2",
        "use only the registers of the table, and in their direction",
        &["virtio.no-register", "virtio.direction"],
    ),
    by("4.2.2.2", "access registers with 32 bits, aligned", &["virtio.width"]),
    by(
        "4.2.2.2",
        "access fields of the configuration space with their width (other widths than 1, 2 and 4 are seen)",
        &["virtio.width"],
    ),
    unseen(
        "4.2.2.2",
        "ignore a device with another MagicValue or Version",
        "this device has the right ones; virtio.identity watches that they are read",
    ),
    by("4.2.2.2", "ignore a slot whose DeviceID is 0", &["virtio.empty-slot"]),
    by(
        "4.2.2.2",
        "select the half before it reads or writes features",
        &["virtio.features-selector"],
    ),
    by(
        "4.2.2.2",
        "give a queue no more entries than QueueNumMax",
        &["virtio.queue-layout", "virtio.queue-max-read"],
    ),
    by(
        "4.2.2.2",
        "leave the set-up of a queue alone while QueueReady is not 0",
        &["virtio.queue-in-use"],
    ),
    unseen("4.2.2.2", "write 0 to QueueReady to stop a queue, and read it back", STOPPED),
    unseen("4.2.2.2", "ignore undefined bits of InterruptStatus", "the device sets none"),
    by(
        "4.2.2.2",
        "acknowledge what it handled, and no undefined bits",
        &["virtio.interrupt-ack", "virtio.irq-acknowledge"],
    ),
    unseen("4.2.2.2", "wait until QueueReset reads 0", STOPPED),
    by(
        "4.2.3.1.1",
        "read MagicValue, Version and DeviceID first, and touch nothing else of an empty slot",
        &["virtio.identity", "virtio.empty-slot"],
    ),
    by("4.2.3.4.1", "read InterruptStatus after an interrupt", &["virtio.irq-status"]),
    by("4.2.3.4.1", "acknowledge an interrupt after it is handled", &["virtio.irq-acknowledge"]),
    unseen(
        "5.2.5.1",
        "not read writeback before FEATURES_OK",
        "a driver may read all fields for a listing",
    ),
    by("5.2.6.1", "make no request beyond the capacity", &["virtio.blk-range"]),
    unseen(
        "5.2.6.1",
        "set the sector of a flush to 0",
        "a flush has no sector; many drivers leave an old one there, and no device looks at it",
    ),
    by("5.2.6.1", "read and write whole sectors of 512 bytes", &["virtio.blk-sectors"]),
    by(
        "5.2.6.1",
        "discard and write zeroes with whole ranges of 16 bytes, and no more of them than the limits say",
        &["virtio.blk-ranges"],
    ),
    unseen(
        "5.2.6.1",
        "give GET_ID a buffer of 20 bytes",
        "the device fills what there is, up to 20 bytes, as its peers do",
    ),
    by("5.2.6.1", "leave the flag unmap 0 in a discard", &["virtio.blk-ranges"]),
    unseen(
        "5.2.6.1",
        "expect nothing of writes to be on the disk after it wrote 0 to writeback",
        INSIDE,
    ),
    unseen(
        "5.2.6.1",
        "expect nothing of the content of discarded sectors, or of a request that failed in part",
        INSIDE,
    ),
    by("6.1", "accept VERSION_1", &["virtio.version-1"]),
    by("6.1", "pass physical addresses only", &["virtio.queue-layout", "virtio.chain"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::rules;

    #[test]
    fn each_demand_names_rules_that_exist() {
        for must in MUSTS {
            match must.watched {
                Watched::By(ids) => {
                    assert!(!ids.is_empty(), "{}", must.text);
                    for id in ids {
                        assert!(rules().any(|info| info.id == *id), "{id}");
                    }
                }
                Watched::Unseen(why) => assert!(!why.is_empty(), "{}", must.text),
            }
        }
    }

    #[test]
    fn they_are_in_the_order_of_the_specification() {
        let number = |must: &Must| -> Vec<u32> {
            must.section.split('.').map(|part| part.parse().unwrap()).collect()
        };
        assert!(MUSTS.is_sorted_by_key(number));
    }
}
