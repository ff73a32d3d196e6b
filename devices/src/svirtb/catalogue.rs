//! The rules of svirtb for a driver's author.

use super::rules;
use crate::observe::RuleInfo;

/// The rules that the svirtb device reports. Each has what the driver must do, the usual mistake, wrong and correct code.
pub(crate) const RULES: &[RuleInfo] = &[
    RuleInfo::error(
        "svirtb.registers",
        rules::REGISTERS,
        [
            "Access the six registers at 0x0, 0x4, 0x8, 0xc, 0x10 and 0x14 with 32 bits.",
            "A 64-bit store to queue_addr_hi and queue_addr_lo, or a wrong offset.",
            "*(volatile uint64_t *)(base + 8) = ring;",
            "write32(base + 8, ring >> 32); write32(base + 12, ring);",
        ],
    ),
    RuleInfo::error(
        "svirtb.order",
        rules::ORDER,
        [
            "Write DRIVER_OK after reading MAGIC, then READY. Write no other value.",
            "READY is written first, or the value that was read (MAGIC) is written back.",
            "write32(STATUS, READY);",
            "write32(STATUS, DRIVER_OK); set_ring(); write32(STATUS, READY);",
        ],
    ),
    RuleInfo::error(
        "svirtb.configuration",
        rules::CONFIGURATION,
        [
            "Write queue_size and the address of the ring in the state DRIVER_OK.",
            "The ring is described before DRIVER_OK, or after READY.",
            "set_ring(); write32(STATUS, DRIVER_OK);",
            "write32(STATUS, DRIVER_OK); set_ring();",
        ],
    ),
    RuleInfo::error(
        "svirtb.ring",
        rules::RING,
        [
            "Give a ring of at least one entry that is completely in RAM, by its physical address.",
            "queue_size is 0, the halves of the address are swapped, or the address is virtual.",
            "write32(ADDR_HI, ring); write32(ADDR_LO, ring >> 32);",
            "write32(ADDR_HI, ring >> 32); write32(ADDR_LO, ring);",
        ],
    ),
    RuleInfo::error(
        "svirtb.doorbell",
        rules::DOORBELL,
        [
            "Write queue_head only in the state READY.",
            "READY is missing, or the device refused the ring: read the status back.",
            "set_ring(); write32(HEAD, 1);",
            "write32(STATUS, READY); if (read32(STATUS) == READY) write32(HEAD, 1);",
        ],
    ),
    RuleInfo::error(
        "svirtb.head",
        rules::HEAD,
        [
            "Write to queue_head the index after the last entry, modulo queue_size.",
            "The index is not taken modulo the size.",
            "write32(HEAD, head + 1);",
            "write32(HEAD, (head + 1) % size);",
        ],
    ),
    RuleInfo::error(
        "svirtb.tail",
        rules::TAIL,
        [
            "Only read queue_tail: it belongs to the device.",
            "The driver resets it, as in other protocols.",
            "write32(TAIL, 0);",
            "while (read32(TAIL) != head) ;",
        ],
    ),
    RuleInfo::error(
        "svirtb.after-error",
        rules::AFTER_ERROR,
        [
            "After an error (status RESET) write RESET, then repeat the handshake.",
            "The driver writes DRIVER_OK or READY at once.",
            "if (read32(STATUS) == RESET) write32(STATUS, DRIVER_OK);",
            "if (read32(STATUS) == RESET) { write32(STATUS, RESET); handshake(); }",
        ],
    ),
    RuleInfo::error(
        "svirtb.entry",
        rules::ENTRY_IN_RAM,
        [
            "Keep the whole ring in RAM.",
            "queue_size is larger than the memory of the ring.",
            "write32(SIZE, 4096); /* bytes */",
            "write32(SIZE, 4096 / sizeof(struct entry));",
        ],
    ),
    RuleInfo::error(
        "svirtb.command",
        rules::COMMAND,
        [
            "Set cmd to 0 (read) or 1 (write).",
            "An uninitialised entry, or entries 28 bytes apart where the device expects 32, or the other way round.",
            "struct entry { uint64_t addr, size, sector; uint64_t cmd; };",
            "struct entry { uint64_t addr, size, sector; uint32_t cmd; } __attribute__((packed));",
        ],
    ),
    RuleInfo::error(
        "svirtb.buffer",
        rules::BUFFER,
        [
            "Give a buffer that is completely in RAM, by its physical address.",
            "A virtual address, or size and sector swapped.",
            "entry.addr = (uint64_t)buffer;",
            "entry.addr = virt_to_phys(buffer);",
        ],
    ),
    RuleInfo::error(
        "svirtb.sector",
        rules::SECTOR,
        [
            "Give the sector as a number of 512-byte units.",
            "An uninitialised field.",
            "entry.sector = -1;",
            "entry.sector = offset / 512;",
        ],
    ),
    RuleInfo::error(
        "svirtb.past-end",
        rules::PAST_END,
        [
            "Begin writes on the disk.",
            "The sector is given in bytes.",
            "entry.sector = offset;",
            "entry.sector = offset / 512;",
        ],
    ),
    RuleInfo::warning(
        "svirtb.straddles",
        rules::STRADDLES,
        [
            "End writes on the disk: what is past the end is not stored.",
            "The size is rounded up past the end of the disk.",
            "entry.size = 4096; /* at the last sector */",
            "entry.size = 512;",
        ],
    ),
    RuleInfo::error(
        "svirtb.read-only",
        rules::READ_ONLY,
        [
            "Do not write to a disk with readonly=on. svirtb cannot report it to the driver.",
            "readonly=on by mistake.",
            "--disk path=d.img,bus=svirtb,readonly=on",
            "--disk path=d.img,bus=svirtb",
        ],
    ),
    RuleInfo::error(
        "svirtb.host",
        rules::HOST,
        [
            "Nothing: the host failed, not the driver.",
            "A full or broken file system, or an image that another program cut. The log line has the host's error.",
            "df: /images is full",
            "free space on the host, then write RESET and repeat the handshake",
        ],
    ),
    RuleInfo::error(
        "svirtb.stopped",
        rules::STOPPED,
        [
            "Nothing: the machine is being stopped.",
            "None.",
            "Ctrl-A X while a request is in flight",
            "let the guest end first",
        ],
    ),
];
