//! Mistakes in the svirtb driver.

use super::mistakes::{Mistake, mistake};

/// Mistakes in svirtb.c.
pub(crate) const SVIRTB: &[Mistake] = &[
    mistake(
        "READY without DRIVER_OK",
        "    write32(BASE + STATUS, DRIVER_OK);\n    if (read32(BASE + STATUS) != DRIVER_OK) return -1;\n",
        "",
        &["svirtb.configuration"],
    ),
    mistake(
        "MAGIC written",
        "    write32(BASE + STATUS, DRIVER_OK);",
        "    write32(BASE + STATUS, MAGIC);\n    write32(BASE + STATUS, DRIVER_OK);",
        &["svirtb.order", "svirtb.after-error"],
    ),
    mistake(
        "no READY",
        "    write32(BASE + STATUS, READY);
    head = 0;
    return read32(BASE + STATUS) == READY ? 0 : -1;",
        "    head = 0;
    return 0;",
        &["svirtb.doorbell"],
    ),
    mistake(
        "configuration after READY",
        "    head = 0;\n",
        "    head = 0;\n    write32(BASE + QUEUE_SIZE, ENTRIES);\n",
        &["svirtb.configuration"],
    ),
    mistake("queue size 0", "    write32(BASE + QUEUE_SIZE, ENTRIES);\n", "", &["svirtb.ring"]),
    mistake(
        "exchanged halves",
        "ADDR_HI = 0x08, ADDR_LO = 0x0c,",
        "ADDR_HI = 0x0c, ADDR_LO = 0x08,",
        &["svirtb.ring"],
    ),
    mistake(
        "a head outside the ring",
        "    head = (head + 1) % ENTRIES;\n    write32(BASE + HEAD, head);",
        "    head = (head + 1) % ENTRIES;\n    write32(BASE + HEAD, head + ENTRIES);",
        &["svirtb.head"],
    ),
    mistake(
        "the head is the last entry",
        "    write32(BASE + HEAD, head);",
        "    write32(BASE + HEAD, (head + ENTRIES - 1) % ENTRIES);",
        &["svirtb.nothing-new"],
    ),
    mistake(
        "no doorbell",
        "    write32(BASE + HEAD, head); /* returns when the entry is finished */\n",
        "    for (;;) pause_cpu();\n",
        &["guest.waits"],
    ),
    mistake(
        "tail written",
        "    write32(BASE + HEAD, head);",
        "    write32(BASE + TAIL, head);\n    write32(BASE + HEAD, head);",
        &["svirtb.tail"],
    ),
    mistake(
        "an unknown command",
        "write ? CMD_WRITE : CMD_READ;",
        "write ? 2 : CMD_READ;",
        &["svirtb.command"],
    ),
    mistake(
        "a buffer at a virtual address",
        "    ring[head].addr = (uintptr_t)data;",
        "    ring[head].addr = (uintptr_t)data + 0xffffffff80000000u;",
        &["svirtb.buffer"],
    ),
    mistake(
        "a write past the end",
        "    ring[head].sector = sector;",
        "    ring[head].sector = sector * 4096;",
        &["svirtb.past-end"],
    ),
    mistake(
        "a read past the end",
        "    ring[head].sector = sector;",
        "    ring[head].sector = write ? sector : sector * 4096;",
        &["svirtb.read-past-end"],
    ),
    mistake(
        "size and sector exchanged",
        "    ring[head].size = SECTOR;\n    ring[head].sector = sector;",
        "    ring[head].size = sector;\n    ring[head].sector = SECTOR;",
        &["svirtb.swapped"],
    ),
    mistake(
        "an access of 8 bytes",
        "    write32(BASE + QUEUE_SIZE, ENTRIES);",
        "    *(volatile uint64_t *)(uintptr_t)(BASE + QUEUE_SIZE) = ENTRIES;",
        &["svirtb.registers"],
    ),
    mistake(
        "no RESET after an error",
        "    write32(BASE + HEAD, head);",
        "    write32(BASE + HEAD, 99);\n    write32(BASE + STATUS, DRIVER_OK);\n    write32(BASE + HEAD, head);",
        &["svirtb.head", "svirtb.after-error", "svirtb.doorbell"],
    ),
];
