//! The zoo: mistakes of beginners, each as a change of one place in the drivers of `cafevm new`.

/// A mistake.
pub(crate) struct Mistake {
    /// The name of its test.
    pub(crate) name: &'static str,
    /// The correct text, which is once in its file.
    pub(crate) right: &'static str,
    /// The wrong text.
    pub(crate) wrong: &'static str,
    /// What the doctor must find, the first finding first.
    pub(crate) finds: &'static [&'static str],
}

pub(crate) const fn mistake(
    name: &'static str,
    right: &'static str,
    wrong: &'static str,
    finds: &'static [&'static str],
) -> Mistake {
    Mistake { name, right, wrong, finds }
}

/// Mistakes in virtio.c.
pub(crate) const VIRTIO: &[Mistake] = &[
    mistake("no reset", "    write32(base + STATUS, 0);\n", "", &["virtio.reset-first"]),
    mistake(
        "no identification",
        "    if (read32(base + MAGIC_VALUE) != 0x74726976 || read32(base + VERSION) != 2) return -1;\n",
        "",
        &["virtio.identity"],
    ),
    mistake(
        "no ACKNOWLEDGE and DRIVER",
        "    write32(base + STATUS, ACKNOWLEDGE);\n    write32(base + STATUS, ACKNOWLEDGE | DRIVER);\n",
        "",
        &["virtio.steps"],
    ),
    mistake(
        "FEATURES_OK is not set",
        "    write32(base + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);\n    if (!(read32(base + STATUS) & FEATURES_OK)) return -1;\n",
        "",
        &["virtio.queue-early"],
    ),
    mistake(
        "FEATURES_OK is not read back",
        "    if (!(read32(base + STATUS) & FEATURES_OK)) return -1;\n",
        "",
        &["virtio.features-ok-read"],
    ),
    mistake(
        "VERSION_1 is not accepted",
        "    write32(base + DRIVER_FEATURES, 1);",
        "    write32(base + DRIVER_FEATURES, 0);",
        &["virtio.version-1"],
    ),
    mistake(
        "a feature that is not offered",
        "    write32(base + DRIVER_FEATURES, 1);",
        "    write32(base + DRIVER_FEATURES, 0x80000001);",
        &["virtio.features-offered"],
    ),
    mistake(
        "features without a selector",
        "    write32(base + DEVICE_FEATURES_SEL, 1);\n    if (!(read32(base + DEVICE_FEATURES) & 1)) return -1;\n",
        "    (void)read32(base + DEVICE_FEATURES);\n",
        &["virtio.features-selector"],
    ),
    mistake(
        "the upper features without their selector",
        "    write32(base + DRIVER_FEATURES_SEL, 1);\n",
        "",
        &["virtio.features-offered"],
    ),
    mistake(
        "QueueNumMax is not read",
        "    if (read32(base + QUEUE_NUM_MAX) < ENTRIES) return -1;\n",
        "",
        &["virtio.queue-max-read"],
    ),
    mistake(
        "page numbers instead of addresses",
        "    write32(base + offset, (uint32_t)(uintptr_t)what);",
        "    what = (void *)((uintptr_t)what >> 12);\n    write32(base + offset, (uint32_t)(uintptr_t)what);",
        &["virtio.queue-layout"],
    ),
    mistake(
        "queue size 0",
        "    write32(base + QUEUE_NUM, ENTRIES);",
        "    write32(base + QUEUE_NUM, 0);",
        &["virtio.queue-layout"],
    ),
    mistake(
        "queue size 5",
        "    write32(base + QUEUE_NUM, ENTRIES);",
        "    write32(base + QUEUE_NUM, 5);",
        &["virtio.queue-layout"],
    ),
    mistake(
        "queue size too large",
        "    write32(base + QUEUE_NUM, ENTRIES);",
        "    write32(base + QUEUE_NUM, 0x10000);",
        &["virtio.queue-layout"],
    ),
    mistake(
        "a queue that is not there",
        "    write32(base + QUEUE_SEL, 0);
    if (read32(base + QUEUE_NUM_MAX) < ENTRIES) return -1;
",
        "    write32(base + QUEUE_SEL, 7);
",
        &["virtio.no-queue", "virtio.queue-max-read"],
    ),
    mistake(
        "a misaligned table",
        "    set_address(QUEUE_DESC, desc);",
        "    set_address(QUEUE_DESC, (uint8_t *)desc + 4);",
        &["virtio.queue-layout"],
    ),
    mistake(
        "a virtual address",
        "    set_address(QUEUE_DESC, desc);",
        "    set_address(QUEUE_DESC, (uint8_t *)desc + 0xffffffff80000000u);",
        &["virtio.queue-layout"],
    ),
    mistake(
        "exchanged halves",
        "    write32(base + offset, (uint32_t)(uintptr_t)what);\n    write32(base + offset + 4, (uint32_t)((uintptr_t)what >> 32));",
        "    write32(base + offset, (uint32_t)((uintptr_t)what >> 32));\n    write32(base + offset + 4, (uint32_t)(uintptr_t)what);",
        &["virtio.queue-layout"],
    ),
    mistake(
        "a 64-bit write of an address",
        "    write32(base + offset, (uint32_t)(uintptr_t)what);",
        "    *(volatile uint64_t *)(base + offset) = (uintptr_t)what;",
        &["virtio.width"],
    ),
    mistake(
        "the used ring at the available ring",
        "    set_address(QUEUE_DEVICE, &used);",
        "    set_address(QUEUE_DEVICE, &avail);",
        &["virtio.ring-overlap"],
    ),
    mistake(
        "no QueueReady",
        "    write32(base + QUEUE_READY, 1);\n",
        "",
        &["virtio.queues-first", "virtio.notify"],
    ),
    mistake(
        "no DRIVER_OK",
        "    write32(base + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);\n",
        "",
        &["virtio.notify"],
    ),
    mistake(
        "DRIVER_OK before the queue",
        "    write32(base + QUEUE_SEL, 0);",
        "    write32(base + STATUS, 15);\n    write32(base + QUEUE_SEL, 0);",
        &["virtio.queues-first"],
    ),
    mistake(
        "a queue set up before FEATURES_OK",
        "    /* VERSION_1 is bit 32,",
        "    write32(base + QUEUE_SEL, 0); read32(base + QUEUE_NUM_MAX); write32(base + QUEUE_NUM, 8); set_address(QUEUE_DESC, desc); set_address(QUEUE_DRIVER, &avail); set_address(QUEUE_DEVICE, &used); write32(base + QUEUE_READY, 1);\n    /* VERSION_1 is bit 32,",
        &["virtio.queue-early"],
    ),
    mistake(
        "set-up of a live queue",
        "    return 0;\n}\n\n/* The command line has",
        "    write32(base + QUEUE_NUM, ENTRIES);\n    return 0;\n}\n\n/* The command line has",
        &["virtio.queue-in-use"],
    ),
    mistake(
        "a register of the legacy layout",
        "    write32(base + QUEUE_READY, 1);",
        "    write32(base + 0x40, (uint32_t)(uintptr_t)desc >> 12);\n    write32(base + QUEUE_READY, 1);",
        &["virtio.legacy"],
    ),
    mistake(
        "a write of a read-only register",
        "    write32(base + QUEUE_SEL, 0);",
        "    write32(base + QUEUE_SEL, 0);\n    write32(base + QUEUE_NUM_MAX, 8);",
        &["virtio.direction"],
    ),
    mistake(
        "an empty slot",
        "    return base && !handshake() ? &disk : 0;",
        "    base += 31 * 512;\n    write32(base + STATUS, 0);\n    base -= 31 * 512;\n    return base && !handshake() ? &disk : 0;",
        &["virtio.empty-slot"],
    ),
    mistake(
        "the base of another machine",
        "    base = address_of_slot(command_line);",
        "    (void)address_of_slot; (void)command_line;\n    base = 0x10001000;",
        &["guest.no-device"],
    ),
    mistake(
        "the available index does not move",
        "    avail.idx++;\n",
        "",
        &["virtio.nothing-new", "guest.waits"],
    ),
    mistake(
        "the available index moves too far",
        "    avail.idx++;",
        "    avail.idx += 9;",
        &["virtio.avail-index"],
    ),
    mistake(
        "no doorbell",
        "    write32(base + QUEUE_NOTIFY, 0); /* queue 0 */\n",
        "",
        &["guest.waits"],
    ),
    mistake(
        "the doorbell of queue 1",
        "    write32(base + QUEUE_NOTIFY, 0); /* queue 0 */",
        "    write32(base + QUEUE_NOTIFY, 1);",
        &["virtio.notify", "guest.waits"],
    ),
    mistake(
        "the doorbell before the index",
        "    avail.idx++;\n    barrier();\n    write32(base + QUEUE_NOTIFY, 0); /* queue 0 */\n",
        "    write32(base + QUEUE_NOTIFY, 0);\n    barrier();\n    avail.idx++;\n    barrier();\n",
        &["virtio.nothing-new", "guest.waits"],
    ),
    mistake(
        "the head is the data",
        "= 0; /* the chain begins at descriptor 0 */",
        "= 1;",
        &["virtio.blk-type"],
    ),
    mistake(
        "a head past the table",
        "= 0; /* the chain begins at descriptor 0 */",
        "= 99;",
        &["virtio.chain"],
    ),
    mistake(
        "no NEXT",
        "desc[0].flags = NEXT, desc[0].next = 1;",
        "desc[0].flags = 0, desc[0].next = 1;",
        &["virtio.blk-layout"],
    ),
    mistake(
        "a loop",
        "desc[2].len = 1, desc[2].flags = WRITE;",
        "desc[2].len = 1, desc[2].flags = WRITE | NEXT, desc[2].next = 0;",
        &["virtio.chain-length"],
    ),
    mistake(
        "no WRITE on the data of a read",
        "desc[1].flags = write ? NEXT : NEXT | WRITE,",
        "desc[1].flags = NEXT,",
        &["virtio.blk-layout"],
    ),
    mistake(
        "WRITE on the data of a write",
        "desc[1].flags = write ? NEXT : NEXT | WRITE,",
        "desc[1].flags = NEXT | WRITE,",
        &["virtio.blk-layout"],
    ),
    mistake(
        "no WRITE on the status",
        "desc[2].len = 1, desc[2].flags = WRITE;",
        "desc[2].len = 1, desc[2].flags = 0;",
        &["virtio.blk-layout"],
    ),
    mistake("a status of 0 bytes", "desc[2].len = 1,", "desc[2].len = 0,", &["virtio.blk-layout"]),
    mistake(
        "a header of 12 bytes",
        "desc[0].len = sizeof header,",
        "desc[0].len = 12,",
        &["virtio.header", "virtio.blk-sectors"],
    ),
    mistake(
        "a buffer at a virtual address",
        "desc[1].addr = (uintptr_t)data,",
        "desc[1].addr = (uintptr_t)data + 0xffffffff80000000u,",
        &["virtio.chain"],
    ),
    mistake(
        "a buffer over the rings",
        "desc[1].addr = (uintptr_t)data,",
        "desc[1].addr = write ? (uintptr_t)data : (uintptr_t)desc,",
        &["virtio.buffer-over-ring"],
    ),
    mistake(
        "a length that is not whole sectors",
        "desc[1].len = SECTOR,",
        "desc[1].len = SECTOR - 1,",
        &["virtio.blk-sectors"],
    ),
    mistake(
        "a sector in bytes",
        "    header.sector = sector;",
        "    header.sector = 8192 * sector;",
        &["virtio.blk-range"],
    ),
    mistake(
        "a big-endian sector",
        "    header.sector = sector;",
        "    header.sector = __builtin_bswap64(sector);",
        &["virtio.blk-range"],
    ),
    mistake(
        "a length in sectors",
        "desc[1].len = SECTOR,",
        "desc[1].len = 1,",
        &["virtio.blk-sectors"],
    ),
    mistake(
        "no NEXT on the data",
        "desc[1].flags = write ? NEXT : NEXT | WRITE,",
        "desc[1].flags = write ? 0 : WRITE,",
        &["virtio.blk-layout"],
    ),
    mistake(
        "a status byte in the data",
        "desc[2].addr = (uintptr_t)&status,",
        "desc[2].addr = write ? (uintptr_t)&status : (uintptr_t)data,",
        &["virtio.buffer-shared"],
    ),
    mistake(
        "an unknown type",
        "    header.type = write ? TYPE_OUT : TYPE_IN;",
        "    header.type = write ? 77 : TYPE_IN;",
        &["virtio.blk-type"],
    ),
];
