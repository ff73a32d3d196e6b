//! The rules of `observed_rules.rs` for a driver's author.

use super::observed_rules as rules;
use crate::observe::RuleInfo;

/// The rules whose breach only several events show.
pub(super) const RULES: &[RuleInfo] = &[
    RuleInfo::warning(
        "virtio.reset-first",
        rules::RESET_FIRST,
        [
            "Write 0 to Status before anything else.",
            "A driver that relies on the state after power-on; a boot loader may have used the device.",
            "write32(STATUS, ACKNOWLEDGE);",
            "write32(STATUS, 0); write32(STATUS, ACKNOWLEDGE);",
        ],
    ),
    RuleInfo::note(
        "virtio.identity",
        rules::IDENTITY,
        [
            "Check that MagicValue is 0x74726976, Version is 2 (1 for legacy) and DeviceID is that of the driver.",
            "A driver that knows its device's place and checks nothing: it drives whatever is there.",
            "write32(STATUS, 0);",
            "if (read32(MAGIC) != 0x74726976 || read32(VERSION) != 2 || read32(DEVICE_ID) != 2) return;",
        ],
    ),
    RuleInfo::note(
        "virtio.steps",
        rules::STEPS,
        [
            "Set ACKNOWLEDGE, then DRIVER, then read the features, then set FEATURES_OK, then set up the queues, then DRIVER_OK.",
            "A driver that writes several bits at once.",
            "write32(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);",
            "write32(STATUS, ACKNOWLEDGE); write32(STATUS, ACKNOWLEDGE | DRIVER); /* features */",
        ],
    ),
    RuleInfo::warning(
        "virtio.features-ok-read",
        rules::FEATURES_OK_READ,
        [
            "Read Status after setting FEATURES_OK. If the bit is clear, the device refuses the features.",
            "A driver that assumes that its features are accepted.",
            "write32(STATUS, s | FEATURES_OK); /* set up the queue */",
            "write32(STATUS, s | FEATURES_OK); if (!(read32(STATUS) & FEATURES_OK)) return fail();",
        ],
    ),
    RuleInfo::note(
        "virtio.features-selector",
        rules::SELECTOR,
        [
            "Write DeviceFeaturesSel before you read DeviceFeatures, and DriverFeaturesSel before you write DriverFeatures.",
            "A driver that relies on selector 0 after a reset; the specification does not define it.",
            "uint32_t low = read32(DEVICE_FEATURES);",
            "write32(DEVICE_FEATURES_SEL, 0); uint32_t low = read32(DEVICE_FEATURES);",
        ],
    ),
    RuleInfo::note(
        "virtio.queue-max-read",
        rules::QUEUE_NUM_MAX,
        [
            "Read QueueNumMax after QueueSel, and use no larger queue; 0 means that there is no such queue.",
            "A fixed queue size; a device with smaller queues refuses it.",
            "write32(QUEUE_SEL, 0); write32(QUEUE_NUM, 128);",
            "write32(QUEUE_SEL, 0); if (read32(QUEUE_NUM_MAX) >= 8) write32(QUEUE_NUM, 8);",
        ],
    ),
    RuleInfo::error(
        "virtio.ring-overlap",
        rules::OVERLAP,
        [
            "Give the descriptor table, the available ring and the used ring memory of their own.",
            "The same address in two registers, or areas that are too short for the queue size.",
            "write64(QUEUE_DRIVER, avail); write64(QUEUE_DEVICE, avail);",
            "write64(QUEUE_DRIVER, avail); write64(QUEUE_DEVICE, used);",
        ],
    ),
    RuleInfo::warning(
        "virtio.nothing-new",
        rules::NOTHING_NEW,
        [
            "Write the chain's head into the ring, then increment the available index, then ring the doorbell.",
            "The available index is not moved, or written after the doorbell, or to another address.",
            "avail->ring[avail->idx % n] = head; write32(QUEUE_NOTIFY, 0);",
            "avail->ring[avail->idx % n] = head; fence(); avail->idx++; fence(); write32(QUEUE_NOTIFY, 0);",
        ],
    ),
    RuleInfo::error(
        "virtio.head-in-use",
        rules::HEAD_IN_USE,
        [
            "Queue a chain again only after the device has returned it through the used ring.",
            "A free list that gives a descriptor twice, or a ring index that is not taken modulo the queue size.",
            "avail->ring[avail->idx] = head;",
            "avail->ring[avail->idx % queue_size] = head;",
        ],
    ),
    RuleInfo::error(
        "virtio.buffer-over-ring",
        rules::BUFFER_OVER_RING,
        [
            "Give the device buffers that do not contain its rings.",
            "A buffer of a wrong length, or two uses of one page.",
            "desc[1].addr = page; /* and the rings are in the same page */",
            "desc[1].addr = another_page;",
        ],
    ),
    RuleInfo::note(
        "virtio.buffer-shared",
        rules::BUFFER_SHARED,
        [
            "Give each chain in use its own data and its own status byte.",
            "One status byte for all requests: a failed request then looks like a successful one.",
            "desc[2].addr = &status;",
            "desc[2].addr = &status[head];",
        ],
    ),
    RuleInfo::note(
        "virtio.header",
        rules::HEADER,
        [
            "Put the header, 16 bytes, into the first descriptor: le32 type, le32 reserved, le64 sector. Any other split is \
             legal, but devices for legacy drivers refuse it.",
            "A struct without the reserved field (12 bytes), or the data's descriptor as the head.",
            "struct header { uint32_t type; uint64_t sector; } __attribute__((packed));",
            "struct header { uint32_t type, reserved; uint64_t sector; };",
        ],
    ),
    RuleInfo::note(
        "virtio.irq-acknowledge",
        rules::IRQ_NOT_ACKNOWLEDGED,
        [
            "In the interrupt handler, read InterruptStatus and write its value to InterruptACK. A driver that polls sets \
             NO_INTERRUPT in the flags of the available ring.",
            "No handler, a masked interrupt, or a handler that does not acknowledge: with a level-triggered interrupt it \
             runs for ever, with an edge-triggered one it may never run again.",
            "void handler(void) { reap(); }",
            "void handler(void) { write32(INTERRUPT_ACK, read32(INTERRUPT_STATUS)); reap(); }",
        ],
    ),
    RuleInfo::note(
        "virtio.irq-status",
        rules::IRQ_NOT_READ,
        [
            "Read InterruptStatus and acknowledge only the reasons that it has.",
            "A constant in InterruptACK: a change of the configuration is acknowledged without being handled.",
            "write32(INTERRUPT_ACK, 3);",
            "uint32_t why = read32(INTERRUPT_STATUS); write32(INTERRUPT_ACK, why);",
        ],
    ),
    RuleInfo::note(
        "virtio.used-event",
        rules::USED_EVENT,
        [
            "With EVENT_IDX, write the used index after which you want the next interrupt to used_event, behind the \
             available ring. Otherwise do not accept EVENT_IDX (bit 29).",
            "All offered features are accepted, and used_event stays 0: one interrupt comes, then none for 65535 results.",
            "write32(DRIVER_FEATURES, read32(DEVICE_FEATURES));",
            "write32(DRIVER_FEATURES, read32(DEVICE_FEATURES) & SUPPORTED);",
        ],
    ),
    RuleInfo::warning(
        "guest.no-device",
        rules::NO_DEVICE,
        [
            "Access the devices at their addresses: cafevm -v lists them, and the kernel's command line has those of virtio.",
            "A base address of another machine, such as 0x10001000 of QEMU's riscv64 virt or 0x0a000000 of its arm virt.",
            "#define VIRTIO 0x10001000",
            "#define VIRTIO 0xfeb00000",
        ],
    ),
    RuleInfo::warning(
        "guest.waits",
        rules::WAITS,
        [
            "Make each request available, ring the doorbell, and look at the used ring after the interrupt or while polling.",
            "A step is missing: the lines above say which one.",
            "avail->idx++; while (used->idx == seen) ;",
            "avail->idx++; fence(); write32(QUEUE_NOTIFY, 0); while (*(volatile uint16_t *)&used->idx == seen) ;",
        ],
    ),
    RuleInfo::note(
        "guest.sleeps",
        rules::SLEEPS,
        [
            "Before the guest sleeps until a request is done, clear NO_INTERRUPT in the available ring, or with EVENT_IDX write \
             the used index to used_event; then look at the used ring once more. A guest that has seen all results may sleep.",
            "NO_INTERRUPT is still set, or used_event is old: the result came without an interrupt.",
            "avail->flags = NO_INTERRUPT; notify(); while (!done) hlt();",
            "avail->flags = 0; notify(); while (!done) hlt();",
        ],
    ),
    RuleInfo::warning(
        "svirtb.nothing-new",
        rules::SVIRTB_NOTHING_NEW,
        [
            "Write the index after the last entry to queue_head. A ring of N entries takes N - 1 at once: with N, \
             queue_head equals queue_tail, and the ring looks empty.",
            "queue_head names the last entry instead of the one after it, or the batch is as long as the ring.",
            "ring[head] = entry; write32(QUEUE_HEAD, head);",
            "ring[head] = entry; head = (head + 1) % size; write32(QUEUE_HEAD, head);",
        ],
    ),
    RuleInfo::warning(
        "svirtb.read-past-end",
        rules::SVIRTB_READ_PAST_END,
        [
            "Read sectors that the disk has. svirtb cannot report its size; a read past the end changes nothing.",
            "sector is an offset in bytes, or the number of a larger block.",
            "entry.sector = offset;",
            "entry.sector = offset / 512;",
        ],
    ),
    RuleInfo::note(
        "svirtb.swapped",
        rules::SVIRTB_SWAPPED,
        [
            "size is the length of the buffer in bytes, sector the first sector of 512 bytes.",
            "The two fields are exchanged.",
            "(struct entry){ addr, sector, bytes, cmd }",
            "(struct entry){ addr, bytes, sector, cmd }",
        ],
    ),
    RuleInfo::note(
        "svirtb.spacing",
        rules::SVIRTB_SPACING,
        [
            "Put entries 28 bytes (packed) or 32 bytes (a C struct) apart. cafevm detects which from the second entry.",
            "Another distance, or a second entry that is valid at both. --disk ...,entry-size=28 or 32 settles it.",
            "struct entry { uint64_t addr, size, sector; uint64_t cmd, next; };",
            "struct entry { uint64_t addr, size, sector; uint32_t cmd; };",
        ],
    ),
];
